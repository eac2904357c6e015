"""Whatever lies in the working folder or on PYTHONPATH: our packages are ours, and nothing there is run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("search_spaces", "trainables", "analysis", "slurm", "system", "benchmarks")
OTHERS = (
    "click",
    "json",
    "dataclasses",
    "torch",
    "numpy",
    "polars",
    "ray",
    "optuna",
    "rich",
    "logging",
    "pyarrow",
    "timm",
)
SCRIPT = "import sys\nfrom sweeps.__main__ import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
COMMANDS = (
    ["list"],
    ["show", "horkd_order_ablation"],
    ["data", "list"],
    ["doctor"],
    ["status"],
    ["show", "horkd_loss_weights"],
)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A working folder; whatever of it is run leaves a mark."""
    (tmp_path / "here").mkdir()
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "sweeps").write_text(SCRIPT)
    return tmp_path / "here"


def trap(folder: Path, name: str, shape: str) -> None:
    text = f"open({str(folder / 'MARK')!r}, 'a').write(__name__ + chr(10))\n"
    if shape == "file":
        (folder / f"{name}.py").write_text(text)
    else:
        (folder / name).mkdir()
        if shape == "package":
            (folder / name / "__init__.py").write_text(text)


def start(way: str, desk: Path, *words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    how = ["-m", "sweeps"] if way == "module" else [str(desk.parent / "script" / "sweeps")]
    env = {name: value for name, value in os.environ.items() if not name.startswith("SWEEPS_")}
    env |= {"PYTHONPATH": str(ROOT) if path is None else path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *how, *words], cwd=desk, env=env, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("way", ["module", "script"])
@pytest.mark.parametrize("shape", ["file", "package"])
def test_nothing_in_the_working_folder_is_run(desk: Path, way: str, shape: str) -> None:
    for name in OURS + OTHERS:
        trap(desk, name, shape)
    for words in COMMANDS:
        result = start(way, desk, *words)
        assert "Traceback" not in result.stderr, result.stderr
        assert result.returncode == (2 if words == ["status"] else 0), (words, result.stderr)
        assert not (desk / "MARK").exists(), (words, (desk / "MARK").read_text())


@pytest.mark.parametrize("way", ["module", "script"])
@pytest.mark.parametrize("order", ["theirs first", "ours first"])
@pytest.mark.parametrize("shape", ["file", "package", "folder"])
def test_our_packages_are_found_although_pythonpath_has_others_of_their_names(
    desk: Path, way: str, order: str, shape: str
) -> None:
    theirs = desk.parent / "theirs"
    theirs.mkdir()
    for name in OURS:
        trap(theirs, name, shape)
    parts = [str(theirs), str(ROOT)]
    result = start(
        way, desk, "show", "horkd_order_ablation", path=":".join(parts if order == "theirs first" else parts[::-1])
    )
    assert result.returncode == 0, result.stderr
    assert not (theirs / "MARK").exists()


@pytest.mark.parametrize("path", ["{root}:", ":{root}", "{root}::", "::{root}"])
@pytest.mark.parametrize("way", ["module", "script"])
def test_an_empty_part_of_pythonpath_is_not_the_working_folder(desk: Path, way: str, path: str) -> None:
    for name in OURS + OTHERS:
        trap(desk, name, "file")
    result = start(way, desk, "list", path=path.format(root=ROOT))
    assert result.returncode == 0, result.stderr
    assert not (desk / "MARK").exists()


def test_what_pythonpath_names_is_looked_into_also_where_it_is_the_working_folder(desk: Path) -> None:
    code = (
        "import sys\nfrom sweeps import origins\norigins.forget_working_folder()\nimport mine\nprint(mine.__file__)\n"
    )
    (desk / "mine.py").write_text("")
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{desk}"}
    result = subprocess.run([sys.executable, "-c", code], cwd=desk, env=env, capture_output=True, text=True)
    assert result.stdout.strip() == str(desk / "mine.py"), result.stderr


def test_a_working_folder_that_was_removed_ends_no_command(desk: Path) -> None:
    words = f"cd {desk} && rmdir {desk} && {sys.executable} -m sweeps list"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(["bash", "-c", words], env=env, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr


def test_workers_do_not_get_the_working_folder_from_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from sweeps.engine import machines

    seen: list[str] = []
    monkeypatch.setattr(ray, "init", lambda **words: seen.append(os.getcwd()))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temp").mkdir()
    machines._init(tmp_path / "temp", "127.0.0.1", {"CPU": 1.0, "GPU": 0.0})
    assert seen == [str(tmp_path / "temp")]
    assert os.getcwd() == str(tmp_path)

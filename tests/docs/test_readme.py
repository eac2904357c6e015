"""What the documents say holds: commands run, links lead somewhere, names exist, generated blocks are filled."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
from desks import README, ROOT, Desk, own_study, sh_lines

import search_spaces
from sweeps.commands.app import EXIT_CODES, cli
from trainables import errors
from trainables.losses import horkd, horkd_loss
from trainables.recipes import HORKD_ASSISTANT
from trainables.recipes.distillation import DISTILLATION
from trainables.spec import SPECS

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

FOLDERS = ["sweeps", "search_spaces", "trainables", "analysis", "slurm", "system", "benchmarks", "tests", "docs"]

NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)


@pytest.mark.parametrize("line", sh_lines(README), ids=lambda line: " ".join(shlex.split(line, comments=True)))
def test_every_command_to_try_goes_to_its_end_in_seconds(line: str, request: pytest.FixtureRequest) -> None:
    """Trainings are made small here; `test_commands.py` takes every command as it is written."""
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", MAKEFILE, re.MULTILINE), f"Makefile has no target {words[1]}"
    elif "sweeps" in words:
        done = request.getfixturevalue("desk").type_small(words)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
    else:
        # Making an environment and running the tests are not done here: they are what the Makefile does.
        tail = line.partition("python")[2].partition(" ")[2]
        assert tail.replace(".venv", "$(VENV)") in MAKEFILE.replace("--quiet ", ""), (
            f"the Makefile does not run: {line}"
        )


def test_the_readmes_own_study_is_short_and_compares_two_cells(desk: Desk) -> None:
    name, source = own_study()
    assert len(source.splitlines()) <= 25
    assert name not in search_spaces.names()
    assert f"python -m sweeps run {name}" in sh_lines(README)
    desk.type_small(["python", "-m", "sweeps", "run", name])
    (report,) = desk.out.glob(f"runs/{name}-*/report/report.json")
    (panel,) = json.loads(report.read_text())["panels"]
    assert [row["pairs"] for row in panel["rows"] if not row["reference"]] == [2]


def test_the_generated_blocks_are_filled_and_the_figure_is_there() -> None:
    found = dict(re.findall(r"<!-- generated: ([\w ]+) -->\n(.*?)<!-- end -->", README, re.DOTALL))
    assert set(found) == {"figure", "demo output", "answer"}
    assert all(content.strip() for content in found.values())
    for suffix in ("svg", "png"):
        figure = ROOT / "docs" / "figures" / f"order_ablation.{suffix}"
        assert 5_000 < figure.stat().st_size <= 300_000
        assert str(figure.relative_to(ROOT)) in found["figure"]
    assert found["answer"].strip().removeprefix("> ") in found["demo output"], "answer and output are of one run"
    assert re.search(r"n=\d", found["figure"]) and "seeds" in found["figure"] and "torch" in found["figure"]


@pytest.fixture
def generator() -> ModuleType:
    """docs/readme.py as a module."""
    plan = importlib.util.spec_from_file_location("docs_readme", ROOT / "docs" / "readme.py")
    assert plan and plan.loader
    module = importlib.util.module_from_spec(plan)
    plan.loader.exec_module(module)
    return module


@pytest.fixture
def demo(desk: Desk, tmp_path: Path) -> Path:
    """A checkout with the README, and beside it a finished run that says it is the demo."""
    shutil.copy(ROOT / "README.md", tmp_path)
    (run,) = {
        path.parent
        for path in desk.out.glob("runs/*/run.json")
        if "horkd_order_ablation" in path.parent.name and json.loads(path.read_text())["data"]["name"] == "digits"
    }
    shutil.copytree(run, tmp_path / "run")
    content = json.loads((run / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(content | {"preset": "demo"}))
    shutil.copy(desk.folder / "demo.log", tmp_path)
    return tmp_path


def test_the_generator_fills_the_readme_once_and_check_tells_when_it_is_stale(
    demo: Path, generator: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(demo / "run"), str(demo / "demo.log")]
    assert generator.main([*words, "--check"], root=demo) == 1
    assert (demo / "README.md").read_text() == README, "a check writes nothing"
    assert generator.main(words, root=demo) == 0
    assert generator.main([*words, "--check"], root=demo) == 0
    written = (demo / "README.md").read_text()
    assert str(demo) not in written and f"on {socket.gethostname()}" not in written
    assert "Report: runs/horkd_order_ablation-" in written
    (demo / "docs" / "figures" / "order_ablation.png").write_bytes(b"another")
    assert generator.main([*words, "--check"], root=demo) == 1
    assert "differs: docs/figures/order_ablation.png" in capsys.readouterr().out


def test_the_generator_refuses_paths_other_presets_and_logs_of_something_else(
    demo: Path, generator: ModuleType
) -> None:
    words = [str(demo / "run"), str(demo / "demo.log")]
    log = (demo / "demo.log").read_text()
    (demo / "demo.log").write_text(log.replace("Done:", "Reading /home/somebody/data\nDone:"))
    with pytest.raises(SystemExit, match="absolute path /home/somebody/data"):
        generator.main(words, root=demo)
    (demo / "demo.log").write_text("nothing of ours")
    with pytest.raises(SystemExit, match="whole run"):
        generator.main(words, root=demo)
    content = json.loads((demo / "run" / "run.json").read_text())
    (demo / "run" / "run.json").write_text(json.dumps(content | {"preset": "tiny"}))
    with pytest.raises(SystemExit, match="preset 'tiny'"):
        generator.main(words, root=demo)


@each_document
def test_every_local_link_leads_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    assert [target for target in local if not (path.parent / target).exists()] == []


@each_document
def test_every_file_of_ours_that_is_named_exists(path: Path) -> None:
    """Of `<name>.py` the folder, which is all that is said."""
    text = path.read_text(encoding="utf-8").replace(own_study()[0], "<own>")
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)}|\.ci)/[\w/.<>*]*)`", text)
    assert [name for name in named if not (ROOT / name.partition("<")[0]).exists()] == []


def test_the_walk_is_counted_and_names_classes_that_are_there() -> None:
    text = (ROOT / "docs" / "walk.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `([\w/.]+)` \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, len(rows) + 1))
    assert f"These are {len(rows)} files." in text and len({file for _, file, _ in rows}) == len(rows)
    sources = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    classes = {name for path in sources for name in re.findall(r"^class (\w+)", path.read_text("utf-8"), re.MULTILINE)}
    assert {name for _, _, handed in rows for name in re.findall(r"`(\w+)`", handed)} <= classes


def commands(text: str) -> Iterator[list[str]]:
    """Command lines of ours in a text, split into words."""
    for line in re.findall(r"python -m sweeps ([^`#\n]+)", text):
        yield shlex.split(line)


@each_document
def test_every_command_that_is_named_exists_with_its_flags(path: Path) -> None:
    for words in commands(path.read_text(encoding="utf-8")):
        at: click.Command = cli
        while isinstance(at, click.Group):
            assert words and words[0] in at.commands, f"{path.name} names the command {words[:1]} of {at.name}"
            at, words = at.commands[words[0]], words[1:]
        flags = {flag for parameter in at.params for flag in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= flags, f"{path.name}: {at.name} {words}"


@each_document
def test_every_flag_that_is_named_belongs_to_a_command(path: Path) -> None:
    known = {"--check", "--quiet"}  # docs/readme.py and pip have them.
    stack: list[click.Command] = [cli]
    while stack:
        at = stack.pop()
        known |= {flag for parameter in at.params for flag in parameter.opts}
        stack += at.commands.values() if isinstance(at, click.Group) else []
    assert set(re.findall(r"`(--[a-z-]+)", path.read_text(encoding="utf-8"))) <= known


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    codes = {int(code) for code in re.findall(r"\*\*(\d+)\*\* ", README)}
    stated = {int(code) for code in re.findall(r"(?:^|[:;] )(\d+) ", EXIT_CODES.replace("\n", " "))}
    raised = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert codes == stated == raised | {0, 130}


def test_the_table_of_studies_is_complete() -> None:
    rows = re.findall(r"^\| (\w+), ([^|]+) \| ([^|]+) \| `(\w+)` \| (\d+) x (\d+) \|", README, re.MULTILINE)
    known = {}
    for name in search_spaces.names():
        study = search_spaces.load(name)
        demo = study.presets["demo"]
        cells = demo.trials if study.sampled else len(list(study.points(demo.axes or study.axes)))
        known[name] = (study.paper, study.figure, study.title, str(cells), str(demo.seeds))
    assert {name: (paper, figure, title, cells, seeds) for paper, figure, title, name, cells, seeds in rows} == known


def test_the_glossary_has_the_words_of_the_code() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    entries = set(re.findall(r"^\| \*\*([\w ]+)\*\*", text, re.MULTILINE)) | {"test"}
    roles = {role for recipe in (DISTILLATION, HORKD_ASSISTANT) for role in recipe.roles}
    assert roles | (set(SPECS) - {"sleep"}) <= entries
    assert {
        "study",
        "cell",
        "trial",
        "stage",
        "run",
        "recipe",
        "key",
        "artifact",
        "lease",
        "failed",
        "pruned",
    } <= entries


def test_every_equation_leads_to_a_function_that_names_it() -> None:
    text = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d, ]+) \| [^|]+ \| ([^|]+) \|", text, re.MULTILINE)
    assert [number for numbers, _ in rows for number in numbers.split(", ")] == [str(n) for n in range(1, 9)]
    for numbers, function in rows[1:]:
        name = function.strip("`")
        said = getattr(horkd if hasattr(horkd, name) else horkd_loss, name).__doc__
        assert f"Eq. {numbers.replace(', ', '-')}" in said

"""The suite of drawn faults draws what its seed says, from every kind of file; and a few rounds hold."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import harness
import hurts
import pytest
import rounds
from commands import Broken, Place


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """One file of every kind, each with the same content."""
    for pattern in hurts.KINDS.values():
        name = pattern.replace("runs/*", "runs/r").replace("*/", "0123456789abcdef/").replace("*", "x")
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(range(256)) * 64)
    return tmp_path


def test_every_kind_of_file_is_drawn_and_exactly_one_file_is_hurt(out: Path) -> None:
    drawn = set()
    for seed in range(400):
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        hurt = hurts.hurt(out, random.Random(seed))
        drawn.add(hurt.kind)
        for path, content in before.items():
            about = os.lstat(path) if os.path.lexists(path) else None
            same = about is not None and stat.S_ISREG(about.st_mode) and about.st_size == len(content)
            same = same and path.read_bytes() == content
            assert same is (path != hurt.path), f"{hurt}: {path}"
        if os.path.lexists(hurt.path):
            hurts.remove(hurt.path)
        hurt.path.write_bytes(before[hurt.path])
    assert drawn == set(hurts.KINDS)


def test_a_seed_gives_the_same_hurt_again(out: Path) -> None:
    first = hurts.hurt(out, random.Random("7/3"))
    hurts.remove(first.path)
    first.path.write_bytes(bytes(range(256)) * 64)
    assert hurts.hurt(out, random.Random("7/3")) == first


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import sys; print('Traceback (most recent call last)'); sys.exit(1)", "traceback"),
        ("import sys; sys.exit(1)", "said nothing"),
        ("import sys; print('no'); sys.exit(77)", "ended with 77"),
        ("import os; os.kill(os.getpid(), 9)", "ended with -9"),
        ("import time; time.sleep(600)", "hung"),
    ],
)
def test_what_a_command_must_not_do_breaks_a_round(
    code: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "command", lambda *words: [sys.executable, "-c", code])
    monkeypatch.setattr("commands.BOUND_SECONDS", 3.0)
    with pytest.raises(Broken, match=why):
        Place(tmp_path / "out", tmp_path).call("status")


def test_what_is_left_of_a_round_is_found_and_removed(tmp_path: Path) -> None:
    place = Place(tmp_path / "out", tmp_path)
    (tmp_path / "swp1-left").mkdir()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=place.environment())
    try:
        with pytest.raises(Broken, match=rf"processes \['{child.pid} .*swp1-left"):
            place.wait_until_gone(1.0)
        child.wait(timeout=10)
        place.wait_until_gone(5.0)
    finally:
        child.kill()
        child.wait()


def test_advice_is_taken_from_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, ...]] = []
    place = Place(tmp_path / "out", tmp_path)
    monkeypatch.setattr(place, "call", lambda *words: called.append(words))
    hurt = hurts.Hurt("record", tmp_path / "abc.parquet", "cut")
    hurt.path.touch()
    assert rounds.follow(place, "nothing to do about abc.parquet", hurt) == []
    assert rounds.follow(place, "Remove it with `python -m sweeps store discard 0123456789abcdef`.", hurt)
    assert called == [("store", "discard", "0123456789abcdef")]
    assert rounds.follow(place, "abc.parquet cannot be read. Delete it.", hurt) == ["remove abc.parquet"]
    assert not hurt.path.exists()


@pytest.mark.fault
def test_rounds_hold_and_one_line_says_so() -> None:
    result = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("rounds.py")), "--rounds", "2", "--seed", "1"],
        env=harness.environment() | {"PYTHONPATH": f"{harness.ROOT / 'tests' / 'kill'}:{harness.ROOT}"},
        cwd=harness.ROOT,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1 and result.stdout.startswith("fault: 2 of 2 rounds held in ")

"""Every command of the documents, with the very flags that stand there.

Whatever would train for long or wait for a queue is planned instead: the same words and `--dry-run`, on made-up data that
are packed, so that all is checked that a run checks. Everything else is done.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
from desks import ROOT, Desk, generator

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])
BEGINNING = "python -m sweeps "

# Commands with words that stand for others, and what is typed here for them.
STAND_FOR = {
    "logs RUN NAME": "logs latest driver",
    "check PATH": "check mine.py",
    "show <name> --cells": "show horkd_order_ablation --cells",
    "run <name> --preset tiny": "run horkd_order_ablation --preset tiny",
    "run NAME": "run horkd_architectures",
    "params STUDY": "params horkd_classification",
}
# Commands that cannot be carried out on this desk, and what they must say: exit code and words.
REFUSED = {
    # Nothing was submitted here; tests/slurm has a cluster of its own.
    "scale --workers 12": (2, "runs begun with --on slurm"),
    "scale latest --workers 12": (2, "runs begun with --on slurm"),
}
# Commands that are not typed at all, and why.
NOT_TYPED = {"data download cifar100 --data-root DIR": "fetches from the network; tests/unit/data have a stand-in"}


def written() -> Iterator[tuple[str, str]]:
    """(document, words after `python -m sweeps`) of every command, those of blocks and those within a line."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        inline = re.findall(
            rf"`{BEGINNING}([^`\n]+)`", re.sub(r"^```\w*\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        )
        lines = [line for block in blocks for line in block.splitlines() if BEGINNING in line]
        for line in [line.partition(BEGINNING)[2] for line in lines] + inline:
            yield (
                path.relative_to(ROOT).as_posix(),
                shlex.join(shlex.split(line, comments=True)).replace("'<name>'", "<name>"),
            )


COMMANDS = list(dict.fromkeys(words for _, words in written()))


@pytest.fixture(scope="module")
def furnished(desk: Desk) -> Desk:
    """A desk with all that the documents name; data are packed, so that plans are checked against them."""
    desk.furnish()
    for name, size in (("lfw", "40"), ("cifar100", "")):
        more = ["--data-size", size] if size else []
        packed = desk.type(["python", "-m", "sweeps", "data", "pack", name, *more])
        assert packed.returncode == 0, packed.stderr
    return desk


def test_the_documents_have_the_commands_that_this_file_knows() -> None:
    assert {*STAND_FOR, *REFUSED, *NOT_TYPED} <= set(COMMANDS)
    assert len(COMMANDS) > 40
    unknown = [words for words in COMMANDS if re.search(r"\b(RUN|NAME|PATH|STUDY|KEY)\b|<\w+>", words)]
    assert set(unknown) <= set(STAND_FOR), "say in STAND_FOR what is typed for them"


@pytest.mark.parametrize("words", [words for words in COMMANDS if words not in NOT_TYPED])
def test_every_command_holds_with_the_flags_it_is_written_with(words: str, furnished: Desk) -> None:
    typed = shlex.split(STAND_FOR.get(words, words))
    planned = typed[0] == "run" and "--dry-run" not in typed
    done = furnished.type([*shlex.split(BEGINNING), *typed, *(["--dry-run"] if planned else [])])
    code, said = REFUSED.get(words, (0, ""))
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr and said in done.stdout + done.stderr


def test_an_arm_that_cannot_be_is_left_out_where_the_readme_names_a_network_without_maps(furnished: Desk) -> None:
    (words,) = [words for words in COMMANDS if words.startswith("run horkd_classification --set student.architecture=")]
    done = furnished.type([*shlex.split(BEGINNING), *shlex.split(words), "--dry-run"])
    assert done.returncode == 0 and "left out   fitnet" in done.stdout


def test_the_page_of_parameters_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert generator("parameters").main(["--check"]) == 0, capsys.readouterr().out

"""Somebody who reads no further, as `| head` does, is no error: quiet, with the exit code that shells give."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sweeps.commands import pipes

WORDS = (("list",), ("--help",), ("show", "--help"), ("data", "list"), ("list", "--json"))


def unread(words: Sequence[str], *, both: bool = False) -> tuple[int, str]:
    """Exit code and narration of a command whose results nobody reads; with `both` nobody reads the narration either."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sweeps", *words],
            stdout=writer,
            stderr=writer if both else subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize("words", WORDS)
def test_results_that_nobody_reads_end_quietly(words: tuple[str, ...]) -> None:
    assert unread(words) == (pipes.EXIT_CODE, "")


def test_an_error_that_nobody_reads_keeps_its_exit_code() -> None:
    assert unread(("show", "horkd_order_ablatoin"), both=True) == (2, "")
    assert unread(("list",), both=True) == (pipes.EXIT_CODE, "")


def test_another_broken_connection_is_no_closed_pipe_of_ours(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), pipes.told_apart():
        raise BrokenPipeError

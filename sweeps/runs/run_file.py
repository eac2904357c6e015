"""A run's run.json as commands read it: whole, or what can be saved of a damaged one. Its shape is `analysis.run_file`'s."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from analysis import run_file
from analysis.run_file import NAME
from system import regular_files
from trainables.errors import MachineError


def read(folder: Path) -> dict[str, Any]:
    """The content of a run's run.json, of which every key that is there has a value of its type.

    Raises:
        MachineError: If it is missing, cannot be read, was altered or is something else.
    """
    try:
        raw = regular_files.read_bytes(folder / NAME)
    except FileNotFoundError:
        raise _no_run(folder, "it has none") from None
    except OSError as error:
        raise _no_run(folder, error.strerror or str(error)) from error
    content, harm = run_file.parsed(raw)
    if harm:
        raise _no_run(folder, harm)
    return content


def salvaged(folder: Path) -> tuple[dict[str, Any], str]:
    """What can still be used of a run.json, and what is wrong with it ("" for nothing): damaged parts are left out.

    Raises:
        MachineError: If what lies there is no file that can be read.
    """
    try:
        raw = regular_files.read_bytes(folder / NAME)
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        raise _no_run(folder, error.strerror or str(error)) from error
    content, harm = run_file.parsed(raw)
    if not harm:
        return content, ""
    return run_file.whole_parts(content), harm


def _no_run(folder: Path, harm: str) -> MachineError:
    advice = (
        "" if os.path.isfile(folder / NAME) or not os.path.lexists(folder / NAME) else "Move away what lies there. "
    )
    return MachineError(
        f"{folder} has no readable run.json, so it cannot be read as a run: {harm}. {advice}Give its run command again, "
        "which writes it anew; the store keeps what was trained."
    )

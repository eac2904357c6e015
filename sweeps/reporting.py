"""Writes the report of a run. Apart from `conduct`, which brings what training needs and a report does not."""

from __future__ import annotations

from typing import Any

from sweeps.runs import RunFolder
from trainables.errors import NothingToReport


def fresh_report(run: RunFolder) -> Any:
    """The report of a run, written anew from its records.

    Raises:
        NothingToReport: If no trial is finished.
        MachineError: If run.json is missing or damaged.
    """
    from analysis.errors import NothingToReport as Nothing
    from analysis.report import write_report

    run.read()
    try:
        return write_report(run.path, run.path / "report")
    except Nothing as error:
        raise NothingToReport(str(error)) from None

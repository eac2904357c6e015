"""Writes the report of a run, and says what its records lack.

Apart from `execute`, which imports what training needs and a report does not.
"""

from __future__ import annotations

from typing import Any

from sweeps.runs.folder import RunFolder
from trainables.errors import NothingToReport


def fresh_report(run: RunFolder) -> Any:
    """The report of a run, written anew from its records.

    Raises:
        NothingToReport: If no trial is finished.
        MachineError: If run.json is missing or damaged.
    """
    from analysis.errors import NothingToReport as Nothing
    from analysis.report.write import write_report

    run.read()
    try:
        return write_report(run.path, run.path / "report")
    except Nothing as error:
        raise NothingToReport(str(error)) from None


def record_lines(records: Any) -> list[str]:
    """What is said of records that were wrong and were made again."""
    again = records.made_again
    if not again:
        return []
    key, why = next(iter(again.items()))
    more = f", and {len(again) - 1} more" if len(again) > 1 else ""
    plural = "s were" if len(again) > 1 else " was"
    return [f"{len(again)} record{plural} made again from the store: {key} ({why}){more}."]


def left_out_lines(summary: Any, again: str, most: int = 3) -> list[str]:
    """What is said of records that a report could not count, and how to make them again.

    Args:
        summary: Of the report.
        again: The command that continues the run.
    """
    unreadable = summary.unreadable
    if not unreadable:
        return []
    plural = "s were" if len(unreadable) > 1 else " was"
    lines = [f"{len(unreadable)} of {summary.records} record{plural} left out of the report:"]
    lines += [f"  {name}: {why}" for name, why in list(unreadable.items())[:most]]
    if len(unreadable) > most:
        lines.append(f"  and {len(unreadable) - most} more, in report.json")
    return [*lines, f"Those that the run wrote are made again from the store by {again}; others may be removed."]

"""Writes a run's report: one HTML page with everything inlined, and beside it figures, tables and data.

The page, the tables and the pictures come from the same frames, so they cannot disagree. Equal records give
equal bytes: no clock is read, dates come from the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from analysis.errors import NothingToReport
from analysis.load import RunData, load_run, trial_table
from analysis.report.folder import Folder
from analysis.report.pages.grid import GridPage
from analysis.report.pages.methods import MethodsPage
from analysis.report.pages.pareto import ParetoPage
from analysis.report.pages.search import SearchPage
from analysis.report.pages.shared import ReportPage
from analysis.report.sharing import capped, shareable


@dataclass(frozen=True, kw_only=True)
class ReportSummary:
    """What the command line says after writing a report."""

    sentence: str
    # `cell`, `mean`, `gain`, `low`, `high` (of the gain), `p`, `n`, and in a grid `reference`: the best first, as
    # fractions. A comparison of methods has them setting by setting, with chance, and adds `setting`, `method`, `kind`,
    # `mean_low`, `mean_high` and for some tasks `beside` (`heading`, `mean`).
    rows: list[dict[str, Any]]
    index: Path
    trials: int
    finished: int
    failed: int
    missing: int
    pruned: int
    score: str = "test"  # Of which split `mean` is: drawn cells are compared on validation.
    cautions: list[str] = field(default_factory=list)
    records: int = 0  # Files there are.
    unreadable: dict[str, str] = field(default_factory=dict)  # Of these, those left out, and why.


def write_report(run_folder: Path, out_folder: Path) -> ReportSummary:
    """Write the report of a run into `out_folder`.

    Raises:
        NothingToReport: If the run has no finished trial.
    """
    data = shareable(load_run(Path(run_folder)))
    trials = trial_table(data)
    count = {s: int((trials["status"] == s).sum()) for s in ("completed", "failed", "pruned", "missing")}
    if not count["completed"]:
        raise NothingToReport(_nothing(data, trials, count))
    folder = Folder()
    report = page_kind(data.run)(data=data, trials=trials, folder=folder)
    summary = report.body()
    report.finish()
    target = Path(out_folder)
    folder.publish(target)
    return ReportSummary(
        sentence=summary.sentence,
        rows=report.summary_rows,
        index=target / "index.html",
        trials=trials.height,
        finished=count["completed"],
        failed=count["failed"],
        missing=count["missing"],
        pruned=count["pruned"],
        score=report.score,
        cautions=report.cautions,
        records=data.files_listed,
        unreadable=data.unreadable,
    )


def page_kind(run: Mapping[str, Any]) -> type[ReportPage]:
    """The page that answers a run's question: drawn cells, arms, or a grid of cells."""
    if run.get("sampled"):
        return ParetoPage if len(run.get("objectives") or ()) > 1 else SearchPage
    return MethodsPage if run.get("arms") else GridPage


def _nothing(data: RunData, trials: pl.DataFrame, count: dict[str, int]) -> str:
    name = data.run.get("run") or data.folder.name
    states = f"{trials.height} asked, {count['failed']} failed, {count['missing']} missing"
    words = f"{name} has no finished trial yet ({states})."
    if data.unreadable:
        name, why = next(iter(data.unreadable.items()))
        words += f" {len(data.unreadable)} of {data.files_listed} record files could not be read, as {name}: {why}."
    failed = trials.filter(pl.col("status") == "failed", pl.col("error").is_not_null())
    if failed.height:
        row = failed.row(0, named=True)
        words += f" First failure ({row['failed_stage']}): {capped(row['error'], 200)}"
    return words

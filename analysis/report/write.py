"""Writes a run's report: one HTML page with everything inlined, and beside it figures, tables and data.

The page, the tables and the pictures come from the same frames, so they cannot disagree. Equal records give
equal bytes: no clock is read, dates come from the run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from analysis.errors import NothingToReport
from analysis.load import RunData, load_run, trial_table
from analysis.report import closing, listing
from analysis.report.blocks import Document
from analysis.report.folder import publish
from analysis.report.leaders import Leader
from analysis.report.render import json
from analysis.report.sharing import capped, shareable


@dataclass(frozen=True, kw_only=True)
class ReportSummary:
    """What the command line says after writing a report."""

    sentence: str
    # `cell`, `mean`, `gain`, `low`, `high` (of the gain), `p`, `n`, and in a grid `reference`: the best first, as
    # fractions. A comparison of methods has them setting by setting, with chance, and adds `setting`, `method`, `kind`,
    # `mean_low`, `mean_high` and for some tasks `beside` (`heading`, `mean`).
    rows: list[Leader]
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
    page = listing.page_of(data.run)(data=data, trials=trials)
    answer = page.body()
    if (named := data.run.get("report")) and named not in listing.page_names():
        page.left_out.append(f"Page '{named}', which the study names: there are {', '.join(listing.page_names())}.")
    closing.add_to(page)
    target = Path(out_folder)
    publish(rendered(page.document()), target)
    return ReportSummary(
        sentence=answer.sentence,
        rows=page.leaders,
        index=target / "index.html",
        trials=trials.height,
        finished=count["completed"],
        failed=count["failed"],
        missing=count["missing"],
        pruned=count["pruned"],
        score=page.score,
        cautions=page.cautions,
        records=data.files_listed,
        unreadable=data.unreadable,
    )


def rendered(document: Document) -> dict[str, bytes]:
    """Every file of a report, by its path inside."""
    files = {}
    for renderer in listing.renderers():
        files.update(renderer.files(document))
    files[json.NAME] = json.content(document, files)
    return files


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

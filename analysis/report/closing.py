"""What every page ends with: cost, failures, method, environment, how to reproduce it, and what was left out."""

from __future__ import annotations

import json

import polars as pl

from analysis.printed import duration
from analysis.records import EVALUATION
from analysis.report.blocks import Block, Column, Folded, Lines, Listing, Table, quiet
from analysis.report.commands import portable
from analysis.report.method import method
from analysis.report.page import ReportPage
from analysis.report.sharing import capped

MOST_FAILURES = 20


def add_to(page: ReportPage) -> None:
    for section in (_cost, _failure, _method, _environment, _reproduce):
        section(page)
    if page.left_out:
        page.add("left-out", "Left out", Listing(page.left_out))


def _cost(page: ReportPage) -> None:
    columns = [Column(heading="stage", number=False), Column(heading="count")]
    columns += [Column(heading=h, show=duration) for h in ("wall time", "CPU time", "mean wall time")]
    rows = [
        tuple(row) for row in page.cost.select("stage", "count", "seconds", "cpu_seconds", "mean_seconds").iter_rows()
    ]
    caption = "Distinct stages with a record; one that several trials share is counted once."
    table = Table(name="cost", caption=caption, columns=columns, rows=rows)
    page.numbers["cost"] = page.cost.to_dicts()
    page.add("cost", "Cost", page.table(table), quiet(caption))


def _failure(page: ReportPage) -> None:
    bad = page.data.records.filter(pl.col("status").is_in(["failed", "unrunnable"]))
    nonfinite = page.trials.filter(pl.col("error_type") == "NonFinite", pl.col("failed_stage") == EVALUATION)
    labels = dict(page.cells.select("cell", "label").iter_rows())
    rows = []
    for row in bad.sort("stage", "seed", "key").iter_rows(named=True):
        cells = ", ".join(labels.get(cell, cell) for cell in (row["cells"] or [])[:3])
        cells += f" and {len(row['cells']) - 3} more" if len(row["cells"] or []) > 3 else ""
        message = ": ".join(part for part in (row["error_type"], capped(row["error"])) if part)
        rows.append((row["stage"], cells, row["seed"], row["status"], message, row["log"]))
    for row in nonfinite.iter_rows(named=True):
        rows.append((EVALUATION, row["label"], row["seed"], "failed", row["error"], row["log"]))
    page.numbers["failures"] = [
        dict(zip(("stage", "cells", "seed", "status", "message", "log"), row, strict=True)) for row in rows
    ]
    if not rows:
        page.left_out.append("Failures: none.")
        return
    columns = [
        Column(heading="stage", number=False),
        Column(heading="cells", number=False),
        Column(heading="seed"),
    ]
    columns += [Column(heading=h, number=False) for h in ("status", "message", "log")]
    caption = "Stages that failed; trials that hang from them have no result."
    table = Table(name="failures", caption=caption, columns=columns, rows=rows[:MOST_FAILURES])
    more = f"{len(rows) - MOST_FAILURES} more are in report.json." if len(rows) > MOST_FAILURES else ""
    page.add("failures", "Failures", page.table(table, "wrap"), quiet(f"{caption} {more}".strip()))


def _method(page: ReportPage) -> None:
    page.add("method", "Method", Listing(method(page.run)))


def _environment(page: ReportPage) -> None:
    versions = page.run.get("versions") or {}
    rows = [(str(name), str(value)) for name, value in sorted(versions.items())]
    for column in ("numerics", "device"):
        kinds = page.data.records[column].drop_nulls().value_counts().sort(column)
        rows += [(column, f"{value} ({count} stages)") for value, count in kinds.iter_rows()]
    page.numbers["environment"] = rows
    if not rows:
        page.left_out.append("Environment: the run recorded no versions.")
        return
    columns = [Column(heading="what", number=False), Column(heading="value", number=False)]
    caption = "Versions and numerics of the run."
    table = Table(name="environment", caption=caption, columns=columns, rows=rows, layout="wrap")
    page.add("environment", "Environment", table)


def _reproduce(page: ReportPage) -> None:
    run = page.run
    commands = [str(c.get("command") if isinstance(c, dict) else c) for c in run.get("commands") or []]
    commands = [portable(command) for command in commands]
    seeds = run.get("seeds") or sorted(set(page.trials["seed"]))
    facts = [
        f"Seeds: {', '.join(map(str, seeds))}.",
        f"Revision: {run.get('revision') or 'not recorded'}.",
    ]
    data = run.get("data") or {}
    for title, part in (("Data", data), ("Tested", run.get("test_data") or {})):
        if part.get("fingerprint"):
            facts.append(f"{title}: {part.get('name')}, fingerprint {part['fingerprint']}.")
    if run.get("run"):
        facts.append(f"Run: {run['run']}.")
    page.numbers["reproduce"] = {
        "commands": commands,
        "seeds": list(seeds),
        "revision": run.get("revision"),
    }
    parts: list[Block] = [Lines(commands) if commands else quiet("The run recorded no command.")]
    if parameters := run.get("parameters"):
        shown = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in sorted(parameters.items())]
        parts.append(Folded(f"{len(shown)} parameters", [Lines(shown)]))
    page.add("reproduce", "Reproduce", *parts, quiet(" ".join(facts)))

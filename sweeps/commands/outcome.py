"""What a run came to, in words: for whoever waited for it, and for the log of the job that drove it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from sweeps.commands.output import narrate, near, table

WIDTH = 110  # Columns that a block of methods keeps to.


def say_outcome(outcome: Any, seconds: float) -> None:
    """What became of a run, for people."""
    from sweeps.engine.progress import duration
    from sweeps.runs.reporting import left_out_lines

    summary = outcome.summary
    store = outcome.store
    resume = outcome.run.again("resume", store=store)
    if outcome.message:
        narrate(f"Error: {outcome.message}")
        narrate(f"What is finished is kept. Resume: {resume}")
        return
    if outcome.ended_early and outcome.code != 130:
        done = outcome.counts.get("done", 0)
        narrate(f"{done} stages are in the store, the running ones saved; this job's next life goes on from there.")
        return
    if outcome.code == 130:
        done = outcome.counts.get("done", 0)
        narrate(f"Stopped: {done} stages are in the store, the running ones saved. Resume: {resume}")
        return
    if summary is None and not outcome.failures and not outcome.nothing:
        done = outcome.counts.get("done", 0)
        narrate(f"Done: {done} stages are in the store. Report: {outcome.run.again('report', store=store)}")
    nothing = outcome.elsewhere or "nothing to train, all was in the store"
    trained = f"{outcome.trained} stages trained" if outcome.trained else nothing
    if summary is not None:
        left = f", {summary.missing} missing" if summary.missing else ""
        pruned = f", {summary.pruned} pruned" if summary.pruned else ""
        narrate(
            f"Done: {summary.finished}/{summary.trials} trials, {summary.failed} failed{pruned}{left}; {trained}; "
            f"{duration(seconds)}."
        )
        click.echo(summary.sentence)
        click.echo()
        say_rows(summary)
        click.echo()
        click.echo(f"Report: {near(summary.index)}")
        for line in left_out_lines(summary, resume):
            narrate(line)
    for role, key, why, log in outcome.failures[:10]:
        narrate(f"failed  {role} {key}: {why.splitlines()[0][:200]}  log: {near(Path(log))}")
    if len(outcome.failures) > 10:
        narrate(f"... and {len(outcome.failures) - 10} more: {outcome.run.again('status', store=store)}")
    if outcome.unrunnable:
        narrate(f"{outcome.unrunnable} stages could not run because of them.")
    if outcome.failures:
        narrate(f"After mending: {outcome.run.again('resume', '--retry-failed', store=store)}")
    if outcome.nothing:
        narrate(outcome.nothing)


def say_rows(summary: Any, most: int = 6) -> None:
    """The best cells of a report, for people; of a comparison of methods one block for each setting."""
    rows = summary.rows
    if rows and "method" in rows[0]:
        say_methods(rows)
        return
    drawn = summary.score == "validation"
    shown: list[tuple[Any, ...]] = []
    for row in rows[:most]:
        if drawn:
            shown.append((row["cell"], _percent(row["mean"]), _span(row, "low", "high", _percent), row["n"]))
            continue
        span = _span(row, "low", "high", _points)
        shown.append((row["cell"], _percent(row["mean"]), _gain(row), span, _p_value(row["p"]), row["n"]))
    if drawn:
        table(shown, ("CELL", "VALIDATION %", "95 % CI", "SEEDS"))
    else:
        table(shown, ("CELL", "TEST %", "GAIN", "95 % CI", "P DUNNETT", "SEEDS"))
    if len(rows) > most:
        click.echo(f"... {len(rows) - most} more in the report")


def say_methods(rows: Sequence[Mapping[str, Any]], most: int = 12) -> None:
    """One block per setting: its methods with score and gain, floors, chance and the reference always among them."""
    settings: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        settings.setdefault(row["setting"], []).append(row)
    for number, (title, members) in enumerate(settings.items()):
        if number:
            click.echo()
        if title:
            click.echo(title)
        always = [index for index, row in enumerate(members) if row["reference"] or row["kind"] in ("floor", "chance")]
        others = [index for index in range(len(members)) if index not in always]
        kept = sorted([*always, *others[: max(0, most - len(always))]][:most])
        heading = next((row["beside"]["heading"].upper() for row in members if row.get("beside")), None)
        shown = []
        for row in (members[index] for index in kept):
            cells = [_percent(row["mean"]), _span(row, "mean_low", "mean_high", _percent), _points(row["gain"])]
            cells += [_span(row, "low", "high", _points), _p_value(row["p"]), str(row["n"]) if row["n"] else ""]
            if heading:
                cells.append(_percent((row.get("beside") or {}).get("mean")))
            shown.append((row["method"], cells))
        heads = ["SCORE %", "95 % CI", "GAIN", "95 % CI", "P DUNNETT", "SEEDS", *([heading] if heading else [])]
        room = WIDTH - sum(2 + max(len(h), *(len(cells[i]) for _, cells in shown)) for i, h in enumerate(heads))
        table([(_shortened(name, room), *cells) for name, cells in shown], ("METHOD", *heads))
        if len(members) > len(kept):
            click.echo(f"... {len(members) - len(kept)} more")


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 3, 1)].rstrip() + "..."


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _points(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.2f}"


def _span(row: Mapping[str, Any], low: str, high: str, number: Callable[[float | None], str]) -> str:
    return f"[{number(row[low])}, {number(row[high])}]" if row.get(low) is not None else ""


def _gain(row: Mapping[str, Any]) -> str:
    return "reference" if row.get("reference") else _points(row["gain"])


def _p_value(value: float | None) -> str:
    return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"

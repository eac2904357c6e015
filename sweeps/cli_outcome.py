"""What a run came to, in words: for whoever waited for it, and for the log of the job that drove it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sweeps.cli_parts import narrate, near, table


def say_outcome(outcome: Any, seconds: float) -> None:
    """What became of a run, for people."""
    from sweeps.progress import duration

    summary = outcome.summary
    resume = f"python -m sweeps resume {outcome.run.id}"
    if outcome.message:
        narrate(f"Error: {outcome.message}")
        narrate(f"What is finished is kept. Resume: {resume}")
        return
    if outcome.ended_early and outcome.code != 130:
        done = outcome.counts.get("done", 0)
        narrate(f"{done} stages are in the store, the running ones saved; the next life of this job goes on from there.")
        return
    if outcome.code == 130:
        done = outcome.counts.get("done", 0)
        narrate(f"Stopped: {done} stages are in the store, the running ones saved. Resume: {resume}")
        return
    if summary is None and not outcome.failures and not outcome.nothing:
        done = outcome.counts.get("done", 0)
        narrate(f"Done: {done} stages are in the store. Report: python -m sweeps report {outcome.run.id}")
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
    for role, key, why, log in outcome.failures[:10]:
        narrate(f"failed  {role} {key}: {why.splitlines()[0][:200]}  log: {near(Path(log))}")
    if len(outcome.failures) > 10:
        narrate(f"... and {len(outcome.failures) - 10} more: python -m sweeps status {outcome.run.id}")
    if outcome.unrunnable:
        narrate(f"{outcome.unrunnable} stages could not run because of them.")
    if outcome.failures:
        narrate(f"After mending: {resume} --retry-failed")
    if outcome.nothing:
        narrate(outcome.nothing)


def say_rows(summary: Any, most: int = 6) -> None:
    """The best cells of a report, for people."""

    def percent(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.2f}"

    def points(value: float | None) -> str:
        return "" if value is None else f"{100 * value:+.2f}"

    rows = summary.rows
    drawn = summary.score == "validation"
    shown: list[tuple[Any, ...]] = []
    for row in rows[:most]:
        number = percent if drawn else points
        span = f"[{number(row['low'])}, {number(row['high'])}]" if row.get("low") is not None else ""
        if drawn:
            shown.append((row["cell"], percent(row["mean"]), span, row["n"]))
            continue
        gain = "reference" if row.get("gain") is None else points(row["gain"])
        p = "" if row.get("p") is None else "<0.001" if row["p"] < 0.001 else f"{row['p']:.3f}"
        shown.append((row["cell"], percent(row["mean"]), gain, span, p, row["n"]))
    if drawn:
        table(shown, ("CELL", "VALIDATION %", "95 % CI", "SEEDS"))
    else:
        table(shown, ("CELL", "TEST %", "GAIN", "95 % CI", "P HOLM", "SEEDS"))
    if len(rows) > most:
        click.echo(f"... {len(rows) - most} more in the report")

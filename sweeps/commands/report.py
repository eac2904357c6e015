"""`report`: the page, figures and tables of a run."""

from __future__ import annotations

import click

from sweeps.commands.flags import json_flag, place_flags, run_argument
from sweeps.commands.outcome import say_rows
from sweeps.commands.output import answer, narrate, near


@click.command()
@run_argument
@place_flags
@json_flag
def report(run: str | None, out: str | None, store: str | None, as_json: bool) -> None:
    """Write the report of a run from its records: page, figures, tables."""
    from sweeps.runs.folder import Place, find_run
    from sweeps.runs.reporting import fresh_report, left_out_lines

    folder = find_run(Place.of(out, store), run)
    summary = fresh_report(folder)

    def text() -> None:
        click.echo(summary.sentence)
        click.echo()
        say_rows(summary)
        click.echo()
        click.echo(f"Report: {near(summary.index)}")
        for line in left_out_lines(summary, folder.again("resume")):
            narrate(line)

    content = {"run": folder.id, "sentence": summary.sentence, "rows": summary.rows, "report": str(summary.index)}
    content["records"] = {"listed": summary.records, "left_out": summary.unreadable}
    answer(content, as_json, text)

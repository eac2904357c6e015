"""`doctor`: is this machine fit?"""

from __future__ import annotations

import click

from sweeps.commands.flags import json_flag, place_flags
from sweeps.commands.output import answer


@click.command()
@place_flags
@json_flag
def doctor(out: str | None, store: str | None, as_json: bool) -> None:
    """Look whether this machine is fit: packages, folders, disk, cores, GPU, Ray."""
    from sweeps.commands.fitness import examine
    from sweeps.runs.folder import Place

    rows = examine(Place.of(out, store))
    failures = sum(row["state"] == "FAIL" for row in rows)
    warnings = sum(row["state"] == "warn" for row in rows)

    def text() -> None:
        for row in rows:
            click.echo(f"{row['state']:<5} {row['message']}")
        click.echo(f"{failures} failures, {warnings} warnings")

    answer({"checks": rows, "failures": failures, "warnings": warnings}, as_json, text)
    if failures:
        raise click.exceptions.Exit(3)

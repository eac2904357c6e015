"""`check`: the contracts of our own tests over somebody's own losses, networks, data sets, stages and studies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from sweeps.commands.flags import json_flag
from sweeps.commands.output import answer


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--data-root", metavar="DIR", help="Where data sets that read files find them [env: SWEEPS_DATA_ROOT].")
@json_flag
def check(paths: tuple[str, ...], data_root: str | None, as_json: bool) -> None:
    """Run our own tests' contracts over plug-ins: files, or folders of them. The files are run."""
    from sweeps.runs import plugin_files

    plugin_files.load(())  # What a person has there always: files may rest on it, and must not take its names.
    origins = plugin_files.load_files(paths)

    from sweeps.commands import contracts

    root = data_root or os.environ.get("SWEEPS_DATA_ROOT")
    wanted = {origin.mark for origin in origins}
    offers = [offer for offer in contracts.offered() if offer.source.mark in wanted]
    rows = []
    for one in contracts.check(offers, Path(root).expanduser() if root else None):
        rows.append(one)
        if not as_json:
            state = "skip" if one.skipped else "ok" if one.ok else "FAIL"
            why = f"\n      {one.why}" if one.why else ""
            click.echo(f"{state:<5} {one.what}: {one.contract}{why}")
            sys.stdout.flush()
    failures, skipped = sum(not one.ok for one in rows), sum(one.skipped for one in rows)

    def text() -> None:
        names = ", ".join(f"{offer.group} {offer.name}" for offer in offers)
        left = f", {skipped} not checked" if skipped else ""
        click.echo(f"{len(rows) - failures - skipped} of {len(rows)} hold{left}: {names}")

    content = {
        "offers": plugin_files.described(),
        "checks": [
            {"what": one.what, "contract": one.contract, "ok": one.ok, "skipped": one.skipped, "why": one.why or None}
            for one in rows
        ],
        "failures": failures,
        "skipped": skipped,
    }
    answer(content, as_json, text)
    if failures:
        raise click.exceptions.Exit(1)

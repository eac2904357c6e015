"""`store`: list, verify, discard, gc."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeps.commands.flags import json_flag, place_flags
from sweeps.commands.group import Commands
from sweeps.commands.output import answer, near, table

if TYPE_CHECKING:
    from sweeps.runs.folder import RunFolder


@click.group("store", cls=Commands)
def store_group() -> None:
    """The store of artifacts: list, verify, discard, gc."""


@store_group.command("list")
@place_flags
@json_flag
def store_list(out: str | None, store: str | None, as_json: bool) -> None:
    """Artifacts by stage kind, and their size."""
    from sweeps.runs.folder import Place
    from sweeps.runs.housekeeping import inventory
    from trainables.store.artifacts import Store

    rows = inventory(Store(Place.of(out, store).store))
    answer(
        {"artifacts": rows},
        as_json,
        lambda: table(
            [(r["kind"], r["artifacts"], f"{r['megabytes']:.1f}", r["damaged"]) for r in rows],
            ("STAGE", "ARTIFACTS", "MB", "DAMAGED"),
        ),
    )


@store_group.command("verify")
@click.argument("keys", nargs=-1, metavar="[KEY|RUN]...")
@place_flags
@json_flag
def store_verify(keys: tuple[str, ...], out: str | None, store: str | None, as_json: bool) -> None:
    """Read every file of the artifacts, or of those a run rests on, and compare its digest; without KEYS the packed data
    sets and the records of the runs too."""
    from sweeps.runs import record_checks
    from sweeps.runs.folder import Place, artifacts_of, list_runs
    from sweeps.runs.housekeeping import verify_data
    from sweeps.runs.whereabouts import place_words
    from trainables.store.artifacts import Store

    place, chosen = artifacts_of(Place.of(out, store), keys)
    shelf = Store(place.store)
    chosen = sorted(chosen if keys else shelf.keys())
    bad = {key: problem for key in chosen if (problem := shelf.verify(key)) is not None}
    uncovered = [key for key in chosen if key not in bad and not shelf.get(key).is_covered]
    runs = [] if keys else list_runs(place)
    records, wrong = record_checks.of_runs((run.path for run in runs), shelf)
    packed = {} if keys else verify_data(shelf)
    altered = {name: problem for name, problem in packed.items() if problem is not None}

    def text() -> None:
        where = place_words(place.runs, place.store)
        for key, problem in bad.items():
            click.echo(f"FAIL  {key}  {_with_discard(problem, key, where)}")
        for path, problem in wrong.items():
            run = next(run for run in runs if Path(path).is_relative_to(run.path))
            click.echo(f"FAIL  {near(Path(path))}  {_with_resume(problem, Path(path), run, where)}")
        click.echo(f"{len(chosen) - len(bad)} of {len(chosen)} artifacts are as published.")
        if uncovered:
            click.echo(
                f"Not covered: the manifests of {len(uncovered)} of them, which earlier versions wrote without a checksum; "
                "their files were compared, what they say was not."
            )
        if records:
            click.echo(f"{records - len(wrong)} of {records} records are as written and say what their artifacts say.")
        for problem in altered.values():
            click.echo(f"FAIL  {problem}")
        if packed:
            click.echo(f"{len(packed) - len(altered)} of {len(packed)} packed data sets are as packed.")

    content = {
        **{"checked": len(chosen), "damaged": bad, "not_covered": uncovered},
        **{"records_checked": records, "records_wrong": wrong},
        **{"data_checked": len(packed), "data_damaged": altered},
    }
    answer(content, as_json, text)
    if bad or wrong or altered:
        raise click.exceptions.Exit(1)


def _with_discard(problem: str, key: str, where: Sequence[str]) -> str:
    """What is wrong with an artifact and how it is removed, which a manifest that cannot be read says itself."""
    discard = shlex.join(["store", "discard", key])
    if discard in problem:
        return problem
    return f"{problem}. Remove it: python -m sweeps {shlex.join(['store', 'discard', key, *where])}"


def _with_resume(problem: str, path: Path, run: RunFolder, where: Sequence[str]) -> str:
    """What is wrong with a record, or with the folder of them, and what to do."""
    from analysis.records import RECORDS_FOLDER

    if path == run.path / RECORDS_FOLDER:
        return f"{problem}. No record of {run.id} was looked at: let the folder be listed, and verify again."
    again = shlex.join(["resume", run.id, *where])
    return f"{problem}. If the run wrote it, make it again: python -m sweeps {again}"


@store_group.command("discard")
@click.argument("keys", nargs=-1, required=True)
@place_flags
@json_flag
def store_discard(keys: tuple[str, ...], out: str | None, store: str | None, as_json: bool) -> None:
    """Remove artifacts; the next run that needs them makes them again."""
    from sweeps.runs.folder import Place
    from sweeps.runs.housekeeping import discard
    from trainables.store.artifacts import Store

    gone = discard(Store(Place.of(out, store).store), keys)
    answer({"discarded": gone}, as_json, lambda: click.echo(f"Removed {len(gone)}: {', '.join(gone)}"))


@store_group.command("gc")
@click.option("--dry-run", is_flag=True, help="Say what would go.")
@place_flags
@json_flag
def store_gc(dry_run: bool, out: str | None, store: str | None, as_json: bool) -> None:
    """Remove what no run rests on: artifacts, packed data, work of dead stages."""
    from sweeps.runs.folder import Place
    from sweeps.runs.housekeeping import collect
    from trainables.store.artifacts import Store

    place = Place.of(out, store)
    collected = collect(Store(place.store), place, dry_run=dry_run)
    word = "Would remove" if dry_run else "Removed"
    answer(
        collected,
        as_json,
        lambda: click.echo(
            f"{word} {len(collected['artifacts'])} artifacts, {len(collected['data'])} packed data sets and "
            f"{len(collected['work'])} work folders ({collected['megabytes']:.1f} MB); {collected['kept']} artifacts are in use by "
            f"{collected['runs']} runs."
        ),
    )

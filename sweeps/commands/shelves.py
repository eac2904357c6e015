"""The commands that keep house: `data` (list, show, check, pack, download) and `store` (list, verify, discard, gc)."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from sweeps.commands import completion
from sweeps.commands.output import Commands, answer, json_flag, narrate, near, place_flags, plugin_flag, table
from sweeps.runs.packing import PackingLine
from trainables.errors import DataError, UsageError, did_you_mean


@click.group(cls=Commands)
def data() -> None:
    """Data sets: list, show, check, pack, download."""


@data.command("list")
@plugin_flag
@json_flag
def data_list(as_json: bool, plugins: list[str]) -> None:
    """The data sets there are."""
    from trainables.data.catalog import DATASETS

    rows = [{"name": d.name, "summary": d.summary, "protocols": list(d.protocols)} for d in DATASETS.values()]
    every = list(DATASETS["digits"].protocols)
    rows.append({"name": "folder:PATH", "summary": "your own class folders of images, any size", "protocols": every})

    def offers(protocols: list[str]) -> str:
        return "all tasks" if protocols == every else ", ".join(protocols)

    answer(
        {"data": rows},
        as_json,
        lambda: table(
            [(r["name"], offers(list(r["protocols"])), r["summary"]) for r in rows], ("NAME", "PROTOCOLS", "WHAT")
        ),
    )
    if not as_json:
        click.echo(f"All tasks are {', '.join(every)}.")


@data.command("show")
@click.argument("name", shell_complete=completion.data_sets)
@click.option("--data-root", metavar="DIR", help="Also say whether it lies there [env: SWEEPS_DATA_ROOT].")
@plugin_flag
@json_flag
def data_show(name: str, data_root: str | None, as_json: bool, plugins: list[str]) -> None:
    """Layout on the disk, terms and counts of a data set; with --data-root, whether it lies there."""
    from trainables.data.catalog import DATASETS, FOLDER_PREFIX

    if name.startswith(FOLDER_PREFIX):
        raise UsageError(
            f"Only sets with a name are described. What is in your own says: python -m sweeps data check {name}"
        )
    if name not in DATASETS:
        raise UsageError(
            f"There is no data set '{name}'.{did_you_mean(name, DATASETS)} There are {', '.join(DATASETS)} and folder:PATH."
        )
    info = DATASETS[name]
    content = {
        "name": info.name,
        "summary": info.summary,
        "layout": info.layout,
        "terms": info.terms,
        "protocols": list(info.protocols),
        "images": info.images,
        "classes": info.classes,
        "train": info.train,
        "test": info.test,
        "size": info.side,
        "any_size": not info.fixed,
    }
    there = _whether_there(name, data_root)
    if there is not None:
        content |= {"path": there[0], "problem": there[1]}

    def text() -> None:
        for key in ("name", "summary", "layout", "terms"):
            click.echo(f"{key:10} {content[key]}")
        click.echo(f"{'protocols':10} {', '.join(info.protocols)}")
        size = f"{info.side} pixels" if info.side is not None else "known when it is packed"
        click.echo(f"{'size':10} {size}{'' if info.fixed else ', or what --data-size says up to its own'}")
        if there is not None:
            click.echo(f"{'found':10} {there[0] or 'no: ' + there[1]}")

    answer(content, as_json, text)


def _whether_there(name: str, data_root: str | None) -> tuple[str | None, str] | None:
    """Where a set lies, or why it cannot be used; None where no data root was named."""
    if not (data_root or os.environ.get("SWEEPS_DATA_ROOT")):
        return None
    try:
        source = _source(name, data_root, None)
    except DataError as error:
        return None, str(error)
    return str(source.path) if source.path is not None else "it needs no folder", ""


def _source(name: str, data_root: str | None, data_size: int | None) -> Any:
    from trainables.data import catalog

    root = data_root or os.environ.get("SWEEPS_DATA_ROOT")
    return catalog.locate(name, data_root=Path(root).expanduser() if root else None, size=data_size)


@data.command("check")
@click.argument("name", shell_complete=completion.data_sets)
@click.option("--data-root", metavar="DIR")
@click.option("--data-size", type=int, metavar="PIXELS")
@place_flags
@plugin_flag
@json_flag
def data_check(
    name: str,
    data_root: str | None,
    data_size: int | None,
    out: str | None,
    store: str | None,
    as_json: bool,
    plugins: list[str],
) -> None:
    """Look a data set over: the source, and the packed file if there is one."""
    from sweeps.runs.folder import Place
    from trainables.data import catalog, packed

    source = _source(name, data_root, data_size)
    rows = list(catalog.check(source))
    info = catalog.find_packed(source, Place.of(out, store).store / "data")
    if info is not None:
        rows += catalog.check(packed.open_packed(info.path, verify=True))
    told = [{"ok": c.ok, "message": c.message, "warning": c.warning} for c in rows]
    content: dict[str, Any] = {"data": name, "checks": told}
    if as_json:
        content["passed_over"] = catalog.passed_over(source)

    def text() -> None:
        for check in rows:
            click.echo(f"{'FAIL' if not check.ok else 'WARN' if check.warning else 'ok  '}  {check.message}")

    answer(content, as_json, text)
    if not all(c.ok for c in rows):
        raise click.exceptions.Exit(DataError.exit_code)


@data.command("pack")
@click.argument("name", shell_complete=completion.data_sets)
@click.option("--data-root", metavar="DIR")
@click.option("--data-size", type=int, metavar="PIXELS")
@place_flags
@plugin_flag
@json_flag
def data_pack(
    name: str,
    data_root: str | None,
    data_size: int | None,
    out: str | None,
    store: str | None,
    as_json: bool,
    plugins: list[str],
) -> None:
    """Decode a data set once into the memory-mapped file that all stages read."""
    from sweeps.runs.execute import data_of
    from sweeps.runs.folder import Place
    from trainables.data import catalog

    place = Place.of(out, store)
    source = _source(name, data_root, data_size)
    place.prepare()
    line = PackingLine(name, sys.stderr)
    try:
        info = catalog.pack(source, place.store / "data", line, lambda: narrate("Another process is packing; waiting."))
    finally:
        line.end()
    if source.kind != "folder" and source.size is not None and info.height < source.size:
        narrate(f"Most images of {name} have {info.height} pixels, so they were not enlarged to {source.size}.")
    notes = catalog.notes_of(source, place.store / "data")
    for note in notes:
        narrate(f"Note: {note}.")
    content = data_of(info) | {"path": str(info.path), "bytes": info.bytes, "notes": list(notes)}
    answer(
        content,
        as_json,
        lambda: click.echo(
            f"{info.name}: {info.train_images:,} training and {info.test_images:,} test images, {len(info.classes)} classes, "
            f"{info.channels}x{info.height}x{info.width}{f', {info.pairs:,} pairs' if info.pairs else ''}, "
            f"{info.bytes / 1e6:.1f} MB in {near(info.path)}"
        ),
    )


@data.command("download")
@click.argument("name", shell_complete=completion.data_sets)
@click.option("--data-root", metavar="DIR", required=True, help="Where to put it.")
@json_flag
def data_download(name: str, data_root: str, as_json: bool) -> None:
    """Fetch a data set that may be fetched (through torchvision)."""
    from trainables.data import catalog

    source = catalog.download(name, Path(data_root).expanduser())
    answer({"data": name, "path": str(source.path)}, as_json, lambda: click.echo(f"{name} is in {source.path}"))


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
            click.echo(
                f"FAIL  {key}  {problem}. Remove it: python -m sweeps {shlex.join(['store', 'discard', key, *where])}"
            )
        for path, problem in wrong.items():
            again = shlex.join(["resume", Path(path).parts[-3], *where])
            click.echo(
                f"FAIL  {near(Path(path))}  {problem}. If the run wrote it, make it again: python -m sweeps {again}"
            )
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
    found = collect(Store(place.store), place, dry_run=dry_run)
    word = "Would remove" if dry_run else "Removed"
    answer(
        found,
        as_json,
        lambda: click.echo(
            f"{word} {len(found['artifacts'])} artifacts, {len(found['data'])} packed data sets and "
            f"{len(found['work'])} work folders ({found['megabytes']:.1f} MB); {found['kept']} artifacts are in use by "
            f"{found['runs']} runs."
        ),
    )

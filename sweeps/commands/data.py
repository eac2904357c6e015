"""`data`: list, show, check, pack, download."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from sweeps.commands import completion
from sweeps.commands.flags import json_flag, place_flags, plugin_flag
from sweeps.commands.group import Commands
from sweeps.commands.output import answer, narrate, near, table
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
    place = _whether_there(name, data_root)
    if place is not None:
        content |= {"path": place[0], "problem": place[1]}

    def text() -> None:
        for key in ("name", "summary", "layout", "terms"):
            click.echo(f"{key:10} {content[key]}")
        click.echo(f"{'protocols':10} {', '.join(info.protocols)}")
        size = f"{info.side} pixels" if info.side is not None else "known when it is packed"
        click.echo(f"{'size':10} {size}{'' if info.fixed else ', or what --data-size says up to its own'}")
        if place is not None:
            click.echo(f"{'found':10} {place[0] or 'no: ' + place[1]}")

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
        opened = packed.open_packed(info.path, verify=True)
        opened.require_whole()  # The names of images, too.
        rows += catalog.check(opened)
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
    from sweeps.runs.datasets import data_of
    from sweeps.runs.folder import Place
    from sweeps.runs.packing import PackingLine
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

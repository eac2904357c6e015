"""The shelf of packed data sets: which source is packed already, and packing it once for everybody.

No torch here: listing, checking and packing data must answer at once on any machine. Where sources lie is found by
`sources`, what people are told about them is in `datasets`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from system.regular_files import read_text
from system.writable_files import opened_to_append
from trainables.data import blocks, from_plugins
from trainables.data.checks import Check, check
from trainables.data.datasets import DATASETS, FOLDER_PREFIX, DatasetInfo, protocols_of
from trainables.data.images import Progress, read_images
from trainables.data.packed import Items, PackedInfo, doubt_of, open_packed, read_info
from trainables.data.packing import write_packed
from trainables.data.passed import sentences
from trainables.data.sources import FOLDER, Source, listing_of, locate, unknown
from trainables.data.survey import dark, stored_side, survey
from trainables.errors import DataError, DiskFullError, MachineError, SweepsError, UsageError, is_disk_full
from trainables.spec import registry
from trainables.store.files import make_folder, share_with_group

__all__ = [
    "DATASETS",
    "FOLDER_PREFIX",
    "Check",
    "DatasetInfo",
    "PackedInfo",
    "Source",
    "check",
    "download",
    "find_packed",
    "locate",
    "notes_of",
    "pack",
    "passed_over",
    "protocols_of",
    "whole_packed",
]

_INDEX = "index.json"
_LOCK = ".lock"
VERIFIED_BYTES = 2 << 30  # Compared whole before a run starts, which takes half a second a GiB.


def find_packed(source: Source, folder: Path) -> PackedInfo | None:
    """The packed file of a source, or None if it is to be packed; decodes nothing.

    Raises:
        DataError: If the file is there but cut or foreign.
    """
    entry = _read_index(folder).get(source.identity)
    if entry is None or not (folder / entry).exists():
        return None
    return replace(read_info(folder / entry), name=source.name)


def notes_of(source: Source, folder: Path) -> tuple[str, ...]:
    """What people should know about a packed source: images that were passed over, groups, scales; perhaps nothing."""
    return tuple(_read_notes(folder).get(source.identity, ()))


def passed_over(source: Source) -> dict[str, str]:
    """Every file of a set of image files that is not taken, by its name, with the reason.

    Raises:
        DataError: If the files cannot be listed.
    """
    listing = listing_of(source)
    return dict(listing.passed) if listing is not None else {}


def whole_packed(source: Source, folder: Path) -> PackedInfo | None:
    """The packed file of a source, or None if it is to be packed: there is none, or it was cut or altered.

    A file that takes more than a few seconds to read is read here only after a reader found it altered; else each
    of its blocks is compared by who reads it.
    """
    try:
        info = find_packed(source, folder)
        if info is not None and (info.bytes <= VERIFIED_BYTES or doubt_of(info.path).exists()):
            open_packed(info.path).require_whole()
            _doubted_no_more(info.path)
    except DataError:
        return None
    return info


def _doubted_no_more(path: Path) -> None:
    with suppress(OSError):  # A store that cannot be written is told where something must be.
        doubt_of(path).unlink(missing_ok=True)


def pack(
    source: Source, folder: Path, progress: Progress | None = None, waiting: Callable[[], None] | None = None
) -> PackedInfo:
    """Decode a source into `<folder>/<fingerprint>.arrow`.

    A packed file that was cut or altered is replaced. Of several callers at the same time one packs; the others wait
    and find it. A killed packing leaves its decoded blocks in a hidden work folder there, and the next one of an
    unchanged source goes on with them.

    Args:
        source: What to pack.
        folder: Where packed files are kept; it is made.
        progress: Called with the images done and their number.
        waiting: Called once if another process is packing into that folder.

    Raises:
        DataError: If the source is damaged or does not fit.
        MachineError: If the folder cannot be written or the disk is full; nothing half-written remains.
    """
    work = folder / f".{source.identity}{blocks.SUFFIX}"
    try:
        make_folder(folder)
        share_with_group(folder)
        with _locked(folder, waiting):
            found = whole_packed(source, folder)
            if found is not None:
                return found
            for left in folder.glob(".*.tmp"):
                left.unlink(missing_ok=True)  # Only the holder of the lock writes, so a killed one left it.
            blocks.discard_stale(folder, keep=work)
            try:
                items, notes = _read(source, folder, work, progress)
                info = replace(write_packed(folder, source.name, items), name=source.name)
                _doubted_no_more(info.path)
            except (OSError, SweepsError):
                blocks.discard(work)
                raise
            _write_index(
                folder,
                {**_read_index(folder), source.identity: info.path.name},
                {**_read_notes(folder), source.identity: notes},
            )
            blocks.discard(work)
            return info
    except OSError as error:
        kind = DiskFullError if is_disk_full(error) else MachineError
        raise kind(
            f"`{source.name}` cannot be packed into {folder}: {error.strerror or error}. "
            "Make room or name another folder; nothing half-written was left."
        ) from error


def _read(source: Source, folder: Path, work: Path, progress: Progress | None) -> tuple[Items, list[str]]:
    """The decoded items, and what people should know about them."""
    listing = listing_of(source)
    if listing is not None:
        assert source.path is not None and source.size is not None
        found, side = survey(listing), source.size
        usual = stored_side(listing) or side
        if source.kind != FOLDER:
            # A named set is not enlarged: pixels that are not there teach nothing and cost room.
            side = min(side, usual)
        # Once as blocks, once as the packed file; what an earlier packing left of the blocks is there already.
        _check_room(source, folder, 2 * len(listing.files) * found.channels * side * side - blocks.size_of(work))
        items = read_images(
            listing,
            where=str(source.path),
            channels=found.channels,
            side=side,
            work=work,
            scale=found.scale,
            progress=progress,
        )
        said = [*sentences(listing.passed), *found.said, *dark(items.images)]
        notes = [*listing.notes, *(row.text for row in said if row.warning)]
        if usual < side:
            notes.append(
                f"the usual image has {usual} pixels and is enlarged to {side}; --data-size {usual} packs it as it is"
            )
        return items, notes
    _check_room(source, folder, source.bytes or 0)
    if registry.plugin("dataset", source.kind) is not None:
        items = from_plugins.read(source.kind, source.path)
        _check_room(source, folder, items.images.nbytes)
    else:
        items = registry.get("dataset", source.kind).load().read(source)
    if progress is not None:
        progress(len(items.labels), len(items.labels))
    return items, [row.text for row in dark(items.images)]


def _check_room(source: Source, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFullError(
            f"Packing `{source.name}` takes about {needed / 2**20:.0f} MiB, but only {free / 2**20:.0f} MiB are free "
            f"in {folder}. Make room or name another folder."
        )


@contextmanager
def _locked(folder: Path, waiting: Callable[[], None] | None) -> Iterator[None]:
    with opened_to_append(folder / _LOCK) as file:
        share_with_group(folder / _LOCK)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Given back by the system when the holder dies.
        except BlockingIOError:
            if waiting is not None:
                waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _index(folder: Path) -> Any:
    # It only saves work: whatever it lacks is packed again and gets the same fingerprint.
    try:
        return json.loads(read_text(folder / _INDEX))
    except (OSError, ValueError, RecursionError):
        return {}


def _read_index(folder: Path) -> dict[str, str]:
    try:
        sources = _index(folder)["sources"]
        return {str(identity): Path(str(file)).name for identity, file in sources.items()}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}


def _read_notes(folder: Path) -> dict[str, list[str]]:
    try:
        notes = _index(folder).get("notes", {})
        return {str(identity): [str(text) for text in texts] for identity, texts in notes.items()}
    except (TypeError, AttributeError):
        return {}


def _write_index(folder: Path, entries: dict[str, str], notes: dict[str, list[str]]) -> None:
    kept = {identity: file for identity, file in entries.items() if (folder / file).exists()}
    content = {
        "sources": kept,
        "notes": {identity: said for identity, said in notes.items() if said and identity in kept},
    }
    aside = folder / f".index.{os.getpid()}.tmp"
    try:
        with open(aside, "w") as file:
            json.dump(content, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        share_with_group(aside)
        os.replace(aside, folder / _INDEX)
    finally:
        aside.unlink(missing_ok=True)


def download(name: str, data_root: Path) -> Source:
    """Fetch a data set through torchvision into `data_root`; called only when people ask for it.

    Raises:
        UsageError: If nothing can be fetched under that name.
        MachineError: If torchvision or the network is missing.
    """
    entry = registry.find("dataset", name)
    if entry is None:
        raise unknown(name)
    made = entry.load() if entry.origin is None else None
    if made is None or not made.fetched:
        if made is not None and made.info.fixed:
            raise UsageError(f"`{name}` needs no download: {made.info.layout}.")
        raise UsageError(
            f"`{name}` cannot be fetched for you ({DATASETS[name].terms}). Put it as {DATASETS[name].layout}."
        )
    try:
        from torchvision import datasets  # type: ignore[import-untyped,unused-ignore,import-not-found]
    except ImportError as error:
        raise MachineError(
            f"Downloading needs torchvision, but: {error}. Install it with `pip install torchvision`, or "
            f"unpack the archive yourself as {DATASETS[name].layout}."
        ) from error
    root = Path(data_root).expanduser()
    fetch = getattr(datasets, made.fetched)
    try:
        root.mkdir(parents=True, exist_ok=True)
        for train in (True, False):
            fetch(root=str(root), train=train, download=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong checksum is a RuntimeError.
        raise MachineError(
            f"`{name}` could not be fetched into {root}: {error}. Unpack the archive yourself as "
            f"{DATASETS[name].layout}."
        ) from error
    return locate(name, data_root=root)

"""The data sets people can name, where they lie, and which of them are packed already.

No torch here: listing, checking and packing data must answer at once on any machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainables.data.folder import DEFAULT_SIZE, Progress, list_folder, read_folder
from trainables.data.packed import (
    FORMAT_VERSION,
    TRAIN,
    Items,
    Packed,
    PackedInfo,
    open_packed,
    read_info,
    write_packed,
)
from trainables.data.readers import CIFAR, read_cifar, read_digits
from trainables.errors import DataError, DiskFullError, MachineError, UsageError, did_you_mean, is_disk_full

_KRIZHEVSKY = "no explicit licence; cite A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)"

FOLDER_PREFIX = "folder:"
_LARGEST_SIZE = 1024
_INDEX = "index.json"
_LOCK = ".lock"


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What people are told about a data set; `protocol` is the task it offers to studies."""

    name: str
    summary: str
    layout: str
    terms: str
    protocol: str


DATASETS = {
    "digits": DatasetInfo(
        name="digits",
        summary="1,797 handwritten digits, grey, 8x8, 10 classes; 30 % of each class drawn for test",
        layout="nothing to put anywhere: it arrives with scikit-learn",
        terms="E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998), CC BY 4.0",
        protocol="classification",
    ),
    "cifar10": DatasetInfo(
        name="cifar10",
        summary="50,000 + 10,000 photographs, RGB, 32x32, 10 classes",
        layout="<data root>/cifar-10-batches-py/ with data_batch_1 to _5, test_batch and batches.meta",
        terms=_KRIZHEVSKY,
        protocol="classification",
    ),
    "cifar100": DatasetInfo(
        name="cifar100",
        summary="50,000 + 10,000 photographs, RGB, 32x32, 100 classes",
        layout="<data root>/cifar-100-python/ with train, test and meta",
        terms=_KRIZHEVSKY,
        protocol="classification",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set found on this machine, not yet decoded; `identity` changes when its files do."""

    name: str
    identity: str
    images: int | None  # Estimated where counting would mean decoding.
    bytes: int | None  # Estimated size once packed.
    kind: str  # digits, cifar10, cifar100 or folder.
    path: Path | None = None
    size: int | None = None


class Check(NamedTuple):
    """One line of a check-up."""

    ok: bool
    message: str


def locate(data: str, *, data_root: Path | None, size: int | None = None) -> Source:
    """Find a data set, undecoded, by the name people use: `digits`, `cifar10`, `cifar100` or `folder:PATH`.

    `size` is the side in pixels at which a folder is packed (default 64); the others have their own.

    Raises:
        DataError: If it is not where it should be, naming what was expected where.
        UsageError: If the name is unknown or the size cannot be had.
    """
    if data.startswith(FOLDER_PREFIX):
        return _locate_folder(data, DEFAULT_SIZE if size is None else size)
    if data not in DATASETS:
        raise _unknown(data)
    side = 8 if data == "digits" else 32
    if size not in (None, side):
        raise UsageError(
            f"`{data}` comes at {side}x{side} pixels, but size {size} was asked. Only `folder:PATH` takes a size."
        )
    if data == "digits":
        try:
            version = importlib.metadata.version("scikit-learn")
        except importlib.metadata.PackageNotFoundError:
            raise MachineError("`digits` needs scikit-learn. Install it with `pip install scikit-learn`.") from None
        return Source(name=data, identity=_identity(data, version), images=1797, bytes=1797 * 64, kind=data)
    return _locate_cifar(data, data_root)


def _unknown(data: str) -> UsageError:
    hint = did_you_mean(data, DATASETS)
    if not hint and os.path.isdir(os.path.expanduser(data)):
        hint = f" Did you mean '{FOLDER_PREFIX}{data}'?"
    return UsageError(f"No data set named '{data}'.{hint}\nKnown are {', '.join(DATASETS)} and folder:PATH.")


def _locate_folder(data: str, size: int) -> Source:
    given = data.removeprefix(FOLDER_PREFIX)
    if not given:
        raise UsageError("`folder:` must be followed by a path, as in folder:photos/birds.")
    if not 1 <= size <= _LARGEST_SIZE:
        raise UsageError(f"`size` must be from 1 to {_LARGEST_SIZE} pixels, but got {size}.")
    try:
        path = Path(given).expanduser().resolve()
        listing = list_folder(path)
    except (OSError, RuntimeError) as error:  # A loop of links, a name too long, an unknown ~user.
        raise DataError(f"{given} cannot be read: {error}") from error
    files = [(file.relative, file.size, file.changed) for file in listing.files]
    shown = os.fsencode(path.name).decode("utf-8", "replace")
    return Source(
        name=f"{FOLDER_PREFIX}{shown}",
        identity=_identity(FOLDER_PREFIX, os.fsencode(path).hex(), size, files),
        images=len(files),
        bytes=len(files) * 3 * size * size,
        kind="folder",
        path=path,
        size=size,
    )


def _locate_cifar(name: str, data_root: Path | None) -> Source:
    layout = CIFAR[name]
    fetch = f"`python -m sweeps data download {name}` fetches it."
    if data_root is None:
        raise DataError(
            f"`{name}` needs a data root: a folder with {layout.folder}/ in it. Name it with --data-root. {fetch}"
        )
    root = Path(data_root).expanduser().resolve()
    inside = root / layout.folder
    path = inside if inside.is_dir() or not (root / layout.meta).is_file() else root
    missing = [file for file in layout.files if not (path / file).is_file()]
    if missing:
        there = "is not there" if not path.is_dir() else f"lacks {', '.join(missing)}"
        raise DataError(
            f"`{name}` is expected as {DATASETS[name].layout}, but {path} {there}. Unpack the archive there; {fetch}"
        )
    stats = [(file, (path / file).stat()) for file in layout.files]
    content = sum(stat.st_size for file, stat in stats if file != layout.meta)
    images = content // 3100  # 3072 pixels and some bytes of labels and names.
    return Source(
        name=name,
        identity=_identity(
            name, os.fsencode(path).hex(), [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]
        ),
        images=images,
        bytes=images * 3072,
        kind=name,
        path=path,
    )


def _identity(kind: str, *facts: Any) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, kind, *facts]).encode())
    return f"{kind.rstrip(':')}-{digest.hexdigest()[:32]}"


def find_packed(source: Source, folder: Path) -> PackedInfo | None:
    """The packed file of a source, or None if it is to be packed; decodes nothing.

    Raises:
        DataError: If the file is there but cut or foreign.
    """
    entry = _read_index(folder).get(source.identity)
    if entry is None or not (folder / entry).exists():
        return None
    return replace(read_info(folder / entry), name=source.name)


def pack(source: Source, folder: Path, progress: Progress | None = None) -> PackedInfo:
    """Decode a source into `<folder>/<fingerprint>.arrow`.

    Of several callers at the same time one packs; the others wait and find it. `progress` is called with the
    images done and their number.

    Raises:
        DataError: If the source is damaged or does not fit.
        MachineError: If the folder cannot be written or the disk is full; nothing half-written remains.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            found = find_packed(source, folder)
            if found is not None:
                return found
            for left in folder.glob(".*.tmp"):
                left.unlink(missing_ok=True)  # Only the holder of the lock writes, so a killed one left it.
            _check_room(source, folder)
            items = _read(source, folder, progress)
            info = replace(write_packed(folder, source.name, items), name=source.name)
            _write_index(folder, {**_read_index(folder), source.identity: info.path.name})
            return info
    except OSError as error:
        kind = DiskFullError if is_disk_full(error) else MachineError
        raise kind(
            f"`{source.name}` cannot be packed into {folder}: {error.strerror or error}. "
            "Make room or name another folder; nothing half-written was left."
        ) from error


def _read(source: Source, folder: Path, progress: Progress | None) -> Items:
    if source.kind == "folder":
        assert source.path is not None and source.size is not None
        return read_folder(source.path, source.size, folder, progress)
    if source.kind == "digits":
        items = read_digits()
    else:
        assert source.path is not None
        items = read_cifar(source.kind, source.path)
    if progress is not None:
        progress(len(items.labels), len(items.labels))
    return items


def _check_room(source: Source, folder: Path) -> None:
    if source.bytes is None:
        return
    free = shutil.disk_usage(folder).free
    if free < source.bytes:
        raise DiskFullError(
            f"`{source.name}` takes about {source.bytes / 2**20:.0f} MiB packed, but only {free / 2**20:.0f} "
            f"MiB are free in {folder}. Make room or name another folder."
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with open(folder / _LOCK, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # Given back by the system when the holder dies.
        yield


def _read_index(folder: Path) -> dict[str, str]:
    try:
        sources = json.loads((folder / _INDEX).read_text())["sources"]
        return {str(identity): Path(str(file)).name for identity, file in sources.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # It only saves work: whatever it lacks is packed again and gets the same fingerprint.


def _write_index(folder: Path, entries: dict[str, str]) -> None:
    kept = {identity: file for identity, file in entries.items() if (folder / file).exists()}
    aside = folder / f".index.{os.getpid()}.tmp"
    try:
        with open(aside, "w") as file:
            json.dump({"sources": kept}, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, folder / _INDEX)
    finally:
        aside.unlink(missing_ok=True)


def download(name: str, data_root: Path) -> Source:
    """Fetch a data set through torchvision into `data_root`; called only when people ask for it.

    Raises:
        UsageError: If nothing can be fetched under that name.
        MachineError: If torchvision or the network is missing.
    """
    if name not in CIFAR:
        if name in DATASETS:
            raise UsageError(f"`{name}` needs no download: {DATASETS[name].layout}.")
        raise _unknown(name)
    try:
        from torchvision import datasets  # type: ignore[import-untyped,unused-ignore,import-not-found]
    except ImportError as error:
        raise MachineError(
            f"Downloading needs torchvision, but: {error}. Install it with `pip install torchvision`, or "
            f"unpack the archive yourself as {DATASETS[name].layout}."
        ) from error
    root = Path(data_root).expanduser()
    fetch = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
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


def check(subject: Source | Packed) -> list[Check]:
    """Look a data set over: rows of whether it is well, and a sentence on what was found."""
    return _check_source(subject) if isinstance(subject, Source) else _check_packed(subject)


def _check_source(source: Source) -> list[Check]:
    rows = [Check(True, f"{source.name} found{'' if source.path is None else f' at {source.path}'}")]
    if source.kind != "folder":
        return rows
    assert source.path is not None
    listing = list_folder(source.path)
    counts = Counter(file.label for file in listing.files)
    least, most = min(counts.values()), max(counts.values())
    rows.append(Check(True, f"{len(listing.files)} images of {len(listing.classes)} classes, {least} to {most} each"))
    drawn = listing.files[0].split is None
    splits = "no train/ and test/: 20 % of each class are drawn for test" if drawn else "train/ and test/ are its own"
    rows.append(Check(True, splits))
    if listing.ignored:
        rows.append(Check(True, f"{listing.ignored} other files are passed over"))
    return rows


def _check_packed(packed: Packed) -> list[Check]:
    info = packed.info
    training = packed.split == TRAIN
    shape = f"{info.channels}x{info.height}x{info.width}"
    rows = [Check(True, f"{info.train_images} training and {info.test_images} test images, {shape}")]
    try:
        open_packed(info.path, verify=True)
        rows.append(Check(True, f"every byte matches fingerprint {info.fingerprint}"))
    except DataError as error:
        rows.append(Check(False, str(error)))
    counts = np.bincount(packed.labels[training], minlength=len(info.classes))
    filled = int((counts > 0).sum())
    each = f"{counts.min()} to {counts.max()} each"
    rows.append(Check(filled == len(counts), f"{filled} of {len(counts)} classes have training images, {each}"))
    digests = [hashlib.blake2b(image, digest_size=16).digest() for image in packed.images]
    known = {digest for digest, trained in zip(digests, training, strict=True) if trained}
    repeated = sum(digest in known for digest, trained in zip(digests, training, strict=True) if not trained)
    # The original CIFAR archives repeat a few images, so up to one in a hundred passes.
    few = repeated <= 0.01 * info.test_images
    rows.append(Check(few, f"{repeated} of {info.test_images} test images are also in training, pixel for pixel"))
    return rows

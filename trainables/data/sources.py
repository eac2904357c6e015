"""Where data sets lie on this machine, found without decoding an image, and what is in them."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.data import from_plugins
from trainables.data.datasets import DATASETS, FOLDER_PREFIX
from trainables.data.folder import DEFAULT_SIZE, list_folder
from trainables.data.images import Listing
from trainables.data.packed import FORMAT_VERSION
from trainables.errors import DataError, UsageError, did_you_mean
from trainables.spec import registry

_LARGEST_SIZE = 1024
RULES = 2  # How images are found, labelled and scaled; raised when files would be packed otherwise than before.
FOLDER = "folder"  # Kind of the sources that are folders of images by no name.


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set found on this machine, not yet decoded; `identity` changes when its files do."""

    name: str
    identity: str
    images: int | None  # Estimated where counting would mean decoding.
    bytes: int | None  # Estimated size once packed.
    kind: str  # The name of a set, or folder.
    path: Path | None = None
    size: int | None = None  # Side asked for; None where a set has its own.
    pairs: Path | None = None  # A list of pairs that lies beside the images.


def locate(data: str, *, data_root: Path | None, size: int | None = None) -> Source:
    """Find a data set, undecoded, by the name people use: one of `DATASETS`, or `folder:PATH`.

    `size` is the side in pixels at which image files are packed; a named set is never enlarged. Digits and CIFAR
    come at their own.

    Raises:
        DataError: If it is not where it should be, naming what was expected where.
        UsageError: If the name is unknown or the size cannot be had.
    """
    if data.startswith(FOLDER_PREFIX):
        return _locate_folder(data, DEFAULT_SIZE if size is None else size)
    if data not in DATASETS:
        raise unknown(data)
    info = DATASETS[data]
    if registry.plugin("dataset", data) is not None:
        root, facts = from_plugins.facts_of(data, data_root, size)
        images = info.images if info.images is not None else info.train
        return Source(
            name=data, identity=identity(data, *facts), images=images, bytes=None, kind=data, path=root, size=None
        )
    found: Source = registry.get("dataset", data).load().locate(data_root, size)
    return found


def listing_of(source: Source) -> Listing | None:
    """All images of a set of image files; None for sets that come otherwise.

    Raises:
        DataError: If files are missing, or lists and images do not fit.
    """
    if source.path is None or registry.plugin("dataset", source.kind) is not None:
        return None
    if source.kind == FOLDER:
        return list_folder(source.path)
    listing: Listing | None = registry.get("dataset", source.kind).load().listing(source)
    return listing


def unknown(data: str) -> UsageError:
    """No data set of that name, with the nearest one."""
    hint = did_you_mean(data, DATASETS)
    if not hint and os.path.exists(os.path.expanduser(data)):
        hint = f" Did you mean '{FOLDER_PREFIX}{data}'?"
    return UsageError(f"No data set named '{data}'.{hint}\nKnown are {', '.join(DATASETS)} and folder:PATH.")


def identity(kind: str, *facts: Any) -> str:
    """What a source is known by: other facts, another packed file."""
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, kind, *facts]).encode())
    return f"{kind.rstrip(':')}-{digest.hexdigest()[:32]}"


def check_size(size: int) -> None:
    """Refuse a side that images cannot be packed at."""
    if not 1 <= size <= _LARGEST_SIZE:
        raise UsageError(f"`size` must be from 1 to {_LARGEST_SIZE} pixels, but got {size}.")


def _locate_folder(data: str, size: int) -> Source:
    given = data.removeprefix(FOLDER_PREFIX)
    if not given:
        raise UsageError("`folder:` must be followed by a path, as in folder:photos/birds.")
    check_size(size)
    try:
        path = Path(given).expanduser().resolve()
        listing = list_folder(path)
    except (OSError, RuntimeError) as error:  # A loop of links, a name too long, an unknown ~user.
        raise DataError(f"{given} cannot be read: {error}") from error
    files = [(file.relative, file.size, file.changed, file.label, file.split) for file in listing.files]
    shown = os.fsencode(path.name).decode("utf-8", "replace")
    return Source(
        name=f"{FOLDER_PREFIX}{shown}",
        identity=identity(FOLDER_PREFIX, RULES, os.fsencode(path).hex(), size, files),
        images=len(files),
        bytes=len(files) * 3 * size * size,
        kind=FOLDER,
        path=path,
        size=size,
    )


def resolved(path: Path) -> Path:
    """A path without links and `~`.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error

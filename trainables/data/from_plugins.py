"""Data sets that plug-ins bring: where they are found, and their arrays on the way into a packed file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.packed import Items
from trainables.data.splits import draw_test_split
from trainables.errors import DataError, SweepsError, UsageError
from trainables.spec import registry

TEST_FRACTION = 0.2  # Of each class, where the set has no split of its own; as for folders of images.
PARTS = ("images", "labels", "split", "classes", "names", "pairs")
_SPLIT_SEED = 0
_MOST_WATCHED = 1_000_000


def facts_of(name: str, data_root: Path | None, size: int | None) -> tuple[Path | None, list[Any]]:
    """The data root of a set, and what tells that it must be packed anew: the plug-in's digest, the files it watches.

    Raises:
        UsageError: If a size is asked for.
        DataError: If it needs a data root and has none.
    """
    offer = registry.get("dataset", name)
    if size is not None and size != offer.facts["info"].side:
        raise UsageError(
            f"`{name}` comes at its own size, which {offer.source.file} decides, but size {size} was asked."
        )
    if not offer.facts["root"]:
        return None, [offer.source.sha256]
    if data_root is None:
        raise DataError(f"`{name}` ({offer.where}) reads from a data root. Name the folder with --data-root.")
    root = Path(data_root).expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"`{name}` reads from a data root, but {root} is no folder. Name another with --data-root.")
    watched = []
    for pattern in offer.facts["watch"]:
        for path in sorted(root.glob(pattern)):
            try:
                stat = path.stat()
                facts = stat.st_size, stat.st_mtime_ns
            except OSError:  # A link that leads nowhere; whether the set needs it, it says itself when it is read.
                facts = -1, -1
            watched.append((os.fsencode(path.relative_to(root)).hex(), *facts))
            if len(watched) > _MOST_WATCHED:
                raise UsageError(
                    f"`watch` of `{name}` must name fewer files than {_MOST_WATCHED:,}: {pattern} has more."
                )
    return root, [offer.source.sha256, os.fsencode(root).hex(), watched]


def read(name: str, root: Path | None) -> Items:
    """Call the plug-in's function and arrange what it gives.

    Raises:
        DataError: If it fails, or its arrays are not what they must be.
    """
    offer = registry.get("dataset", name)
    try:
        given = offer.load()(root=root) if offer.facts["root"] else offer.load()()
    except SweepsError:
        raise
    except Exception as error:
        raise DataError(f"`{name}` ({offer.where}) cannot be read: {type(error).__name__}: {error}") from error
    return given if isinstance(given, Items) else arranged(name, given)


def arranged(name: str, given: Any) -> Items:
    """Items of what a plug-in's function gives; see `trainables.plugins.dataset`.

    Raises:
        DataError: If a part is missing, unknown or not what it must be.
    """

    def must(good: bool, what: str, got: Any) -> None:
        if not good:
            raise DataError(f"`{name}` must give {what}, but gave {got}.")

    must(isinstance(given, Mapping), f"a mapping with {', '.join(PARTS[:2])} and perhaps {', '.join(PARTS[2:])}", given)
    unknown = [part for part in given if part not in PARTS]
    must(not unknown, f"no other parts than {', '.join(PARTS)}", ", ".join(map(repr, unknown)))
    missing = [part for part in PARTS[:2] if part not in given]
    must(not missing, "images and labels", f"no {' and no '.join(missing)}")
    images = np.asarray(given["images"])
    images = images[:, None] if images.ndim == 3 else images
    shape = f"{images.dtype} of shape {images.shape}"
    must(images.dtype == np.uint8 and images.ndim == 4, "images as uint8 [N, C, H, W] or [N, H, W]", shape)
    must(len(images) > 0 and min(images.shape[1:]) > 0, "images", shape)
    must(images.shape[1] in (1, 3), "images of 1 or 3 channels, [N, C, H, W]", shape)
    labels = np.asarray(given["labels"])
    must(
        labels.shape == (len(images),) and np.issubdtype(labels.dtype, np.integer),
        f"labels as whole numbers [{len(images)}], one for each image",
        f"{labels.dtype} of shape {labels.shape}",
    )
    must(int(labels.min()) >= 0, "labels from 0", int(labels.min()))
    names = given.get("classes")
    classes = tuple(map(str, names)) if names is not None else tuple(str(n) for n in range(int(labels.max()) + 1))
    must(len(set(classes)) == len(classes), "classes of different names", classes)
    must(
        int(labels.max()) < len(classes),
        f"labels below {len(classes)}, the number of its classes",
        f"{int(labels.max())}",
    )
    labels = labels.astype(np.int32)
    split = given.get("split")
    if split is None:
        split = draw_test_split(labels, fraction=TEST_FRACTION, seed=_SPLIT_SEED)
    split = np.asarray(split)
    must(
        split.shape == labels.shape and bool(np.isin(split, (0, 1)).all()),
        f"split as 0 (training) or 1 (test) [{len(images)}]",
        f"{split.dtype} of shape {split.shape} with {np.unique(split)[:5].tolist()}",
    )
    items = given.get("names")
    items = [f"{number:06d}" for number in range(len(images))] if items is None else [str(item) for item in items]
    must(len(items) == len(images), f"names of all {len(images)} items", len(items))
    pairs = given.get("pairs")
    return Items(
        images=np.ascontiguousarray(images),
        labels=labels,
        split=split.astype(np.uint8),
        names=items,
        classes=classes,
        pairs=None if pairs is None else np.asarray(pairs, dtype=np.int32),
    )

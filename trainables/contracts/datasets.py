"""What every data set must do."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainables.contracts import broken


def packs_the_same_twice(name: str, data_root: Path | None = None) -> None:
    """Two packings give one fingerprint."""
    prints = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            prints.append(_pack(name, data_root, Path(folder)).info.fingerprint)
    if prints[0] != prints[1]:
        broken(
            f"two packings have the fingerprints {prints[0]} and {prints[1]}: something in it is drawn without a seed"
        )


def is_well(name: str, data_root: Path | None = None) -> None:
    """Labels are in range, every class is trained on, and no tested image is also in training."""
    from trainables.data import catalog

    with tempfile.TemporaryDirectory() as folder:
        packed = _pack(name, data_root, Path(folder))
        labels, classes = packed.labels, len(packed.info.classes)
        if int(labels.min()) < 0 or int(labels.max()) >= classes:
            broken(f"labels go from {labels.min()} to {labels.max()}, but there are {classes} classes")
        for check in catalog.check(packed):
            if not check.ok:
                broken(check.message)


def is_as_declared(name: str, data_root: Path | None = None) -> None:
    """What is said of it before it is read is so."""
    from trainables.data.datasets import DATASETS

    said = DATASETS[name]
    with tempfile.TemporaryDirectory() as folder:
        info = _pack(name, data_root, Path(folder)).info
    found = {
        "images": info.train_images + info.test_images,
        "classes": len(info.classes),
        "train": info.train_images,
        "test": info.test_images,
        **({"side": min(info.height, info.width)} if said.fixed else {}),
    }
    wrong = [
        f"{fact} is {value}, not {getattr(said, fact)}"
        for fact, value in found.items()
        if getattr(said, fact) not in (None, value)
    ]
    if wrong:
        broken("; ".join(wrong))


def can_be_cut(name: str, data_root: Path | None = None) -> None:
    """For each task it offers, training, validation and test are there and disjoint."""
    import numpy as np

    from trainables.data import catalog
    from trainables.data.protocols import cut

    with tempfile.TemporaryDirectory() as folder:
        packed = _pack(name, data_root, Path(folder))
        offered = catalog.protocols_of(packed.info)
        if not offered:
            broken("it offers no task: without test images only tasks that keep classes apart can be offered")
        for task in offered:
            made = cut(packed, task=task, validation_fraction=0.1, split_seed=0, train_images=0)
            parts = {"training": made.train, "validation": made.validation, "test": made.test}
            for one, other in (("training", "validation"), ("training", "test"), ("validation", "test")):
                shared = np.intersect1d(parts[one], parts[other])
                if len(shared):
                    broken(f"for {task}, {len(shared)} items are in {one} and in {other}")
            empty = [part for part in ("training", "test") if len(parts[part]) == 0]
            if empty:
                broken(f"for {task}, {empty[0]} is empty")


def _pack(name: str, data_root: Path | None, folder: Path) -> Any:
    from trainables.data import catalog
    from trainables.data.packed import open_packed

    return open_packed(catalog.pack(catalog.locate(name, data_root=data_root), folder).path)


OF_DATASETS: dict[str, Callable[..., None]] = {
    "two packings are the same": packs_the_same_twice,
    "labels, classes and splits are well": is_well,
    "its tasks have training and test apart": can_be_cut,
    "it is as it declares": is_as_declared,
}

"""CIFAR-10: photographs of 10 classes (Krizhevsky 2009)."""

from __future__ import annotations

from trainables.data.cifar import KRIZHEVSKY, Cifar
from trainables.data.datasets import DatasetInfo
from trainables.data.image_sets import set_entry
from trainables.data.readers import CifarLayout

RANK = 1

INFO = DatasetInfo(
    name="cifar10",
    summary="50,000 + 10,000 photographs, RGB, 32x32, 10 classes",
    layout="<data root>/cifar-10-batches-py/ with data_batch_1 to _5, test_batch and batches.meta",
    terms=KRIZHEVSKY,
    images=60_000,
    classes=10,
    train=50_000,
    test=10_000,
    side=32,
    fixed=True,
)

LAYOUT = CifarLayout(
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test=("test_batch",),
    meta="batches.meta",
    labels=b"labels",
    class_names=b"label_names",
)

ENTRY = set_entry(Cifar(INFO, LAYOUT, fetched="CIFAR10"))

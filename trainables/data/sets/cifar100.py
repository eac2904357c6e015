"""CIFAR-100: photographs of 100 classes (Krizhevsky 2009)."""

from __future__ import annotations

from trainables.data.cifar import KRIZHEVSKY, Cifar
from trainables.data.datasets import DatasetInfo
from trainables.data.image_sets import set_entry
from trainables.data.readers import CifarLayout

RANK = 2

INFO = DatasetInfo(
    name="cifar100",
    summary="50,000 + 10,000 photographs, RGB, 32x32, 100 classes",
    layout="<data root>/cifar-100-python/ with train, test and meta",
    terms=KRIZHEVSKY,
    images=60_000,
    classes=100,
    train=50_000,
    test=10_000,
    side=32,
    fixed=True,
)

LAYOUT = CifarLayout(
    folder="cifar-100-python",
    train=("train",),
    test=("test",),
    meta="meta",
    labels=b"fine_labels",
    class_names=b"fine_label_names",
)

ENTRY = set_entry(Cifar(INFO, LAYOUT, fetched="CIFAR100"))

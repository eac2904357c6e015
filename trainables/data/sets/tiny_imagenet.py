"""Tiny ImageNet."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from trainables.data.archives import Tree
from trainables.data.datasets import DatasetInfo
from trainables.data.image_sets import ImageSet, set_entry
from trainables.data.images import Listing
from trainables.data.tiny_imagenet import list_tiny_imagenet

RANK = 8

INFO = DatasetInfo(
    name="tiny_imagenet",
    summary="Tiny ImageNet: 110,000 photographs, RGB, 64x64, 200 classes; 100,000 + the 10,000 of val, which "
    "are tested",
    layout="<data root>/tiny-imagenet-200/ (or tiny-imagenet-200.zip, .tar with that in it) with "
    "train/<class>/images/*.JPEG and val/images/*.JPEG, val/val_annotations.txt; test/ has no published labels "
    "and is passed over",
    terms="made of ImageNet's photographs, which belong to their authors; for non-commercial research and "
    "education; cite Y. Le, X. Yang, Tiny ImageNet Visual Recognition Challenge (CS231N, 2015)",
    images=110_000,
    classes=200,
    train=100_000,
    test=10_000,
    side=64,
    stems=("tiny-imagenet", "tiny_imagenet", "tinyimagenet"),
)


class TinyImagenet(ImageSet):
    """As released, or with validation images sorted into folders."""

    distinct: ClassVar[bool] = True

    def looks(self, folder: Path) -> bool:
        """Whether a folder looks like that of the set."""
        return (folder / "train").is_dir() and (folder / "val").is_dir()

    def list_tree(self, tree: Tree, pairs: Path | None) -> Listing:
        """All its images."""
        return list_tiny_imagenet(tree)


ENTRY = set_entry(TinyImagenet(INFO))

"""Caltech-UCSD Birds 2011."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from trainables.data.archives import Tree
from trainables.data.datasets import DatasetInfo
from trainables.data.fine_grained import list_cub
from trainables.data.image_sets import ImageSet, set_entry
from trainables.data.images import Listing

RANK = 5

INFO = DatasetInfo(
    name="cub200",
    summary="Caltech-UCSD Birds 2011: 11,788 photographs, RGB, 200 species; 5,994 + 5,794 by its image split",
    layout="<data root>/CUB_200_2011/ (or CUB_200_2011.tar, .tgz with that in it) with images/, images.txt, "
    "image_class_labels.txt, train_test_split.txt and classes.txt",
    terms="images belong to their photographers, for non-commercial research and education; cite C. Wah et al., "
    "The Caltech-UCSD Birds-200-2011 Dataset (CNS-TR-2011-001)",
    images=11_788,
    classes=200,
    train=5994,
    test=5794,
    side=256,
    stems=("cub",),
)


class Cub(ImageSet):
    """By its four lists."""

    distinct: ClassVar[bool] = True

    def looks(self, folder: Path) -> bool:
        """Whether a folder looks like that of the set."""
        return (folder / "images.txt").is_file() and (folder / "image_class_labels.txt").is_file()

    def list_tree(self, tree: Tree, pairs: Path | None) -> Listing:
        """All its images."""
        return list_cub(tree)


ENTRY = set_entry(Cub(INFO))

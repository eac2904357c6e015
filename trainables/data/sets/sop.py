"""Stanford Online Products."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from trainables.data.archives import Tree
from trainables.data.datasets import DatasetInfo
from trainables.data.fine_grained import list_sop
from trainables.data.image_sets import ImageSet, set_entry
from trainables.data.images import Listing

RANK = 7

INFO = DatasetInfo(
    name="sop",
    summary="Stanford Online Products: 120,053 photographs, RGB, 22,634 products; tested are other products",
    layout="<data root>/Stanford_Online_Products/ (or an archive with that in it) with Ebay_train.txt, "
    "Ebay_test.txt and the folders of images they name",
    terms="photographs of sellers, for research, no explicit licence; cite H. Oh Song, Y. Xiang, S. Jegelka, "
    "S. Savarese, Deep Metric Learning via Lifted Structured Feature Embedding (CVPR 2016)",
    known_classes=False,
    images=120_053,
    classes=22_634,
    train=59_551,
    test=60_502,
    side=256,
    stems=("stanford_online_products", "online_products", "sop"),
)


class Sop(ImageSet):
    """By its two lists."""

    distinct: ClassVar[bool] = True

    def looks(self, folder: Path) -> bool:
        """Whether a folder looks like that of the set."""
        return (folder / "Ebay_train.txt").is_file()

    def list_tree(self, tree: Tree, pairs: Path | None) -> Listing:
        """All its images."""
        return list_sop(tree)


ENTRY = set_entry(Sop(INFO))

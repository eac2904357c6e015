"""Labeled Faces in the Wild."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from trainables.data.archives import Tree
from trainables.data.datasets import DatasetInfo
from trainables.data.image_sets import ImageSet, children, few_folders, set_entry
from trainables.data.images import SUFFIXES, Listing
from trainables.data.people import list_lfw
from trainables.errors import DataError

RANK = 3
PAIRS = "pairs.txt"

INFO = DatasetInfo(
    name="lfw",
    summary="Labeled Faces in the Wild: 13,233 photographs of 5,749 people, and the 6,000 pairs of View 2",
    layout="<data root>/lfw/<Person>/<Person>_0001.jpg (or lfw.tar, lfw.tgz, lfw-funneled.tgz with that in it), "
    "and pairs.txt beside it",
    terms="news photographs whose copyright stays with their owners; released for research, no explicit licence; "
    "cite G. Huang, M. Ramesh, T. Berg, E. Learned-Miller, Labeled Faces in the Wild (UMass TR 07-49, 2007)",
    known_classes=False,
    images=13_233,
    classes=5749,
    side=112,
    stems=("lfw",),
)


class Lfw(ImageSet):
    """People in the order of their names, and the pairs of View 2."""

    distinct: ClassVar[bool] = True

    def looks(self, folder: Path) -> bool:
        """Whether a folder looks like that of the set."""
        return any(
            path.name.startswith(f"{person.name}_") and path.suffix.lower() in SUFFIXES
            for person in few_folders(folder)
            for path in children(person)
        )

    def pairs(self, path: Path) -> Path | None:
        """The list of pairs in a folder of images, beside it (or beside an archive), or one folder further up."""
        places = [path, path.parent, path.parent.parent] if path.is_dir() else [path.parent, path.parent.parent]
        for place in places:
            if (place / PAIRS).is_file():
                return place / PAIRS
        raise DataError(
            f"`lfw` needs {PAIRS}, the list of its 6,000 pairs (View 2), beside the images, but none is in "
            f"{' or '.join(str(place) for place in places)}. It is on the home page of the set."
        )

    def list_tree(self, tree: Tree, pairs: Path | None) -> Listing:
        """All its images."""
        assert pairs is not None
        return list_lfw(tree, pairs)


ENTRY = set_entry(Lfw(INFO))

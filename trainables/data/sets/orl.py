"""ORL, or AT&T, faces."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from trainables.data.archives import Tree
from trainables.data.datasets import DatasetInfo
from trainables.data.image_sets import ImageSet, set_entry
from trainables.data.images import Listing
from trainables.data.people import list_orl

RANK = 4

INFO = DatasetInfo(
    name="orl",
    summary="ORL / AT&T faces: 400 grey photographs, 92x112, 10 of each of 40 people",
    layout="<data root>/att_faces/s1/1.pgm to s40/10.pgm (or att_faces.tar with that in it)",
    terms="free for research with credit to AT&T Laboratories Cambridge; cite F. Samaria, A. Harter, "
    "Parameterisation of a stochastic model for human face identification (WACV 1994)",
    images=400,
    classes=40,
    side=92,
    stems=("orl", "att_faces", "att-faces", "attfaces"),
)


class Orl(ImageSet):
    """Folders s1, s2, ..."""

    distinct: ClassVar[bool] = True

    def looks(self, folder: Path) -> bool:
        """Whether a folder looks like that of the set."""
        return (folder / "s1").is_dir() and (folder / "s2").is_dir()

    def list_tree(self, tree: Tree, pairs: Path | None) -> Listing:
        """All its images."""
        return list_orl(tree)


ENTRY = set_entry(Orl(INFO))

"""Stanford Cars."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from trainables.data.archives import ARCHIVE_SUFFIXES, Tree, is_archive
from trainables.data.datasets import DatasetInfo
from trainables.data.fine_grained import list_cars
from trainables.data.image_sets import ImageSet, set_entry
from trainables.data.images import Listing

RANK = 6

INFO = DatasetInfo(
    name="cars196",
    summary="Stanford Cars: 16,185 photographs, RGB, 196 models; 8,144 + 8,041 by its image split",
    layout="<data root>/cars196/ with cars_train/, cars_test/, cars_train_annos.mat and "
    "cars_test_annos_withlabels.mat, or with car_ims/ and cars_annos.mat (folders may be archives; the lists "
    "may be in devkit/)",
    terms="for non-commercial research; cite J. Krause, M. Stark, J. Deng, L. Fei-Fei, 3D Object Representations "
    "for Fine-Grained Categorization (3dRR 2013)",
    images=16_185,
    classes=196,
    train=8144,
    test=8041,
    side=256,
    stems=("cars", "stanford_cars", "stanford-cars"),
)


class Cars(ImageSet):
    """In either of its two releases."""

    distinct: ClassVar[bool] = True

    def looks(self, folder: Path) -> bool:
        """Whether a folder looks like that of the set."""
        parts = (
            "cars_train",
            "car_ims",
            *(f"{part}{end}" for part in ("cars_train", "car_ims") for end in ARCHIVE_SUFFIXES),
        )
        return any((folder / part).exists() for part in parts)

    def places(self, path: Path) -> list[Path]:
        """Its parts are released as archives, which may lie there as they came or beside what was in them."""
        if not path.is_dir():
            return [path]
        inside = sorted(place for place in path.iterdir() if is_archive(place))
        return [path, *(place for place in inside if not (path / place.name.partition(".")[0]).is_dir())]

    def list_tree(self, tree: Tree, pairs: Path | None) -> Listing:
        """All its images."""
        return list_cars(tree)


ENTRY = set_entry(Cars(INFO))

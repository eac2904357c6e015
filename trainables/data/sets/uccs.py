"""UCCS surveillance faces."""

from __future__ import annotations

from trainables.data.datasets import DatasetInfo
from trainables.data.image_sets import ImageSet, set_entry

RANK = 9

INFO = DatasetInfo(
    name="uccs",
    summary="UCCS surveillance faces, cropped, one folder per subject; papers take 180 subjects",
    layout="<data root>/uccs/<subject>/*.jpg, or uccs/train/ and uccs/test/ with such folders (or uccs.tar, "
    ".zip); folders of sessions in <subject>/ count for it",
    terms="by agreement with its authors, cannot be fetched for you; cite A. Sapkota, T. Boult, Large Scale "
    "Unconstrained Open Set Face Database (BTAS 2013)",
    stems=("uccs",),
)

ENTRY = set_entry(ImageSet(INFO))

"""UMDFaces."""

from __future__ import annotations

from trainables.data.datasets import DatasetInfo
from trainables.data.image_sets import ImageSet, set_entry

RANK = 10

INFO = DatasetInfo(
    name="umdfaces",
    summary="UMDFaces: 367,888 photographs of 8,277 people",
    layout="<data root>/umdfaces/<person>/*.jpg, in batch folders or not (or umdfaces.tar)",
    terms="for non-commercial research, cannot be fetched for you; cite A. Bansal, A. Nanduri, C. Castillo, "
    "R. Ranjan, R. Chellappa, UMDFaces: An Annotated Face Dataset for Training Deep Networks (IJCB 2017)",
    images=367_888,
    classes=8277,
    stems=("umdface", "umd_face"),
)

ENTRY = set_entry(ImageSet(INFO))

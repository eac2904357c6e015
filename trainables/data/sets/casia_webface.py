"""CASIA-WebFace."""

from __future__ import annotations

from trainables.data.datasets import DatasetInfo
from trainables.data.image_sets import ImageSet, set_entry

RANK = 11

INFO = DatasetInfo(
    name="casia_webface",
    summary="CASIA-WebFace: 494,414 photographs of 10,575 people",
    layout="<data root>/CASIA-WebFace/<person>/*.jpg (or casia_webface.tar)",
    terms="by agreement with its authors, for non-commercial research, cannot be fetched for you; cite D. Yi, "
    "Z. Lei, S. Liao, S. Li, Learning Face Representation from Scratch (2014)",
    images=494_414,
    classes=10_575,
    stems=("casia",),
)

ENTRY = set_entry(ImageSet(INFO))

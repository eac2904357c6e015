"""The handwritten digits that arrive with scikit-learn: what everything runs on without a download."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from trainables.data.datasets import DatasetInfo
from trainables.data.image_sets import FixedSet, set_entry
from trainables.data.packed import Items
from trainables.data.readers import read_digits
from trainables.data.sources import Source, identity
from trainables.errors import MachineError

RANK = 0

INFO = DatasetInfo(
    name="digits",
    summary="1,797 handwritten digits, grey, 8x8, 10 classes; 30 % of each class drawn for test",
    layout="nothing to put anywhere: it arrives with scikit-learn",
    terms="E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998), CC BY 4.0",
    images=1797,
    classes=10,
    train=1258,
    test=539,
    side=8,
    fixed=True,
)


class Digits(FixedSet):
    """As an installed package brings them."""

    def find(self, data_root: Path | None) -> Source:
        """Nothing is looked for."""
        name = self.info.name
        try:
            version = importlib.metadata.version("scikit-learn")
        except importlib.metadata.PackageNotFoundError:
            raise MachineError("`digits` needs scikit-learn. Install it with `pip install scikit-learn`.") from None
        return Source(name=name, identity=identity(name, version), images=1797, bytes=1797 * 64, kind=name)

    def read(self, source: Source) -> Items:
        """All of them."""
        return read_digits()


ENTRY = set_entry(Digits(INFO))

"""CIFAR's sets: the original Python folders, found and read."""

from __future__ import annotations

import os
from pathlib import Path

from trainables.data.datasets import DatasetInfo
from trainables.data.image_sets import FixedSet
from trainables.data.packed import Items
from trainables.data.readers import CifarLayout, read_cifar
from trainables.data.sources import Source, identity, resolved
from trainables.errors import DataError

KRIZHEVSKY = "no explicit licence; cite A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)"


class Cifar(FixedSet):
    """One of them.

    Args:
        info: What people are told.
        layout: Of its files.
        fetched: The class of `torchvision.datasets` that fetches it.
    """

    def __init__(self, info: DatasetInfo, layout: CifarLayout, *, fetched: str) -> None:
        super().__init__(info)
        self.layout, self.fetched = layout, fetched

    def find(self, data_root: Path | None) -> Source:
        """The folder, in the data root or being it.

        Raises:
            DataError: If files are missing.
        """
        name, layout = self.info.name, self.layout
        fetch = f"`python -m sweeps data download {name}` fetches it."
        if data_root is None:
            raise DataError(
                f"`{name}` needs a data root: a folder with {layout.folder}/ in it. Name it with --data-root. {fetch}"
            )
        root = resolved(data_root)
        path = root / layout.folder
        if not path.is_dir():
            if (root / layout.meta).is_file():
                path = root
            elif (root / name / layout.folder).is_dir():
                path = root / name / layout.folder
        missing = [file for file in layout.files if not (path / file).is_file()]
        if missing:
            there = "is not there" if not path.is_dir() else f"lacks {', '.join(missing)}"
            raise DataError(
                f"`{name}` is expected as {self.info.layout}, but {path} {there}. Unpack the archive there; {fetch}"
            )
        stats = [(file, (path / file).stat()) for file in layout.files]
        content = sum(stat.st_size for file, stat in stats if file != layout.meta)
        images = content // 3100  # 3072 pixels and some bytes of labels and names.
        return Source(
            name=name,
            identity=identity(
                name, os.fsencode(path).hex(), [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]
            ),
            images=images,
            bytes=images * 3072,
            kind=name,
            path=path,
        )

    def read(self, source: Source) -> Items:
        """All images."""
        assert source.path is not None
        return read_cifar(self.layout, source.path)

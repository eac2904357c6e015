"""Named sets of image files: how their folder or archive is found and told from others, and what is in it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from trainables.data.archives import Tree, is_archive, tree_of
from trainables.data.datasets import DatasetInfo
from trainables.data.images import SUFFIXES, Listing
from trainables.data.packed import Items
from trainables.data.people import list_people
from trainables.data.sources import RULES, Source, check_size, identity, resolved
from trainables.errors import DataError, UsageError
from trainables.spec import registry

FEW = 3  # Folders that are looked into to tell what a folder is.


class FixedSet(ABC):
    """A named set that comes as arrays, at one side and no other."""

    fetched: str = ""  # The class of `torchvision.datasets` that fetches it, where people ask for that.

    def __init__(self, info: DatasetInfo) -> None:
        self.info = info

    def locate(self, data_root: Path | None, size: int | None) -> Source:
        """Find it, undecoded.

        Raises:
            UsageError: If another size is asked for.
            DataError: If it is not where it should be.
        """
        if size not in (None, self.info.side):
            raise UsageError(
                f"`{self.info.name}` comes at {self.info.side}x{self.info.side} pixels, but size {size} was asked. Only "
                "sets of image files take a size."
            )
        return self.find(data_root)

    @abstractmethod
    def find(self, data_root: Path | None) -> Source:
        """Find it, undecoded."""

    def listing(self, source: Source) -> Listing | None:
        """None: it is no set of image files."""
        return None

    @abstractmethod
    def read(self, source: Source) -> Items:
        """Its images."""


class ImageSet:
    """A named set of image files, one folder per class unless a subclass says how it is told and listed."""

    fetched: str = ""
    # Whether its own folder is known by what is in it. Folders of people look like any folders of images, so theirs must
    # have their name.
    distinct: ClassVar[bool] = False

    def __init__(self, info: DatasetInfo) -> None:
        self.info = info

    def looks(self, folder: Path) -> bool:
        """Whether a folder looks like that of the set."""

        def images(inside: Path, depth: int) -> bool:
            if any(path.suffix.lower() in SUFFIXES for path in children(inside)):
                return True
            return depth > 0 and any(images(path, depth - 1) for path in few_folders(inside))

        return any(images(path, 2) for path in few_folders(folder))

    def places(self, path: Path) -> list[Path]:
        """The folders and archives that hold its files, of the one that was found."""
        return [path]

    def pairs(self, path: Path) -> Path | None:
        """A list of pairs beside the images, where it has one."""
        return None

    def list_tree(self, tree: Tree, pairs: Path | None) -> Listing:
        """All its images; raises as `listing_of` does."""
        stems = (*self.info.stems, *_words(self.info.name))
        return list_people(tree, own_words={word for stem in stems for word in _words(stem)})

    def listing(self, source: Source) -> Listing | None:
        """All its images; raises as `listing_of` does."""
        assert source.path is not None
        return self.list_tree(tree_of(self.places(source.path)), source.pairs)

    def locate(self, data_root: Path | None, size: int | None) -> Source:
        """Find its folder or archive, undecoded.

        Raises:
            DataError: If it is not where it should be.
            UsageError: If the size cannot be had.
        """
        info = self.info
        size = info.side if size is None else size
        assert size is not None  # Only sets of plug-ins may come without.
        check_size(size)
        expected = f"`{info.name}` is expected as {info.layout}"
        if data_root is None:
            raise DataError(
                f"{expected}. Name the data root, which is that folder or the one it lies in, with --data-root. "
                f"See: python -m sweeps data show {info.name}"
            )
        root = resolved(data_root)
        try:
            path = self._find(root)
        except OSError as error:
            raise DataError(f"{error.filename or root} cannot be read: {error.strerror or error}.") from error
        if path is None:
            there = "is not there" if not root.exists() else "holds no such thing"
            raise DataError(
                f"{expected}, but {root} {there}. It cannot be fetched for you; see: python -m sweeps data show {info.name}"
            )
        pairs = self.pairs(path)
        facts: list[Any] = [RULES, os.fsencode(path).hex(), size]
        images = info.images
        try:
            if path.is_dir():
                files = tree_of([path]).files
                images = sum(name.lower().endswith(SUFFIXES) for name in files)
                facts.append([(name, stored.size, stored.changed) for name, stored in files.items()])
            for file in (path, pairs):
                if file is not None and file.is_file():
                    stat = file.stat()
                    facts.append((os.fsencode(file).hex(), stat.st_size, stat.st_mtime_ns))
        except OSError as error:
            raise DataError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from error
        # Neither colour nor number of images is known before an archive is read: the packing itself asks for room.
        return Source(
            name=info.name,
            identity=identity(info.name, *facts),
            images=images,
            bytes=None,
            kind=info.name,
            path=path,
            size=size,
            pairs=pairs,
        )

    def _find(self, root: Path) -> Path | None:
        """The folder or archive of a set: the root itself, else something of its name in it, else one level deeper."""

        def called(path: Path) -> bool:
            return path.name.lower().startswith(self.info.stems)

        if is_archive(root):
            return root
        if root.is_dir() and self.looks(root) and (self.distinct or called(root)):
            return root
        near = [path for path in children(root) if called(path)]
        for level in (near, [path for folder in near for path in children(folder)]):
            folders = [path for path in level if path.is_dir() and self.looks(path)]
            archives = [path for path in level if called(path) and is_archive(path)]
            found = folders or archives
            if len(found) > 1:
                several = ", ".join(str(path.relative_to(root)) for path in found[:5])
                raise DataError(
                    f"{root} holds `{self.info.name}` {len(found)} times: {several}. Name one of them with --data-root."
                )
            if found:
                return found[0]
        return None


def children(folder: Path) -> list[Path]:
    """What is in a folder and not hidden, by name."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def few_folders(folder: Path) -> Iterator[Path]:
    """The first few folders in a folder."""
    found = (path for path in children(folder) if path.is_dir())
    for _, path in zip(range(FEW), found, strict=False):
        yield path


def _words(name: str) -> list[str]:
    """`umdface` of the stems also stands for `umdfaces`."""
    return [word + end for word in name.split("_") for end in ("", "s")]


def set_entry(made: FixedSet | ImageSet) -> registry.Entry:
    """The declaration of a named data set, which its file calls ENTRY."""
    return registry.Entry(group="dataset", name=made.info.name, implementation=made, facts={"info": made.info})

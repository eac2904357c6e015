"""The data sets that a request names: found, packed, and what run.json says of them."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search_spaces.study import Preset
from sweeps.planning.fitting import Look, packed_side
from sweeps.planning.plan import UNPACKED
from sweeps.planning.request import Request
from sweeps.runs.folder import Place, Say
from sweeps.runs.machine import check_room
from sweeps.runs.packing import PackingLine
from trainables.data import catalog
from trainables.data.packed import Packed, open_packed
from trainables.errors import DataError, UsageError
from trainables.store.artifacts import Store


def data_of(info: catalog.PackedInfo) -> dict[str, Any]:
    """What run.json says of a data set."""
    return {
        "name": info.name,
        "fingerprint": info.fingerprint,
        "classes": len(info.classes),
        "channels": info.channels,
        "height": info.height,
        "width": info.width,
        "train_images": info.train_images,
        "test_images": info.test_images,
        "pairs": info.pairs,
    }


def stand_in(name: str, images: int | None, size: int | None = None) -> dict[str, Any]:
    """What is known, or else guessed, about a data set that was not packed yet, for `show`."""
    known = catalog.DATASETS.get(name)
    side, classes = size or 64, None
    train, test = round((images or 10_000) * 0.8), round((images or 10_000) * 0.2)
    if known is not None and (known.images or known.train):
        train, test, classes = known.train or known.images or 0, known.test or 0, known.classes
        side = size or known.side or side
    if known is not None and known.fixed:
        side = known.side or side  # A set of a plug-in need not say how large its images are.
    return {
        "name": name,
        "fingerprint": UNPACKED,
        "height": side,
        "width": side,
        "train_images": train,
        "test_images": test,
        **({} if classes is None else {"classes": classes}),
    }


def tested_data(request: Request, preset: Preset | None) -> str | None:
    """Name of the data set that is tested, where it is not the one trained on.

    A preset's own counts only beside the preset's own training data.
    """
    if request.test_data or preset is None:
        return request.test_data
    return preset.test_data if request.data in (None, preset.data) else None


@dataclass
class NamedData:
    """The data set that a request trains on and the one it tests, where that is another.

    Attributes:
        name: Of the one trained on, as it was asked for.
        tested: Of the other one.
        size: Side in pixels that was asked for.
        look: What image files show before they are decoded, for the preset `own`.
        source: The files, once they are found.
        tested_source: Those of the other one.
        info: The packed file, where there is one.
        tested_info: That of the other one.
    """

    name: str
    tested: str | None
    size: int | None
    look: Look = field(default_factory=Look)
    source: catalog.Source | None = None
    tested_source: catalog.Source | None = None
    info: catalog.PackedInfo | None = None
    tested_info: catalog.PackedInfo | None = None

    @classmethod
    def of(cls, request: Request, preset: Preset) -> NamedData:
        """Those that a request names."""
        size = request.data_size or preset.data_size
        return cls(request.data or preset.data, tested_data(request, preset), size)

    def find(self, request: Request, preset: Preset, *, fits: bool) -> None:
        """Find the files.

        Args:
            request: What was asked.
            preset: What it names where the request does not.
            fits: Whether the preset is made from the data: then their images say at which side they are packed.

        Raises:
            DataError: If they are not there.
        """
        source = _locate(request, self.name, preset)
        if fits:
            self.look = Look.at(source)
            size = packed_side(source, self.look, request.data_size)
            if size is not None:
                source = _locate(request, self.name, dataclasses.replace(preset, data_size=size))
        self.tested_source = _locate(request, self.tested, preset, test=True) if self.tested else None
        self.source = source

    def pack(self, place: Place, store: Store, say: Say, *, make: bool) -> None:
        """Find the packed files; make those that are not there, where `make` allows."""
        assert self.source is not None
        self.info = _packed(self.source, place, store, say, pack=make)
        if self.tested_source is not None:
            self.tested_info = _packed(self.tested_source, place, store, say, pack=make)

    @property
    def packed(self) -> Packed | None:
        """The images, where they are packed."""
        return open_packed(self.info.path) if self.info is not None else None

    @property
    def is_packed(self) -> bool:
        """Whether all that is read is packed."""
        return self.info is not None and (self.tested_source is None or self.tested_info is not None)

    @property
    def tested_fingerprint(self) -> str:
        """Of the data set that is tested, where it is another one."""
        if self.tested_source is None:
            return ""
        return self.tested_info.fingerprint if self.tested_info is not None else UNPACKED

    def facts(self) -> dict[str, Any]:
        """What run.json says of the one trained on, or what is guessed of it."""
        if self.source is None:
            return stand_in(self.name, None, self.size)
        if self.info is None:
            return stand_in(self.name, self.source.images, self.source.size)
        return data_of(self.info) | {"name": self.source.name}

    def tested_facts(self) -> dict[str, Any] | None:
        """The same of the other one, once it is packed."""
        return data_of(self.tested_info) | {"name": self.tested} if self.tested_info is not None else None

    def tested_guess(self) -> dict[str, Any] | None:
        """The same, or what is guessed of it while it is not packed."""
        if self.tested is None or self.tested_info is not None:
            return self.tested_facts()
        if self.source is None or self.tested_source is None:
            return stand_in(self.tested, None, self.size)
        return stand_in(self.tested, self.tested_source.images, self.tested_source.size)

    def check(self, task: str, study: str) -> None:
        """Refuse data without the task, and one data set in both parts.

        Raises:
            UsageError: With what the data offer.
        """
        for shown, info in ((self.name, self.info), (self.tested, self.tested_info)):
            offered = catalog.protocols_of(info) if info is not None else (task,)
            if task not in offered:
                raise UsageError(
                    f"{study} is about {task}, but {shown} offers {', '.join(offered)} only. "
                    "`python -m sweeps data list` shows what others offer."
                )
        first, second = self.info, self.tested_info
        if first is not None and second is not None and first.fingerprint == second.fingerprint:
            raise UsageError(
                f"--test-data must be another data set than the one trained on, but both are {first.name}."
            )


def _locate(request: Request, name: str, preset: Preset, *, test: bool = False) -> catalog.Source:
    """The files of a data set that was asked for, at the size asked for."""
    root = (request.test_data_root or request.data_root) if test else request.data_root
    size = request.data_size
    if size is None and name in (preset.data, preset.test_data):
        size = preset.data_size
    return catalog.locate(name, data_root=Path(root).expanduser() if root else None, size=size)


def _packed(source: catalog.Source, place: Place, store: Store, say: Say, *, pack: bool) -> catalog.PackedInfo | None:
    """The packed file of a source; made when it is not there and `pack` allows."""
    folder = store.root / "data"
    info, altered = None, ""
    try:
        info = catalog.find_packed(source, folder)
    except DataError as error:
        altered = str(error)
    if info is not None and pack:
        info = catalog.whole_packed(source, folder)
        altered = "" if info is not None else f"The packed data of {source.name} were altered on the disk."
    if altered:
        say(altered)
    if info is None and pack:
        place.prepare()
        check_room(store.root, 2 * (source.bytes or 0), f"packing {source.name}")
        say(f"Packing {source.name} ...")
        line = PackingLine(source.name, sys.stderr)
        try:
            info = catalog.pack(source, folder, line)
        finally:
            line.end()
    if info is not None:
        for note in catalog.notes_of(source, folder):
            say(f"{source.name}: {note}.")
    return info

"""What people are told about data sets: layout on the disk, terms, counts, and the tasks they offer.

Each named set is one file of `trainables.data.sets`, found by listing the folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainables.data.packed import PackedInfo
from trainables.errors import UsageError, did_you_mean
from trainables.spec import registry
from trainables.spec.training import task_of

FOLDER_PREFIX = "folder:"


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """A data set by its name; counts are those of the whole set as its authors released it."""

    name: str
    summary: str
    layout: str
    terms: str
    only: tuple[str, ...] = ()  # The tasks it offers to studies; none given means all that its split allows.
    known_classes: bool = True  # Whether its test images are of classes that are trained on.
    images: int | None = None
    classes: int | None = None
    train: int | None = None  # Images of the official split, where there is one of images.
    test: int | None = None
    side: int | None = 112  # Pixels of a packed image, unless another size is asked; None: known when it is read.
    fixed: bool = False  # Whether it comes at that side and no other.
    stems: tuple[str, ...] = ()  # How the names of its folder or archive begin, in lower case.

    @property
    def protocols(self) -> tuple[str, ...]:
        """Tasks it offers to studies."""
        return self.only or tasks(known_classes=self.known_classes)


def tasks(*, known_classes: bool = True) -> tuple[str, ...]:
    """All tasks; or those that test other classes than they train on, and so need no test image of every class."""
    return tuple(name for name in registry.names("task") if known_classes or not task_of(name).known_classes)


class _Described(Mapping[str, DatasetInfo]):
    """What is told of every data set that is there, those of plug-ins last: the registry, asked anew each time."""

    def __getitem__(self, name: str) -> DatasetInfo:
        entry = registry.find("dataset", name)
        if entry is None:
            raise KeyError(name)
        info: DatasetInfo = entry.facts["info"]
        return info

    def __iter__(self) -> Iterator[str]:
        return iter(registry.names("dataset"))

    def __len__(self) -> int:
        return len(registry.names("dataset"))


DATASETS: Mapping[str, DatasetInfo] = _Described()


_FACTS = ("images", "classes", "train", "test", "side", "protocols", "layout")


def of_plugin(name: str, summary: str, terms: str, facts: Mapping[str, Any], *, root: bool) -> DatasetInfo:
    """What people are told about a set that a plug-in brings.

    Raises:
        UsageError: If a fact or a protocol is unknown.
    """
    for fact in facts:
        if fact not in _FACTS:
            raise UsageError(
                f"'{fact}' is not known of a data set.{did_you_mean(fact, _FACTS)} Known are {', '.join(_FACTS)}."
            )
    only, known = tuple(facts.get("protocols", ())), tasks()
    for protocol in only:
        if protocol not in known:
            raise UsageError(
                f"`{name}` cannot offer '{protocol}'.{did_you_mean(protocol, known)} Protocols are {', '.join(known)}."
            )
    counts: dict[str, Any] = {fact: facts.get(fact) for fact in ("images", "classes", "train", "test", "side")}
    for fact, value in counts.items():
        least = 0 if fact == "test" else 1
        if value is not None and (type(value) is not int or value < least):
            raise UsageError(f"`{fact}` of `{name}` must be a whole number of at least {least}, but got {value!r}.")
    where = "what its plug-in reads under the data root" if root else "nothing to put anywhere: its plug-in makes it"
    return DatasetInfo(
        name=name,
        summary=summary or "of a plug-in",
        terms=terms or "as its plug-in says",
        layout=str(facts.get("layout", where)),
        **counts,
        only=only,
        fixed=True,
    )


def protocols_of(info: PackedInfo) -> tuple[str, ...]:
    """The tasks a packed set offers: those of its name, without classification where no image is for test.

    Sets of people whose classes are not all of at least 3 images have no test images of every class; tasks that
    keep whole classes apart need none.
    """
    known = DATASETS[info.name].protocols if info.name in DATASETS else tasks()
    without = tasks(known_classes=False)
    return known if info.test_images else tuple(protocol for protocol in known if protocol in without)

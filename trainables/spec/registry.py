"""What plug-ins have added, by kind and name: tables that `trainables.plugins` fills and everybody may read.

They are empty unless somebody names a file. Kinds: loss, network, dataset, stage, recipe, study.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.errors import UsageError

KINDS = ("loss", "network", "dataset", "stage", "recipe", "study")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The file that a plug-in came from."""

    file: str  # Its name.
    sha256: str  # Of its bytes.
    where: str  # For people: its path, or which entry point named it.
    entry: str = ""  # `module` or `module:function`, where an installed distribution brings it.
    content: bytes = field(default=b"", repr=False, compare=False)  # What was run.

    @property
    def mark(self) -> tuple[str, str]:
        """What tells it from others: its bytes, and how it was asked for. One module may offer by several functions."""
        return self.sha256, self.entry

    @property
    def version(self) -> str:
        """What stands for the version of its components in keys: 8 digits that change with every byte."""
        return self.sha256[:8]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One thing that a plug-in offers."""

    kind: str
    name: str
    origin: Origin
    thing: Any  # Function, class or object, as the user wrote it.
    options: Mapping[str, Any] = field(default_factory=dict)  # Losses: option -> default, `weight` among them.
    facts: Mapping[str, Any] = field(default_factory=dict)  # What else the kind needs to know of it.

    @property
    def component(self) -> str:
        """Its name in keys and manifests: `loss.variance`."""
        return f"{self.kind}.{self.name}"


_offers: dict[tuple[str, str], Offer] = {}
_changes = 0


def generation() -> int:
    """Grows with every change, so that what rests on the names can be remembered until then."""
    return _changes


def names(kind: str) -> tuple[str, ...]:
    """The names of a kind, sorted: the order in which files were read must not matter."""
    return tuple(sorted(name for other, name in _offers if other == kind))


def find(kind: str, name: str) -> Offer | None:
    """What is offered under a name."""
    return _offers.get((kind, name))


def get(kind: str, name: str) -> Offer:
    """The same, of a name that is known to be there."""
    return _offers[kind, name]


def offers(origin: Origin | None = None) -> list[Offer]:
    """All that is offered, or what one file offers."""
    return [offer for offer in _offers.values() if origin is None or offer.origin.mark == origin.mark]


def version(component: str) -> str | None:
    """The version of a component that a plug-in offers, or None."""
    kind, _, name = component.partition(".")
    offer = _offers.get((kind, name))
    return offer.origin.version if offer is not None else None


def add(offer: Offer) -> None:
    """Enter something into the tables.

    Raises:
        UsageError: If another plug-in has the name.
    """
    global _changes
    before = _offers.get((offer.kind, offer.name))
    if before is not None:
        raise UsageError(
            f"The {offer.kind} '{offer.name}' must come from one place, but is in {before.origin.where} and in "
            f"{offer.origin.where}. Rename one of them, or name only one of the files."
        )
    _offers[offer.kind, offer.name] = offer
    _changes += 1


def remove(offer: Offer) -> None:
    """Take something out of the tables."""
    global _changes
    _offers.pop((offer.kind, offer.name), None)
    _changes += 1


def described(components: Mapping[str, Any]) -> list[dict[str, str]]:
    """What a manifest says of the plug-ins among the components of a stage: name, file and its whole digest."""
    rows = []
    for name in sorted(components):
        kind, _, short = name.partition(".")
        offer = _offers.get((kind, short))
        if offer is not None:
            rows.append({"name": name, "file": offer.origin.file, "sha256": offer.origin.sha256})
    return rows

"""What `method` says: which distillation losses are on, what is set of each, and what they read."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.errors import UsageError, did_you_mean
from trainables.spec import registry
from trainables.spec.fields import Fields, OpenFields
from trainables.spec.registry import Entry
from trainables.spec.values import check, coerce, later


def canonical_method(text: str) -> str:
    """`MKD+at` -> `at+mkd`, the order of the registry; `none` or nothing stands for labels alone.

    Raises:
        UsageError: If a part is no distillation loss.
    """
    return "+".join(methods_of(text)) or "none"


def methods_of(text: str) -> tuple[str, ...]:
    """The distillation losses switched on: built-in ones in the order of declaration, then those of plug-ins by name."""
    return _methods_of(str(text), registry.generation())


@functools.lru_cache(maxsize=256)
def _methods_of(text: str, generation: int) -> tuple[str, ...]:
    parts = [part.strip().lower() for part in text.replace(" ", "+").split("+") if part.strip()]
    if not parts or parts == ["none"]:
        return ()
    known = registry.names("loss")
    for part in parts:
        if part not in known:
            raise UsageError(
                f"method: '{part}' is not a distillation loss.{did_you_mean(part, known)} "
                f"Use any of {', '.join(known)} joined by +, or 'none' for labels only."
            )
    return tuple(method for method in known if method in parts)


def reads(method: str, what: str) -> bool:
    """Whether a distillation loss reads what is one of `losses.READS`."""
    return bool(registry.get("loss", method).facts[what])


def weights_of(entry: Entry, options: Fields) -> dict[str, float]:
    """Term -> what its option weighs it with, above 0: others are neither computed nor reported."""
    weights = {term: float(getattr(options, option)) for term, option in entry.facts["terms"].items()}
    return {term: weight for term, weight in weights.items() if weight > 0}


def parts_of(entry: Entry, options: Fields) -> tuple[str, ...]:
    """Components in keys of a loss that is on: itself, or those of its parts that its options switch on."""
    if not entry.parts:
        return (entry.component,)
    return tuple(f"loss.{part}" for part in options.parts())  # type: ignore[attr-defined]  # Who has parts says which.


@dataclass(frozen=True)
class LossOptions(OpenFields):
    """What is set of losses that specs have no field for, because plug-ins bring them: (`loss.option`, value), sorted.

    Defaults are left out: the file that holds them is in the key by its digest.
    """

    values: tuple[tuple[str, Any], ...] = ()

    def plain(self) -> dict[str, Any]:
        return dict(self.values)

    def with_options(self, part: str, options: Mapping[str, Any]) -> LossOptions | None:
        if registry.plugin("loss", part) is None:
            return None
        changes = {f"{part}.{option}": value for option, value in options.items()}
        return self.of_plain(self.plain() | changes, "plugin")

    @classmethod
    def paths(cls) -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
        found = {}
        for name in registry.plugin_names("loss"):
            for option in dataclasses.fields(registry.get("loss", name).options):
                declared = later(option.default, plugin=True, **option.metadata)
                found[f"{name}.{option.name}"] = (type(option.default), declared)
        return found

    @classmethod
    def of_plain(cls, given: Any, name: str) -> LossOptions:
        if isinstance(given, LossOptions):
            return given
        if not isinstance(given, Mapping):
            raise UsageError(f"{name} must be a group of parameters, got {given!r}.")
        known = cls.paths()
        for path in given:
            if path not in known:
                raise UsageError(
                    f"'{path}' is not an option of a loss that is loaded.{did_you_mean(path, known)} "
                    "Name the file that brings the loss with --plugins."
                )
        chosen = {}
        for path, value in given.items():
            kind, declared = known[path]
            coerced = coerce(value, kind, path)
            check(coerced, declared.metadata, path)
            if coerced != declared.default:
                chosen[path] = coerced
        return cls(tuple(sorted(chosen.items())))

    def of(self, loss: str) -> Fields:
        """The options of one loss, defaults where nothing was set."""
        chosen = {path.partition(".")[2]: value for path, value in self.values if path.partition(".")[0] == loss}
        group: Fields = registry.get("loss", loss).options(**chosen)
        return group

    def only(self, losses: tuple[str, ...]) -> LossOptions:
        """What is set of these losses alone."""
        return LossOptions(tuple(chosen for chosen in self.values if chosen[0].partition(".")[0] in losses))

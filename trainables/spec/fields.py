"""Groups of fields: made from values that are coerced and checked, written as plain values and read back."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

from trainables.errors import UsageError, did_you_mean
from trainables.spec.values import check, coerce, hints, leaves


class Fields:
    """What specs and their nested groups share: coercion and checks on construction."""

    def __post_init__(self) -> None:
        self.settle()
        self.validate()

    def settle(self) -> None:
        """Coerce and check each field by itself."""
        values = self.__dict__
        for name, kind, default, metadata in leaves(type(self)):  # type: ignore[arg-type]  # mypy takes a class for unhashable.
            value = values[name]
            # Most values are the default's own; plans of 10,000 cells feel the difference.
            if value is default:
                continue
            if type(value) is not kind or kind is float:
                value = coerce(value, kind, name)
                object.__setattr__(self, name, value)
            if metadata:
                check(value, metadata, name)

    def validate(self) -> None:
        """Checks that span several fields; raises UsageError."""

    def unused(self) -> tuple[str, ...]:
        """Fields that the others switch off: they change no number and so do not enter the key."""
        return ()

    @classmethod
    def of_plain(cls, given: Any, name: str) -> Any:
        """The group that a value for the field `name` stands for: itself, or plain values by name."""
        if isinstance(given, cls):
            return given
        if isinstance(given, Mapping):
            return from_plain(cls, given)
        raise UsageError(f"{name} must be a group of parameters, got {given!r}.")


class OpenFields(abc.ABC):
    """A group whose names no class fixes: `part.option` of parts that are declared later than the class."""

    @abc.abstractmethod
    def plain(self) -> dict[str, Any]:
        """`part.option` -> value, where it is not the default."""

    @abc.abstractmethod
    def with_options(self, part: str, options: Mapping[str, Any]) -> OpenFields | None:
        """The group with options of one part set; None where there is no such part."""

    @classmethod
    @abc.abstractmethod
    def paths(cls) -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
        """`part.option` -> (declared type, field) of every part that is there now."""

    @classmethod
    @abc.abstractmethod
    def of_plain(cls, given: Any, name: str) -> Any:
        """As `Fields.of_plain`."""


def made_of(title: str, defaults: Mapping[str, Any], limits: Mapping[str, Mapping[str, Any]]) -> type[Fields]:
    """A group of fields as a signature declares it: name -> default, whose type is the field's; name -> metadata."""
    rows = [
        (name, type(default), dataclasses.field(default=default, metadata=limits.get(name, {})))
        for name, default in defaults.items()
    ]
    # Any name may be an option, also one that `Fields` gives to a check over several fields; there is none here.
    own = {"__post_init__": Fields.settle}
    made: type[Fields] = dataclasses.make_dataclass(
        title, rows, bases=(Fields,), namespace=own, frozen=True, kw_only=True
    )
    return made


def to_plain(spec: Any, *, only_used: bool = False) -> dict[str, Any]:
    """The fields as JSON values, nested groups as objects; later fields at their neutral default are left out.

    Args:
        spec: A spec or a group of fields.
        only_used: Leave out what the other fields switch off, as a key does.
    """
    plain: dict[str, Any] = {}
    unused = spec.unused() if only_used else ()
    values = spec.__dict__
    for name, _, default, metadata in leaves(type(spec)):  # type: ignore[arg-type]  # mypy takes a class for unhashable.
        value = values[name]
        if name in unused or (metadata and "neutral" in metadata and value == default):
            continue
        if isinstance(value, Fields):
            value = to_plain(value, only_used=only_used)
        elif isinstance(value, OpenFields):
            value = value.plain()
            if not value:
                continue
        elif isinstance(value, tuple):
            value = list(value)
        plain[name] = value
    return plain


def from_plain(cls: type, plain: Mapping[str, Any]) -> Any:
    """The spec that `to_plain` wrote.

    Raises:
        UsageError: If a field is unknown.
    """
    names = {name for name, *_ in leaves(cls)}
    for name in plain:
        if name not in names:
            raise UsageError(f"'{name}' is not a field of {cls.__name__}.{did_you_mean(name, names)}")
    return cls(**plain)


def variant(base: Any, changes: Mapping[str, Any]) -> Any:
    """A spec equal to `base` but for some fields, coerced and checked as on construction.

    What `dataclasses.replace` gives, several times faster: plans of 10,000 cells are made of these.

    Raises:
        UsageError: If a value does not fit.
    """
    declared = {name: (kind, metadata) for name, kind, _, metadata in leaves(type(base))}  # type: ignore[arg-type]
    values = dict(base.__dict__)
    for name, value in changes.items():
        if name not in declared:
            values.update(_opened(values, name, value))
            continue
        kind, metadata = declared[name]
        if type(value) is not kind or kind is float:
            value = coerce(value, kind, name)
        if metadata:
            check(value, metadata, name)
        values[name] = value
    made = object.__new__(type(base))
    made.__dict__.update(values)
    made.validate()
    return made


def _opened(values: Mapping[str, Any], part: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The open field that holds the options of a part, with these set."""
    for name, group in values.items():
        changed = group.with_options(part, options) if isinstance(group, OpenFields) else None
        if changed is not None:
            return {name: changed}
    raise KeyError(part)


def flatten(spec: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names and values of every field, nested groups included: `{"horkd.alpha": 0.02, ...}`."""
    flat: dict[str, Any] = {}
    for f in dataclasses.fields(spec):
        value = getattr(spec, f.name)
        if isinstance(value, OpenFields):
            flat.update((f"{prefix}{path}", chosen) for path, chosen in value.plain().items())
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            flat.update(flatten(value, f"{prefix}{f.name}."))
        else:
            flat[f"{prefix}{f.name}"] = value
    return flat


def field_paths(cls: type, prefix: str = "") -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
    """Dotted name -> (declared type, field) of every leaf of a spec class."""
    paths: dict[str, tuple[Any, dataclasses.Field[Any]]] = {}
    for f in dataclasses.fields(cls):
        kind = hints(cls)[f.name]
        if isinstance(kind, type) and issubclass(kind, OpenFields):
            paths.update((f"{prefix}{path}", entry) for path, entry in kind.paths().items())
        elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
            paths.update(field_paths(kind, f"{prefix}{f.name}."))
        else:
            paths[f"{prefix}{f.name}"] = (kind, f)
    return paths

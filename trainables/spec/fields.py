"""Groups of fields with limits: declared, coerced, checked, written as plain values and read back."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.errors import UsageError, did_you_mean
from trainables.spec import registry

MOST_WHOLE = 2**31 - 1
MOST_FLOAT = 3.4e38  # Of float32.


def bounded(default: Any, low: float | None = None, high: float | None = None, **more: Any) -> Any:
    """A field with limits (both included), checked when the spec is made."""
    return field(default=default, metadata={"low": low, "high": high, **more})


def choice(default: str, options: tuple[str, ...], **more: Any) -> Any:
    """A field that takes one of `options`."""
    return field(default=default, metadata={"options": options, **more})


def later(default: Any, **more: Any) -> Any:
    """A field added after a release: left out of the key while it has its neutral default, so old keys stay."""
    return field(default=default, metadata={"neutral": True, **more})


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.cache
def _leaves(cls: Any) -> tuple[tuple[str, Any, Any, Mapping[str, Any]], ...]:
    hints = _hints(cls)
    return tuple((f.name, hints[f.name], f.default, f.metadata) for f in dataclasses.fields(cls))


def coerce(value: Any, kind: Any, name: str) -> Any:
    """`value` as the declared type `kind`: 1 and 1.0 are one, floats are finite, -0.0 is 0.0.

    Raises:
        UsageError: If it cannot be done without changing the value.
    """
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        options = [k for k in typing.get_args(kind) if k is not type(None)]
        if value is None or str(value).strip().lower() in ("none", "native"):
            return None
        kind = options[0]
    if kind is PluginOptions:
        return value if isinstance(value, PluginOptions) else PluginOptions.of(value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if isinstance(value, kind):
            return value
        if isinstance(value, Mapping):
            return from_plain(kind, value)
        raise UsageError(f"{name} must be a group of parameters, got {value!r}.")
    if kind is bool:
        if isinstance(value, bool):
            return value
        word = str(value).strip().lower()
        if word in ("true", "yes", "on", "1"):
            return True
        if word in ("false", "no", "off", "0"):
            return False
        raise UsageError(f"{name} must be true or false, got {value!r}.")
    if kind is int:
        if isinstance(value, bool):
            raise UsageError(f"{name} must be a whole number, got {value!r}.")
        try:
            # Not through a float where that can be avoided: digits beyond 2^53 would change.
            if isinstance(value, (int, str)):
                return int(value)
        except ValueError:
            pass  # "3.0" and "1e3" are whole numbers, too.
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise UsageError(f"{name} must be a whole number, got {value!r}.") from None
        if not math.isfinite(number) or number != int(number):
            raise UsageError(f"{name} must be a whole number, got {value!r}.")
        return int(number)
    if kind is float:
        if isinstance(value, bool):
            raise UsageError(f"{name} must be a number, got {value!r}.")
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"{name} must be a number, got {value!r}.") from None
        if not math.isfinite(number):
            raise UsageError(f"{name} must be a finite number, got {value!r}.")
        return number + 0.0  # -0.0 + 0.0 is 0.0.
    if kind is str:
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise UsageError(f"{name} must be text, got {value!r}.")
        return str(value)
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        if isinstance(value, str):
            value = [part for part in value.replace("/", " ").replace(";", " ").split() if part]
        if not isinstance(value, (list, tuple)):
            value = [value]
        return tuple(coerce(part, inner, name) for part in value)
    raise TypeError(f"spec field {name} has a type no key can hold: {kind}")


def options_of(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """What a field may be: the options it names, and the parts of a group of the registry (`registered`)."""
    options: tuple[str, ...] = metadata.get("options", ())
    group = metadata.get("registered")
    return tuple(dict.fromkeys((*options, *registry.names(group)))) if group else options


def check(value: Any, metadata: Mapping[str, Any], name: str) -> None:
    """Refuse a value outside a field's limits or options."""
    options = options_of(metadata)
    if options and value not in options and not _outside(value, metadata):
        raise UsageError(
            f"{name} must be one of {', '.join(options)}, got '{value}'.{did_you_mean(str(value), options)}"
        )
    low, high = metadata.get("low"), metadata.get("high")
    _check_size(value, high, name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):  # noqa: SIM102
        if (low is not None and value < low) or (high is not None and value > high):
            kind = "a whole number" if isinstance(value, int) else "a number"
            if low is not None and high is not None:
                span = f"from {_shown(low)} to {_shown(high)}"
            else:
                span = f"of at least {_shown(low)}" if low is not None else f"of at most {_shown(high)}"
            raise UsageError(f"{name} must be {kind} {span}, got {_shown(value)}.")


def _check_size(value: Any, high: float | None, name: str) -> None:
    """Refuse a number that tensors of float32 or sizes of 32 bits do not hold, where a field says no limit of its own."""
    for number in value if isinstance(value, tuple) else (value,):
        if high is None and isinstance(number, (int, float)) and not isinstance(number, bool):
            most = MOST_WHOLE if isinstance(number, int) else MOST_FLOAT
            if abs(number) > most:
                raise UsageError(f"{name} must be a number of at most {most:g}, got {_shown(number)}.")


def _outside(value: Any, metadata: Mapping[str, Any]) -> bool:
    """Whether a name is one that another library knows: what follows the colon is looked up when it is built."""
    library, colon, name = str(value).partition(":")
    return f"{library}{colon}" in metadata.get("prefixes", ()) and re.fullmatch(r"[\w.\-]+", name) is not None


def _shown(number: Any) -> str:
    """The digits of whole numbers, of huge ones the first; a few of others."""
    if not isinstance(number, int):
        return f"{number:g}"
    if abs(number).bit_length() > 4000:
        return f"one of about {round(abs(number).bit_length() * 0.30103)} digits"  # Python itself refuses to write it.
    return str(number)


class Fields:
    """What specs and their nested groups share: coercion and checks on construction."""

    def __post_init__(self) -> None:
        values = self.__dict__
        for name, kind, default, metadata in _leaves(type(self)):  # type: ignore[arg-type]  # mypy takes a class for unhashable.
            value = values[name]
            # Most values are the default's own; plans of 10,000 cells feel the difference.
            if value is default:
                continue
            if type(value) is not kind or kind is float:
                value = coerce(value, kind, name)
                object.__setattr__(self, name, value)
            if metadata:
                check(value, metadata, name)
        self.validate()

    def validate(self) -> None:
        """Checks that span several fields; raises UsageError."""

    def unused(self) -> tuple[str, ...]:
        """Fields that the others switch off: they change no number and so do not enter the key."""
        return ()


def to_plain(spec: Any, *, only_used: bool = False) -> dict[str, Any]:
    """The fields as JSON values, nested groups as objects; later fields at their neutral default are left out.

    Args:
        spec: A spec or a group of fields.
        only_used: Leave out what the other fields switch off, as a key does.
    """
    plain: dict[str, Any] = {}
    unused = spec.unused() if only_used else ()
    values = spec.__dict__
    for name, _, default, metadata in _leaves(type(spec)):  # type: ignore[arg-type]  # mypy takes a class for unhashable.
        value = values[name]
        if name in unused or (metadata and "neutral" in metadata and value == default):
            continue
        if isinstance(value, Fields):
            value = to_plain(value, only_used=only_used)
        elif isinstance(value, PluginOptions):
            value = dict(value.values)
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
    names = {name for name, *_ in _leaves(cls)}
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
    leaves = {name: (kind, metadata) for name, kind, _, metadata in _leaves(type(base))}  # type: ignore[arg-type]
    values = dict(base.__dict__)
    for name, value in changes.items():
        if name not in leaves and registry.plugin("loss", name):
            own = {f"{name}.{option}": chosen for option, chosen in value.items()}
            values["plugin"] = PluginOptions.of(dict(values["plugin"].values) | own)
            continue
        kind, metadata = leaves[name]
        if type(value) is not kind or kind is float:
            value = coerce(value, kind, name)
        if metadata:
            check(value, metadata, name)
        values[name] = value
    made = object.__new__(type(base))
    made.__dict__.update(values)
    made.validate()
    return made


def flatten(spec: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names and values of every field, nested groups included: `{"horkd.alpha": 0.02, ...}`."""
    flat: dict[str, Any] = {}
    for f in dataclasses.fields(spec):
        value = getattr(spec, f.name)
        if isinstance(value, PluginOptions):
            flat.update((f"{prefix}{path}", chosen) for path, chosen in value.values)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            flat.update(flatten(value, f"{prefix}{f.name}."))
        else:
            flat[f"{prefix}{f.name}"] = value
    return flat


def field_paths(cls: type, prefix: str = "") -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
    """Dotted name -> (declared type, field) of every leaf of a spec class."""
    hints = _hints(cls)
    paths: dict[str, tuple[Any, dataclasses.Field[Any]]] = {}
    for f in dataclasses.fields(cls):
        kind = hints[f.name]
        if kind is PluginOptions:
            paths.update((f"{prefix}{path}", entry) for path, entry in PluginOptions.paths().items())
        elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
            paths.update(field_paths(kind, f"{prefix}{f.name}."))
        else:
            paths[f"{prefix}{f.name}"] = (kind, f)
    return paths


@dataclass(frozen=True)
class PluginOptions:
    """What was set of the losses that plug-ins bring: (`loss.option`, value), sorted.

    Defaults are left out: the file that holds them is in the key by its digest.
    """

    values: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def paths(cls) -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
        """`loss.option` -> (type, field) of every loss that is there."""
        found = {}
        for name in registry.plugin_names("loss"):
            for option, default in registry.get("loss", name).options.items():
                limits = {"low": 0.0} if option == "weight" else {}
                found[f"{name}.{option}"] = (type(default), later(default, plugin=True, **limits))
        return found

    @classmethod
    def of(cls, given: Any) -> PluginOptions:
        """Options coerced to the types of their defaults.

        Raises:
            UsageError: If a loss or an option is unknown, or a value does not fit.
        """
        if not isinstance(given, Mapping):
            raise UsageError(f"plugin must be a group of parameters, got {given!r}.")
        known, chosen = cls.paths(), {}
        for path, value in given.items():
            if path not in known:
                raise UsageError(
                    f"'{path}' is not an option of a loss that is loaded.{did_you_mean(path, known)} "
                    "Name the file that brings the loss with --plugins."
                )
            kind, declared = known[path]
            coerced = coerce(value, kind, path)
            check(coerced, declared.metadata, path)
            if coerced != declared.default:
                chosen[path] = coerced
        return cls(tuple(sorted(chosen.items())))

    def of_loss(self, name: str) -> dict[str, Any]:
        """Every option of one loss, defaults where nothing was set."""
        own = {path.partition(".")[2]: value for path, value in self.values if path.partition(".")[0] == name}
        return dict(registry.get("loss", name).options) | own

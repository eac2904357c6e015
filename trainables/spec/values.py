"""Values of fields: declared with limits, coerced to their types, checked."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from trainables.errors import UsageError, did_you_mean
from trainables.spec import registry

MOST_WHOLE = 2**31 - 1
MOST_FLOAT = 3.4e38  # Of float32.


def anything(default: Any, **more: Any) -> Any:
    """A field that takes any value of its type. Of this and all other fields, lists show what `text` and `unit` say.

    Text that joins some of its `parts` by + says `part`, what one of them is called; `canonical`, what makes of any way
    to write it the one; and `column`, where records have it in a column of its own.
    """
    return field(default=default, metadata=more)


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
def hints(cls: Any) -> dict[str, Any]:
    """Field -> declared type."""
    return typing.get_type_hints(cls)


@functools.cache
def leaves(cls: Any) -> tuple[tuple[str, Any, Any, Mapping[str, Any]], ...]:
    """Name, declared type, default and metadata of every field."""
    return tuple((f.name, hints(cls)[f.name], f.default, f.metadata) for f in dataclasses.fields(cls))


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
    if hasattr(kind, "of_plain"):  # A group of fields.
        return kind.of_plain(value, name)
    if kind in _COERCIONS:
        return _COERCIONS[kind](value, name)
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        if isinstance(value, str):
            value = [part for part in value.replace("/", " ").replace(";", " ").split() if part]
        if not isinstance(value, (list, tuple)):
            value = [value]
        return tuple(coerce(part, inner, name) for part in value)
    raise TypeError(f"spec field {name} has a type no key can hold: {kind}")


def _truth(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise UsageError(f"{name} must be true or false, got {value!r}.")


def _whole(value: Any, name: str) -> int:
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


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool):
        raise UsageError(f"{name} must be a number, got {value!r}.")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{name} must be a number, got {value!r}.") from None
    if not math.isfinite(number):
        raise UsageError(f"{name} must be a finite number, got {value!r}.")
    return number + 0.0  # -0.0 + 0.0 is 0.0.


def _text(value: Any, name: str) -> str:
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise UsageError(f"{name} must be text, got {value!r}.")
    return str(value)


_COERCIONS: dict[Any, Callable[[Any, str], Any]] = {bool: _truth, int: _whole, float: _number, str: _text}


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

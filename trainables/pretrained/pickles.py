"""Pickles of numpy arrays, read without running anything they name. No torch.

VGGFace2-pytorch distributes its weights as a pickled dictionary of arrays. A pickle is a program: it names functions,
has them called, and sets the state of what they return. This reader knows the handful that rebuild an array. Each is
replaced by an object of ours that checks what it is given and nothing of which a pickle can change; numpy sees the bytes
last, when their number fits the shape. Any other name ends the reading before it is looked up.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from system.regular_files import opened
from trainables.errors import UsageError

_NUMBERS = re.compile(r"[<>|=]?(f[248]|[iu][1248]|b1)")
_ORDERS = ("<", ">", "=", "|")
_PLAIN_STATE = (None, None, None, -1, -1, 0)  # No part of another type, no fields, no sizes or flags of its own.


class ForbiddenName(pickle.UnpicklingError):
    """A pickle wanted something that arrays do not need."""


class _Type:
    """Stands for a numpy.dtype, whose own `__setstate__` would believe any size."""

    __slots__ = ("_text",)

    def __init__(self, name: Any, align: Any = False, copy: Any = True) -> None:
        text = name.decode("ascii") if isinstance(name, bytes) else str(name)
        if not _NUMBERS.fullmatch(text):
            raise ForbiddenName(f"an array of type {text!r}, which is no number")
        self._text = text

    def __setstate__(self, state: Any) -> None:
        plain = isinstance(state, tuple) and len(state) == 8 and state[0] == 3 and state[1] in _ORDERS
        if not plain or state[2:] != _PLAIN_STATE:
            raise ForbiddenName(f"an array of an unusual type ({str(state)[:80]})")
        self._text = state[1] + self._text.lstrip("<>|=")

    def numpy(self) -> np.dtype[Any]:
        """The type of numpy."""
        return np.dtype(self._text)


class _Array:
    """Stands for a numpy.ndarray until the reading has ended."""

    __slots__ = ("value",)

    def __init__(self, value: np.ndarray | None = None) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ForbiddenName("an array of an unusual kind")
        _, shape, kind, by_columns, data = state
        self.value = _filled(data, kind, shape, "F" if by_columns else "C")


def _filled(data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """The array of a shape from exactly its bytes; strings are those of Python 2."""
    if not isinstance(kind, _Type) or order not in ("C", "F"):
        raise ForbiddenName("an array of an unusual kind")
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise ForbiddenName(f"an array of the shape {str(shape)[:80]}")
    raw = (
        data.encode("latin1") if isinstance(data, str) else bytes(data) if isinstance(data, bytes | bytearray) else b""
    )
    dtype = kind.numpy()
    needed = math.prod(shape) * dtype.itemsize
    if len(raw) != needed:
        raise ForbiddenName(f"an array of {needed:,} bytes, of which it has {len(raw):,}")
    return np.frombuffer(raw, dtype).reshape(shape, order=order) if needed else np.empty(shape, dtype)


def _reconstruct(kind: Any, shape: Any, letter: Any) -> _Array:
    if kind is not _NDARRAY or shape != (0,):
        raise ForbiddenName("an array of an unusual kind")
    return _Array()


def _frombuffer(buffer: Any, kind: Any, shape: Any, order: Any) -> _Array:
    return _Array(_filled(buffer, kind, shape, order))


def _latin1(text: Any, encoding: Any) -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise ForbiddenName(f"the encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Of an array without items, as protocol 2 writes them."""
    return b""


class _Name:
    """Stands for a name that arrays need: called where that is what they need, never changed."""

    __slots__ = ("_function", "_name")

    def __init__(self, name: str, function: Callable[..., Any] | None) -> None:
        self._name, self._function = name, function

    def __call__(self, *given: Any) -> Any:
        if self._function is None:
            raise ForbiddenName(f"{self._name} as a function")
        return self._function(*given)

    def __setstate__(self, state: Any) -> None:
        raise ForbiddenName(f"{self._name} as something to be changed")


_NDARRAY = _Name("numpy.ndarray", None)
ALLOWED: dict[tuple[str, str], _Name] = {
    ("numpy", "ndarray"): _NDARRAY,
    **{
        (module, name): _Name(f"{module}.{name}", function)
        for module, name, function in (
            ("numpy", "dtype", _Type),
            ("numpy.core.multiarray", "_reconstruct", _reconstruct),
            ("numpy._core.multiarray", "_reconstruct", _reconstruct),
            ("numpy.core.numeric", "_frombuffer", _frombuffer),
            ("numpy._core.numeric", "_frombuffer", _frombuffer),
            ("_codecs", "encode", _latin1),
            ("__builtin__", "bytes", _no_bytes),
            ("collections", "OrderedDict", dict),
        )
    },
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise ForbiddenName(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise ForbiddenName(f"something kept outside of it ({str(pid)[:60]!r})")


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of a pickled dictionary by name; dictionaries in it are kept, as weights may lie inside, all else is not.

    Raises:
        UsageError: If it names anything but arrays, is cut short, or is no such dictionary.
    """
    try:
        with opened(path) as handle:
            content = _ArraysOnly(handle, encoding="latin1").load()
        if isinstance(content, dict):
            return _arrays(content, {})
    except ForbiddenName as error:
        raise UsageError(
            f"{path.name} is a pickle that wants to use {error}. Weights need arrays only, so nothing of it was run and "
            "nothing was kept. If you trust where it came from, load it there and save its tensors as .safetensors."
        ) from None
    except Exception as error:
        # A damaged pickle can end in any error of the things it rebuilds.
        raise UsageError(
            f"{path.name} cannot be read as a pickle of arrays ({type(error).__name__}: {str(error)[:200]}). "
            "It may be cut short; compare its size and checksum with those of its source."
        ) from None
    raise UsageError(f"{path.name} must hold a dictionary of arrays by name, but holds a {type(content).__name__}.")


def _arrays(content: dict[Any, Any], done: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """A dictionary with its arrays in place; `done` ends the walk where dictionaries hold each other."""
    made = done[id(content)] = {}
    for name, value in content.items():
        if isinstance(value, _Array):
            if value.value is None:
                raise ForbiddenName("an array without contents")
            made[str(name)] = value.value
        elif isinstance(value, dict):
            made[str(name)] = done[id(value)] if id(value) in done else _arrays(value, done)
    return made

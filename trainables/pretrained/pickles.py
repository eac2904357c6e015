"""Pickles of numpy arrays, read without running anything they name. No torch.

VGGFace2-pytorch distributes its weights as a pickled dictionary of arrays. A pickle is a program: it names functions
and has them called. This reader knows the handful that rebuild an array, each replaced by one of ours that checks what
it is given; any other name ends the reading before it is looked up.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from trainables.errors import UsageError

_NUMBERS = re.compile(r"[<>|=]?[fiub][1248]")


class ForbiddenName(pickle.UnpicklingError):
    """A pickle wanted something that arrays do not need."""


def _dtype(name: Any, align: Any = False, copy: Any = True) -> np.dtype[Any]:
    text = name.decode("ascii") if isinstance(name, bytes) else str(name)
    if not _NUMBERS.fullmatch(text):
        raise ForbiddenName(f"an array of type {text!r}, which is no number")
    # A copy, because what follows in the pickle sets its state: the type that all of numpy shares must not change.
    return np.dtype(text, False, True)


def _reconstruct(kind: Any, shape: Any, letter: Any) -> np.ndarray:
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise ForbiddenName("an array of an unusual kind")
    return np.ndarray((0,), np.int8)


def _frombuffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise ForbiddenName("an array of an unusual kind")
    return np.frombuffer(bytes(buffer), dtype).reshape(shape, order=order)


def _latin1(text: Any, encoding: Any) -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise ForbiddenName(f"the encoding {encoding!r}")
    return text.encode("latin1")


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _latin1,
    ("collections", "OrderedDict"): OrderedDict,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise ForbiddenName(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise ForbiddenName(f"something kept outside of it ({str(pid)[:60]!r})")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a pickled dictionary by name.

    Raises:
        UsageError: If it names anything but arrays, is cut short, or is no such dictionary.
    """
    try:
        with open(path, "rb") as handle:
            content = _ArraysOnly(handle, encoding="latin1").load()
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
    if not isinstance(content, dict):
        raise UsageError(f"{path.name} must hold a dictionary of arrays by name, but holds a {type(content).__name__}.")
    arrays = {str(name): value for name, value in content.items() if isinstance(value, np.ndarray)}
    for name, value in arrays.items():
        if value.dtype.kind not in "fiub":
            raise UsageError(f"{name} of {path.name} must be an array of numbers, but is one of {value.dtype}.")
    return arrays

"""Readers of the named data sets: scikit-learn's digits and the original Python folders of CIFAR."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from system.regular_files import read_bytes
from trainables.data.packed import TEST, TRAIN, Items
from trainables.data.splits import draw_test_split
from trainables.errors import DataError, MachineError

DIGITS_TEST_FRACTION = 0.3
_SPLIT_SEED = 0
_MOST_BYTES = 1 << 30  # CIFAR-100's training images take 155 MB.
_MOST_REMEMBERED = 10_000_000  # Objects that a pickle may number; the original files have about 50,000.
_NUMBERS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")  # Types of arrays that are read, of either byte order.
# What unpickling raises on damaged files.
_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    struct.error,
)


def read_digits() -> Items:
    """The 1,797 handwritten digits that arrive with scikit-learn, grey 8x8; 30 % of each class for test."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MachineError(
            f"`digits` needs scikit-learn, but: {error}. Install it with `pip install scikit-learn`."
        ) from error
    loaded = load_digits()
    images = np.rint(loaded.images * (255 / 16)).astype(np.uint8)[:, None]  # The values go from 0 to 16.
    labels = loaded.target.astype(np.int32)
    return Items(
        images=images,
        labels=labels,
        split=draw_test_split(labels, fraction=DIGITS_TEST_FRACTION, seed=_SPLIT_SEED),
        names=[f"digit/{index:04d}" for index in range(len(labels))],
        classes=tuple(str(digit) for digit in range(10)),
    )


@dataclass(frozen=True, kw_only=True)
class CifarLayout:
    """File names and keys of one CIFAR archive (Krizhevsky 2009, Python version)."""

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    labels: bytes
    class_names: bytes

    @property
    def files(self) -> tuple[str, ...]:
        """All file names of the archive that are read."""
        return (*self.train, *self.test, self.meta)


def read_cifar(layout: CifarLayout, path: Path) -> Items:
    """CIFAR-10 or CIFAR-100 from the folder of the original archive, any number of rows; RGB 32x32.

    Raises:
        DataError: If a file is damaged, holds something foreign or does not fit the others.
    """
    meta = path / layout.meta
    classes = tuple(_name(meta, entry) for entry in _field(meta, load_pickle(meta), layout.class_names, list))
    if len(set(classes)) < len(classes) or not classes:
        raise DataError(f"{meta} must name different classes, but names {len(classes)} and {len(set(classes))} differ.")
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    splits: list[np.ndarray] = []
    names: list[str] = []
    for file, split in [(file, TRAIN) for file in layout.train] + [(file, TEST) for file in layout.test]:
        rows, row_labels, row_names = _read_batch(path / file, layout, len(classes))
        images.append(rows)
        labels.append(row_labels)
        splits.append(np.full(len(rows), split, dtype=np.uint8))
        names.extend(row_names)
    return Items(
        images=np.concatenate(images),
        labels=np.concatenate(labels),
        split=np.concatenate(splits),
        names=names,
        classes=classes,
    )


def _read_batch(file: Path, layout: CifarLayout, classes: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    content = load_pickle(file)
    rows = _field(file, content, b"data", np.ndarray)
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != 3072 or len(rows) == 0:
        raise DataError(f"{file} must hold rows of 3072 bytes (3x32x32), but holds {rows.dtype} of shape {rows.shape}.")
    listed = _field(file, content, layout.labels, list)
    known = all(type(label) is int and 0 <= label < classes for label in listed)
    if len(listed) != len(rows) or not known:
        raise DataError(
            f"{file} must hold one label from 0 to {classes - 1} for each of its {len(rows)} images, but "
            "does not. Unpack the archive again."
        )
    given = content.get(b"filenames", content.get("filenames"))
    if isinstance(given, list) and len(given) == len(rows) and all(isinstance(entry, bytes | str) for entry in given):
        names = [f"{file.name}/{_text(entry)}" for entry in given]
    else:
        names = [f"{file.name}/{index}" for index in range(len(rows))]
    return rows.reshape(-1, 3, 32, 32), np.asarray(listed, dtype=np.int32), names


def _field(file: Path, content: Any, key: bytes, kind: type) -> Any:
    found = content.get(key, content.get(key.decode())) if isinstance(content, dict) else None
    if isinstance(found, _Array):
        if found.value is None:
            raise DataError(f"{file} holds an array {key.decode()!r} that is never filled. Unpack the archive again.")
        found = found.value.tolist() if kind is list and found.value.ndim == 1 else found.value
    if kind is list and isinstance(found, tuple):
        found = list(found)
    if not isinstance(found, kind):
        raise DataError(
            f"{file} must hold {key.decode()!r}, as the original archive does, but does not. Unpack the archive again."
        )
    return found


def _name(file: Path, entry: Any) -> str:
    if not isinstance(entry, bytes | str):
        raise DataError(
            f"{file} must name classes in words, but holds a {type(entry).__name__}. Unpack the archive again."
        )
    return _text(entry)


def _text(entry: Any) -> str:
    return entry.decode("utf-8", "replace") if isinstance(entry, bytes) else str(entry)


def load_pickle(path: Path) -> Any:
    """Read a CIFAR pickle (containers, bytes, numbers, uint8 arrays) without running anything it names.

    Raises:
        DataError: If it is missing, damaged or names anything else.
    """
    try:
        content = read_bytes(path, most=_MOST_BYTES)
        _check_numbers(content)
        return _CifarUnpickler(io.BytesIO(content), encoding="bytes").load()
    except _ForeignPickle as error:
        raise DataError(
            f"{path} names {error}, which CIFAR's files do not hold; it was not run. "
            "Fetch the archive again from its authors."
        ) from None
    except FileNotFoundError:
        raise DataError(f"{path} is missing. Unpack the archive again.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except _DAMAGE as error:
        raise DataError(f"{path} is damaged ({type(error).__name__}: {error}). Unpack the archive again.") from error


def _check_numbers(content: bytes) -> None:
    """Refuse what makes an unpickler reserve memory for objects that are not there."""
    for operation, argument, _ in pickletools.genops(content):
        if (
            operation.name in ("PUT", "BINPUT", "LONG_BINPUT")
            and isinstance(argument, int)
            and argument > _MOST_REMEMBERED
        ):
            raise ValueError(f"it numbers an object {argument:,}")


class _ForeignPickle(Exception):
    """A pickle asked for a name outside the list below."""


class _Dtype:
    """Stands for `numpy.dtype` while unpickling."""

    def __init__(self, code: Any = b"", *_: Any) -> None:
        self.code = _text(code)
        self.big_endian = self.code.startswith(">")

    def __setstate__(self, state: Any) -> None:
        """Of all that a dtype says of itself only its byte order matters for whole numbers."""
        if isinstance(state, tuple) and len(state) > 1 and _text(state[1]) in ("<", ">"):
            self.big_endian = _text(state[1]) == ">"


class _Array:
    """Stands for `numpy.ndarray` while unpickling, so that no code of NumPy's sees unchecked input."""

    value: np.ndarray | None = None  # Until it is filled.

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_column, raw = state
        self.value = _filled(raw, dtype, shape, "F" if by_column else "C")


def _filled(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    code = dtype.code if isinstance(dtype, _Dtype) else ""
    kind = code.removeprefix("|").removeprefix("<").removeprefix(">").removeprefix("=")
    kind = {"uint8": "u1"}.get(kind, kind)
    if kind not in _NUMBERS:
        raise ValueError("an array is not of whole numbers")
    if not isinstance(raw, bytes | bytearray) or order not in ("C", "F"):
        raise ValueError("an array is not made of bytes")
    swapped = isinstance(dtype, _Dtype) and dtype.big_endian
    return np.frombuffer(raw, dtype=np.dtype(f"{'>' if swapped else '<'}{kind}")).reshape(shape, order=order)


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any = "C", *_: Any) -> _Array:
    """Protocol 5 stores arrays as a call with their bytes."""
    array = _Array()
    array.value = _filled(raw, dtype, shape, order)
    return array


def _new_array(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: Any = "latin1") -> bytes:
    return text.encode("latin1")  # Protocol 2 written by Python 3 stores bytes as such a call.


class _CifarUnpickler(pickle.Unpickler):
    """An unpickler that imports nothing."""

    _ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _new_array,
        ("numpy._core.multiarray", "_reconstruct"): _new_array,
        ("numpy.core.numeric", "_frombuffer"): _from_buffer,
        ("numpy._core.numeric", "_frombuffer"): _from_buffer,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up in the list above, never in a module."""
        if (module, name) not in self._ALLOWED:
            raise _ForeignPickle(f"{module}.{name}")
        return self._ALLOWED[module, name]

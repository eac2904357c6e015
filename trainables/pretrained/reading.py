"""Files of weights as tensors by name: safetensors, torch's own files, pickles of numpy arrays; nothing in them is run."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from trainables.errors import UsageError
from trainables.pretrained.pickles import read_arrays
from trainables.store.files import sha256_of

# Keys under which training scripts keep the weights beside other things, in the order in which they are looked for.
WRAPPERS = ("state_dict_backbone", "state_dict", "model_state_dict", "backbone", "model", "network", "net")
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "network.")
# Bytes in memory for one of the file: single precision for a quarter of it, and tensors that names share.
LARGEST_GROWTH = 64
TORCH_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")  # First value of torch's files before version 1.6.


@dataclass(frozen=True)
class Contents:
    """What a file of weights holds."""

    tensors: dict[str, Tensor]  # On the CPU; floating ones in float32.
    format: str  # safetensors, torch or numpy pickle.
    unwrapped: tuple[str, ...]  # Keys that were opened to get at the weights, and prefixes that were taken off.
    name: str
    sha256: str
    bytes: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape."""
        return {name: tuple(value.shape) for name, value in self.tensors.items()}


def read(path: Path) -> Contents:
    """The tensors of a file of weights.

    Raises:
        UsageError: If there is no such file, it is damaged, or it holds anything that would have to be run.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UsageError(f"{path} must be a file of weights (.pt, .pth, .pkl, .safetensors), but it {what}.")
    try:
        with open(path, "rb") as handle:
            head = handle.read(64)
        sha256, size = sha256_of(path), path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
    kind = _format_of(head)
    if kind == "safetensors":
        raw: Any = _safetensors(path)
    elif kind == "torch":
        raw = _torch(path)
    elif kind == "numpy pickle":
        raw = read_arrays(path)
    else:
        raise UsageError(
            f"{path.name} is no file of weights: it is neither safetensors, nor a file of torch.save, nor a pickle "
            f"(it begins with {head[:8]!r}, {size:,} bytes)."
        )
    found, opened = _unwrapped(raw, path)
    stored = {name: _tensor(value) for name, value in found.items() if isinstance(value, Tensor | np.ndarray)}
    _require_stored(stored, size, path)
    tensors = {name: _plain(value, name, path) for name, value in stored.items()}
    if not tensors:
        raise UsageError(f"{path.name} holds no tensors: {_first(found) or 'it is empty'}.")
    tensors, prefixes = _stripped(tensors)
    return Contents(tensors, kind, (*opened, *prefixes), path.name, sha256, size)


def _format_of(head: bytes) -> str:
    if head[:4] == b"PK\x03\x04" or TORCH_MAGIC in head[:24]:
        return "torch"
    if len(head) >= 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "safetensors"
    if head[:1] == b"\x80" or head[:2] in (b"(d", b"(l", b"(c", b"cp", b"co", b"cn"):
        return "numpy pickle"
    return ""


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(f"{path.name} is damaged or cut short: {str(error)[:200]}") from error


def _torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # On TorchScript archives, which are refused below.
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted is None:
            raise UsageError(f"{path.name} is damaged or cut short: {str(error)[:200]}") from None
        raise UsageError(
            f"{path.name} wants to use {wanted.group(1)}, which weights do not need, so nothing of it was run and nothing "
            "was kept. If you trust where it came from, load it there and save its state_dict() alone."
        ) from None
    except Exception as error:
        if "TorchScript" in str(error):
            raise UsageError(f"{path.name} is a TorchScript program. Save the state_dict() of its module.") from None
        raise UsageError(
            f"{path.name} is damaged or cut short ({type(error).__name__}: {str(error)[:200]}). "
            "Compare its size and checksum with those of its source."
        ) from None


def _tensor(value: Tensor | np.ndarray) -> Tensor:
    """An array in this machine's order of bytes and in memory of its own; tensors as they are."""
    if isinstance(value, Tensor):
        return value
    return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))


def _unwrapped(raw: Any, path: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    opened: tuple[str, ...] = ()
    seen: set[int] = set()
    while True:
        if id(raw) in seen:
            raise UsageError(f"{path.name} must hold tensors by name, but {'.'.join(opened)} in it contains itself.")
        seen.add(id(raw))
        if not isinstance(raw, Mapping):
            raise UsageError(
                f"{path.name} must hold tensors by name (a state_dict), but holds a {type(raw).__name__}"
                f"{' under ' + opened[-1] if opened else ''}."
            )
        inner = next((name for name in WRAPPERS if isinstance(raw.get(name), Mapping)), None)
        if inner is None:
            return {str(name): value for name, value in raw.items()}, opened
        raw, opened = raw[inner], (*opened, inner)


def _require_stored(tensors: Mapping[str, Tensor], size: int, path: Path) -> None:
    """Refuse tensors without values, and those that a file repeats until they fill the memory.

    Raises:
        UsageError: With the name of such a tensor.
    """
    total = 0
    for name, value in tensors.items():
        if value.is_meta:
            raise UsageError(f"{name} of {path.name} must have values, but is a meta tensor, which has none.")
        if value.layout != torch.strided or value.is_nested or value.is_quantized or value.is_complex():
            raise UsageError(f"{name} of {path.name} is sparse, quantised or complex; weights must be plain numbers.")
        total += value.numel() * (4 if value.is_floating_point() else value.element_size())
        if total > LARGEST_GROWTH * size:
            raise UsageError(
                f"{path.name} must hold its values, but has {size:,} bytes for tensors of more than {total:,} "
                f"({name} is {list(value.shape)}). Save them with .contiguous()."
            )


def _plain(value: Tensor, name: str, path: Path) -> Tensor:
    value = value.detach().to("cpu")
    if value.is_floating_point():
        value = value.float()
        if not bool(torch.isfinite(value).all()):
            raise UsageError(f"{name} of {path.name} has values that are not finite; the file is of no use.")
    return value.contiguous().clone()


def _stripped(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Without what every name begins with, where that comes from a wrapper and not from the network."""
    taken: tuple[str, ...] = ()
    while True:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) and name != p for name in tensors)), None)
        if prefix is None:
            return tensors, taken
        tensors, taken = {name[len(prefix) :]: value for name, value in tensors.items()}, (*taken, prefix)


def _first(names: Mapping[str, Any], most: int = 6) -> str:
    shown = list(names)[:most]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")

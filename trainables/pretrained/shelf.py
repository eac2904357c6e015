"""The weights that came from files, kept in the store: `weights/<16 digits>.safetensors` and what is known of each.

The digits are the first of the source file's SHA-256. A source is read once, when a study is planned; whatever runs
later reads safetensors, so nothing is unpickled in a worker. No torch at import.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system.regular_files import opened
from trainables.errors import ArtifactError, UsageError
from trainables.spec import GivenSpec
from trainables.store.files import explained, make_folder, read_json, sha256_of, share_with_group_from, write_atomically

if TYPE_CHECKING:
    from trainables.pretrained.families import Found

DIGITS = re.compile(r"[0-9a-f]{16}")
SCHEMA = 1
FOLDER = "weights"


@dataclass(frozen=True)
class Admitted:
    """A file of weights and what it turned out to be."""

    digits: str
    about: dict[str, Any]  # What lies beside the weights: source, format, counts.
    found: Found | None  # None where no network was asked for.
    shapes: Mapping[str, tuple[int, ...]]


def paths_of(root: Path, digits: str) -> tuple[Path, Path]:
    """The weights and what is known of them, in a store."""
    return root / FOLDER / f"{digits}.safetensors", root / FOLDER / f"{digits}.json"


def known(root: Path) -> list[dict[str, Any]]:
    """What is known of all weights of a store, sorted by digits."""
    try:
        names = sorted(os.listdir(root / FOLDER))
    except OSError:
        return []
    rows = []
    for name in names:
        digits = name.removesuffix(".json")
        if name.endswith(".json") and DIGITS.fullmatch(digits):
            content = read_json(root / FOLDER / name)
            if content is not None and paths_of(root, digits)[0].exists():
                rows.append({"digits": digits} | content)
    return rows


def require(root: Path, digits: str) -> dict[str, Any]:
    """What is known of weights that must be in the store.

    Raises:
        UsageError: If they are not there.
    """
    weights, beside = paths_of(root, digits)
    content = read_json(beside)
    if content is None or not weights.exists():
        raise UsageError(
            f"The store {root} has no weights {digits}. Name the file they come from: --set teacher.weights=PATH. "
            "`python -m sweeps teachers list` shows what there is."
        )
    return content


def admit(words: str, root: Path, asked: GivenSpec | None, *, write: bool = True) -> Admitted:
    """Read and check a file of weights, and keep it in the store; nothing is kept of a file that does not fit.

    Args:
        words: Its path, or the digits of weights that are in the store.
        root: Of the store.
        asked: Family, architecture and so on, where they are not auto; None takes any tensors, as training begins
            with them.
        write: Whether to keep it; a mere look does not.

    Raises:
        UsageError: If it is missing, damaged, unknown, wants to run code, or does not fit.
        ArtifactError: If what the store has of it was altered.
        MachineError: If it cannot be kept.
    """
    path = Path(words).expanduser()
    if DIGITS.fullmatch(words) and not path.exists():
        require(root, words)
        return _from_store(words, root, asked)
    if path.is_file():
        digits = sha256_of(path)[:16]
        weights, beside = paths_of(root, digits)
        if weights.exists() and read_json(beside) is not None:
            # What was altered there is read again from its source, and so is what lost its description.
            with contextlib.suppress(ArtifactError):
                return _from_store(digits, root, asked)
    from trainables.pretrained.families import identify
    from trainables.pretrained.reading import read

    contents = read(path)
    digits = contents.sha256[:16]
    pickled = contents.format == "numpy pickle"
    found = None if asked is None else identify(contents.shapes, asked, name=contents.name, pickled=pickled)
    about: dict[str, Any] = {
        "schema": SCHEMA,
        "file": contents.name,  # Not where it lay: that is nobody else's business.
        "sha256": contents.sha256,
        "bytes": contents.bytes,
        "format": contents.format,
        "unwrapped": list(contents.unwrapped),
        "tensors": len(contents.tensors),
        **({} if found is None else described(found)),
    }
    if write:
        about["converted_sha256"] = _keep(root, digits, contents.tensors, about)
    return Admitted(digits, about, found, contents.shapes)


def described(found: Found) -> dict[str, Any]:
    """What was found, as JSON values."""
    return {
        "family": found.family,
        "architecture": found.architecture,
        "width": found.width,
        "embedding": found.embedding,
        "stem": found.stem,
        "embedding_width": found.embedding_width,
        "classes": found.classes,
        "parameters": found.parameters,
        "preprocessing": found.preprocessing.plain(),
        "left_out": list(found.left_out)[:20],
    }


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of a safetensors file, from its header alone.

    Raises:
        ArtifactError: If it has none.
    """
    try:
        with opened(path) as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError) as error:
        raise ArtifactError(f"{path} is no safetensors file: {str(error)[:200]}") from error


def verified(root: Path, digits: str) -> Path:
    """The weights in the store, after their checksum was compared.

    Raises:
        ArtifactError: If they were altered since they were written.
        UsageError: If they are not there.
    """
    content, (weights, _) = require(root, digits), paths_of(root, digits)
    if sha256_of(weights) != content.get("converted_sha256"):
        raise ArtifactError(
            f"The weights {weights} were altered since they were read from {content.get('file')}. Remove them and name "
            "that file again: --set teacher.weights=PATH."
        )
    return weights


def _from_store(digits: str, root: Path, asked: GivenSpec | None) -> Admitted:
    from trainables.pretrained.families import identify

    about, weights = require(root, digits), verified(root, digits)
    pickled = about.get("format") == "numpy pickle"
    shapes = shapes_of(weights)
    if asked is None:
        return Admitted(digits, about, None, shapes)
    found = identify(shapes, asked, name=str(about.get("file")), pickled=pickled)
    return Admitted(digits, about | described(found), found, shapes)


def _keep(root: Path, digits: str, tensors: dict[str, Any], about: dict[str, Any]) -> str:
    """Write aside and rename; two that do so at once write the same. Returns the checksum of what was written.

    Raises:
        DiskFullError: If there is no room; nothing is left behind.
        MachineError: If the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    weights, beside = paths_of(root, digits)
    make_folder(root)
    make_folder(weights.parent)
    aside = weights.parent / f".{digits}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        save_file(tensors, aside)
        with open(aside, "rb+") as handle:
            os.fsync(handle.fileno())
        checksum = sha256_of(aside)
        share_with_group_from(root, aside)
        os.replace(aside, weights)
    except OSError as error:
        raise explained(error, weights) from error
    except SafetensorError as error:
        # It tells the system's error in words alone.
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        code = int(number.group(1))
        raise explained(OSError(code, os.strerror(code)), weights) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
    # Last, because it is looked for first.
    write_atomically(beside, json.dumps(about | {"converted_sha256": checksum}, indent=1, sort_keys=True))
    return checksum

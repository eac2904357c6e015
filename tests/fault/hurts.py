"""What can happen to a file that we wrote: drawn bit flips, cuts, and hostile things in its place."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KINDS = {
    "record": "runs/*/records/*.parquet",
    "run.json": "runs/*/run.json",
    "journal": "runs/*/optuna.journal",
    "driver file": "runs/*/driver.*",
    "log": "runs/*/logs/*.log",
    "registration": "store/.runs/*.json",
    "manifest": "store/*/manifest.json",
    "weights": "store/*/weights.safetensors",
    "history": "store/*/history.arrow",
    "outputs": "store/*/outputs.arrow",
    "cached outputs": "store/*/*.npy",
    "packed data": "store/data/*.arrow",
    "index of packed data": "store/data/index.json",
    "lease": "store/.work/*/lease.*",
    "checkpoint": "store/.work/*/checkpoint-*",
    "failure file": "store/.work/*/failure-*",
}
HUGE = 1 << 40
OTHER_CONTENT = (
    b"[]",
    b"null",
    b"{}",
    b'"text"',
    b"17",
    b"[" * 100_000,
    b"\xff\xfe\x00" * 99,
    b"\x89PNG\r\n\x1a\n" + bytes(64),
    b"PAR1" + bytes(64) + b"PAR1",
    b"ARROW1\0\0" + bytes(64) + b"ARROW1",
)

Way = Callable[[Path, random.Random], str]


@dataclass(frozen=True)
class Hurt:
    """A file that was hurt, and how."""

    kind: str
    path: Path
    how: str

    def __str__(self) -> str:
        return f"{self.kind} {self.path.name}: {self.how}"


def files(out: Path, kind: str) -> list[Path]:
    """The files of a kind below `--out`, by name."""
    return sorted(path for path in out.glob(KINDS[kind]) if not path.name.startswith("."))


def flip(path: Path, draw: random.Random) -> str:
    """One to three bits, anywhere in the file."""
    content = bytearray(path.read_bytes())
    if not content:
        return "it was empty"
    bits = sorted(draw.randrange(8 * len(content)) for _ in range(draw.choice((1, 1, 3))))
    for bit in bits:
        content[bit // 8] ^= 1 << (bit % 8)
    with open(path, "r+b") as file:  # In place, as a disk does it.
        file.write(content)
    return f"bits {bits} flipped"


def zeros(path: Path, draw: random.Random) -> str:
    """A page of zeros somewhere; the size stays."""
    size = path.stat().st_size
    length = min(size, 8192)
    place = draw.randrange(size - length + 1)
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(bytes(length))
    return f"{length} zeros from byte {place}"


def cut(path: Path, draw: random.Random) -> str:
    """Only a beginning is left, perhaps none."""
    keep = draw.choice((0, draw.randrange(max(1, path.stat().st_size))))
    os.truncate(path, keep)
    return f"cut to {keep} bytes"


def gone(path: Path, draw: random.Random) -> str:
    """Removed."""
    path.unlink()
    return "removed"


def other(path: Path, draw: random.Random) -> str:
    """The content of something else."""
    content = draw.choice(OTHER_CONTENT)
    path.write_bytes(content)
    return f"replaced by {content[:12]!r}"


def fifo(path: Path, draw: random.Random) -> str:
    """A FIFO without a writer."""
    path.unlink()
    os.mkfifo(path)
    return "replaced by a FIFO"


def folder(path: Path, draw: random.Random) -> str:
    """A folder, perhaps with something in it."""
    path.unlink()
    path.mkdir()
    if draw.random() < 0.5:
        (path / "inside").write_text("x")
    return "replaced by a folder"


def device(path: Path, draw: random.Random) -> str:
    """A link to a device without an end, or without a beginning."""
    target = draw.choice(("/dev/zero", "/dev/null", "/dev/full"))
    path.unlink()
    path.symlink_to(target)
    return f"replaced by a link to {target}"


def unreadable(path: Path, draw: random.Random) -> str:
    """What nobody can open, not even root: a link to itself."""
    path.unlink()
    path.symlink_to(path)
    return "replaced by a link to itself"


def huge(path: Path, draw: random.Random) -> str:
    """A sparse file larger than any memory."""
    with open(path, "r+b") as file:
        file.truncate(HUGE)
    return "grown to a tebibyte of holes"


WAYS: tuple[Way, ...] = (zeros, cut, gone, other, fifo, folder, device, unreadable, huge)


def hurt(out: Path, draw: random.Random) -> Hurt:
    """Hurt one drawn file below `out`: every kind that is there is equally likely, half of all ways are flips."""
    kind = draw.choice([kind for kind in KINDS if files(out, kind)])
    path = draw.choice(files(out, kind))
    way = flip if draw.random() < 0.5 else draw.choice(WAYS)
    return Hurt(kind, path, way(path, draw))


def remove(path: Path) -> None:
    """What people do when they are told to remove something."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""Cached outputs of frozen networks: exact for every (image, view), filled once, mapped, read by all that distil.

A network that never changes says the same about the same view, whoever asks. A shard is an artifact:

    embedding.npy  logits.npy     float16 [images, views or epochs, width]: residuals from the base's mean

and the base, which all shards share, holds means and exact class sums. Images are numbered by their place in the
training split. Residuals of features far from the origin keep the digits that raw halves would lose.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from trainables.errors import ArtifactError, NonFiniteError, UsageError
from trainables.models.network import Outputs
from trainables.store.artifacts import Artifact
from trainables.store.files import make_folder, sha256_of

PARTS = ("embedding", "logits")
BASE_FILE = "base.safetensors"
FILL_BATCH = 256  # Images of one forward pass while filling; also what class sums are blocked by.
RESIDENT_BYTES = 8 << 30  # Cached outputs up to this size are copied onto the GPU that reads them.
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "ceph", "panfs", "glusterfs")


class Shard:
    """The two files of a shard while they are filled, in a folder of the store that is not published yet."""

    def __init__(self, folder: Path, mark: str, images: int, depth: int, base: Mapping[str, Tensor]) -> None:
        make_folder(folder)
        self.paths = {part: folder / f"{part}-{mark}.npy" for part in PARTS}
        self.base = {part: base[part].float().cpu() for part in PARTS}
        self.arrays = {
            part: np.lib.format.open_memmap(
                self.paths[part], mode="w+", dtype=np.float16, shape=(images, depth, len(self.base[part]))
            )
            for part in PARTS
        }

    def put(self, rows: Tensor, column: int, outputs: Outputs) -> None:
        """Keep the outputs [b] of images `rows` in one view or epoch.

        Raises:
            NonFiniteError: If a value does not fit into half precision.
        """
        for part in PARTS:
            value = getattr(outputs, part).float().cpu()
            kept = (value - self.base[part]).to(torch.float16)
            if not bool(torch.isfinite(kept).all()):
                raise NonFiniteError(
                    f"A frozen network's {part} must be finite and within 65,504 of the mean to be kept, but its largest "
                    f"is {float(value.abs().max()):g}. Use teacher_outputs=live."
                )
            self.arrays[part][rows.numpy(), column] = kept.numpy()

    def move(self, folder: Path) -> None:
        """Hand the files over for publication."""
        for part in PARTS:
            self.arrays[part].flush()
            os.replace(self.paths[part], folder / f"{part}.npy")


class CachedOutputs:
    """Reads shards of one frozen network: rows of images and the views or epochs they are seen in.

    Args:
        base: The artifact that all shards share.
        shards: All of them, in any order.
        device: Where outputs are wanted.

    Raises:
        ArtifactError: If one is damaged, or they do not cover a range without gaps.
    """

    def __init__(self, base: Artifact, shards: Sequence[Artifact], device: torch.device) -> None:
        held = load_file(base.file(BASE_FILE, verify=True))
        self.class_sums = held["class_sums"], held["class_counts"]
        self.mean = {part: held[part].float().to(device) for part in PARTS}
        self.device = device
        ordered = sorted(shards, key=lambda shard: int(shard.manifest["spec"]["start"]))
        self.part = str(ordered[0].manifest["spec"]["part"])
        self._starts = [int(shard.manifest["spec"]["start"]) for shard in ordered]
        stops = [int(shard.manifest["spec"]["stop"]) for shard in ordered]
        if self._starts[1:] != stops[:-1]:
            raise ArtifactError(f"Kept outputs must follow each other without gaps, but they cover {self._starts}.")
        self.stop = stops[-1]
        self._maps = {part: [_mapped(shard, f"{part}.npy") for shard in ordered] for part in PARTS}
        self._resident: dict[str, Tensor] = {}
        if device.type == "cuda" and sum(array.nbytes for arrays in self._maps.values() for array in arrays) <= (
            RESIDENT_BYTES
        ):
            self.make_resident()

    def make_resident(self) -> None:
        """Copy everything to the device, so that reading never leaves it."""
        for part, arrays in self._maps.items():
            self._resident[part] = torch.cat([torch.from_numpy(np.array(array)) for array in arrays], 1).to(self.device)

    @property
    def place(self) -> torch.device:
        """Where rows and columns are looked up: on the device that holds everything, else on the CPU."""
        return self.device if self._resident else torch.device("cpu")

    @property
    def width(self) -> int:
        """D of the embeddings."""
        return len(self.mean["embedding"])

    @property
    def bytes(self) -> int:
        """Of all shards."""
        return sum(array.nbytes for arrays in self._maps.values() for array in arrays)

    def seen(self, rows: Tensor, views: Tensor | None, epoch: int) -> Outputs:
        """Outputs [B] for images `rows` in the views that `epoch` draws, as a training asks.

        Args:
            rows: int64 [B], best at `place`.
            views: int64 [B], likewise; None asks for the images as they are, which only an unaugmented cache holds.
            epoch: Counted from 1.

        Raises:
            UsageError: If the images as they are were asked for, but only their views are held.
        """
        if views is None:
            if self.part != "views" or self.stop - self._starts[0] != 1:
                raise UsageError(
                    "Cached outputs must hold the images as they are to give them, but these hold their views. Use "
                    "augment=none, or teacher_outputs=live."
                )
            return self(rows, torch.zeros_like(rows))
        return self(rows, views if self.part == "views" else torch.full_like(rows, epoch))

    def __call__(self, rows: Tensor, columns: Tensor) -> Outputs:
        """Outputs [B] in float32 for images `rows` int64 [B] seen in views or epochs `columns` int64 [B].

        Indices that lie elsewhere than at `place` are copied there, for which a GPU is waited for.
        """
        found = {}
        for part in PARTS:
            if self._resident:
                there = self._resident[part]
                residual = there[rows.to(self.device), columns.to(self.device) - self._starts[0]]
            else:
                residual = torch.from_numpy(self._gather(part, rows.cpu().numpy(), columns.cpu().numpy()))
                residual = residual.to(self.device, non_blocking=True)
            found[part] = residual.float() + self.mean[part]
        return Outputs(found["embedding"], found["logits"])

    def _gather(self, part: str, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        arrays = self._maps[part]
        which = np.searchsorted(self._starts, columns, side="right") - 1
        kept = np.empty((len(rows), arrays[0].shape[2]), np.float16)
        for shard in np.unique(which):
            chosen = np.flatnonzero(which == shard)
            kept[chosen] = arrays[shard][rows[chosen], columns[chosen] - self._starts[shard]]
        return kept


def damaged(artifact: Artifact) -> bool:
    """Whether a file of kept outputs is missing, cut or altered; read whole, once in a process for one state of it."""
    try:
        for name in artifact.manifest["files"]:
            path = artifact.path / name
            about = path.stat()
            wanted = artifact.manifest["files"][name].get("sha256")
            if _digest(path, about.st_ino, about.st_ctime_ns, about.st_size) != wanted:
                return True
    except (OSError, AttributeError):
        return True
    return False


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, inode: int, changed: int, size: int) -> str:
    return sha256_of(path)


def _mapped(shard: Artifact, name: str) -> np.ndarray:
    path = shard.file(name)
    place = node_folder(path)
    if place is not None:
        path = copied(path, place, str(shard.manifest["files"][name]["sha256"]))
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise ArtifactError(f"The file '{name}' of artifact {shard.key} cannot be mapped: {error}") from error
    if array.ndim != 3 or array.dtype != np.float16:
        raise ArtifactError(f"The file '{name}' of artifact {shard.key} must hold halves [images, views, width].")
    return array


def node_folder(path: Path) -> Path | None:
    """Where a node keeps its own copy of a file on a shared file system; None where it is read in place.

    `SWEEPS_NODE_CACHE` names the folder and asks for copies of everything; else `SLURM_TMPDIR` or the folder for
    temporary files serves for files on a network file system. An empty `SWEEPS_NODE_CACHE` forbids copies.
    """
    chosen = os.environ.get("SWEEPS_NODE_CACHE")
    if chosen is not None:
        return Path(chosen) if chosen else None
    if file_system(path) not in NETWORK_FILE_SYSTEMS:
        return None
    local = Path(os.environ.get("SLURM_TMPDIR") or tempfile.gettempdir())
    return None if file_system(local) in NETWORK_FILE_SYSTEMS else local / f"sweeps-outputs-{os.getuid()}"


def file_system(path: Path) -> str:
    """Type of the file system `path` lies on, as the kernel calls it; "" when that cannot be told."""
    best, kind = "", ""
    with contextlib.suppress(OSError, IndexError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            place, found = line.split()[1:3]
            inside = str(path.absolute()) == place or str(path.absolute()).startswith(place.rstrip("/") + "/")
            if inside and len(place) >= len(best):
                best, kind = place, found
    return kind


def copied(path: Path, folder: Path, wanted: str) -> Path:
    """The node's own copy of a file, made once by whoever comes first; the file itself where there is no room.

    Raises:
        ArtifactError: If what was copied is not what was published.
    """
    own = folder / f"{wanted}.npy"
    with contextlib.suppress(OSError):
        about = own.stat()
        if about.st_size == path.stat().st_size and (
            _digest(own, about.st_ino, about.st_ctime_ns, about.st_size) == wanted
        ):
            return own
    aside = folder / f".{wanted}.{os.getpid()}.{time.monotonic_ns()}"
    digest = hashlib.sha256()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "rb") as source, open(aside, "wb") as target:
            while chunk := source.read(1 << 22):
                digest.update(chunk)
                target.write(chunk)
        if digest.hexdigest() != wanted:
            raise ArtifactError(f"{path} is not what was published: its checksum differs.")
        os.replace(aside, own)
    except OSError:
        return path
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()
    return own


def blocks(count: int) -> Iterator[slice]:
    """Slices of FILL_BATCH images."""
    for start in range(0, count, FILL_BATCH):
        yield slice(start, min(start + FILL_BATCH, count))

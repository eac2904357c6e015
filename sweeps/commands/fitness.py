"""Whether this machine is fit: each check is one line, ok, warn or FAIL."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from importlib import metadata
from pathlib import Path

from slurm import queue
from sweeps.engine import temp_room
from sweeps.runs.folder import Place
from sweeps.runs.machine import LEAST_FREE_BYTES, find_gpus
from sweeps.runs.provenance import PACKAGES
from trainables import cores
from trainables.errors import SweepsError

SKEW_SECONDS = 10.0
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs")


def examine(place: Place) -> list[dict[str, str]]:
    """Rows of `state` and `message`."""
    rows: list[dict[str, str]] = []

    def row(state: str, message: str) -> None:
        rows.append({"state": state, "message": message})

    row("ok" if sys.version_info >= (3, 11) else "FAIL", f"python {platform.python_version()} (3.11 or newer)")
    missing = []
    installed = []
    for name in (*PACKAGES, "seaborn", "submitit", "click", "rich"):
        try:
            installed.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    row("ok", ", ".join(installed))
    if missing:
        row("FAIL", f"not installed: {', '.join(missing)}. Install with: pip install -e . -c constraints.txt")
    row("ok", f"{cores.available()} cores, {_memory_gb():.0f} GB of memory")
    gpus = find_gpus()
    row("ok", f"{gpus} GPUs" if gpus else "no GPU: stages run on the CPU")
    for name, folder in (("runs", place.runs), ("store", place.store)):
        at = folder
        while not at.exists():
            at = at.parent
        if not os.access(at, os.W_OK | os.X_OK) or not at.is_dir():
            row("FAIL", f"the folder of the {name}, {folder}, cannot be written; choose another with --out or --store")
            continue
        free = shutil.disk_usage(at).free
        state = "ok" if free > 10 * LEAST_FREE_BYTES else ("warn" if free > LEAST_FREE_BYTES else "FAIL")
        row(state, f"{name}: {folder}, {free / 1e9:.1f} GB free")
        kind = _file_system(at)
        if kind in NETWORK:
            row("warn", f"{name}: on {kind}, which shows files late and locks slowly; a parallel file system is better")
    for state, message in temp_room.rows():
        row(state, message)
    try:
        locks = cores.CoreLocks(1)
        taken = locks.try_take()
        locks.release()
        row("ok" if taken else "warn", "cores can be taken" if taken else "all cores are in use by other runs of yours")
    except (OSError, SweepsError) as error:
        row("FAIL", str(error))
    if shutil.which("sbatch"):
        why = queue.missing()
        row("warn" if why else "ok", f"SLURM cannot be used: {why}" if why else "SLURM answers")
    skew = _clock_skew(place.runs)
    if skew is not None and abs(skew) > SKEW_SECONDS:
        row("warn", f"the clock of the file system of {place.runs} is {skew:+.0f} s off; leases do not depend on it")
    return rows


def _clock_skew(folder: Path) -> float | None:
    """Seconds by which the file system's clock is ahead of this machine's, or None when nothing can be written there."""
    if not folder.is_dir():
        return None
    probe = folder / f".clock.{os.getpid()}"
    try:
        probe.write_bytes(b"")
        ahead = probe.stat().st_mtime - time.time()
        probe.unlink()
    except OSError:
        return None
    return ahead


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _file_system(path: Path) -> str:
    best, kind = "", "unknown"
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return kind
    for line in lines:
        fields = line.split()
        mount = fields[1].replace("\\040", " ")
        if (str(path) == mount or str(path).startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
            best, kind = mount, fields[2]
    return kind

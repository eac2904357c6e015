"""What this machine has for a run: cores, GPUs, room on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from slurm import devices
from sweeps.planning.request import Request
from trainables import cores
from trainables.errors import MachineError, UsageError

LEAST_FREE_BYTES = 200e6  # Ray's session and logs.


def check_room(folder: Path, needed: float, what: str) -> None:
    """Refuse what the disk has no room for.

    Raises:
        MachineError: With what is needed and what is free.
    """
    at = folder
    while not at.exists():
        at = at.parent
    free = shutil.disk_usage(at).free
    if free < needed + LEAST_FREE_BYTES:
        raise MachineError(
            f"{what} needs about {(needed + LEAST_FREE_BYTES) / 1e6:,.0f} MB in {folder}, but {free / 1e6:,.0f} MB are "
            "free. Free some, or choose another folder with --out or --store."
        )


def find_gpus() -> int:
    """GPUs of this machine, without torch; `CUDA_VISIBLE_DEVICES` counts."""
    return devices.here()


def slots_of(request: Request) -> int:
    """How many cores a run uses here."""
    return request.jobs or cores.available()


def check_request(request: Request) -> None:
    """Refuse more of this machine than it has.

    Raises:
        UsageError: With what may be asked for.
    """
    if request.jobs is not None and not 1 <= request.jobs <= cores.available():
        raise UsageError(
            f"--jobs must be from 1 to {cores.available()}, the cores of this machine, got {request.jobs}."
        )
    if request.on == "local" and request.gpus is not None and not 0 <= request.gpus <= find_gpus():
        raise UsageError(
            f"--gpus must be from 0 to {find_gpus()}, the GPUs that this machine offers, got {request.gpus}. Leave it out "
            "to use all there are; `python -m sweeps doctor` says what is found."
        )

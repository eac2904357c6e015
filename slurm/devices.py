"""Which GPUs and how many cores this process was given, from variables that may hold anything."""

from __future__ import annotations

import os
import re

VISIBLE = "CUDA_VISIBLE_DEVICES"
GPUS = "/proc/driver/nvidia/gpus"

_DEVICE = re.compile(r"[0-9]{1,4}|(GPU|MIG)-[0-9A-Za-z/-]+")


def named(text: str, count: int | None = None) -> list[str]:
    """The devices that a value of CUDA_VISIBLE_DEVICES names, as CUDA reads it.

    Numbers, `GPU-` and `MIG-` ids count up to the first word that is none, as `-1`, `NoDevFiles`, `none` or `void`; one
    named twice counts once.

    Args:
        text: The value.
        count: How many GPUs the machine has, where that is known: a number beyond is no device.
    """
    found: list[str] = []
    for part in text.split(","):
        word = part.strip()
        if not _DEVICE.fullmatch(word) or (count is not None and word.isdigit() and int(word) >= count):
            break
        if word not in found:
            found.append(word)
    return found


def here() -> int:
    """How many GPUs this process may use, without torch."""
    try:
        count: int | None = len(os.listdir(GPUS))
    except OSError:
        count = None  # No driver of NVIDIA's, or one that does not say.
    text = os.environ.get(VISIBLE)
    return count or 0 if text is None else len(named(text, count))


def number(*names: str, default: int = 0) -> int:
    """The first of these variables that holds a whole number of a sensible size."""
    for name in names:
        text = os.environ.get(name, "")
        if re.fullmatch(r"[0-9]{1,12}", text):
            return int(text)
    return default


def seconds(name: str, default: float) -> float:
    """A time from a variable; the default where it holds none that is finite and not negative."""
    try:
        value = float(os.environ.get(name, ""))
    except ValueError:
        return default
    return value if 0 <= value < 1e9 else default


def tidy() -> None:
    """Write the variable as it was understood: Ray counts every part of it."""
    text = os.environ.get(VISIBLE)
    if text is not None:
        os.environ[VISIBLE] = ",".join(named(text))

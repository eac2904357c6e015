"""Whether the process that wrote a file still lives: the one rule for leases, drivers, locks and temporary folders.

A pid means something only under the same boot and in the same pid namespace, and may have been given to another process
since; so who writes a claim adds both, and the time the process began. Where a pid cannot be judged from here (another
machine, another container, a file that cannot be read) only silence tells, and the observer says how long is silent.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def boot_id() -> str:
    """What changes when the machine restarts."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{socket.gethostname()}-unknown"


def pid_namespace() -> str:
    """Process numbers mean something only inside one of these."""
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return "unknown"


def process_start(pid: int) -> str:
    """When a process began, in clock ticks since boot; "" when it is gone. Tells a reused pid apart."""
    with contextlib.suppress(OSError, IndexError):
        text = Path(f"/proc/{pid}/stat").read_text()
        fields = text.rsplit(")", 1)[1].split()
        return "" if fields[0] in ("Z", "X") else fields[19]
    return ""


def this_process() -> dict[str, Any]:
    """Who we are, as leases and locks write it."""
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "boot": boot_id(),
        "namespace": pid_namespace(),
        "pid": pid,
        "started": process_start(pid),
    }


def process_is_gone(owner: Mapping[str, Any]) -> bool | None:
    """True or False for a process of this machine and namespace; None when that cannot be told from here."""
    if owner.get("boot") != boot_id() or owner.get("namespace") != pid_namespace():
        return None
    pid = owner.get("pid")
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
        return None
    started = process_start(pid)
    return not started or (bool(owner.get("started")) and started != owner["started"])

"""Where numbers come from: the revision of the code and the versions it ran with. Imports none of them."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from system.rooms import ROOMS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "torch",
    "torchvision",
    "ray",
    "optuna",
    "polars",
    "pyarrow",
    "numpy",
    "scipy",
    "scikit-learn",
    "safetensors",
)


def revision() -> str:
    """The git commit, `+changes` when files differ from it; without git a digest of the sources.

    The copy of the code that a cluster's jobs run says itself what it is a copy of.
    """
    with contextlib.suppress(OSError):
        return (ROOT / "REVISION").read_text().strip()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        git = ["git", "-C", str(ROOT)]
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True, timeout=5)
        if top.returncode == 0 and Path(top.stdout.strip()) == ROOT:
            head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=5)
            changed = subprocess.run(
                [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, timeout=5
            )
            if head.returncode == 0:
                return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
    digest = hashlib.sha256()
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return f"sources-{digest.hexdigest()[:12]}"


def versions() -> dict[str, str]:
    """Installed versions of what the numbers rest on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found

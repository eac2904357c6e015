"""What is published beside a stage's files: its manifest and the history of its epochs. No torch."""

from __future__ import annotations

import datetime
import platform
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables import spec as specs
from trainables.spec import registry
from trainables.stages.base import Context, Result
from trainables.store.artifacts import Artifact


def describe(
    spec: specs.StageSpec, parents: Mapping[str, Artifact], context: Context, result: Result, revision: str
) -> dict[str, Any]:
    """The manifest, but for the files."""
    of_plugins = registry.described(spec.components())
    return {
        "kind": spec.kind,
        "version": spec.version,
        "spec": specs.to_plain(spec),
        "components": spec.components(),
        **({"plugins": of_plugins} if of_plugins else {}),
        "parents": {role: parent.key for role, parent in parents.items()},
        "parent_digests": {role: parent.digest for role, parent in parents.items()},
        "metrics": result.metrics,
        "epochs": len(result.history),
        "run": context.run,
        "revision": revision,
        "versions": versions(),
        "numerics": context.numerics or f"python-{platform.machine()}",
        "device": context.device,
        "host": socket.gethostname(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **result.more,
    }


def versions() -> dict[str, str]:
    """Versions of what is loaded in this process."""
    found = {"python": platform.python_version()}
    for name in ("torch", "numpy", "pyarrow", "ray", "sklearn", "safetensors"):
        module = sys.modules.get(name)
        if module is not None and getattr(module, "__version__", None):
            found[name] = str(module.__version__)
    return found


def write_history(path: Path, rows: list[dict[str, float]]) -> None:
    """One column per name, one row per epoch; equal rows give equal bytes. Holds no times."""
    import pyarrow as pa

    names = sorted({name for row in rows for name in row} - {"epoch"})
    columns = {"epoch": pa.array([int(row["epoch"]) for row in rows], pa.int32())}
    for name in names:
        columns[name] = pa.array([row.get(name) for row in rows], pa.float64())
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)

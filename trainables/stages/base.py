"""One attempt at a stage: lease, checkpoint, training, publication, and what went wrong. No torch at import.

A stage is a generator: it yields a `Progress` after each epoch and returns a `Result`. `attempt` drives it and yields
small dictionaries; the last one has an `outcome`: done, elsewhere, failed, stopped or disk_full.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import importlib
import json
import os
import platform
import socket
import sys
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from system.writable_files import opened_to_append
from trainables import plugins
from trainables import spec as specs
from trainables.cores import CoreLocks
from trainables.errors import (
    ArtifactError,
    DataError,
    DrainedError,
    LeaseLostError,
    MachineError,
    NonFiniteError,
    NoParentError,
    SweepsError,
    UsageError,
    is_disk_full,
)
from trainables.spec import registry
from trainables.stages import STAGES
from trainables.store.artifacts import Artifact, Store
from trainables.store.leases import Lease

# Trying again cannot help against these.
HOPELESS = (NonFiniteError, DataError, UsageError, ArtifactError)
# What lies on the disk or the machine is to blame, so the next run tries again by itself: it may be mended by then.
MENDABLE = (DataError, ArtifactError, MachineError, OSError)
LOST = "ProcessLost"
LOSSES_ALLOWED = 3


@dataclass(frozen=True)
class Progress:
    """What a stage says after an epoch."""

    epoch: int
    epochs: int
    value: float | None = None  # Validation metric, higher is better.


@dataclass
class Result:
    """What a finished stage hands over for publication."""

    metrics: dict[str, Any]
    history: list[dict[str, float]] = field(default_factory=list)  # One row per epoch, `epoch` among its names.
    write: Callable[[Path], None] = lambda folder: None  # Writes the content files.
    more: dict[str, Any] = field(default_factory=dict)  # Further manifest entries; no part of the digest.


@dataclass
class Context:
    """What a stage needs and what changes no numbers."""

    store: Store
    key: str
    run: str = ""
    device: str = "cpu"
    stop_file: Path | None = None
    log_file: Path | None = None
    lease: Lease | None = None
    numerics: str = ""
    gpu_share: float = 0.0
    leave_file: Path | None = None  # Its presence says that this node is about to go: save, and go on elsewhere.
    core_locks: bool = True
    dead_lease: int = 0  # The engine watched this lease: its owner, on another machine, is silent.
    patience: float = 0.0  # Seconds that a parent published on another node may take to appear here.
    plugins: tuple[Mapping[str, str], ...] = ()  # Files of the user's own that the run rests on.

    @property
    def packed_folder(self) -> Path:
        """Where the packed data sets lie."""
        return self.store.root / "data"

    def stop_asked(self) -> bool:
        """Whether the run is being drained, or this node."""
        return self.leave_asked() or (self.stop_file is not None and self.stop_file.exists())

    def leave_asked(self) -> bool:
        """Whether this node is about to go."""
        return self.leave_file is not None and self.leave_file.exists()

    def log(self, line: str) -> None:
        """Append a line to the stage's log."""
        if self.log_file is None:
            return
        with contextlib.suppress(OSError):
            now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
            with opened_to_append(self.log_file) as handle:
                handle.write(f"{now} [{socket.gethostname()}:{os.getpid()}] {line}\n".encode())

    def save(self, epoch: int, payload: bytes) -> None:
        """Keep a checkpoint of `epoch`; then leave if the run is being drained.

        Raises:
            DrainedError: If a stop was asked.
            LeaseLostError: If the stage was taken over.
        """
        if self.lease is not None:
            self.store.write_checkpoint(self.key, self.lease, epoch, payload)
        if self.stop_asked():
            raise DrainedError(f"saved at epoch {epoch}")

    def saved(self) -> tuple[int, bytes] | None:
        """(epoch, bytes) of the newest checkpoint that verifies."""
        return self.store.read_checkpoint(self.key)


class Parents(dict[str, Artifact]):
    """Role -> artifact of what a stage reads."""

    def __missing__(self, role: str) -> Artifact:
        raise NoParentError(
            f"The stage must be given its parent '{role}' to read it, but was given {', '.join(self) or 'none'}. Name it "
            "among the parents of its step in the recipe."
        )


Runner = Callable[[Any, Mapping[str, Artifact], Context], Generator[Progress, None, Result]]


def runner(kind: str) -> Runner:
    """The function that runs a stage kind; imports its module."""
    found = STAGES[kind]
    if callable(found):
        return found
    module, _, name = found.partition(":")
    return getattr(importlib.import_module(module), name)


def signature(failure: Mapping[str, Any]) -> str:
    """What makes two failures the same one."""
    return f"{failure.get('type')}: {failure.get('message')}"


def verdict(failures: list[dict[str, Any]]) -> str | None:
    """Why a stage with these failures is not tried again, or None while it is.

    The same exception twice ends it, NaN or bad data at once; lost processes cost nothing as long as a new checkpoint
    was written since the last one, and three without one end it.
    """
    raised = [f for f in failures if f.get("type") != LOST]
    for failure in raised:
        if failure.get("hopeless"):
            return signature(failure)
    known = [signature(f) for f in raised]
    for text in known:
        if known.count(text) >= 2:
            return text
    in_a_row, last_epoch = 0, None
    for failure in failures:
        if failure.get("type") != LOST:
            continue
        in_a_row = in_a_row + 1 if failure.get("epoch") == last_epoch else 1
        last_epoch = failure.get("epoch")
        if in_a_row >= LOSSES_ALLOWED:
            return f"killed {LOSSES_ALLOWED} times without progress, probably for memory"
    return None


def is_mendable(failure: Mapping[str, Any]) -> bool:
    """Whether what went wrong may be mended by the next run: something on the disk or of the machine."""
    return bool(failure.get("mendable", failure.get("type") in {kind.__name__ for kind in MENDABLE}))


def begin(order: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
    """The attempt an order of the engine describes; see `attempt`."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with contextlib.suppress(OSError):
        os.umask(order.get("umask", 0o022))
    gpu_share = float(order["resources"].get("GPU", 0.0))
    room = os.environ.get("SWEEPS_NODE_ROOM")
    context = Context(
        store=Store(Path(order["store"])),
        key=order["key"],
        run=order["run"],
        device="cuda" if gpu_share else "cpu",
        stop_file=Path(order["stop_file"]),
        log_file=Path(order["log_file"]),
        gpu_share=gpu_share,
        leave_file=Path(room, "leave") if room else None,
        core_locks=bool(order.get("core_locks", True)),
        dead_lease=int(order.get("dead_lease", 0)),
        patience=float(order.get("patience", 0.0)),
        plugins=tuple(order.get("plugins", ())),
    )
    return attempt(order["kind"], order["spec"], order["parents"], context, order.get("revision", ""))


def attempt(
    kind: str, plain: Mapping[str, Any], parents: Mapping[str, str], context: Context, revision: str = ""
) -> Generator[dict[str, Any], None, None]:
    """Run one stage to its artifact, once; expected and unexpected exceptions become an outcome.

    Args:
        kind: Stage kind.
        plain: The fields of its spec.
        parents: Role -> key of the artifacts it reads.
        context: Store, key, device, stop file.
        revision: Of the code, for the manifest.

    Yields:
        `{"waiting": True}` while all cores are in use, then `epoch`, `epochs`, `value` per epoch, last an `outcome`.
    """
    store, key = context.store, context.key
    try:
        plugins.use(context.plugins, patience=context.patience)
    except SweepsError as error:  # Another file than the one that was planned with, most likely.
        failure = describe_failure(error, 0)
        context.log(failure["traceback"])
        # Other runs ask the same store for this stage, and their copies may be whole: nothing about it is hopeless.
        yield _told(store, key, failure | {"hopeless": False}, 0)
        return
    spec = specs.spec_from(kind, plain)
    cores = CoreLocks(spec.threads)
    lease: Lease | None = None
    epoch = 0
    training = False
    try:
        if store.has(key):
            yield {"outcome": "done"}
            return
        while context.core_locks and not cores.try_take(context.run):
            if context.stop_asked():
                yield {"outcome": "stopped"}
                return
            time.sleep(0.05)
            yield {"waiting": True}
        if context.stop_asked():
            yield {"outcome": "stopped"}
            return
        more = {"stage": kind, "epoch": 0, "node": os.environ.get("SWEEPS_NODE", "")}
        lease = Lease.take(store.work_folder(key), run=context.run, more=more, known_dead=context.dead_lease)
        if lease is None:
            yield {"outcome": "done" if store.has(key) else "elsewhere"}
            return
        lease.keep_alive()
        # Another may have published between the first look and the lease.
        if store.has(key):
            store.clear_work(key)
            yield {"outcome": "done"}
            return
        context.lease = lease
        began, cpu_began = time.monotonic(), time.process_time()
        grown = Parents({role: store.get(parent, patience=context.patience) for role, parent in parents.items()})
        context.log(f"{kind} {key} begins, lease {lease.number}")
        training = True
        stage = runner(kind)(spec, grown, context)
        while True:
            try:
                progress = next(stage)
            except StopIteration as finished:
                result: Result = finished.value
                break
            epoch = progress.epoch
            lease.update(epoch=epoch, epochs=progress.epochs, value=progress.value)
            yield {"epoch": epoch, "epochs": progress.epochs, "value": progress.value}
        training = False
        lease.require()
        manifest = describe(spec, grown, context, result, revision)
        manifest["seconds"] = round(time.monotonic() - began, 3)
        manifest["cpu_seconds"] = round(time.process_time() - cpu_began, 3)

        def write(folder: Path) -> None:
            result.write(folder)
            if result.history:
                write_history(folder / "history.arrow", result.history)

        store.publish(key, manifest, write)
        context.log(f"{kind} {key} published: {json.dumps(result.metrics, sort_keys=True)}")
        store.clear_work(key)
        yield {"outcome": "done", "epoch": epoch, "metrics": result.metrics}
    except GeneratorExit:
        if training:
            context.log("left before its end: pruned or taken away")
        raise
    except DrainedError as error:
        context.log(f"stopped: {error}")
        yield {"outcome": "stopped", "epoch": epoch}
    except LeaseLostError as error:
        context.log(str(error))
        yield {"outcome": "elsewhere", "epoch": epoch}
    except BaseException as error:
        if not isinstance(error, Exception):
            raise
        failure = describe_failure(error, epoch)
        context.log(failure["traceback"])
        if is_disk_full(error):
            yield {"outcome": "disk_full", "message": failure["message"], "epoch": epoch}
            return
        # On a disk that cannot be written the lease looks held as long as this process lives; the engine must know.
        unreleased = 0 if lease is None or lease.release() or not lease.is_mine() else lease.number
        yield _told(store, key, failure, epoch) | {"unreleased": unreleased}
    finally:
        if lease is not None:
            lease.release()
        cores.release()
        context.lease = None


def _told(store: Store, key: str, failure: dict[str, Any], epoch: int) -> dict[str, Any]:
    """Keep a failure in the store and return the outcome; what the store refuses travels with it to the engine."""
    outcome = {"outcome": "failed", "message": signature(failure), "epoch": epoch}
    try:
        store.write_failure(key, failure)
    except Exception as error:
        if is_disk_full(error):
            return {"outcome": "disk_full", "message": str(error), "epoch": epoch}
        brief = {name: value for name, value in failure.items() if name != "traceback"}
        return outcome | {"unwritten": brief | {"refused": str(error)}}
    return outcome


def tidy() -> None:
    """Leave nothing of a stage to the next one in this process; imports no torch."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            gc.collect()
            torch.cuda.empty_cache()


def describe_failure(error: BaseException, epoch: int) -> dict[str, Any]:
    """What is kept of an exception."""
    return {
        "type": type(error).__name__,
        "message": str(error)[:2000],
        "traceback": "".join(traceback.format_exception(error))[-20_000:],
        "epoch": epoch,
        "time": time.time(),
        "hopeless": isinstance(error, HOPELESS),
        "mendable": isinstance(error, MENDABLE),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }


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

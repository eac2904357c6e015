"""One attempt at a stage: lease, checkpoint, training, publication, and what went wrong. No torch at import.

`attempt` drives a stage and yields small dictionaries; the last one has an `outcome`: done, elsewhere, failed, stopped
or disk_full.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from trainables import plugins
from trainables import spec as specs
from trainables.attempts.failures import PERMANENT_ENTRY, describe_failure, signature
from trainables.attempts.manifest import describe, write_history
from trainables.cores import CoreLocks
from trainables.errors import DrainedError, LeaseLostError, SweepsError, is_disk_full
from trainables.spec import registry
from trainables.stages.base import Context, Parents, Result, Runner
from trainables.store.artifacts import Store
from trainables.store.leases import Lease


def runner(kind: str) -> Runner:
    """The function that runs a stage kind; imports its module."""
    run: Runner = registry.get("stage", kind).load()
    return run


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
        Where a lease was taken that could not be given back, the outcome has its number as `unreleased`.
    """
    try:
        plugins.use(context.plugins, patience=context.patience)
    except SweepsError as error:  # Another file than the one that was planned with, most likely.
        failure = describe_failure(error, 0)
        context.log(failure["traceback"])
        # Other runs ask the same store for this stage, and their copies may be whole: nothing about it is permanent.
        yield _told(context.store, context.key, failure | {PERMANENT_ENTRY: False}, 0)
        return
    yield from Attempt(specs.spec_from(kind, plain), parents, context, revision).run()


class Attempt:
    """What one attempt holds while it runs: cores, a lease, the epoch it has reached."""

    def __init__(self, spec: specs.StageSpec, parents: Mapping[str, str], context: Context, revision: str) -> None:
        self.spec, self.parents, self.context, self.revision = spec, parents, context, revision
        self.store, self.key = context.store, context.key
        self.cores = CoreLocks(spec.threads)
        self.lease: Lease | None = None
        self.epoch = 0
        self.training = False

    def run(self) -> Generator[dict[str, Any], None, None]:
        """The attempt, whose exceptions become outcomes."""
        context = self.context
        try:
            yield from self._work()
        except GeneratorExit:
            if self.training:
                context.log("left before its end: pruned or taken away")
            raise
        except DrainedError as error:
            context.log(f"stopped: {error}")
            yield {"outcome": "stopped", "epoch": self.epoch, "unreleased": self._unreleased()}
        except LeaseLostError as error:
            context.log(str(error))
            yield {"outcome": "elsewhere", "epoch": self.epoch, "unreleased": self._unreleased()}
        except Exception as error:
            failure = describe_failure(error, self.epoch)
            context.log(failure["traceback"])
            if is_disk_full(error):
                yield {"outcome": "disk_full", "message": failure["message"], "epoch": self.epoch}
                return
            unreleased = self._unreleased()
            yield _told(self.store, self.key, failure, self.epoch) | {"unreleased": unreleased}
        finally:
            if self.lease is not None:
                self.lease.release()
            self.cores.release()
            context.lease = None

    def _work(self) -> Generator[dict[str, Any], None, None]:
        """Wait for cores, take the lease, train, publish; ends early where there is nothing to do."""
        store, key, context = self.store, self.key, self.context
        if store.has(key):
            yield {"outcome": "done"}
            return
        while context.core_locks and not self.cores.try_take(context.run):
            if context.stop_asked():
                yield {"outcome": "stopped"}
                return
            time.sleep(0.05)
            yield {"waiting": True}
        if context.stop_asked():
            yield {"outcome": "stopped"}
            return
        more = {"stage": self.spec.kind, "epoch": 0, "node": os.environ.get("SWEEPS_NODE", "")}
        lease = Lease.take(store.work_folder(key), run=context.run, more=more, known_dead=context.dead_lease)
        if lease is None:
            yield {"outcome": "done" if store.has(key) else "elsewhere"}
            return
        self.lease = context.lease = lease
        lease.keep_alive()
        # Another may have published between the first look and the lease.
        if store.has(key):
            store.clear_work(key)
            yield {"outcome": "done"}
            return
        yield from self._train(lease)

    def _train(self, lease: Lease) -> Generator[dict[str, Any], None, None]:
        """The stage under its lease, to the artifact."""
        store, key, context, kind = self.store, self.key, self.context, self.spec.kind
        began, cpu_began = time.monotonic(), time.process_time()
        grown = Parents({role: store.get(parent, patience=context.patience) for role, parent in self.parents.items()})
        context.log(f"{kind} {key} begins, lease {lease.number}")
        self.training = True
        stage = runner(kind)(self.spec, grown, context)
        while True:
            try:
                progress = next(stage)
            except StopIteration as finished:
                result: Result = finished.value
                break
            self.epoch = progress.epoch
            lease.update(epoch=progress.epoch, epochs=progress.epochs, value=progress.value)
            yield {"epoch": progress.epoch, "epochs": progress.epochs, "value": progress.value}
        self.training = False
        lease.require()
        manifest = describe(self.spec, grown, context, result, self.revision)
        manifest["seconds"] = round(time.monotonic() - began, 3)
        manifest["cpu_seconds"] = round(time.process_time() - cpu_began, 3)

        def write(folder: Path) -> None:
            result.write(folder)
            if result.history:
                write_history(folder / "history.arrow", result.history)

        store.publish(key, manifest, write)
        context.log(f"{kind} {key} published: {json.dumps(result.metrics, sort_keys=True)}")
        store.clear_work(key)
        yield {"outcome": "done", "epoch": self.epoch, "metrics": result.metrics}

    def _unreleased(self) -> int:
        """Number of our lease if it cannot be given back, else 0.

        On a disk that cannot be written it looks held as long as this process lives; the engine must know.
        """
        lease = self.lease
        return 0 if lease is None or lease.release() or not lease.is_mine() else lease.number


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

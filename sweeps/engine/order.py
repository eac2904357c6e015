"""A stage's order of work: everything a worker needs to run it, in words that travel as JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from sweeps.engine.state import EngineState
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.runs import plugin_files
from sweeps.runs.folder import RunFolder
from trainables.spec import to_plain
from trainables.store.artifacts import Store


class StageOrder(TypedDict):
    """What is sent; `trainables.attempts.attempt.begin` reads it in the process that trains."""

    key: str
    kind: str
    spec: dict[str, Any]
    parents: dict[str, str]  # Role inside the stage -> key of the artifact it reads.
    resources: dict[str, float]  # Ray's name -> amount.
    store: str
    run: str
    stop_file: str
    log_file: str
    every_epoch: bool  # Whether each epoch is reported by itself, because pruning watches.
    revision: str
    umask: int
    core_locks: bool  # Whether stages of several runs share the cores through locks.
    patience: float  # Seconds that another node's files may take to appear.
    dead_lease: int  # Number of a lease whose owner the engine saw go silent; 0 when none.
    plugins: list[Mapping[str, str]]  # Files of the plug-ins that the stage and what it reads are made of.


def order_for(
    node: StageNode,
    state: EngineState,
    store: Store,
    run: RunFolder,
    *,
    revision: str,
    dead_lease: int = 0,
    plugins: Sequence[Mapping[str, str]] = (),
) -> StageOrder:
    """The order for a stage of a run.

    Args:
        node: The stage.
        state: Its graph, the machine and what stages ask of it.
        store: Where its artifact appears.
        run: Whose stop file and logs it uses.
        revision: Of the code, for the manifest.
        dead_lease: Number of the lease of a dead owner, whom the worker sees for the first time.
        plugins: The files that the run carries; the stage gets those it needs.
    """
    spec = node.spec
    return {
        "key": node.key,
        "kind": spec.kind,
        "spec": to_plain(spec),
        "parents": dict(node.parents),
        "resources": state.resources.of(node),
        "store": str(store.root),
        "run": run.id,
        "stop_file": str(run.stop_file),
        "log_file": str(run.stage_log(node.role, node.key)),
        "every_epoch": node.scout_of is not None,
        "revision": revision,
        "umask": _umask(),
        "core_locks": state.machine.core_locks,
        "patience": state.machine.patience,
        "dead_lease": dead_lease,
        "plugins": plugin_files.part_for(plugins, _components(node, state.graph)) if plugins else [],
    }


def _components(node: StageNode, graph: StageGraph) -> set[str]:
    """Names of the components of a stage and of all that it reads, directly or not."""
    names, ahead, seen = set(node.base.components()), list(node.parents.values()), set()
    while ahead:
        key = ahead.pop()
        if key not in seen:
            seen.add(key)
            parent = graph.nodes[key]
            names |= set(parent.base.components())
            ahead += parent.parents.values()
    return names


def _umask() -> int:
    value = os.umask(0o022)
    os.umask(value)
    return value

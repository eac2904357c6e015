"""What tests of several folders do alike: commands in processes of their own, stages trained here, a listener."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.commands.app import main
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.planning.planner import build_graph
from sweeps.planning.request import Request
from sweeps.runs.prepare import Prepared
from trainables.attempts.attempt import attempt
from trainables.errors import UsageError
from trainables.spec import StageSpec, stage_key, to_plain
from trainables.stages.base import Context
from trainables.store.artifacts import Artifact, Store

ROOT = Path(__file__).resolve().parents[1]


def sweeps(*words: str, cwd: Path | None = None, timeout: float = 60, **more: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, with `more` in its environment."""
    return subprocess.run(
        [sys.executable, "-m", "sweeps", *words],
        cwd=cwd or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def said(result: subprocess.CompletedProcess[str]) -> str:
    """The message as one line."""
    return " ".join(result.stderr.split())


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, output and messages of a command in this process."""
    with pytest.raises(SystemExit) as end:
        main(words)
    told = capsys.readouterr()
    return int(end.value.code or 0), told.out, told.err


def trained(store: Store, spec: StageSpec, **parents: Artifact) -> Artifact:
    """A stage to its artifact."""
    keys = {role: parent.key for role, parent in parents.items()}
    key = stage_key(spec, keys)
    for word in attempt(spec.kind, to_plain(spec), keys, Context(store=store, key=key)):
        assert word.get("outcome", "done") == "done", word
    return store.get(key)


def train_stages(ready: Prepared) -> StageGraph:
    """Every stage of a grid trained here, one after the other."""
    graph, _, _ = build_graph(ready.plan, ready.store)
    for node in graph.nodes.values():
        context = Context(store=ready.store, key=node.key, core_locks=False)
        *_, last = attempt(node.spec.kind, to_plain(node.spec), node.parents, context)
        assert last["outcome"] == "done", last
    return graph


class Listener:
    """Remembers what a queue told it, and asks for nothing more."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failed: list[str] = []

    def stage_done(self, node: StageNode) -> None:
        self.done.append(node.key)

    def stage_failed(self, node: StageNode) -> None:
        self.failed.append(node.key)

    def stage_value(self, node: StageNode, epoch: int, value: float) -> bool:
        return False

    def more(self) -> bool:
        return False

    def exhausted(self) -> bool:
        return True


def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What commands ask for from now on; planning ends there."""
    asked: list[Request] = []

    def prepare(request: Request, *rest: object, **more: object) -> None:
        asked.append(request)
        raise UsageError("That is enough.")

    monkeypatch.setattr("sweeps.runs.prepare.prepare", prepare)
    return asked

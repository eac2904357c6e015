"""What became of a run: its exit code, what failed, and the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.planning.graph import StageGraph
from sweeps.runs.folder import RunFolder
from sweeps.runs.reporting import fresh_report
from trainables.errors import NothingToReport

FAILED, HALTED, STOPPED, NOTHING = 1, 3, 130, 5  # Exit codes.


@dataclass(frozen=True)
class Training:
    """How the training of a run ended.

    Attributes:
        trained: Stages trained by it.
        halted: Why it had to end early, e.g. a full disk.
        drained: Whether a stop was asked.
        warned: Whether that was because its job is about to end.
    """

    trained: int = 0
    halted: str = ""
    drained: bool = False
    warned: bool = False


@dataclass
class Outcome:
    """What became of a run."""

    run: RunFolder
    code: int
    counts: dict[str, int]
    trained: int
    failures: list[tuple[str, str, str, str]]  # Role, key, why, log.
    unrunnable: int
    summary: Any = None
    message: str = ""
    nothing: str = ""
    elsewhere: str = ""  # Who trained it, when that was not this process.
    ended_early: bool = False  # Drained or halted: Ray ends with this process.
    store: Path | None = None  # That was trained into.


def outcome_of(
    run: RunFolder,
    store: Path,
    graph: StageGraph,
    training: Training,
    damaged: dict[str, str],
    *,
    complete: bool,
    lost_code: int | None,
    report: bool,
) -> Outcome:
    """The outcome of a run, with its report where one is wanted and there is something to say.

    Args:
        run: The run.
        store: That was trained into.
        graph: Its stages, as they ended.
        training: How the training ended.
        damaged: Key -> what is wrong with its artifact.
        complete: Whether all that was missing was there or was trained.
        lost_code: The exit code of a run that goes on in the next life of its job; None when it does not.
        report: Whether the page is written.
    """
    whys = {node.key: node.why for node in graph.in_state("failed")} | damaged
    failures = [
        (node.role, node.key, whys[node.key], f"{run.path}/logs/{node.role}-{node.key}.log")
        for node in graph.nodes.values()
        if node.key in whys
    ]
    outcome = Outcome(
        run=run,
        code=FAILED if failures else 0,
        counts=dict(graph.counts),
        trained=training.trained,
        failures=failures,
        unrunnable=graph.counts["unrunnable"],
        ended_early=training.drained or bool(training.halted),
        store=store,
    )
    if training.halted:
        outcome.code = HALTED if not training.halted.startswith("an unexpected") else FAILED
        outcome.message = training.halted
    elif training.drained:
        outcome.code = STOPPED if lost_code is None else lost_code
    elif not complete:
        outcome.code = STOPPED
    elif report:
        _write_report(outcome)
    return outcome


def _write_report(outcome: Outcome) -> None:
    try:
        outcome.summary = fresh_report(outcome.run)
    except NothingToReport as error:
        outcome.nothing = str(error)
        outcome.code = outcome.code or NOTHING

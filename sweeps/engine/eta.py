"""How long a run will still take: from the work of its stages and what their epochs took so far in this run.

A stage's work is its estimated time, from its multiply-adds; how far such estimates are off is measured for each role as
soon as epochs of it end. Counting finished stages instead would call the first cheap evaluations the pace of the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeps.planning import cost
from sweeps.planning.graph import OPEN, StageGraph, StageNode
from trainables.data.packed import Packed
from trainables.spec import has_network

EVIDENCE_SECONDS = 10.0  # Of training seen, before anything is said.
EVIDENCE_SHARE = 0.02  # Of all the work.
LEAST_PART = 0.1  # Of a running stage: less is too noisy to judge it by.
LOOK_SECONDS = 2.0
SMOOTH_SECONDS = 15.0  # The moment of the end follows new evidence this slowly.


class StageSeconds:
    """Estimated seconds of a stage on one core; by the rates of finished ones in the store where there are any."""

    def __init__(
        self, graph: StageGraph, data: dict[str, Any], packed: Packed | None, rates: Mapping[tuple[Any, ...], float]
    ) -> None:
        self._graph, self._counts, self._rates = graph, cost.Counts(data, packed), dict(rates)
        self._known: dict[tuple[int, int], float] = {}

    def __call__(self, node: StageNode) -> float:
        """Seconds; never 0, so that every stage counts."""
        parents = [self._graph.nodes[key].base for key in node.parents.values() if key in self._graph.nodes]
        guide = next((base for base in parents if has_network(base)), None)
        mark = (id(node.base), id(guide))
        if mark not in self._known:
            known = cost.known_seconds(node.base, self._rates) if self._rates else None
            seconds = cost.seconds_of(node.base, self._counts, guide) if known is None else known
            self._known[mark] = max(seconds, 0.05)
        return self._known[mark]


@dataclass
class _Attempt:
    began: float
    epoch: int = 0
    latest: float = 0.0
    latest_epoch: int = 0
    epochs: int = 0

    def seconds_of_whole(self) -> float | None:
        """What the whole stage takes by the epochs seen, or None while they are too few."""
        seen = self.latest_epoch - self.epoch
        if not self.epochs or seen / self.epochs < LEAST_PART or self.latest <= self.began:
            return None
        return (self.latest - self.began) / seen * self.epochs


@dataclass
class Pace:
    """What was seen of each stage of this run: when it began, which epochs ended, how long the finished ones took."""

    clock: Callable[[], float] = time.monotonic
    running: dict[str, _Attempt] = field(default_factory=dict)
    finished: dict[str, float] = field(default_factory=dict)  # Key -> seconds.

    def heard(self, key: str, epoch: int, epochs: int, *, waiting: bool = False) -> None:
        """A stage reported; one that waits for cores has not begun."""
        now = self.clock()
        attempt = self.running.get(key)
        if waiting:
            self.running.pop(key, None)
        elif attempt is None:
            self.running[key] = _Attempt(now, epoch, now, epoch, epochs)
        elif epoch > attempt.latest_epoch:
            attempt.latest, attempt.latest_epoch = now, epoch
            attempt.epochs = epochs or attempt.epochs

    def ended(self, key: str, *, done: bool, since: float) -> None:
        """A stage's process is through with it; `since` is when the stage was handed out."""
        attempt = self.running.pop(key, None)
        if not done:
            return
        whole = attempt.seconds_of_whole() if attempt is not None else None
        self.finished[key] = whole if whole is not None else max(0.0, self.clock() - since)

    def part(self, key: str) -> float:
        """How much of a running stage is done, from 0 to 1."""
        attempt = self.running.get(key)
        return attempt.latest_epoch / attempt.epochs if attempt is not None and attempt.epochs else 0.0


class TimeLeft:
    """Seconds until a run ends; nothing while there is no evidence.

    Args:
        pace: What was seen.
        seconds_of: Estimated seconds of a stage.
        total: Estimated seconds of all that was missing at the start, for studies whose cells are drawn as they go.
    """

    def __init__(self, pace: Pace, seconds_of: Callable[[StageNode], float], total: float = 0.0) -> None:
        self.pace, self._seconds_of, self._total = pace, seconds_of, total
        self._looked = -LOOK_SECONDS
        self._end: float | None = None

    def seconds(self, graph: StageGraph, slots: int, *, more: bool = False) -> float | None:
        """Seconds left, smoothed; `more` says that further stages will be drawn."""
        now = self.pace.clock()
        since = now - self._looked
        if since >= LOOK_SECONDS:
            self._looked = now
            left = self._left(graph, slots, more)
            if left is None:
                self._end = None
            elif self._end is None:
                self._end = now + left
            else:
                self._end += (now + left - self._end) * min(1.0, since / SMOOTH_SECONDS)
        return None if self._end is None else max(0.0, self._end - now)

    def _left(self, graph: StageGraph, slots: int, more: bool) -> float | None:
        seen: dict[str, list[float]] = {}  # Role -> [seconds estimated, seconds taken].
        spent = 0.0

        def add(key: str, taken: float) -> None:
            pair = seen.setdefault(graph.nodes[key].role, [0.0, 0.0])
            pair[0] += self._seconds_of(graph.nodes[key])
            pair[1] += taken

        for key, taken in list(self.pace.finished.items()):
            add(key, taken)
            spent += taken
        for key, attempt in list(self.pace.running.items()):
            if (whole := attempt.seconds_of_whole()) is not None:
                add(key, whole)
            spent += self.pace.clock() - attempt.began
        estimated = sum(pair[0] for pair in seen.values())
        if not estimated or spent < EVIDENCE_SECONDS:
            return None
        overall = sum(pair[1] for pair in seen.values()) / estimated
        ratio = {role: pair[1] / pair[0] for role, pair in seen.items()}
        left, longest, plain = self._open(graph, lambda node: ratio.get(node.role, overall))
        if more:
            left += max(0.0, self._total - plain - sum(map(self._seconds_of, self._ended(graph)))) * overall
        if spent < EVIDENCE_SHARE * (spent + left):
            return None
        # What others take of the machine is in the seconds that epochs took.
        return max(left / max(1, slots), longest)

    def _open(self, graph: StageGraph, ratio: Callable[[StageNode], float]) -> tuple[float, float, float]:
        """Seconds of the open stages, of their longest chain, and of all of them as first estimated."""
        left = plain = longest = 0.0
        chain: dict[str, float] = {}
        for node in list(graph.nodes.values()):  # Parents come before their children.
            if node.state not in OPEN:
                continue
            own = self._seconds_of(node)
            plain += own
            own *= ratio(node) * (1.0 - min(1.0, self.pace.part(node.key)))
            left += own
            chain[node.key] = own + max((chain.get(parent, 0.0) for parent in node.parents.values()), default=0.0)
            longest = max(longest, chain[node.key])
        return left, longest, plain

    def _ended(self, graph: StageGraph) -> list[StageNode]:
        return [graph.nodes[key] for key in list(self.pace.finished) if key in graph.nodes]

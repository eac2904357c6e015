"""The graph of stages and what state each is in. No ray: the engine asks it what may run now.

waiting -> ready -> out -> done
             ^       |-> ready       (lost process, first exception: handed out again)
             |       |-> elsewhere   (another run trains it; back to ready when that one dies)
             |       |-> failed      (and its descendants: unrunnable)
             |       `-> pruned
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from trainables.spec import StageSpec

OPEN = ("waiting", "ready", "out", "elsewhere")


@dataclass
class StageNode:
    """A stage of the plan: what to run, what it reads, which cells want it."""

    key: str
    role: str
    base: StageSpec  # With seed 0; `spec` gives the real one.
    seed: int
    parents: Mapping[str, str]
    cells: list[str] = field(default_factory=list)
    state: str = "waiting"
    why: str = ""
    scout_of: int | None = None  # Number of the Optuna trial whose pruning watches this stage.

    @property
    def spec(self) -> StageSpec:
        """The spec under this node's seed."""
        return dataclasses.replace(self.base, seed=self.seed) if hasattr(self.base, "seed") else self.base  # type: ignore[call-arg]


class StageGraph:
    """All stages by key, in the order they should be handed out."""

    def __init__(self, nodes: Iterable[StageNode] = ()) -> None:
        self.shape_of: Callable[[StageNode], Hashable] = lambda node: None  # Equal for stages that need equal machines.
        self.nodes: dict[str, StageNode] = {}
        self._children: dict[str, list[str]] = {}
        self._members: dict[str, set[str]] = {}  # Key -> cells, as in the node.
        self._ready: dict[Hashable, list[tuple[int, int, str]]] = {}  # Shape -> heap of (times given back, place, key).
        self._place: dict[str, int] = {}
        self._given_back: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        for node in nodes:
            self.add(node)

    def add(self, node: StageNode, *, present: bool = False) -> StageNode:
        """Add a stage whose parents are already there; an equal one is merged."""
        known = self.nodes.get(node.key)
        if known is not None:
            # A set beside the list: a teacher is merged once for every cell there is.
            members = self._members[node.key]
            new = [cell for cell in node.cells if cell not in members]
            known.cells.extend(new)
            members.update(new)
            return known
        self.nodes[node.key] = node
        self._place[node.key] = len(self._place)
        self._members[node.key] = set(node.cells)
        self.counts[node.state] += 1
        for parent in node.parents.values():
            self._children.setdefault(parent, []).append(node.key)
        if present:
            self.set(node.key, "done")
        else:
            self._settle(node)
        return node

    def _settle(self, node: StageNode) -> None:
        parents = [self.nodes[key] for key in node.parents.values()]
        bad = next((p for p in parents if p.state in ("failed", "unrunnable", "pruned")), None)
        if bad is not None and bad.state == "pruned":
            self.set(node.key, "pruned")
        elif bad is not None:
            root = bad.why if bad.state == "unrunnable" else f"{bad.role} {bad.key} {bad.state}"
            self.set(node.key, "unrunnable", root)
        elif all(p.state == "done" for p in parents):
            self.set(node.key, "ready")

    def set(self, key: str, state: str, why: str = "") -> None:
        """Move a stage to a state, and its descendants with it."""
        node = self.nodes[key]
        if node.state == state:
            return
        self.counts[node.state] -= 1
        self.counts[state] += 1
        if state == "ready" and node.state in ("out", "elsewhere"):
            self._given_back[key] += 1  # It goes behind those that wait for their first turn.
        node.state, node.why = state, why
        if state == "ready":
            # In the plan's order, not in the order of getting ready: else a grid's evaluations would wait for all its
            # trainings, and a run stopped half-way would have nothing to report.
            entry = (self._given_back[key], self._place[key], key)
            heapq.heappush(self._ready.setdefault(self.shape_of(node), []), entry)
        elif state in ("done", "failed", "unrunnable", "pruned"):
            for child in self._children.get(key, ()):
                if self.nodes[child].state == "waiting":
                    self._settle(self.nodes[child])

    def regroup(self, shape_of: Callable[[StageNode], Hashable]) -> None:
        """Sort the ready stages by what they need; `next_ready` then passes over shapes that have no room."""
        self.shape_of = shape_of
        waiting = sorted(entry for queue in self._ready.values() for entry in queue)
        self._ready = {}
        for entry in waiting:  # Sorted, so each list is a heap.
            self._ready.setdefault(shape_of(self.nodes[entry[-1]]), []).append(entry)

    def next_ready(self, has_room: Callable[[StageNode], bool] | None = None) -> StageNode | None:
        """The next stage that may run now, or None; it stays ready until handed out.

        Args:
            has_room: Asked once per shape, of its next stage.
        """
        heads = []
        for queue in self._ready.values():
            while queue and not self._counts(queue[0]):
                heapq.heappop(queue)
            if queue:
                heads.append(queue[0])
        for *_, key in sorted(heads):
            if has_room is None or has_room(self.nodes[key]):
                return self.nodes[key]
        return None

    def _counts(self, entry: tuple[int, int, str]) -> bool:
        """Whether an entry is the stage's present one: a stage that was given back has an older one before it."""
        times, _, key = entry
        return self.nodes[key].state == "ready" and times == self._given_back[key]

    def hand_out(self, key: str) -> None:
        """The stage goes to a worker."""
        self.set(key, "out")

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do or to wait for."""
        return not any(self.counts[state] for state in OPEN)

    def in_state(self, *states: str) -> list[StageNode]:
        """The stages in these states, in plan order."""
        return [node for node in self.nodes.values() if node.state in states]

"""What a plan amounts to: stages asked, distinct and present, and what the missing ones cost.

Computed without torch, ray or scipy. The store is listed once, never asked per key.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sweeps.planning import cost
from sweeps.planning.cells import Cell
from sweeps.planning.planner import Planner
from trainables import spec as specs
from trainables.data.packed import Packed
from trainables.recipes.step import shown_role
from trainables.spec import StageSpec
from trainables.store.artifacts import Store


@dataclass
class Survey:
    """What a plan amounts to, without its graph."""

    asked: int = 0
    distinct: Counter[str] = field(default_factory=Counter)  # By role.
    present: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0  # Estimated, of what is missing, on one core.
    gpu_seconds: float = 0.0
    known: int = 0  # Missing stages whose time rests on finished ones.
    bytes: float = 0.0
    examples: dict[str, StageSpec] = field(default_factory=dict)  # Role -> the spec that takes most threads.
    ways: set[str] = field(default_factory=set)  # How frozen networks are asked: live, cached, cached_epochs.

    @property
    def missing(self) -> int:
        """Stages still to run."""
        return sum(self.distinct.values()) - sum(self.present.values())

    def sentence(self) -> str:
        """`5 teachers, 80 assistants, 80 evaluations; 3 already in the store`."""
        plurals = {shown_role(role): spec.plural for role, spec in self.examples.items()}
        parts = [f"{n:,} {plurals.get(role) or role + 's' if n != 1 else role}" for role, n in self.distinct.items()]
        present = sum(self.present.values())
        return ", ".join(parts) + (f"; {present:,} already in the store" if present else "")


def survey(planner: Planner, store: Store, packed: Packed | None = None) -> Survey:
    """Count stages asked, distinct and present, and estimate what the missing ones cost.

    `packed` tells exactly how many images are trained on; without it that is estimated from what is known of the data.
    """
    counting = _Counting(planner, store, packed)
    for cell in planner.plan.examples():
        counting.add(cell)
    result = counting.result
    result.bytes += (
        cost.working_bytes(price.checkpoint_bytes for price in counting.prices.values()) if result.missing else 0
    )
    return result


@dataclass(frozen=True)
class _Price:
    spec: StageSpec
    seconds: float
    gpu_seconds: float
    known: bool
    bytes: float
    checkpoint_bytes: float


class _Counting:
    """Adds cell after cell to a survey."""

    def __init__(self, planner: Planner, store: Store, packed: Packed | None) -> None:
        resolved = planner.plan.resolved
        self.planner, self.result = planner, Survey()
        self.prices: dict[int, _Price] = {}
        self._present = store.keys()
        self._rates = cost.measured_rates(store, self._present) if self._present else {}
        self._counts = cost.Counts(dict(planner.plan.data), packed)
        self._seen: set[str] = set()
        self._drawn = resolved.trials if resolved.study.sampled else 1
        # Where a stage has a seed, no two seeds share it, so in an empty store one seed tells the counts of all.
        seeds = resolved.seeds
        self._seeds, self._alike = (seeds, 1) if self._present else (seeds[:1], len(seeds))

    def add(self, cell: Cell) -> None:
        """Count the stages of a cell under every seed."""
        specs_by_role = self.planner.specs(cell)
        for step in self.planner.recipe.steps_of(cell.parameters):
            spec = specs_by_role[step.role]
            if id(spec) not in self.prices:
                guide = next((specs_by_role[parent] for parent in step.parents.values()), None)
                self._add_price(step.role, spec, guide)
        for seed in self._seeds:
            keys = self.planner.keys(cell, seed)
            # Raw pixels have no seed, and what hangs from them has none either.
            others = self.planner.keys(cell, seed + 1) if self._alike > 1 else {}
            self.result.asked += len(keys) * self._alike * self._drawn
            for role, key in keys.items():
                if key not in self._seen:
                    self._seen.add(key)
                    self._add_stage(role, key, specs_by_role[role], 1 if others.get(role) == key else self._alike)

    def _add_price(self, role: str, spec: StageSpec, guide: StageSpec | None) -> None:
        self.prices[id(spec)] = _price(spec, guide, self._counts, self._rates)
        most = self.result.examples.setdefault(role, spec)
        if spec.threads > most.threads:
            self.result.examples[role] = spec
        if specs.distils(spec):
            self.result.ways.add(spec.teacher_outputs)

    def _add_stage(self, role: str, key: str, spec: StageSpec, seeds: int) -> None:
        # Cells that are drawn differ in what comes after the teacher.
        times = seeds * (1 if spec.drawn_once else self._drawn)
        result, price = self.result, self.prices[id(spec)]
        result.distinct[shown_role(role)] += times
        if key in self._present:
            result.present[shown_role(role)] += 1
            return
        result.seconds += price.seconds * times
        result.gpu_seconds += price.gpu_seconds * times
        result.known += times if price.known else 0
        result.bytes += price.bytes * times


def _price(
    spec: StageSpec, guide: StageSpec | None, counts: cost.Counts, rates: dict[tuple[Any, ...], float]
) -> _Price:
    known = cost.known_seconds(spec, rates) if rates else None
    work = spec.work(counts, guide if specs.has_network(guide) else None)
    return _Price(
        spec,
        known if known is not None else work.time(),
        work.time(gpu=True),
        known is not None,
        work.bytes,
        work.checkpoint_bytes,
    )

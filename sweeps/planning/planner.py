"""From a plan to its stages: specs and keys of each cell and seed, equal ones merged in a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sweeps.planning.cells import Cell
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.planning.plan import Plan
from trainables import spec as specs
from trainables.recipes.step import shown_role
from trainables.spec import KeyTemplate, StageSpec
from trainables.store.artifacts import Store


@dataclass
class Trial:
    """A cell under one seed, with the keys of its stages by role."""

    cell: str
    seed: int
    stages: dict[str, str]


class Planner:
    """Turns cells and seeds into stages with keys; equal stages get equal keys and appear once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.recipe = plan.resolved.study.recipe
        self._templates: dict[int, tuple[StageSpec, KeyTemplate]] = {}
        self._specs: dict[str, dict[str, StageSpec]] = {}
        self._steps: dict[str, list[tuple[str, KeyTemplate, tuple[tuple[str, str], ...]]]] = {}

    def specs(self, cell: Cell) -> dict[str, StageSpec]:
        """Role -> spec (seed 0) of a cell."""
        known = self._specs.get(cell.id)
        if known is None:
            known = self._specs[cell.id] = self.recipe.specs(
                cell.parameters, self.plan.fingerprint, self.plan.test_fingerprint
            )
        return known

    def _template(self, spec: StageSpec, roles: tuple[str, ...]) -> KeyTemplate:
        known = self._templates.get(id(spec))
        if known is None:
            # The spec is kept, so that its id is not used twice.
            known = self._templates[id(spec)] = (spec, KeyTemplate(spec, roles))
        return known[1]

    def keys(self, cell: Cell, seed: int) -> dict[str, str]:
        """Role -> key of one trial, parents first."""
        steps = self._steps.get(cell.id)
        if steps is None:
            specs_by_role = self.specs(cell)
            steps = self._steps[cell.id] = [
                (s.role, self._template(specs_by_role[s.role], tuple(s.parents)), tuple(s.parents.items()))
                for s in self.recipe.steps_of(cell.parameters)
            ]
        keys: dict[str, str] = {}
        for role, template, parents in steps:
            keys[role] = template.key(seed, {inside: keys[outside] for inside, outside in parents})
        if not self.plan.resolved.share:
            trial = f"{cell.id}/{seed}"
            # Stages read their parents by key, so what a trial trains under keys of its own it reads alone.
            keys = {role: specs.short_hash([key, trial], 16) for role, key in keys.items()}
        return keys

    def stages(self, cell: Cell, seed: int, keys: Mapping[str, str] | None = None) -> Iterator[StageNode]:
        """The stages of one trial, parents first; `keys` are those of the trial, where they are known."""
        specs_by_role, keys = self.specs(cell), keys or self.keys(cell, seed)
        for step in self.recipe.steps_of(cell.parameters):
            parents = {role: keys[parent] for role, parent in step.parents.items()}
            yield StageNode(keys[step.role], shown_role(step.role), specs_by_role[step.role], seed, parents, [cell.id])


def build_graph(
    plan: Plan, store: Store, planner: Planner | None = None
) -> tuple[StageGraph, list[Trial], list[Cell]]:
    """The graph of a grid study, seeds outermost so that a stopped study is still balanced.

    Args:
        plan: Of the study.
        store: What is there already.
        planner: Of the plan, where one has looked at its cells before: it remembers their specs.
    """
    present = store.keys()
    planner = planner or Planner(plan)
    graph = StageGraph()
    cells = plan.cells()
    trials = []
    for seed in plan.resolved.seeds:
        for cell in cells:
            keys = planner.keys(cell, seed)
            for node in planner.stages(cell, seed, keys):
                graph.add(node, present=node.key in present)
            trials.append(Trial(cell.id, seed, keys))
    return graph, trials, cells

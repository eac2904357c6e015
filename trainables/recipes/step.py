"""One stage of a recipe, and what it is in one cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.spec import OUTPUTS, StageSpec
from trainables.stages.outputs import OutputsSpec


@dataclass(frozen=True)
class Step:
    """One stage of a recipe: its role, its spec and which earlier roles it reads."""

    role: str
    spec: type[StageSpec]
    # Role inside the stage -> roles in the recipe, of which the first that the cell has is read; none may be there.
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # Roles, of which the first that the cell has counts -> own field: field of that role's spec.
    inherits: Mapping[tuple[str, ...], Mapping[str, str]] = field(default_factory=dict)
    routes: tuple[str, ...] = ()  # The routes it belongs to; none given means all.
    given: type[StageSpec] | None = None  # What it is instead in cells that name its `weights`.

    def spec_in(self, cell: Mapping[str, Any]) -> type[StageSpec]:
        """What the stage is in a cell."""
        return self.given if self.given is not None and cell.get(f"{self.role}.weights") else self.spec

    def on(self, route: str) -> bool:
        """Whether cells of that route have this stage."""
        return not self.routes or route in self.routes


@dataclass(frozen=True)
class Placed:
    """A step as one cell has it: which stages it reads there."""

    step: Step
    parents: Mapping[str, str]  # Role inside the stage -> role of the cell.

    @property
    def role(self) -> str:
        """Its role."""
        return self.step.role


def place(steps: tuple[Step, ...], route: str) -> tuple[Placed, ...]:
    """The steps that cells of a route have."""
    there = {step.role for step in steps if step.on(route)}
    placed = []
    for step in steps:
        if step.role in there:
            first = {
                inside: next((role for role in roles if role in there), None) for inside, roles in step.parents.items()
            }
            placed.append(Placed(step, {inside: role for inside, role in first.items() if role is not None}))
    return tuple(placed)


def outputs_role(role: str, number: int) -> str:
    """Role of the stage that keeps part `number` of what the stage `role` reads of its guide; 0 is the base."""
    return f"{OUTPUTS}-{role}-{number}"


def shown_role(role: str) -> str:
    """A role as people and records know it: all parts of kept outputs are one."""
    return OUTPUTS if role.startswith(f"{OUTPUTS}-") else role


def with_outputs(placed: Placed, made: Mapping[str, StageSpec]) -> Iterator[Placed]:
    """A step behind the stages that keep what it reads of its guide."""
    parts = [role for role in made if role.startswith(outputs_role(placed.role, 0)[:-1])]
    guide = dict.fromkeys(("guide",), *placed.parents.values())
    for role in parts:
        yield Placed(Step(role, OutputsSpec), guide | ({} if role == parts[0] else {"base": parts[0]}))
    more = {f"{OUTPUTS}-{number}": role for number, role in enumerate(parts)}
    yield Placed(placed.step, {**placed.parents, **more})

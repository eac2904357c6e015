"""A plan: a study with every word answered, on its data and with its weight files. Its cells follow from it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces.study import ARM, TUNING, Arm
from sweeps.planning.cells import Cell, Pinned, Probe
from sweeps.planning.resolve import Resolved
from sweeps.planning.weight_files import WeightFiles
from trainables import spec as specs
from trainables.spec.compute import equal_compute_epochs
from trainables.spec.parameter import Parameter

# What makes an arm what its title says; no word of the command line for all arms changes that.
DEFINING = ("route", "method", "orders", "architecture", "reader", "head", "similarity", "init_from_assistant")
UNPACKED = "not-packed-yet"


@dataclass(frozen=True)
class Plan:
    """What `run`, `show` and `resume` work from: nothing is left open any more."""

    resolved: Resolved
    data: Mapping[str, Any]  # What is known of the data set, as run.json has it.
    test_fingerprint: str = ""  # Of the data set that is tested, where it is another one.
    weights: WeightFiles = field(default_factory=WeightFiles)
    left_out: Mapping[str, str] = field(default_factory=dict)  # Arm -> why it cannot be; not among the axes.

    @property
    def fingerprint(self) -> str:
        """Of the data that are trained on."""
        return str(self.data["fingerprint"])

    @property
    def side(self) -> int:
        """Of the images; epochs at equal compute follow from it."""
        return int(self.data["height"])

    @functools.cached_property
    def _cells(self) -> list[Cell]:
        return [self.cell(point) for point in self.resolved.study.points(self.resolved.axes)]

    def cells(self) -> list[Cell]:
        """The cells of a grid, in the order of its axes."""
        return self._cells

    def examples(self) -> Iterator[Cell]:
        """The cells of a grid; of a sampled study one that stands for all."""
        space = self.resolved.space
        if space is None:
            yield from self.cells()
        else:
            yield self.cell(space(Pinned(Probe(), self.resolved.pinned)))

    def every_choice(self) -> Iterator[Cell]:
        """Cells of a sampled study in which each choice that it offers is made at least once, the others as they come."""
        space = self.resolved.space
        assert space is not None
        ahead: list[dict[str, Any]] = [{}]
        met: set[tuple[str, str]] = set()
        while ahead:
            pinned = ahead.pop()
            probe = Probe()
            yield self.cell(space(Pinned(probe, {**self.resolved.pinned, **pinned})))
            for name, choices in probe.choices.items():
                met.add((name, repr(choices[0])))  # What the probe has just drawn.
                others = [choice for choice in choices if (name, repr(choice)) not in met]
                met.update((name, repr(choice)) for choice in others)
                ahead += [pinned | {name: choice} for choice in others]

    def cell(self, point: Mapping[str, Any], number: int = -1) -> Cell:
        """The cell at one point of the space."""
        parameters = {**self.resolved.parameters, **point}
        if ARM in point:
            parameters |= self._of_arm(point)
        parameters = self.weights.described(parameters)
        identity = {"study": self.resolved.study.name, "cell": parameters}
        return Cell(specs.short_hash(identity), parameters, dict(point), number, self._speaking)

    @functools.cached_property
    def _speaking(self) -> frozenset[str]:
        """Names of the arm and of what joins parts: their values are understood alone."""
        recipe = self.resolved.study.recipe
        names = (*recipe.parameters, *recipe.short_names)
        return frozenset({ARM, *(name for name in names if "parts" in recipe.declared(name))})

    @functools.cached_property
    def _said(self) -> frozenset[str]:
        """Parameters that the command line or an axis decides."""
        said = {name for name, source in self.resolved.sources.items() if source == "--set"}
        return frozenset(said | set(self.resolved.axes))

    def _of_arm(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """What the arm of a point stands for; words of the command line outrank it where they do not undo the arm."""
        arm = self.resolved.arms[point[ARM]]
        meant = dict(arm.parameters)
        if TUNING in point:
            meant |= arm.tuning[point[TUNING]]
        meant = {name: value for name, value in meant.items() if self._stays(name)}
        if arm.compute_of:
            role, epochs = self._equal_compute({**self.resolved.parameters, **point, **meant}, arm, point)
            meant[f"{role}.epochs"] = epochs
        return meant

    def _stays(self, name: str) -> bool:
        """Whether what an arm says of a parameter counts beside the words of the command line."""
        parameter = Parameter.parse(name, self.resolved.study.recipe.roles)
        if parameter.field in DEFINING:
            return True
        return name not in self._said and not (parameter.role and parameter.path in self._said)

    def _equal_compute(self, parameters: Mapping[str, Any], arm: Arm, point: Mapping[str, Any]) -> tuple[str, int]:
        """The role whose epochs follow from the multiply-adds of another arm, and how many they are."""
        ignored = self.resolved.arms[arm.compute_of].ignores
        other_point = {k: v for k, v in point.items() if k not in ignored} | {ARM: arm.compute_of}
        other = self.cell(other_point).parameters
        recipe = self.resolved.study.recipe
        ours, theirs = recipe.specs(parameters, ""), recipe.specs(other, "")
        role, their_role = recipe.measured(ours), recipe.measured(theirs)
        parents = next(placed.parents for placed in recipe.steps_of(other) if placed.role == their_role)
        guide = next((theirs[parent] for parent in parents.values()), None)
        assert specs.has_network(ours[role])
        epochs = equal_compute_epochs(ours[role], theirs[their_role], guide, self.side)  # type: ignore[arg-type]
        return role, epochs

    def baseline(self, cell: Cell) -> Cell | None:
        """The cell `cell` is compared with: equal but for what the study's baseline names."""
        study, axes = self.resolved.study, self.resolved.axes
        if study.baseline is None or study.sampled:
            return None
        for name, value in study.baseline.items():
            if name not in axes or value not in axes[name]:
                return None
        point = dict(cell.point) | dict(study.baseline)
        if self.resolved.arms:
            arm = self.resolved.arms[point[ARM]]
            point = {k: v for k, v in point.items() if k not in arm.ignores and (k != TUNING or arm.tuning)}
            if set(point) != {k for k in axes if k not in arm.ignores and (k != TUNING or arm.tuning)}:
                return None  # The cell's own arm has no part in an axis that the baseline varies over.
            point = {k: point[k] for k in axes if k in point}
        return self.cell(point)

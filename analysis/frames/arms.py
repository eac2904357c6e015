"""The arms of a study: what kinds there are, and which one others are held against. Plain words, no numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from analysis.arm_kinds import DISTILLED, EQUAL_COMPUTE, FLOOR, KINDS, METHOD, OURS, PLAIN, TEACHER
from analysis.published import earlier

# The order of rows; plain arms of either length stand together.
ORDER = {TEACHER: 0, PLAIN: 1, EQUAL_COMPUTE: 1, METHOD: 2, OURS: 3, FLOOR: 4}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A method of the study."""

    name: str
    title: str
    kind: str
    place: int | None = None  # Among the arms that the study is about; None for the others.
    compute_of: str | None = None  # The arm whose multiply-adds it may spend.
    parameters: Mapping[str, Any] = field(default_factory=dict)  # What sets it apart: route, method, networks.
    compute_parameters: Mapping[str, Any] = field(default_factory=dict)  # Those of `compute_of`, which may be absent.

    @property
    def costs(self) -> dict[str, Any]:
        """What the arm's multiply-adds hang on."""
        return _costs(self.parameters)

    @property
    def method(self) -> str | None:
        """What its network is distilled by, the last one in a chain; None where the run does not tell."""
        named = [value for name, value in self.parameters.items() if name.split(".")[-1] == "method"]
        return str(named[-1]) if named and named[-1] is not None else None


def arms_of(run: Mapping[str, Any], trials: pl.DataFrame) -> dict[str, Arm]:
    """The arms by name, in the run's order; one that only the trials know counts as a method."""
    found = {}
    about = {name: place for place, name in enumerate(earlier.ours(run))}
    for name, words in (run.get("arms") or {}).items():
        given = words if isinstance(words, Mapping) else {}
        kind = given.get("kind") if given.get("kind") in KINDS else METHOD
        title, parameters = str(given.get("title") or name), given.get("parameters")
        found[str(name)] = Arm(
            name=str(name),
            title=title,
            kind=str(kind),
            place=about.get(str(name)),
            compute_of=given.get("compute_of"),
            parameters=parameters if isinstance(parameters, Mapping) else {},
            compute_parameters=given.get("compute_parameters") or {},
        )
    for name in trials["arm"].drop_nulls().unique(maintain_order=True):
        found.setdefault(name, Arm(name=name, title=name, kind=METHOD, place=about.get(name)))
    return found


def reference_arm(run: Mapping[str, Any], arms: Mapping[str, Arm]) -> str | None:
    """The arm all others are compared with: the one named, else the first on labels alone."""
    named = run.get("reference")
    return named if named in arms else next((arm.name for arm in arms.values() if arm.kind == PLAIN), None)


def our_arm(arms: Mapping[str, Arm], present: Sequence[str]) -> str | None:
    """The arm the study is about among those present.

    Of those of kind `ours` the one that the study puts first, else the first; without any the one that stands for them.
    """
    there = [arm for arm in arms.values() if arm.name in present]
    ours = [arm for arm in there if arm.kind == OURS] or [arm for arm in there if arm.place is not None]
    last = len(arms)
    return min(ours, key=lambda arm: last if arm.place is None else arm.place).name if ours else None


def equal_compute_of(arm: Arm, arms: Mapping[str, Arm]) -> str | None:
    """The arm on labels alone that spends what `arm` does: that of the arm itself, else of one with its networks.

    Two arms take the same multiply-adds an epoch when they go the same route and name the same networks. None for what
    is no distillation, and where no arm fits.
    """
    if arm.kind not in DISTILLED:
        return None
    controls = [other for other in arms.values() if other.kind == EQUAL_COMPUTE and other.compute_of]
    for control in controls:
        if control.compute_of == arm.name:
            return control.name
    for control in controls:
        spent = (
            arms[str(control.compute_of)].costs if control.compute_of in arms else _costs(control.compute_parameters)
        )
        if spent and spent == arm.costs:
            return control.name
    return None


def _costs(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The route, and what networks the parameters name."""
    return {
        name: value
        for name, value in parameters.items()
        if name == "route" or name.split(".")[-1] in ("architecture", "width")
    }

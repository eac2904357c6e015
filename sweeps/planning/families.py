"""How many tests the report of a study will hold together, told from its plan: as `analysis` counts them.

A family is one setting: all that is compared with one reference. What is shown beside the tests (teachers, floors,
networks that read another side) is no part of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.study import ARM, TUNING
from sweeps.planning.plan import Cell, Planner, Resolved
from trainables.spec import TrainingSpec

UNTESTED = ("teacher", "floor")  # Kinds of arms, as in `analysis.frames.arms`.
DISTILLED = ("method", "ours")


def sizes(resolved: Resolved, planner: Planner) -> list[int]:
    """Number of tests of each setting that has any; empty where cells are drawn or nothing is a reference."""
    if resolved.study.sampled:
        return []
    cells = resolved.cells()
    found = _of_arms(resolved, cells, planner) if resolved.arms else _of_grid(resolved, cells, planner)
    return [size for size in found if size]


def _of_grid(resolved: Resolved, cells: Sequence[Cell], planner: Planner) -> list[int]:
    axes = resolved.axes
    factor = resolved.study.factor
    varying = None if factor is None else resolved.study.recipe.canonical(factor.parameter)
    varying = varying if varying in axes else None
    others = [name for name in axes if name != varying] if varying else []
    panels: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        panels.setdefault(tuple(str(cell.point.get(name)) for name in others), []).append(cell)
    baselines = (resolved.baseline(cell) for cell in cells)
    named = next((cell.id for cell in baselines if cell is not None), None)
    found = []
    for members in panels.values():
        reference = next((cell for cell in members if cell.id == named), None)
        if reference is None and varying and factor is not None:
            reference = next((cell for cell in members if cell.point[varying] == factor.none), None)
        if reference is not None:
            theirs = _teacher(reference, planner)
            found.append(sum(_teacher(cell, planner) == theirs for cell in members if cell is not reference))
    return found


def _of_arms(resolved: Resolved, cells: Sequence[Cell], planner: Planner) -> list[int]:
    reference = (resolved.study.baseline or {}).get(ARM)
    axes = _setting_axes(cells)
    combinations: dict[str, dict[str, Any]] = {}
    for cell in cells:
        if all(axis in cell.point for axis in axes):
            values = {axis: cell.point[axis] for axis in axes}
            combinations.setdefault(json.dumps(values, sort_keys=True), values)
    if not combinations:  # Every arm ignores some axis: what there is makes one setting.
        combinations = {"": {}}
    found = []
    for values in combinations.values():
        members: dict[str, Cell] = {}
        for cell in cells:
            if all(cell.point.get(axis, value) == value for axis, value in values.items()):
                members.setdefault(str(cell.point[ARM]), cell)
        if reference not in members:
            continue
        elsewhere = _elsewhere(values, members, planner, resolved.side)
        base = members[reference]
        found.append(
            sum(
                arm != reference
                and resolved.arms[arm].kind not in UNTESTED
                and arm not in elsewhere
                and not _hang_apart(resolved, arm, cell, reference, base, planner)
                for arm, cell in members.items()
            )
        )
    return found


def _setting_axes(cells: Sequence[Cell]) -> list[str]:
    """Axes that make settings: not the arm, not the tuning, not the side of the test images."""
    values: dict[str, set[str]] = {}
    for cell in cells:
        for name, value in cell.point.items():
            values.setdefault(name, set()).add(json.dumps(value, sort_keys=True))
    return [
        name
        for name, seen in values.items()
        if len(seen) > 1 and name not in (ARM, TUNING) and _last(name) != "test_resolution"
    ]


def _elsewhere(values: Mapping[str, Any], members: Mapping[str, Cell], planner: Planner, side: int) -> set[str]:
    """Arms that have no part in the setting's resolution and read another side than those that have."""
    sides = [axis for axis in values if _last(axis) == "resolution"]
    with_part = {arm for arm, cell in members.items() if all(axis in cell.point for axis in sides)}
    theirs = {_side(members[arm], planner, side) for arm in with_part}
    return {
        arm
        for arm, cell in members.items()
        if arm not in with_part and theirs and _side(cell, planner, side) not in theirs
    }


def _side(cell: Cell, planner: Planner, side: int) -> int:
    made = planner.specs(cell)
    read = made[planner.recipe.measured(made)]
    return (read.resolution or side) if isinstance(read, TrainingSpec) else side


def _hang_apart(resolved: Resolved, arm: str, cell: Cell, reference: str, base: Cell, planner: Planner) -> bool:
    """Whether two distilled arms have different teachers, and so are not compared."""
    if not {resolved.arms[arm].kind, resolved.arms[reference].kind} <= set(DISTILLED):
        return False
    return _teacher(cell, planner) != _teacher(base, planner)


def _teacher(cell: Cell, planner: Planner) -> str | None:
    return planner.keys(cell, 0).get("teacher")


def _last(name: str) -> str:
    return name.split(".")[-1]

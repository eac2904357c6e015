"""How many tests the report of a study will hold together, told from its plan: as `analysis` counts them.

A family is one setting: all that is compared with one reference. What is shown beside the tests (teachers, floors,
networks that read another side) is no part of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.arm_kinds import DISTILLED, UNTESTED
from search_spaces.study import ARM, TUNING
from sweeps.planning.cells import Cell
from sweeps.planning.planner import Planner
from trainables.spec import has_network
from trainables.spec.parameter import field_of


def sizes(planner: Planner) -> list[int]:
    """Number of tests of each setting that has any; empty where cells are drawn or nothing is a reference."""
    if planner.plan.resolved.study.sampled:
        return []
    every = _of_arms(planner) if planner.plan.resolved.arms else _of_grid(planner)
    return [size for size in every if size]


def _of_grid(planner: Planner) -> list[int]:
    plan, resolved = planner.plan, planner.plan.resolved
    cells, axes, factor = plan.cells(), resolved.axes, resolved.study.factor
    varying = None if factor is None else resolved.study.recipe.canonical(factor.parameter)
    varying = varying if varying in axes else None
    others = [name for name in axes if name != varying] if varying else []
    panels: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        panels.setdefault(tuple(str(cell.point.get(name)) for name in others), []).append(cell)
    baselines = (plan.baseline(cell) for cell in cells)
    named = next((cell.id for cell in baselines if cell is not None), None)
    sizes_of_panels = []
    for members in panels.values():
        reference = next((cell for cell in members if cell.id == named), None)
        if reference is None and varying and factor is not None:
            reference = next((cell for cell in members if cell.point[varying] == factor.none), None)
        if reference is not None:
            theirs = _teacher(reference, planner)
            sizes_of_panels.append(sum(_teacher(cell, planner) == theirs for cell in members if cell is not reference))
    return sizes_of_panels


def _of_arms(planner: Planner) -> list[int]:
    cells, resolved = planner.plan.cells(), planner.plan.resolved
    reference = (resolved.study.baseline or {}).get(ARM)
    axes = _setting_axes(cells)
    combinations: dict[str, dict[str, Any]] = {}
    for cell in cells:
        if all(axis in cell.point for axis in axes):
            values = {axis: cell.point[axis] for axis in axes}
            combinations.setdefault(json.dumps(values, sort_keys=True), values)
    if not combinations:  # Every arm ignores some axis: what there is makes one setting.
        combinations = {"": {}}
    sizes_of_settings = []
    for values in combinations.values():
        members: dict[str, Cell] = {}
        for cell in cells:
            if all(cell.point.get(axis, value) == value for axis, value in values.items()):
                members.setdefault(str(cell.point[ARM]), cell)
        if reference not in members:
            continue
        elsewhere = _elsewhere(values, members, planner)
        base = members[reference]
        sizes_of_settings.append(
            sum(
                arm != reference
                and resolved.arms[arm].kind not in UNTESTED
                and arm not in elsewhere
                and not _hang_apart(arm, cell, reference, base, planner)
                for arm, cell in members.items()
            )
        )
    return sizes_of_settings


def _setting_axes(cells: Sequence[Cell]) -> list[str]:
    """Axes that make settings: not the arm, not the tuning, not the side of the test images."""
    values: dict[str, set[str]] = {}
    for cell in cells:
        for name, value in cell.point.items():
            values.setdefault(name, set()).add(json.dumps(value, sort_keys=True))
    return [
        name
        for name, seen in values.items()
        if len(seen) > 1 and name not in (ARM, TUNING) and field_of(name) != "test_resolution"
    ]


def _elsewhere(values: Mapping[str, Any], members: Mapping[str, Cell], planner: Planner) -> set[str]:
    """Arms that have no part in the setting's resolution and read another side than those that have."""
    sides = [axis for axis in values if field_of(axis) == "resolution"]
    with_part = {arm for arm, cell in members.items() if all(axis in cell.point for axis in sides)}
    theirs = {_side(members[arm], planner) for arm in with_part}
    return {
        arm for arm, cell in members.items() if arm not in with_part and theirs and _side(cell, planner) not in theirs
    }


def _side(cell: Cell, planner: Planner) -> int:
    specs_by_role = planner.specs(cell)
    read = specs_by_role[planner.recipe.measured(specs_by_role)]
    return (has_network(read) and read.resolution) or planner.plan.side


def _hang_apart(arm: str, cell: Cell, reference: str, base: Cell, planner: Planner) -> bool:
    """Whether two distilled arms have different teachers, and so are not compared."""
    arms = planner.plan.resolved.arms
    if not {arms[arm].kind, arms[reference].kind} <= set(DISTILLED):
        return False
    return _teacher(cell, planner) != _teacher(base, planner)


def _teacher(cell: Cell, planner: Planner) -> str | None:
    return planner.keys(cell, 0).get(planner.recipe.teacher)

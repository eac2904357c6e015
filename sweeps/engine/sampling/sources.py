"""What a damaged journal of a sampled study is repaired from: run.json as it was, the store, the records."""

from __future__ import annotations

import functools
import itertools
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from sweeps.engine.journal_repair import Sources
from sweeps.engine.sampling.values import cell_value, pruned_in_records
from sweeps.planning.planner import Planner
from trainables.errors import SweepsError
from trainables.store.artifacts import Store

SUBSETS_TRIED = 6  # Seeds of a cell up to which every subset may be what its value was the mean of.


def repair_sources(
    planner: Planner,
    store: Store,
    present: Collection[str],
    space: Callable[[Any], dict[str, Any]],
    known: Mapping[str, Any],
    *,
    records: Path,
) -> Sources:
    """The sources of a run.

    Args:
        planner: Of the study, as it is asked for now.
        store: Where its artifacts are.
        present: Keys the store had when the run began.
        space: Draws a cell's parameters from a trial.
        known: What run.json said before.
        records: Folder of the run's records.
    """
    resolved = planner.plan.resolved
    points = {str(cell["id"]): cell["parameters"] for cell in known.get("cells", ())}

    def cell_id(point: Mapping[str, Any]) -> str | None:
        try:
            cell = planner.plan.cell(point)
            planner.keys(cell, resolved.seeds[0])
        except (SweepsError, TypeError, ValueError, KeyError):
            return None  # A flipped bit made a value that no stage could have.
        return cell.id

    def values(cell: str) -> list[list[float]]:
        seeds = sorted({*resolved.seeds, *(t["seed"] for t in known.get("trials", ()) if t["cell"] == cell)})
        measured = {
            seed: numbers
            for seed in seeds
            if (numbers := _measurements(planner, store, present, points.get(cell), seed))
        }
        groups: Iterable[tuple[int, ...]] = [tuple(measured)[:count] for count in range(1, len(measured) + 1)]
        if len(measured) <= SUBSETS_TRIED:
            groups = itertools.chain.from_iterable(
                itertools.combinations(measured, count) for count in range(1, len(measured) + 1)
            )
        return [
            [statistics.fmean(each) for each in zip(*(measured[s] for s in group), strict=True)] for group in groups
        ]

    return Sources(cell_id, space, values, points, functools.cache(functools.partial(pruned_in_records, records)))


def _measurements(
    planner: Planner, store: Store, present: Collection[str], point: Mapping[str, Any] | None, seed: int
) -> list[float]:
    """What the finished stage of a cell and seed measured, by objective; empty without one."""
    if point is None:
        return []
    keys = planner.keys(planner.plan.cell(point), seed)
    key = keys[planner.recipe.measured(keys)]
    if key not in present:
        return []
    try:
        numbers = [cell_value(store, [key], metric) for metric in planner.plan.resolved.objectives]
    except SweepsError:
        return []
    return [value for value in numbers if value is not None] if None not in numbers else []

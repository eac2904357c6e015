"""How often the analysis finds something where there is nothing: verdicts, gains and effects of null studies.

    python -m benchmarks.null_verdicts [--ablations 1000] [--methods 300] [--seeds 2 --seeds 3 --seeds 5] [--items N]
                                       [--quick] [--json FILE]

Records are made in memory as a run leaves them and go the whole way of a report: records, trials, settings, claims, answer.
In a null study no order, no method and no resolution matters. A seed moves all its cells together, as its teacher does;
each training adds noise of its own; the score is a share of the items of the test set, of which some have few (40, 200,
540 or 10,000 in turn), so that ties and equal differences are frequent. The noise is a third of a point to two points.

One claim has its null elsewhere: that little is lost is false from a loss of one point on. It is checked where every side
below the full one loses exactly that.

A verdict is "supported" or "not supported". At most 5 % of the null studies may have one, per claim, and none at two seeds.
Main effects, interactions and gains are no claims; each family of them is tested at 5 % exactly, so its share is 5 % but for
the chance of the simulation, which is allowed for (1 in 100).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis import statistics
from analysis.claims.check import check
from analysis.claims.evidence import ArmEvidence, of_panel
from analysis.claims.verdict import NOT_SUPPORTED, SUPPORTED, Claim
from analysis.frames import order_ablation
from analysis.frames.arms import arms_of
from analysis.frames.factor import factor_of
from analysis.frames.methods import Setting, settings
from analysis.load import RunData, cell_table, trial_table
from analysis.published import earlier
from analysis.records import SCHEMA, SCHEMA_VERSION
from analysis.report import wording

ALLOWED = 0.05
ITEMS = (40, 200, 540, 10_000)
NOISE = (0.003, 0.01, 0.02)  # Standard deviations of a training's own, as fractions.
TEACHERS = 0.01  # Of what the trainings of a seed have in common.
BASE = 0.8

ORDERS = ("1", "2", "3", "C")
SIDES = (32, 16, 8)
KINDS = {
    "teacher": "teacher",
    "ce": "plain",
    "ce_long": "equal_compute",
    "kd": "method",
    "at": "method",
    "rkd": "method",
    "horkd_direct": "ours",
    "horkd_init": "ours",
    "horkd": "ours",
}
LITTLE = "little_above_a_quarter"
MARGIN = 0.01  # Of that claim.

Cells = Sequence[tuple[str, dict[str, Any]]]  # Id and parameters.


class Study:
    """The run file and the records of a study, in which only the scores are still to be filled in."""

    def __init__(self, cells: Cells, seeds: int, **run: Any) -> None:
        listed = [{"id": cell, "label": cell, "parameters": point} for cell, point in cells]
        self.trials = list(itertools.product((cell for cell, _ in cells), range(seeds)))
        stages = [{"cell": c, "seed": s, "stages": {"evaluation": f"{c} {s}"}} for c, s in self.trials]
        self.run = {"cells": listed, "trials": stages, "seeds": list(range(seeds)), "metric": "top1", **run}
        empty = pl.from_arrow(SCHEMA.empty_table())
        assert isinstance(empty, pl.DataFrame)
        points = dict(cells)
        rows = [
            {
                "schema": SCHEMA_VERSION,
                "stage": "evaluation",
                "key": f"{cell} {seed}",
                "cells": [cell],
                "seed": seed,
                "status": "completed",
                "metric": "top1",
                "orders": points[cell].get("orders"),
                "teacher": f"teacher {seed}",
                "parameters": json.dumps({"resolution": points[cell].get("student.resolution", max(SIDES))}),
            }
            for cell, seed in self.trials
        ]
        self.records = pl.DataFrame([dict.fromkeys(empty.columns) | row for row in rows], schema=empty.schema)
        self.seeds = seeds

    def drawn(
        self, generator: np.random.Generator, items: int, noise: float, loss: np.ndarray | None = None
    ) -> RunData:
        """The run with scores that differ by chance, and by what each cell loses, alone."""
        own = generator.normal(0, noise, (len(self.trials) // self.seeds, self.seeds))
        shares = BASE + generator.normal(0, TEACHERS, self.seeds) + own - (0 if loss is None else loss[:, None])
        correct = np.clip(np.rint(shares * items), 0, items).astype(np.int64).ravel()
        told = self.records.with_columns(
            pl.Series("correct", correct),
            pl.Series("score", correct / items),
            pl.Series("validation_score", correct / items),
            pl.lit(items, dtype=pl.Int64).alias("items"),
        )
        return RunData(folder=Path(), run=self.run, records=told)


def ablation(seeds: int) -> Study:
    """All sixteen order sets."""
    subsets = itertools.chain.from_iterable(itertools.combinations(ORDERS, k) for k in range(len(ORDERS) + 1))
    names = ["+".join(orders) or "none" for orders in subsets]
    return Study(
        [(name, {"orders": name}) for name in names],
        seeds,
        axes={"orders": names},
        factors=list(ORDERS),
        baseline=names[0],
        data={"name": "digits"},
    )


def methods(seeds: int) -> Study:
    """Every kind of arm at three sides."""
    cells = [(f"{a} {s}", {"arm": a, "student.resolution": s}) for a, s in itertools.product(KINDS, SIDES)]
    words = {name: {"title": name, "kind": kind} for name, kind in KINDS.items()}
    words["ce_long"]["compute_of"] = "horkd"
    return Study(cells, seeds, arms=words, reference="ce", data={"height": max(SIDES), "width": max(SIDES)})


def _found(checked: Sequence[Claim]) -> set[str]:
    return {claim.name for claim in checked if claim.verdict in (SUPPORTED, NOT_SUPPORTED)}


def findings_of_ablation(data: RunData) -> set[str]:
    """What a report of the run would claim to have found."""
    (panel,) = order_ablation.panels(data.run, cell_table(data.run), trial_table(data))
    found = _found(check(of_panel(panel.trials, factor_of(data.run), "digits", ()), earlier.OF_ORDERS))
    assert panel.effects is not None
    mains = [effect for effect in panel.effects.effects if len(effect.factors) == 1]
    overlaps = [effect for effect in panel.effects.effects if len(effect.factors) > 1]
    found |= {"an order helps or hurts"} if any(effect.passes for effect in mains) else set()
    found |= {"two orders overlap"} if any(effect.passes for effect in overlaps) else set()
    found |= {"a cell differs from none"} if wording.proven(panel.rows).height else set()
    return found


def _evidence(data: RunData) -> tuple[ArmEvidence, list[Setting]]:
    trials = trial_table(data)
    found = settings(data.run, cell_table(data.run), trials)
    return ArmEvidence(settings=found, arms=arms_of(data.run, trials), native=max(SIDES), on="on digits"), found


def findings_of_methods(data: RunData, losing: RunData) -> set[str]:
    """What reports of the two runs would claim to have found, the second of which is asked about losses alone."""
    evidence, shown = _evidence(data)
    found = _found(check(evidence, earlier.OF_METHODS)) - {LITTLE}
    found |= _found(check(_evidence(losing)[0], earlier.OF_METHODS)) & {LITTLE}
    first = shown[0].rows
    found |= {"an arm differs from labels alone"} if wording.proven(first).height else set()
    compute = first.filter(pl.col("compute_p_holm") < statistics.ALPHA)
    return found | ({"an arm differs at equal compute"} if compute.height else set())


ABLATION = (*earlier.OF_ORDERS, "an order helps or hurts", "two orders overlap", "a cell differs from none")
METHODS = (*earlier.OF_METHODS, "an arm differs from labels alone", "an arm differs at equal compute")


def ablations(count: int, seeds: int, items: Sequence[int] = ITEMS) -> Counter[str]:
    """In how many of `count` null ablations each thing is found."""
    study, generator = ablation(seeds), np.random.default_rng([44, seeds])
    found: Counter[str] = Counter()
    for size, noise in itertools.islice(_circumstances(items), count):
        found.update(findings_of_ablation(study.drawn(generator, size, noise)))
    return found


def comparisons(count: int, seeds: int, items: Sequence[int] = ITEMS) -> Counter[str]:
    """In how many of `count` null studies of methods each thing is found."""
    study, generator = methods(seeds), np.random.default_rng([45, seeds])
    loss = np.array([MARGIN * (side < max(SIDES)) for _, side in itertools.product(KINDS, SIDES)])
    found: Counter[str] = Counter()
    for size, noise in itertools.islice(_circumstances(items), count):
        null = study.drawn(generator, size, noise)
        found.update(findings_of_methods(null, study.drawn(generator, size, noise, loss)))
    return found


def _circumstances(items: Sequence[int]) -> Iterator[tuple[int, float]]:
    return itertools.cycle(itertools.product(items, NOISE))


Block = tuple[str, Sequence[str], int, dict[int, Counter[str]]]  # Kind, what may be found, studies, counts by seeds.


def table(blocks: Sequence[Block]) -> str:
    """One line per kind of finding: in what share of the null studies it was made, by number of seeds."""
    lines = []
    for kind, names, count, by_seeds in blocks:
        width = max(map(len, (*names, kind)))
        heads = "".join(f"{f'{seeds} seeds':>12}" for seeds in by_seeds)
        lines.append(f"{f'{count:,} {kind}':<{width + 4}}{heads}")
        for name in names:
            shares = "".join(f"{100 * found[name] / count:>10.1f} %" for found in by_seeds.values())
            lines.append(f"  {name:<{width + 2}}{shares}")
    return "\n".join(lines)


def broken(blocks: Sequence[Block]) -> list[str]:
    """What was found too often: in more than 5 % of the studies (families but for chance), or at all below three seeds."""
    told = []
    claimed = {*earlier.OF_ORDERS, *earlier.OF_METHODS}
    for kind, names, count, by_seeds in blocks:
        for name, (seeds, found) in itertools.product(names, by_seeds.items()):
            chance = 0.0 if name in claimed else 2.33 * math.sqrt(ALLOWED * (1 - ALLOWED) * count)
            allowed = ALLOWED * count + chance if seeds >= statistics.LEAST_PAIRS else 0
            if found[name] > allowed:
                told.append(f"{name}: {found[name]} of {count} {kind} at {seeds} seeds")
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if something was found too often."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ablations", type=int, default=1000, help="null order ablations per number of seeds")
    parser.add_argument("--methods", type=int, default=300, help="null studies of methods per number of seeds")
    parser.add_argument("--seeds", type=int, action="append", help="may be repeated; 2, 3 and 5 if left out")
    parser.add_argument("--items", type=int, action="append", help="of the test set; may be repeated")
    parser.add_argument("--quick", action="store_true", help="twelve of each: shows the table, its figures mean little")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts there as well")
    options = parser.parse_args(arguments)
    items, seeds = options.items or ITEMS, options.seeds or [2, 3, 5]
    kinds: tuple[tuple[str, Sequence[str], int, Callable[..., Counter[str]]], ...] = (
        ("null order ablations", ABLATION, options.ablations, ablations),
        ("null studies of methods", METHODS, options.methods, comparisons),
    )
    blocks: list[Block] = []
    for kind, names, asked, simulate in kinds:
        count = min(asked, 12) if options.quick else asked
        if count > 0:
            blocks.append((kind, names, count, {n: simulate(count, n, items) for n in seeds}))
    print(table(blocks))
    told = broken(blocks)
    if not options.quick:
        held = "At most 5 % per claim, families but for chance, and nothing below three seeds."
        print("\n".join(["Found too often:", *told]) if told else held)
    if options.json is not None:
        plain = [{"what": k, "studies": c, "found": {str(n): dict(f) for n, f in by.items()}} for k, _, c, by in blocks]
        options.json.write_text(json.dumps({"items": list(items), "quick": options.quick, "blocks": plain}, indent=1))
    return 1 if told and not options.quick else 0


if __name__ == "__main__":
    sys.exit(main())

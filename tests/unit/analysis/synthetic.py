"""Runs made of thin air, with planted effects, for the tests of the analysis."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.records import write_record

ORDERS = ("1", "2", "3", "C")
TERM = {"1": "point", "2": "pair", "3": "angle", "C": "center"}
EFFECT = {"1": 0.006, "2": 0.010, "3": 0.012, "C": 0.012}
ITEMS = 360


def order_sets() -> list[str]:
    sets = itertools.chain.from_iterable(itertools.combinations(ORDERS, k) for k in range(len(ORDERS) + 1))
    return ["+".join(orders) or "none" for orders in sets]


def accuracy(orders: str, noise: float) -> float:
    """Main effects, a negative interaction of 2 and C, and the seed's noise."""
    on = set(orders.split("+"))
    return 0.84 + sum(EFFECT[o] for o in ORDERS if o in on) - 0.006 * ({"2", "C"} <= on) + noise


def history(orders: str, final: float, epochs: int) -> list[dict[str, Any]]:
    rows = []
    for epoch in range(1, epochs + 1):
        done = epoch / epochs
        values = {
            "train/cross_entropy": 2.3 * (1 - 0.8 * done),
            "validation/top1": final * (0.4 + 0.6 * done),
        }
        for order in ORDERS:
            if order in orders:
                values[f"train/{TERM[order]}"] = 0.5 - 0.3 * done
                values[f"train/{TERM[order]}_weighted"] = 0.02 * (0.5 - 0.3 * done)
        rows += [{"epoch": epoch, "name": name, "value": value} for name, value in values.items()]
    return rows


def ablation(
    folder: Path,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    orders: Sequence[str] | None = None,
    resolutions: Sequence[int] = (),
    missing: Sequence[tuple[str, int]] = (),
    failed: Sequence[tuple[str, int]] = (),
    score: Callable[[str, float], float] = accuracy,
    spread: float = 0.004,
    epochs: int = 6,
    teacher_of: Callable[[str, int], str] = lambda orders, seed: f"teacher{seed}",
    **changes: Any,
) -> Path:
    """Write an order ablation's run folder; `changes` replace entries of run.json."""
    sets = list(order_sets() if orders is None else orders)
    generator = np.random.default_rng(7)
    shared = {seed: float(generator.normal(0, 0.01)) for seed in seeds}
    cells, trials, teachers = [], [], set()
    for resolution in resolutions or (0,):
        for name in sets:
            parameters: dict[str, Any] = {"orders": name} | ({"resolution": resolution} if resolution else {})
            cell = f"{name}@{resolution}" if resolution else name
            label = f"{name}, {resolution} px" if resolution else name
            cells.append({"id": cell, "parameters": parameters, "label": label})
            for seed in seeds:
                top1 = score(name, shared[seed] + float(generator.normal(0, spread)))
                teacher = teacher_of(name, seed)
                stages = {"teacher": teacher, "student": f"s-{cell}-{seed}", "evaluation": f"e-{cell}-{seed}"}
                trials.append({"cell": cell, "seed": seed, "stages": stages})
                if teacher not in teachers:
                    teachers.add(teacher)
                    write(
                        folder,
                        "teacher",
                        teacher,
                        seed=None,
                        cells=[cell],
                        validation_top1=0.93,
                        seconds=40.0,
                    )
                if (name, seed) in missing:
                    continue
                ours = {"cells": [cell], "seed": seed, "orders": name, "teacher": teacher}
                if (name, seed) in failed:
                    error = {"error": "loss is nan at /home/ada/x/train.py", "error_type": "NonFiniteError"}
                    write(
                        folder,
                        "student",
                        stages["student"],
                        status="failed",
                        log="logs/a.log",
                        **error,
                        **ours,
                    )
                    continue
                rows = history(name, top1, epochs)
                write(folder, "student", stages["student"], validation_top1=top1, history=rows, **ours)
                count = {"top1": top1, "items": ITEMS, "validation_top1": top1 + 0.002}
                write(
                    folder, "evaluation", stages["evaluation"], seconds=0.4, cpu_seconds=0.3, **ours, **count
                )
    axes: dict[str, Any] = {"orders": sets} | ({"resolution": list(resolutions)} if resolutions else {})
    run = base_run() | {"cells": cells, "seeds": list(seeds), "axes": axes, "trials": trials}
    run["baseline"] = cells[0]["id"] if sets and sets[0] == "none" else None
    save(folder, run | changes)
    return folder


def weight_search(folder: Path, *, count: int = 24, seeds: Sequence[int] = (0, 1, 2), **changes: Any) -> Path:
    """A sampled study over three weights; every third cell is pruned by its first seed's student."""
    generator = np.random.default_rng(3)
    cells, trials = [], []
    for index in range(count):
        alpha, beta, gamma = (float(10 ** generator.uniform(-3, 0)) for _ in range(3))
        if index == 0:
            alpha, beta, gamma = 0.02, 0.01, 1.0
        weights = {"horkd.alpha": alpha, "horkd.beta": beta, "horkd.gamma": gamma}
        cell = f"c{index}"
        cells.append({"id": cell, "parameters": weights, "label": f"draw {index}"})
        good = 0.9 - 0.02 * (np.log10(alpha) + 1.5) ** 2 - 0.01 * (np.log10(gamma) + 0.5) ** 2
        for seed in seeds:
            key = f"{cell}-{seed}"
            stages = {"teacher": f"t{seed}", "student": f"s{key}", "evaluation": f"e{key}"}
            trials.append({"cell": cell, "seed": seed, "stages": stages})
            write(folder, "teacher", f"t{seed}", cells=[cell], validation_top1=0.95)
            value = good + float(generator.normal(0, 0.003))
            ours = {"cells": [cell], "seed": seed, "teacher": f"t{seed}"}
            if index % 3 == 2:
                if seed == seeds[0]:
                    rows = history("1+2", value - 0.1, 3)
                    write(folder, "student", f"s{key}", status="pruned", history=rows, **ours)
                continue
            write(
                folder, "student", f"s{key}", validation_top1=value, history=history("1+2", value, 6), **ours
            )
            write(
                folder, "evaluation", f"e{key}", top1=value - 0.01, validation_top1=value, items=ITEMS, **ours
            )
    changes = {
        "study": "horkd_weights",
        "factors": None,
        "sampled": True,
        "baseline": "c0",
        "title": "Weights",
    } | changes
    save(folder, base_run() | {"cells": cells, "seeds": list(seeds), "trials": trials, "axes": {}} | changes)
    return folder


def base_run() -> dict[str, Any]:
    data = {
        "name": "digits",
        "fingerprint": "0123456789abcdef",
        "classes": 10,
        "channels": 1,
        "height": 8,
        "width": 8,
    }
    return {
        "schema": 1,
        "run": "horkd_order_ablation-7f3a",
        "study": "horkd_order_ablation",
        "title": "Order ablation",
        "paper": "HORKD, Fig. 4",
        "question": "Which relation orders help?",
        "preset": "demo",
        "data": data | {"train_images": 1437, "test_images": ITEMS},
        "parameters": {"epochs": 6, "learning_rate": 0.05},
        "factors": list(ORDERS),
        "metric": "top1",
        "sampled": False,
        "commands": [
            {
                "command": "python -m sweeps run horkd_order_ablation --out /home/ada/runs",
                "date": "2026-11-20",
            }
        ],
        "revision": "abc1234",
        "versions": {"python": "3.11", "torch": "2.15", "host": "nodeadaseven"},
        "claims": [],
        "started": "2026-11-20T10:00:00",
    }


def write(folder: Path, stage: str, key: str, **columns: Any) -> None:
    row: dict[str, Any] = {"run": "r", "study": "s", "stage": stage, "key": key, "status": "completed"}
    row |= {
        "seconds": 12.0,
        "cpu_seconds": 11.0,
        "device": "cpu",
        "host": "nodeadaseven",
        "numerics": "torch 2.15 avx2",
    }
    row |= {"data": "0123456789abcdef", "data_name": "digits"}
    write_record(folder / "records" / f"{stage}-{key}.parquet".replace("+", "_"), row | columns)


def save(folder: Path, run: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run))

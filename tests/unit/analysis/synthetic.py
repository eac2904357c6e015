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
                write(folder, "evaluation", stages["evaluation"], seconds=0.4, cpu_seconds=0.3, **ours, **count)
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
            write(folder, "student", f"s{key}", validation_top1=value, history=history("1+2", value, 6), **ours)
            write(folder, "evaluation", f"e{key}", top1=value - 0.01, validation_top1=value, items=ITEMS, **ours)
    changes = {
        "study": "horkd_weights",
        "factors": None,
        "sampled": True,
        "baseline": "c0",
        "title": "Weights",
    } | changes
    save(folder, base_run() | {"cells": cells, "seeds": list(seeds), "trials": trials, "axes": {}} | changes)
    return folder


DIRECT, ASSISTANT, PLAIN = {"route": "direct"}, {"route": "assistant"}, {"route": "plain", "student.method": "none"}
ARMS = {
    "teacher": {"title": "teacher", "kind": "teacher", "parameters": {"route": "teacher"}},
    "ce": {"title": "labels alone", "kind": "plain", "parameters": PLAIN},
    "ce_long": {
        "title": "labels alone, equal compute",
        "kind": "equal_compute",
        "compute_of": "horkd",
        "parameters": PLAIN,
    },
    "kd": {"title": "KD", "kind": "method", "parameters": DIRECT | {"student.method": "kd"}},
    "at": {"title": "AT", "kind": "method", "parameters": DIRECT | {"student.method": "at"}},
    "horkd_direct": {"title": "HORKD, direct", "kind": "ours", "parameters": DIRECT | {"student.method": "horkd"}},
    "horkd": {"title": "HORKD", "kind": "ours", "parameters": ASSISTANT | {"student.method": "horkd"}},
    "pixels": {"title": "raw pixels, nearest neighbour", "kind": "floor", "parameters": {"route": "untrained"}},
}
GAIN = {"teacher": 0.1, "ce": 0.0, "ce_long": 0.02, "kd": 0.03, "at": -0.01, "horkd_direct": 0.04, "horkd": 0.06}
ALONE = ("teacher", "pixels")  # Arms that the axes mean nothing to: one cell.
METHOD_CLAIMS = (
    "assistant_helps",
    "accuracy_falls_with_resolution",
    "little_above_a_quarter",
    "ours_beats_baselines",
    "student_above_teacher",
    "init_helps",
    "distillation_survives_equal_compute",
)


def method_score(arm: str, side: int, noise: float) -> float:
    """A planted score: what the arm adds, and three points lost for each halving from 32 pixels."""
    if arm == "pixels":
        return 0.3
    if arm == "teacher":
        return 0.8 + noise
    return 0.7 + GAIN.get(arm, 0.0) - 0.03 * float(np.log2(32 / side)) + noise


def methods(
    folder: Path,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    arms: Sequence[str] = tuple(ARMS),
    sides: Sequence[int] = (32, 16, 8),
    tests: Sequence[int | None] = (None,),
    tunings: int = 0,
    architectures: Sequence[str] = (),
    missing: Sequence[tuple[str, int]] = (),
    failed: Sequence[tuple[str, int]] = (),
    score: Callable[[str, int, float], float] = method_score,
    spread: float = 0.004,
    numbers: Mapping[str, float] | None = None,
    task: str = "classification",
    metric: str = "top1",
    **changes: Any,
) -> Path:
    """Write the run folder of a study that compares methods, as the planner lays it out."""
    generator = np.random.default_rng(11)
    shared = {seed: float(generator.normal(0, 0.01)) for seed in seeds}
    axes: dict[str, Any] = {"arm": list(arms), "student.resolution": list(sides)}
    axes |= {"student.architecture": list(architectures)} if architectures else {}
    axes |= {"test_resolution": list(tests)} if tests != (None,) else {}
    axes |= {"tuning": list(range(tunings))} if tunings else {}
    cells: dict[str, dict[str, Any]] = {}
    trials = []
    for values in itertools.product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        arm = point["arm"]
        if arm in ALONE:
            point = {name: value for name, value in point.items() if name in ("arm", "test_resolution")}
        cell = "-".join(str(value) for value in point.values())
        if cell in cells:
            continue
        cells[cell] = {"id": cell, "parameters": point, "label": ", ".join(map(str, point.values()))}
        side = point.get("student.resolution", 32)
        seen = point.get("test_resolution")
        for seed in seeds:
            noise = shared[seed] + float(generator.normal(0, spread))
            value = score(arm, side, noise) - 0.002 * abs(point.get("tuning", 1) - 1)
            value -= 0.0 if seen is None or seen >= side else 0.05 * float(np.log2(side / seen))
            value += 0.03 * (point.get("student.architecture") == "resnet18")
            teacher = None if arm in ("ce", "ce_long", "pixels") else f"teacher{seed}"
            own = "pixels" if arm == "pixels" else f"{cell}-{seed}"
            role = {"teacher": "teacher", "pixels": "untrained"}.get(arm, "student")
            network = teacher if arm == "teacher" else f"n-{own}"
            stages = {} if teacher is None or arm == "teacher" else {"teacher": teacher}
            stages |= {role: network, "evaluation": f"e-{own}" + (f"-{seen}" if arm == "pixels" else "")}
            trials.append({"cell": cell, "seed": seed, "stages": stages})
            about = {"cells": [cell], "seed": None if arm == "pixels" else seed}
            macs = int(1e6 * (side / 32) ** 2 * (4 if point.get("student.architecture") == "resnet18" else 1))
            size = {"parameters_count": 300_000 if point.get("student.architecture") == "resnet18" else 80_000}
            size |= {"macs": macs} if arm not in ("pixels",) else {"parameters_count": 0, "macs": 0}
            epochs = {"pixels": 0, "ce_long": 12}.get(arm, 6)
            if teacher is not None:
                write(folder, "teacher", teacher, validation_score=0.82, seconds=40.0, epochs=6, **about)
            if (arm, seed) in missing:
                continue
            trained = about | {"teacher": teacher, "epochs": epochs, "task": task} | size
            if (arm, seed) in failed:
                why = {"error": "out of memory", "error_type": "RuntimeError"}
                write(folder, role, network, status="failed", **why, **trained)
                continue
            if arm != "teacher":
                logged = {f"validation/{metric}": value, "train/cross_entropy": 1.0}
                logged |= {"train/kd": 0.2, "train/kd_weighted": 0.4}
                rows = [
                    {"epoch": epoch, "name": name, "value": x * (0.4 + 0.1 * epoch)}
                    for epoch in range(1, epochs + 1)
                    for name, x in logged.items()
                ]
                write(folder, role, network, validation_score=value, history=rows, **trained)
            told = {"metric": metric, "score": value, metric: value, "chance": 0.1, "top5": min(1.0, value + 0.15)}
            told |= dict(numbers or {})
            spec = {"resolution": None if side == 32 else side, "test_resolution": seen}
            write(
                folder,
                "evaluation",
                stages["evaluation"],
                parents=[network],
                parameters=json.dumps(spec),
                score=value,
                metric=metric,
                metrics=json.dumps(told, sort_keys=True),
                validation_score=None if arm == "pixels" else value + 0.003,
                items=ITEMS,
                seconds=0.4,
                cpu_seconds=0.3,
                **(trained | {"epochs": 0}),
            )
    run = base_run() | {
        "study": "horkd_classification",
        "title": "HORKD beside other methods",
        "paper": "HORKD",
        "question": "Which method of distillation is best?",
        "report": "methods",
        "task": task,
        "metric": metric,
        "factors": None,
        "arms": {name: ARMS.get(name, {"title": name, "kind": "method"}) for name in arms},
        "axes": axes,
        "reference": "ce",
        "tuned": "tuning" if tunings else None,
        "published": [],
        "claims": list(METHOD_CLAIMS),
        "objectives": None,
        "cells": list(cells.values()),
        "trials": trials,
        "seeds": list(seeds),
    }
    run["data"] = run["data"] | {"height": 32, "width": 32}
    save(folder, run | changes)
    return folder


def pareto_search(folder: Path, *, seeds: Sequence[int] = (0, 1), failed: Sequence[str] = (), **changes: Any) -> Path:
    """A sampled study of two objectives over networks and sides: larger is better, and dearer."""
    generator = np.random.default_rng(5)
    cells, trials = [], []
    drawn = itertools.product(("resnet_thin", "resnet18"), (32, 24, 16, 12, 8))
    for index, (architecture, side) in enumerate(drawn):
        cell = f"c{index}"
        point = {"student.architecture": architecture, "student.resolution": side}
        cells.append({"id": cell, "parameters": point, "label": f"{architecture}, {side}"})
        big = architecture == "resnet18"
        macs = int(1e6 * (side / 32) ** 2 * (9 if big else 1))
        for seed in seeds:
            key = f"{cell}-{seed}"
            stages = {"student": f"s{key}", "evaluation": f"e{key}"}
            trials.append({"cell": cell, "seed": seed, "stages": stages})
            ours = {"cells": [cell], "seed": seed, "macs": macs, "parameters_count": 300_000 if big else 80_000}
            value = 0.7 + 0.02 * big + 0.03 * float(np.log2(side / 8)) + float(generator.normal(0, 0.001))
            if cell in failed:
                write(folder, "student", stages["student"], status="failed", error="x", error_type="E", **ours)
                continue
            write(folder, "student", stages["student"], validation_score=value, history=history("1", value, 4), **ours)
            write(
                folder,
                "evaluation",
                stages["evaluation"],
                parents=[stages["student"]],
                parameters=json.dumps({"resolution": side}),
                score=value - 0.01,
                validation_score=value,
                items=ITEMS,
                **ours,
            )
    run = base_run() | {"study": "horkd_loss_weights", "factors": None, "sampled": True, "baseline": None}
    run |= {"objectives": ["score", "macs"], "report": "weight_search", "cells": cells, "trials": trials, "axes": {}}
    save(folder, run | {"seeds": list(seeds)} | changes)
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

"""Keys, ids of cells and of runs: of every study and preset on data sets that are only described."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import search_spaces
from search_spaces.study import OWN, DataFacts
from sweeps.planning.cells import Cell, Pinned
from sweeps.planning.identity import run_id
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Planner
from sweeps.planning.resolve import resolve

DATA, TESTED = "5d41402abc4b2a76", "0123456789abcdef"
DRAWS = 4
STUDIES = [*search_spaces.names(), "_engine_check"]
PLANS = [(name, preset) for name in STUDIES for preset in search_spaces.load(name).preset_names]
FACTS = {
    "photos": DataFacts(
        name="photos",
        side=96,
        channels=3,
        classes=20,
        train_images=4000,
        test_images=1000,
        trained_images=3600,
        trained_classes=20,
        stored=240,
    ),
    "small": DataFacts(
        name="small",
        side=28,
        channels=1,
        classes=6,
        train_images=300,
        test_images=60,
        trained_images=150,
        trained_classes=3,
    ),
}
# Words of the command line over a preset: title -> (study, preset, settings, more of `resolve`).
ASKED: dict[str, tuple[str, str, Sequence[str], dict[str, Any]]] = {
    "nothing shared": ("horkd_order_ablation", "tiny", (), {"share": False}),
    "other seeds": ("horkd_order_ablation", "demo", (), {"seeds": "3,100-102"}),
    "kept outputs": ("horkd_order_ablation", "demo", ("teacher_outputs=cached", "augment=crop"), {"seeds": 2}),
    "kept epochs": ("horkd_classification", "tiny", ("teacher_outputs=cached_epochs", "epochs=11"), {}),
    "more axes": ("horkd_order_ablation", "tiny", ("alpha=1,2", "assistant.learning_rate=0.1"), {}),
    "methods": ("horkd_order_ablation", "tiny", ("method=kd+crd,rkd,none", "crd.negatives=9"), {}),
    "some arms": ("horkd_classification", "demo", ("arm=ce,kd,horkd", "epochs=7"), {}),
    "one draw fixed": ("horkd_loss_weights", "demo", ("alpha=3",), {"trials": 5}),
    "elsewhere": ("horkd_face_verification", "demo", (), {"elsewhere": True}),
    "another network": ("horkd_order_ablation", "demo", ("assistant.architecture=torchvision:resnet18",), {}),
}


class Drawn:
    """Stands in for an Optuna trial: what it draws follows from the number of the trial and the name alone."""

    def __init__(self, number: int) -> None:
        self.number = number

    def _share(self, name: str) -> float:
        return int(hashlib.sha256(f"{self.number}/{name}".encode()).hexdigest()[:8], 16) / 2**32

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False, step: float | None = None) -> Any:
        value = low * (high / low) ** self._share(name) if log else low + (high - low) * self._share(name)
        return float(f"{value:.6g}")

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False, step: int = 1) -> int:
        return low + step * int((high - low) / step * self._share(name))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[int(len(choices) * self._share(name))]


def planned(study: str, preset: str, facts: DataFacts, settings: Sequence[str] = (), **more: Any) -> Plan:
    """A study with every word answered, as a run has it when its data are known."""
    found = search_spaces.load(study)
    fitted = found.own(facts) if preset == OWN and found.own is not None else None
    chosen = fitted or found.presets[preset]
    elsewhere = more.pop("elsewhere", False) or bool(chosen.test_data)
    resolved = resolve(found, preset=preset, settings=settings, elsewhere=elsewhere, fitted=fitted, **more)
    side = chosen.data_size or (32 if chosen.data.startswith("cifar") else 8 if fitted is None else facts.side)
    return Plan(resolved, {"fingerprint": DATA, "height": side}, TESTED if elsewhere else "")


def cells_of(plan: Plan) -> Iterator[Cell]:
    """The cells of a grid; of a space what the probe draws, and a few draws."""
    resolved = plan.resolved
    yield from plan.examples()
    if resolved.space is not None:
        for number in range(DRAWS):
            yield plan.cell(resolved.space(Pinned(Drawn(number), resolved.pinned)), number)


def described(plan: Plan, digest: Callable[[Any], str]) -> dict[str, Any]:
    """Ids and keys of a plan: how many, and what they amount to, for each kind of stage."""
    planner = Planner(plan)
    cells = list(cells_of(plan))
    kinds: dict[str, set[str]] = {}
    roles: dict[str, list[str]] = {}
    trials = []
    for cell in cells:
        for seed in plan.resolved.seeds:
            keys = planner.keys(cell, seed)
            trials.append(f"{cell.id} {seed} {sorted(keys.items())}")
            for node in planner.stages(cell, seed, keys):
                kinds.setdefault(node.spec.kind, set()).add(node.key)
                roles.setdefault(node.role, []).append(f"{node.key} {sorted(node.parents.items())}")
    every = set().union(*kinds.values())
    return {
        "run": run_id(planner),
        "cells": f"{len(cells)}, in order {digest([cell.id for cell in cells])}",
        "points": digest([sorted(cell.point.items()) for cell in cells]),
        "drawn": {cell.id: dict(cell.point) for cell in cells if cell.number >= 0},
        "seeds": plan.resolved.seeds,
        "keys": f"{len(every)}, sorted {digest(sorted(every))}",
        "kinds": {kind: f"{len(keys)}, sorted {digest(sorted(keys))}" for kind, keys in sorted(kinds.items())},
        "roles and parents": {role: f"{len(rows)}, {digest(sorted(rows))}" for role, rows in sorted(roles.items())},
        "trials": f"{len(trials)}, in order {digest(trials)}",
    }


@pytest.mark.parametrize(("study", "preset"), PLANS)
def test_the_plan_of_a_preset(study: str, preset: str, pin: Any, digest: Any) -> None:
    for facts in FACTS.values() if preset == OWN else [FACTS["photos"]]:
        part = f"{study} {preset}" + (f" on {facts.name}" if preset == OWN else "")
        pin("plans", part, described(planned(study, preset, facts), digest))


@pytest.mark.parametrize("title", ASKED)
def test_the_plan_of_a_command_with_words_of_its_own(title: str, pin: Any, digest: Any) -> None:
    study, preset, settings, more = ASKED[title]
    pin("plans_asked", title, described(planned(study, preset, FACTS["photos"], settings, **more), digest))


def test_no_plan_is_missing(pin: Any) -> None:
    expected = {f"{study} {preset}" for study, preset in PLANS if preset != OWN}
    expected |= {f"{study} {preset} on {facts}" for study, preset in PLANS if preset == OWN for facts in FACTS}
    pin.only("plans", expected)
    pin.only("plans_asked", set(ASKED))

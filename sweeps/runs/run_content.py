"""What run.json says of a run: what was asked, its cells and trials, and those of earlier commands."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from search_spaces.study import ARM, TUNING, Arm, Study
from sweeps.planning import identity
from sweeps.planning.cells import Cell, sampled_names
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Trial
from sweeps.runs import part_words, plugin_files, provenance, run_file, whereabouts
from sweeps.runs.datasets import tested_data
from sweeps.runs.folder import RUN_SCHEMA, RunFolder, Say, now
from sweeps.runs.prepare import Prepared
from system import writable_files
from trainables.spec import task_of
from trainables.spec.registry import Origin
from trainables.store.artifacts import Store
from trainables.store.files import make_folder, write_atomically


def plugins_of(ready: Prepared) -> list[Origin]:
    """The plug-ins that a run needs: of its study, its data and its stages."""
    request, preset = ready.request, ready.resolved.preset
    data = [request.data or preset.data, tested_data(request, preset)]
    return plugin_files.used(ready.study.name, data, identity.plugins(ready.planner))


def content_before(run: RunFolder, say: Say) -> dict[str, Any]:
    """What run.json says before it is written anew; a damaged one is kept beside, and what is whole in it used."""
    if moved := writable_files.make_way(run.path / run_file.NAME):
        say(f"What lay in the place of run.json of {run.id} was none; it is kept as {moved.name}. It is written anew.")
    content, harm = run_file.salvaged(run.path)
    if harm:
        copy = writable_files.keep_damaged(run.path / run_file.NAME)
        say(f"run.json of {run.id} was damaged: {harm}. It is written anew; as it was it is kept as {copy.name}.")
    return content


def cell_row(cell: Cell, baseline: str | None) -> dict[str, Any]:
    """A cell in run.json."""
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in cell.point.items()}
    return {"id": cell.id, "parameters": plain, "label": cell.label, "baseline": baseline}


def merge_trials(
    content: dict[str, Any],
    before: dict[str, Any],
    trials: list[Trial],
    cells: list[Cell],
    plan: Plan,
) -> None:
    """Cells and trials of this request, and the seeds of earlier ones: what was asked once stays in the answer."""
    baselines = {cell.id: plan.baseline(cell) for cell in cells}
    content["cells"] = [
        cell_row(cell, b.id if (b := baselines[cell.id]) is not None and b.id != cell.id else None) for cell in cells
    ]
    reference = next((b.id for b in baselines.values() if b is not None), None)
    content["baseline"] = reference
    asked = {(trial.cell, trial.seed) for trial in trials}
    known = {cell.id for cell in cells}
    earlier = [
        trial
        for trial in before.get("trials", ())
        if (trial["cell"], trial["seed"]) not in asked and trial["cell"] in known
    ]
    content["trials"] = earlier + [vars(trial) for trial in trials]
    content["seeds"] = sorted({trial["seed"] for trial in content["trials"]})


def describe(ready: Prepared, run: RunFolder, before: dict[str, Any], revision: str) -> dict[str, Any]:
    """run.json, but for cells and trials."""
    request, study, resolved = ready.request, ready.study, ready.resolved
    commands = list(before.get("commands", ()))
    command = request.command(whereabouts.place_words(run.path.parent, ready.store.root))
    if not commands or commands[-1]["command"] != command:
        commands.append({"command": command, "date": now()})
    axes = {name: [list(v) if isinstance(v, tuple) else v for v in values] for name, values in resolved.axes.items()}
    parameters = {k: list(v) if isinstance(v, tuple) else v for k, v in resolved.parameters.items()}
    used = plugins_of(ready)
    of_plugins = plugin_files.rows(used, before)
    return {
        "schema": RUN_SCHEMA,
        "run": run.id,
        "study": study.name,
        "title": study.title,
        "paper": study.paper,
        "figure": study.figure,
        "question": study.question,
        "preset": resolved.preset_name,
        "preset_note": resolved.preset.note,
        "departures": list(resolved.preset.departures),
        "data": ready.data,
        "test_data": ready.test_data,
        "seeds": sorted(set(before.get("seeds", ())) | set(resolved.seeds)) if study.sampled else resolved.seeds,
        "trials_asked": resolved.trials,
        "parameters": parameters,
        "axes": axes,
        "pinned": resolved.pinned,
        "ranges": sampled_names(resolved.space),
        "baseline": None,
        "factors": None if study.factor is None else list(study.factor.levels),
        **({} if study.factor is None else {"factor": _factor_words(study)}),
        "task": resolved.task,
        "metric": task_of(resolved.task).metric,
        "sampled": study.sampled,
        "objectives": list(resolved.objectives) if len(resolved.objectives) > 1 else None,
        "report": study.report,
        "arms": {name: arm_words(resolved.arms[name], resolved.arms) for name in resolved.axes.get(ARM, ())},
        **({"left_out": ready.plan.left_out} if ready.plan.left_out else {}),
        "reference": (study.baseline or {}).get(ARM),
        "tuned": TUNING if TUNING in resolved.axes else None,
        "published": [vars(number) for number in study.published],
        "claims": [claim.plain() for claim in study.claims],
        **({"ours": list(study.ours)} if study.ours else {}),
        **({"paper_data": list(study.paper_data)} if study.paper_data else {}),
        "roles": part_words.of_roles(study.recipe),
        "task_words": part_words.of_task(task_of(resolved.task)),
        "terms": part_words.of_terms(study.recipe, used),
        "cells": before.get("cells", []),
        "trials": before.get("trials", []),
        "commands": commands,
        "request": vars(request) | {"new": False},
        whereabouts.KEY: whereabouts.recorded(run.path, ready.store.root),
        **({"plugins": of_plugins} if of_plugins else {}),
        "revision": revision,
        "versions": provenance.versions(),
        "started": before.get("started") or now(),
    }


def _factor_words(study: Study) -> dict[str, Any]:
    """What run.json says of a factorial's factor, its parameter by the name that cells give it."""
    assert study.factor is not None
    return study.factor.plain() | {"parameter": study.recipe.canonical(study.factor.parameter)}


def arm_words(arm: Arm, arms: Mapping[str, Arm]) -> dict[str, Any]:
    """What run.json says of an arm; that whose compute it may spend need not be in the run itself."""
    return {
        "title": arm.title,
        "kind": arm.kind,
        "parameters": dict(arm.parameters),
        "tuning": [dict(trial) for trial in arm.tuning],
        "compute_of": arm.compute_of or None,
        "compute_parameters": dict(arms[arm.compute_of].parameters) if arm.compute_of else None,
    }


def register(store: Store, run: RunFolder, content: dict[str, Any]) -> None:
    """Tell the store which keys a run rests on, so that garbage collection leaves them."""
    folder = store.root / ".runs"
    make_folder(folder)
    keys = sorted({key for trial in content["trials"] for key in trial["stages"].values()})
    data = [part["fingerprint"] for part in (content["data"], content.get("test_data")) if part]
    name = hashlib.sha256(str(run.path).encode()).hexdigest()[:12]
    write_atomically(
        folder / f"{run.id}-{name}.json",
        json.dumps({"path": str(run.path), "keys": keys, "data": data[0], "more_data": data[1:]}),
        sync=False,
    )

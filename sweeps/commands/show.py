"""What `show` and `--dry-run` say of a plan: cells, stages, cost, disk, detectable gain."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import click

from sweeps.commands.output import answer


def show(
    ready: Any, place: Any, cells: bool, as_json: bool, more: dict[str, Any] | None = None, *, measure: bool = False
) -> None:
    """Print a plan.

    Args:
        ready: What was prepared.
        place: Where it would run.
        cells: Whether every cell is listed.
        as_json: Whether one object is printed.
        more: Added to that object.
        measure: Whether frozen networks are timed here.
    """
    from sweeps.planning import families, forecast, plan
    from sweeps.planning.remarks import without_reference
    from sweeps.runs.execute import find_gpus
    from trainables import cores

    resolved, survey, study = ready.resolved, ready.survey, ready.study
    slots = ready.request.jobs or cores.available()
    gpus = find_gpus()
    planner = plan.Planner(resolved, ready.data["fingerprint"])
    tests = families.sizes(resolved, planner)
    alone = plan.detectable_gain(len(resolved.seeds), study.sd_of_difference)
    after_holm = plan.detectable_gain(len(resolved.seeds), study.sd_of_difference, max(tests, default=1))
    adjusted = plan.detectable_of_many(len(resolved.seeds), study.sd_of_difference, max(tests, default=1))
    defaults = {
        name: field.default
        for name, (_, field) in study.recipe.parameters.items()
        if name.split(".")[0] not in study.recipe.roles
    }
    outputs = ready.outputs(measure=measure)
    command = ready.request.command(place)
    remark = without_reference(resolved)
    content = {
        "study": study.name,
        "preset": resolved.preset_name,
        "question": study.question,
        "data": ready.data,
        "cells": resolved.cell_count,
        "seeds": resolved.seeds,
        "axes": {k: list(v) for k, v in resolved.axes.items()},
        "left_out": resolved.left_out,
        "remarks": [remark] if remark else [],
        "ranges": plan.sampled_names(resolved.space),
        "pinned": resolved.pinned,
        "parameters": {
            k: {"value": v, "from": resolved.sources.get(k, "study")} for k, v in resolved.parameters.items()
        },
        "defaults": {
            k: v for k, v in defaults.items() if k not in resolved.parameters and not dataclasses.is_dataclass(v)
        },
        "stages": {
            "asked": survey.asked,
            "distinct": dict(survey.distinct),
            "present": dict(survey.present),
            "missing": survey.missing,
        },
        "core_hours": survey.seconds / 3600,
        "gpu_hours": survey.gpu_seconds / 3600,
        "megabytes": (survey.bytes + ready.packed_bytes) / 1e6,
        "artifact_megabytes": survey.bytes / 1e6,
        "packed_megabytes": ready.packed_bytes / 1e6,
        "packing_megabytes": 2 * ready.unpacked_bytes / 1e6,
        "teacher_outputs": [dataclasses.asdict(found) | {"hits": found.hits} for found in outputs],
        "detectable_gain": alone,
        "detectable_gain_after_holm": after_holm,
        "detectable_gain_after_dunnett": adjusted,
        "holm_tests": tests,
        "run": resolved.run_id(ready.data["fingerprint"]) if ready.info is not None else None,
        "command": command,
        "missing_data": ready.missing_data or None,
        **(more or {}),
    }

    def text() -> None:
        click.echo(f"{study.name} · {resolved.preset_name}: {study.question}")
        click.echo(f"  paper      {study.paper}, {study.figure}")
        if resolved.preset.note:
            click.echo(f"  preset     {resolved.preset.note}")
        for departure in resolved.preset.departures:
            click.echo(f"  departs    {departure}")
        state = "packed" if ready.info is not None else "not packed yet"
        if ready.missing_data:
            state = "NOT FOUND, counts are guesses"
        click.echo(
            f"  data       {ready.data['name']}, {ready.data['height']}x{ready.data['width']}, "
            f"{ready.data['train_images']:,} training and {ready.data['test_images']:,} test images ({state})"
        )
        if resolved.test_fingerprint:
            tested = ready.request.test_data or resolved.preset.test_data
            click.echo(f"  tested     {tested}, all of it; no image of it is trained on")
        for name, values in resolved.axes.items():
            shown = ", ".join(str(v) for v in values[:20]) + (f", ... {len(values)} values" if len(values) > 20 else "")
            click.echo(f"  axis       {name}: {shown}")
        for arm, why in resolved.left_out.items():
            click.echo(f"  left out   {arm} ({why})")
        for name, limits in plan.sampled_names(resolved.space).items():
            pinned = resolved.pinned.get(name)
            click.echo(f"  drawn      {name}: {limits if pinned is None else f'fixed to {pinned:g}'}")
        click.echo(f"  cells      {resolved.cell_count:,} x {len(resolved.seeds)} seeds ({_seeds(resolved.seeds)})")
        if study.baseline:
            there = "" if not remark else "; not in this plan, so that nothing is compared with it"
            click.echo("  baseline   " + ", ".join(f"{k}={v}" for k, v in study.baseline.items()) + there)
        click.echo(
            f"  stages     {survey.asked:,} asked, {sum(survey.distinct.values()):,} distinct: {survey.sentence()}"
        )
        click.echo("  set        " + " ".join(f"{k}={v}" for k, v in resolved.parameters.items()))
        click.echo(f"  cost       {_cost(survey, slots, gpus)}")
        click.echo(f"  disk       {_disk(ready)}")
        for found in outputs:
            click.echo(f"  outputs    {found.way}: {found.sentence}")
        if outputs and (advised := forecast.best(outputs).way) not in survey.ways:
            chosen = ", ".join(sorted(survey.ways))
            click.echo(f"             chosen: {chosen}; least work: --set teacher_outputs={advised}")
        click.echo(f"  detects    {_detects(resolved, alone, adjusted, tests)}")
        if cells and not study.sampled:
            for cell in resolved.cells():
                click.echo(f"  cell       {cell.id}  {cell.label}")
        if ready.missing_data:
            click.echo(f"Before it can run: {ready.missing_data}")
        else:
            click.echo(f"Next: {command}")

    answer(content, as_json, text)


def _cost(survey: Any, slots: int, gpus: int) -> str:
    """What the missing stages take."""
    from sweeps.planning import rough

    if not survey.missing:
        return "nothing: all stages are in the store"
    how = f"{survey.known:,} of {survey.missing:,} stages timed on finished ones" if survey.known else rough.FACTOR
    where = f"{slots} core{'s' if slots != 1 else ''}"
    here = f"{gpus} GPUs here" if gpus else f"or {rough.hours(survey.gpu_seconds, 'GPU')}"
    spent = rough.hours(survey.seconds, "core")
    return f"about {spent} ({how}); about {rough.lasting(survey.seconds / slots)} on {where}, {here}"


def _disk(ready: Any) -> str:
    """What the artifacts and the packed data take."""
    from sweeps.planning import rough

    packed, artifacts = ready.packed_bytes, ready.survey.bytes
    words = f"about {rough.size(artifacts + packed)}: {rough.size(artifacts)} of artifacts"
    words += f", {rough.size(packed)} of packed data"
    if ready.unpacked_bytes > 100e6:
        words += f"; {rough.size(artifacts + packed + ready.unpacked_bytes)} while they are packed"
    return words


def _detects(resolved: Any, alone: float | None, adjusted: float | None, tests: Sequence[int]) -> str:
    """Which gains the study can show."""
    if resolved.study.sampled:
        return "nothing is tested: drawn cells are ranked on validation"
    if not tests:
        return "nothing: no cell is compared with a reference"
    if alone is None or adjusted is None:
        return "nothing: below three seeds nothing is judged; use --seeds 5"
    most = max(tests)
    family = f"{most} test{'s' if most != 1 else ''}"
    if len(tests) > 1:
        family += " in each setting" if len(set(tests)) == 1 else " in the largest setting"
    spread = 100 * resolved.study.sd_of_difference
    return (
        f"gains of {100 * alone:.1f} points (80 % power, {len(resolved.seeds)} pairs, SD of difference {spread:.1f} "
        f"guessed); {100 * adjusted:.1f} after Dunnett over {family}"
    )


def _seeds(seeds: Sequence[int]) -> str:
    if list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds[:10])) + (" ..." if len(seeds) > 10 else "")

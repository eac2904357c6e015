"""What `show` and `--dry-run` say of a plan: cells, stages, cost, disk, detectable gain."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import click

from sweeps.cli_parts import answer


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
    from sweeps import forecast, plan
    from sweeps.conduct import find_gpus
    from sweeps.progress import duration
    from trainables import cores

    resolved, survey, study = ready.resolved, ready.survey, ready.study
    slots = ready.request.jobs or cores.available()
    gpus = find_gpus()
    tests = max(1, resolved.cell_count - 1)
    alone = plan.detectable_gain(len(resolved.seeds), study.sd_of_difference)
    adjusted = plan.detectable_gain(len(resolved.seeds), study.sd_of_difference, tests)
    defaults = {
        name: field.default
        for name, (_, field) in study.recipe.parameters.items()
        if name.split(".")[0] not in study.recipe.roles
    }
    outputs = ready.outputs(measure=measure)
    command = ready.request.command(place)
    content = {
        "study": study.name,
        "preset": resolved.preset_name,
        "question": study.question,
        "data": ready.data,
        "cells": resolved.cell_count,
        "seeds": resolved.seeds,
        "axes": {k: list(v) for k, v in resolved.axes.items()},
        "left_out": resolved.left_out,
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
        "megabytes": survey.bytes / 1e6,
        "teacher_outputs": [dataclasses.asdict(found) | {"hits": found.hits} for found in outputs],
        "detectable_gain": alone,
        "detectable_gain_after_holm": adjusted,
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
            click.echo("  baseline   " + ", ".join(f"{k}={v}" for k, v in study.baseline.items()))
        click.echo(
            f"  stages     {survey.asked:,} asked, {sum(survey.distinct.values()):,} distinct: {survey.sentence()}"
        )
        click.echo("  set        " + " ".join(f"{k}={v}" for k, v in resolved.parameters.items()))
        known = f", {survey.known} of {survey.missing} from finished ones" if survey.known else ", a rough estimate"
        click.echo(
            f"  cost       {survey.seconds / 3600:,.2f} core hours{known}; about {duration(survey.seconds / slots)} on "
            f"{slots} cores" + (f" ({gpus} GPUs here)" if gpus else f", or {survey.gpu_seconds / 3600:,.2f} GPU hours")
        )
        click.echo(f"  disk       about {survey.bytes / 1e6:,.0f} MB")
        for found in outputs:
            click.echo(f"  outputs    {found.way}: {found.sentence}")
        if outputs and (advised := forecast.best(outputs).way) not in survey.ways:
            chosen = ", ".join(sorted(survey.ways))
            click.echo(f"             chosen: {chosen}; least work: --set teacher_outputs={advised}")
        if alone is not None and adjusted is not None:
            click.echo(
                f"  detects    gains of {100 * alone:.1f} points (80 % power, {len(resolved.seeds)} pairs, SD of difference "
                f"{100 * study.sd_of_difference:.1f} guessed); {100 * adjusted:.1f} after Holm over {tests}"
            )
        else:
            click.echo("  detects    nothing: one seed gives no interval; use --seeds 5")
        if cells and not study.sampled:
            for cell in resolved.cells():
                click.echo(f"  cell       {cell.id}  {cell.label}")
        if ready.missing_data:
            click.echo(f"Before it can run: {ready.missing_data}")
        else:
            click.echo(f"Next: {command}")

    answer(content, as_json, text)


def _seeds(seeds: Sequence[int]) -> str:
    if list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds[:10])) + (" ..." if len(seeds) > 10 else "")

"""What `show` and `--dry-run` say of a plan: cells, stages, cost, disk, detectable gain."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from sweeps.commands.output import answer
from sweeps.planning import families, forecast, power, rough
from sweeps.planning.cells import sampled_names
from sweeps.planning.remarks import without_reference
from sweeps.planning.resolve import Resolved
from sweeps.planning.survey import Survey
from sweeps.runs import whereabouts
from sweeps.runs.folder import Place
from sweeps.runs.machine import find_gpus
from sweeps.runs.prepare import Prepared
from trainables import cores
from trainables.spec.parameter import Parameter


@dataclass(frozen=True)
class Detectable:
    """Which gains a plan can show; None below three seeds."""

    tests: Sequence[int]  # Number of tests of each setting.
    alone: float | None
    after_holm: float | None
    after_dunnett: float | None

    @classmethod
    def of(cls, ready: Prepared) -> Detectable:
        """Those of a plan."""
        tests = families.sizes(ready.planner)
        pairs, spread = len(ready.resolved.seeds), ready.study.sd_of_difference
        most = max(tests, default=1)
        return cls(
            tests,
            power.detectable_gain(pairs, spread),
            power.detectable_gain(pairs, spread, most),
            power.detectable_of_many(pairs, spread, most),
        )


def say_plan(
    ready: Prepared,
    place: Place,
    *,
    cells: bool = False,
    as_json: bool = False,
    more: Mapping[str, Any] | None = None,
    measure: bool = False,
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
    gains = Detectable.of(ready)
    outputs = ready.outputs(measure=measure)
    command = ready.request.command(whereabouts.place_words(place.runs, place.store))
    content = _what(ready) | _cost_and_gain(ready, outputs, gains)
    content["run"] = ready.run_id if ready.info is not None else None
    content |= {"command": command, "missing_data": ready.missing_data or None, **(more or {})}

    def text() -> None:
        _say_question(ready)
        _say_cells(ready)
        _say_cost(ready, outputs)
        click.echo(f"  detects    {_detects(ready.resolved, gains)}")
        if cells and not ready.study.sampled:
            for cell in ready.plan.cells():
                click.echo(f"  cell       {cell.id}  {cell.label}")
        if ready.missing_data:
            click.echo(f"Before it can run: {ready.missing_data}")
        else:
            click.echo(f"Next: {command}")

    answer(content, as_json, text)


def _what(ready: Prepared) -> dict[str, Any]:
    """Of the object: study, data, cells and parameters."""
    study, resolved = ready.study, ready.resolved
    remark = without_reference(resolved)
    defaults = {
        name: declared.default
        for name, (_, declared) in study.recipe.parameters.items()
        if not Parameter.parse(name, study.recipe.roles).role
    }
    return {
        "study": study.name,
        "preset": resolved.preset_name,
        "question": study.question,
        "data": ready.data,
        "cells": resolved.cell_count,
        "seeds": resolved.seeds,
        "axes": {k: list(v) for k, v in resolved.axes.items()},
        "left_out": ready.plan.left_out,
        "remarks": [remark] if remark else [],
        "ranges": sampled_names(resolved.space),
        "pinned": resolved.pinned,
        "parameters": {
            k: {"value": v, "from": resolved.sources.get(k, "study")} for k, v in resolved.parameters.items()
        },
        "defaults": {
            k: v for k, v in defaults.items() if k not in resolved.parameters and not dataclasses.is_dataclass(v)
        },
    }


def _cost_and_gain(ready: Prepared, outputs: Sequence[forecast.Forecast], gains: Detectable) -> dict[str, Any]:
    """Of the object: stages, what they cost and what they can show."""
    survey = ready.survey
    return {
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
        "teacher_outputs": [dataclasses.asdict(way) | {"hits": way.hits} for way in outputs],
        "detectable_gain": gains.alone,
        "detectable_gain_after_holm": gains.after_holm,
        "detectable_gain_after_dunnett": gains.after_dunnett,
        "holm_tests": gains.tests,
    }


def _say_question(ready: Prepared) -> None:
    study, resolved = ready.study, ready.resolved
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
    if ready.plan.test_fingerprint:
        tested = ready.request.test_data or resolved.preset.test_data
        click.echo(f"  tested     {tested}, all of it; no image of it is trained on")


def _say_cells(ready: Prepared) -> None:
    study, resolved = ready.study, ready.resolved
    for name, values in resolved.axes.items():
        shown = ", ".join(str(v) for v in values[:20]) + (f", ... {len(values)} values" if len(values) > 20 else "")
        click.echo(f"  axis       {name}: {shown}")
    for arm, why in ready.plan.left_out.items():
        click.echo(f"  left out   {arm} ({why})")
    for name, limits in sampled_names(resolved.space).items():
        pinned = resolved.pinned.get(name)
        click.echo(f"  drawn      {name}: {limits if pinned is None else f'fixed to {pinned:g}'}")
    click.echo(f"  cells      {resolved.cell_count:,} x {len(resolved.seeds)} seeds ({_seeds(resolved.seeds)})")
    if study.baseline:
        missing = "; not in this plan, so that nothing is compared with it" if without_reference(resolved) else ""
        click.echo("  baseline   " + ", ".join(f"{k}={v}" for k, v in study.baseline.items()) + missing)


def _say_cost(ready: Prepared, outputs: Sequence[forecast.Forecast]) -> None:
    survey = ready.survey
    click.echo(f"  stages     {survey.asked:,} asked, {sum(survey.distinct.values()):,} distinct: {survey.sentence()}")
    click.echo("  set        " + " ".join(f"{k}={v}" for k, v in ready.resolved.parameters.items()))
    click.echo(f"  cost       {_cost(survey, ready.request.jobs or cores.available(), find_gpus())}")
    click.echo(f"  disk       {_disk(ready)}")
    for way in outputs:
        click.echo(f"  outputs    {way.way}: {way.sentence}")
    if outputs and (advised := forecast.best(list(outputs)).way) not in survey.ways:
        chosen = ", ".join(sorted(survey.ways))
        click.echo(f"             chosen: {chosen}; least work: --set teacher_outputs={advised}")


def _cost(survey: Survey, slots: int, gpus: int) -> str:
    """What the missing stages take."""
    if not survey.missing:
        return "nothing: all stages are in the store"
    how = f"{survey.known:,} of {survey.missing:,} stages timed on finished ones" if survey.known else rough.FACTOR
    where = f"{slots} core{'s' if slots != 1 else ''}"
    here = f"{gpus} GPUs here" if gpus else f"or {rough.hours(survey.gpu_seconds, 'GPU')}"
    spent = rough.hours(survey.seconds, "core")
    return f"about {spent} ({how}); about {rough.lasting(survey.seconds / slots)} on {where}, {here}"


def _disk(ready: Prepared) -> str:
    """What the artifacts and the packed data take."""
    packed, artifacts = ready.packed_bytes, ready.survey.bytes
    words = f"about {rough.size(artifacts + packed)}: {rough.size(artifacts)} of artifacts"
    words += f", {rough.size(packed)} of packed data"
    if ready.unpacked_bytes > 100e6:
        words += f"; {rough.size(artifacts + packed + ready.unpacked_bytes)} while they are packed"
    return words


def _detects(resolved: Resolved, gains: Detectable) -> str:
    """Which gains the study can show."""
    if resolved.study.sampled:
        return "nothing is tested: drawn cells are ranked on validation"
    if not gains.tests:
        return "nothing: no cell is compared with a reference"
    if gains.alone is None or gains.after_dunnett is None:
        return "nothing: below three seeds nothing is judged; use --seeds 5"
    most = max(gains.tests)
    family = f"{most} test{'s' if most != 1 else ''}"
    if len(gains.tests) > 1:
        family += " in each setting" if len(set(gains.tests)) == 1 else " in the largest setting"
    spread = 100 * resolved.study.sd_of_difference
    return (
        f"gains of {100 * gains.alone:.1f} points (80 % power, {len(resolved.seeds)} pairs, SD of difference "
        f"{spread:.1f} guessed); {100 * gains.after_dunnett:.1f} after Dunnett over {family}"
    )


def _seeds(seeds: Sequence[int]) -> str:
    if list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds[:10])) + (" ..." if len(seeds) > 10 else "")

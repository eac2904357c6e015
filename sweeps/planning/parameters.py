"""The parameters of a study as people look for them: a table of them all, and other names that are understood."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search_spaces.study import ARM, TUNING, Study
from sweeps.planning.cells import sampled_names
from sweeps.planning.parameter_words import ALIASES, FLAGS, TITLES, WORDS
from sweeps.planning.request import Setting
from sweeps.planning.resolve import Resolved, resolve
from trainables.errors import UsageError
from trainables.recipes import Recipe
from trainables.spec import options_of, registry
from trainables.spec.parameter import Parameter, field_of


def spelled_out(study: Study, settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Settings with the names of ours in place of others', and what was understood, a sentence each.

    Raises:
        UsageError: For what a flag says instead.
    """
    spelled, notes = [], []
    for text in settings:
        setting = Setting.parse(text)
        full = meant(study, setting.name)
        if full != setting.name:
            notes.append(f"--set {setting.name} is understood as {full}.")
            text = f"{full}{setting.rest}"
        spelled.append(text)
    return spelled, notes


def meant(study: Study, name: str) -> str:
    """The parameter that a name stands for; the name itself where it stands for none.

    Raises:
        UsageError: If a flag says it.
    """
    recipe = study.recipe
    if (study.arms and name in (ARM, TUNING)) or _is_one(recipe, name):
        return name
    plain = name.lower().replace("-", "_")
    if study.arms and plain in (ARM, TUNING, f"{ARM}s"):
        return plain.removesuffix("s")
    if plain in FLAGS:
        says, example = FLAGS[plain]
        raise UsageError(f"{says}, for example {example}.")
    last = field_of(plain)
    for path in (plain, f"{plain.removesuffix(last)}{ALIASES.get(last, last)}"):
        if _is_one(recipe, path):
            return path
    return name


def _is_one(recipe: Recipe, name: str) -> bool:
    return name in recipe.parameters or name in recipe.short_names


def described(study: Study, preset: str) -> dict[str, list[dict[str, Any]]]:
    """Group -> its parameters, each with type, limits, default under a preset, unit, stages and one line."""
    resolved = resolve(study, preset=preset)
    recipe = study.recipe
    every = [Parameter.parse(name, recipe.roles) for name in recipe.parameters]
    of_all = [parameter.path for parameter in every if not parameter.role]
    of_one = [parameter for parameter in every if parameter.role and parameter.path not in of_all]
    rows = [_row(resolved, parameter) for parameter in (*(p for p in every if not p.role), *of_one)]
    if study.arms:
        rows = [row for row in rows if row["name"] not in ("route", "method")]  # What arms decide.
        rows[:0] = _of_study(resolved)
    place = {group: number for number, group in enumerate(titles())}
    order = {path: number for number, path in enumerate(WORDS)}
    rows.sort(key=lambda row: (place.get(row["group"], len(place)), order.get(row["path"], len(order))))
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append({k: v for k, v in row.items() if k not in ("group", "path")})
    return groups


def _of_study(resolved: Resolved) -> Iterator[dict[str, Any]]:
    """The axes that only studies of arms have."""
    study = resolved.study
    most = max((len(arm.tuning) for arm in study.arms.values()), default=0)
    for name, options in ((ARM, list(study.arms)), (TUNING, list(range(most)))):
        group, unit, text = WORDS[name]
        if options:
            yield {
                "path": name,
                "group": group,
                "name": name,
                "type": "one of",
                "low": None,
                "high": None,
                "options": options,
                "default": None,
                "default_from": "study",
                "axis": _plain(resolved.axes.get(name)),
                "drawn": None,
                "stages": [],
                "only": {},
                "unit": unit,
                "description": text,
            }


def _row(resolved: Resolved, parameter: Parameter) -> dict[str, Any]:
    recipe, name, path = resolved.study.recipe, parameter.name, parameter.path
    kind, declared = recipe.parameters[name]
    group, unit, text = WORDS.get(path) or _of_loss(parameter, declared) or ("other", "", "")
    stages = [role for role in recipe.roles if parameter.of_stage(role).name in recipe.parameters]
    options = options_of(declared.metadata)
    of_stages = {stage: parameter.of_stage(stage).name for stage in stages} if not parameter.role else {}
    only = {stage: resolved.parameters[full] for stage, full in of_stages.items() if full in resolved.parameters}
    meant_by = {name, *(parameter.of_stage(role).name for role in recipe.roles)}
    axes = {full: values for full, values in resolved.axes.items() if full in meant_by}
    drawn = sampled_names(resolved.space)
    return {
        "path": path,
        "group": group,
        "name": name,
        "type": type_words(kind, options),
        "low": declared.metadata.get("low"),
        "high": declared.metadata.get("high"),
        "options": list(options) if options else None,
        "default": _plain(resolved.parameters.get(name, declared.default)),
        "default_from": resolved.sources.get(name, "spec"),
        "axis": _plain(next(iter(axes.values()), None)),
        "drawn": next((span for full, span in drawn.items() if full in meant_by), None),
        "stages": stages,
        "only": {stage: _plain(value) for stage, value in only.items()},
        "unit": unit,
        "description": text,
    }


def titles() -> dict[str, str]:
    """Group of parameters -> what lists call it, in their order; losses stand behind what belongs to all of them."""
    losses = {entry.name: entry.title for entry in registry.entries("loss") if entry.origin is None}
    found: dict[str, str] = {}
    for group, title in TITLES.items():
        found |= {group: title} | (losses if group == "distillation" else {})
    return found


def _of_loss(parameter: Parameter, declared: Any) -> tuple[str, str, str] | None:
    """Group, unit and words of an option of a loss."""
    entry = registry.find("loss", parameter.head)
    if entry is None:
        return None
    if entry.origin is not None:
        return "other", "", f"Of the loss in {entry.where}."
    return entry.name, declared.metadata.get("unit", ""), declared.metadata.get("text", "")


def type_words(kind: Any, options: Sequence[str] | None) -> str:
    """`whole number`, `number or none`, `true or false`, `one of`, `numbers`, `text`."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (inner,) = [part for part in typing.get_args(kind) if part is not type(None)]
        return f"{type_words(inner, options)} or none"
    if typing.get_origin(kind) is tuple:
        return f"{type_words(typing.get_args(kind)[0], None)}s"
    if kind is str:
        return "one of" if options else "text"
    return {bool: "true or false", int: "whole number", float: "number"}[kind]


def range_words(row: Mapping[str, Any]) -> str:
    """`0 to 1`, `at least 1`, `none, flip, crop`, or nothing."""
    if row["options"]:
        return ", ".join(map(str, row["options"]))
    low, high = row["low"], row["high"]
    if low is None and high is None:
        return ""
    if high is None:
        return f"at least {low:g}"
    return f"at most {high:,g}" if low is None else f"{low:g} to {high:.10g}"


def default_words(row: Mapping[str, Any]) -> str:
    """`30 (teacher 8)`, the axis that the study varies, or the range that it draws from."""
    if row["drawn"] is not None:
        return f"drawn: {row['drawn']}"
    if row["axis"] is not None:
        shown = [value_words(value) for value in row["axis"]]
        return f"varies: {', '.join(shown[:8])}{', ...' if len(shown) > 8 else ''}"
    only = ", ".join(f"{stage} {value_words(value)}" for stage, value in row["only"].items())
    return value_words(row["default"]) + (f" ({only})" if only else "")


def value_words(value: Any) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, (list, tuple)):
        return "/".join(map(value_words, value)) or "()"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or "-"


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value

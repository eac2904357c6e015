"""What run.json says of the names that a run's parts have, so that its report needs no table of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainables.recipes import Recipe
from trainables.recipes.step import Step, shown_role
from trainables.spec import OUTPUTS, registry
from trainables.spec.losses import term_titles
from trainables.spec.registry import Entry, Origin
from trainables.tasks.base import Task


def of_roles(recipe: Recipe) -> dict[str, Any]:
    """The stages of a recipe: in which order tables show them, which learn, which is the result, which the teacher.

    What reads nothing stands before what reads it; those that read nothing and are no result, as teachers and floors
    are, have no curves of their own.
    """
    shown = [step.role for step in sorted(recipe.steps, key=lambda step: _depth(step, recipe))]
    result = list(recipe.result) or shown[-2:-1]
    learners = [
        step.role
        for step in recipe.steps[:-1]
        if step.role != recipe.teacher and (step.parents or step.role in result[:1])
    ]
    first = next((step.role for step in recipe.steps if step.spec.learns), None)
    if first is not None:
        shown.insert(shown.index(first) + 1, shown_role(f"{OUTPUTS}-{first}-0"))
    return {"order": shown, "learners": learners, "result": result, "teacher": recipe.teacher}


def _depth(step: Step, recipe: Recipe) -> int:
    """How many stages lie behind one another up to it."""
    read = {role for roles in step.parents.values() for role in roles}
    return 1 + max((_depth(other, recipe) for other in recipe.steps if other.role in read), default=0)


def of_task(task: Task) -> dict[str, Any]:
    """What a task calls what it measures."""
    return {
        "unit": task.unit,
        "validation": [task.validation_metric],
        "known_classes": task.known_classes,
        "numbers": [number.plain() for number in task.numbers],
        "beside": task.beside or None,
    }


def of_terms(recipe: Recipe, used: Iterable[Origin]) -> dict[str, str]:
    """Term -> title of every loss that the stages of a recipe can have, built in or of a plug-in that the run uses."""
    groups = [*(["label_loss"] if any(step.spec.leaves_network for step in recipe.steps) else [])]
    groups += ["loss"] if any(step.spec.learns for step in recipe.steps) else []
    marks = {origin.mark for origin in used}
    built_in = [entry for entry in registry.entries() if entry.origin is None]
    plugins = [entry for entry in registry.plugins() if entry.source.mark in marks]
    entries: list[Entry] = [*built_in, *sorted(plugins, key=lambda entry: entry.name)]
    return {term: title for entry in entries if entry.group in groups for term, title in term_titles(entry).items()}

"""For tests and the benchmark of the engine: the same shape of graph, stages that only sleep."""

from __future__ import annotations

from trainables.recipes.recipe import Recipe, recipe_entry
from trainables.recipes.step import Step
from trainables.stages.sleep import SleepSpec

RANK = 2

SLEEP = Recipe(
    "sleep",
    (
        Step("teacher", SleepSpec),
        Step("student", SleepSpec, {"teacher": ("teacher",)}),
        Step("evaluation", SleepSpec, {"network": ("student",)}),
    ),
    result=("student",),
)

ENTRY = recipe_entry(SLEEP)

"""HORKD, cross-structure: a teacher, and the assistant that learns relations from it (HORKD, section 3.3)."""

from __future__ import annotations

from trainables.recipes.recipe import Recipe, recipe_entry
from trainables.recipes.step import Step
from trainables.stages.assistant import AssistantSpec
from trainables.stages.evaluation import READ_OF_NETWORK, EvaluationSpec
from trainables.stages.pretrained import PretrainedSpec
from trainables.stages.teacher import TeacherSpec

RANK = 0

HORKD_ASSISTANT = Recipe(
    "horkd",
    (
        Step("teacher", TeacherSpec, given=PretrainedSpec),
        Step("assistant", AssistantSpec, {"teacher": ("teacher",)}),
        Step("evaluation", EvaluationSpec, {"network": ("assistant",)}, {("assistant",): READ_OF_NETWORK}),
    ),
    result=("assistant",),
)

ENTRY = recipe_entry(HORKD_ASSISTANT)

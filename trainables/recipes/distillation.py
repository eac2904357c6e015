"""Every method from one teacher: through an assistant (HORKD) or directly (the baselines), labels alone, and floors."""

from __future__ import annotations

from trainables.recipes.recipe import Recipe, recipe_entry
from trainables.recipes.step import Step
from trainables.stages.assistant import AssistantSpec
from trainables.stages.evaluation import READ_OF_NETWORK, EvaluationSpec
from trainables.stages.pretrained import PretrainedSpec
from trainables.stages.student import StudentSpec
from trainables.stages.teacher import TeacherSpec
from trainables.stages.untrained import UntrainedSpec

RANK = 1

# assistant: teacher, assistant, student. direct: teacher, student. plain: the student on labels alone.
# cross_structure: teacher and assistant. teacher: the teacher alone. untrained: a network as drawn, or pixels.
ROUTES = ("assistant", "direct", "plain", "cross_structure", "teacher", "untrained")
NETWORKS = ("student", "assistant", "teacher", "untrained")

DISTILLATION = Recipe(
    "distillation",
    (
        Step(
            "teacher",
            TeacherSpec,
            routes=("assistant", "direct", "cross_structure", "teacher"),
            given=PretrainedSpec,
        ),
        Step("assistant", AssistantSpec, {"teacher": ("teacher",)}, routes=("assistant", "cross_structure")),
        Step("student", StudentSpec, {"guide": ("assistant", "teacher")}, routes=("assistant", "direct", "plain")),
        Step("untrained", UntrainedSpec, routes=("untrained",)),
        Step("evaluation", EvaluationSpec, {"network": NETWORKS}, {NETWORKS: READ_OF_NETWORK}),
    ),
    routes=ROUTES,
    result=NETWORKS,
)

ENTRY = recipe_entry(DISTILLATION)

"""Stages: one file each, a function of its spec and its parents' artifacts. Nothing heavy is imported here."""

# Stage kind -> "module:function"; resolved by `base` when a stage begins.
STAGES: dict[str, str] = {
    "teacher": "trainables.stages.teacher:run",
    "assistant": "trainables.stages.assistant:run",
    "student": "trainables.stages.student:run",
    "untrained": "trainables.stages.untrained:run",
    "pretrained": "trainables.stages.pretrained:run",
    "outputs": "trainables.stages.outputs:run",
    "evaluation": "trainables.stages.evaluation:run",
    "sleep": "trainables.stages.sleep:run",
}

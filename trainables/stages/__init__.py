"""Stages: one file each, a function of its spec and its parents' artifacts. Nothing heavy is imported here."""

from __future__ import annotations

from typing import Any

# Stage kind -> "module:function", resolved by `base` when a stage begins; of plug-ins, the function itself.
STAGES: dict[str, Any] = {
    "teacher": "trainables.stages.teacher:run",
    "assistant": "trainables.stages.assistant:run",
    "student": "trainables.stages.student:run",
    "untrained": "trainables.stages.untrained:run",
    "pretrained": "trainables.stages.pretrained:run",
    "outputs": "trainables.stages.outputs:run",
    "evaluation": "trainables.stages.evaluation:run",
    "sleep": "trainables.stages.sleep:run",
}

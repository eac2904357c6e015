"""Stages that only sleep: what the benchmark of the engine and its tests on a cluster run. Not shown in lists."""

from __future__ import annotations

from search_spaces.study import Preset, Study
from trainables.recipes.sleep import SLEEP

LABELS = tuple(f"s{number:02d}" for number in range(16))

STUDY = Study(
    name="_engine_check",
    title="What does the engine cost?",
    question="How much longer than its stages does a run take?",
    paper="none",
    figure="none",
    recipe=SLEEP,
    axes={"student.label": LABELS},
    presets={
        "demo": Preset(seeds=2, parameters={"epochs": 5, "seconds": 0.2, "evaluation.seconds": 0.0}),
        "tiny": Preset(
            seeds=2,
            parameters={"epochs": 3, "seconds": 0.1, "evaluation.seconds": 0.0},
            axes={"student.label": LABELS[:4]},
        ),
    },
)

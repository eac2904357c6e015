"""How much of each relation? TPE over the three weights of HORKD's Eq. 8, poor cells pruned early."""

from __future__ import annotations

from typing import Any

from search_spaces import ranges
from search_spaces.study import Preset, Study
from trainables.recipes import HORKD_ASSISTANT


def space(trial: Any) -> dict[str, Any]:
    """Weights of pairs, angles and centres, log-uniform."""
    return {
        "horkd.alpha": trial.suggest_float("horkd.alpha", *ranges.ALPHA, log=True),
        "horkd.beta": trial.suggest_float("horkd.beta", *ranges.BETA, log=True),
        "horkd.gamma": trial.suggest_float("horkd.gamma", *ranges.GAMMA, log=True),
    }


STUDY = Study(
    name="horkd_loss_weights",
    title="How much of each relation?",
    question="Which weights alpha (pairs), beta (angles) and gamma (centres) suit an assistant best?",
    paper="HORKD",
    figure="Eq. 8",
    recipe=HORKD_ASSISTANT,
    space=space,
    prune=True,
    report="weight_search",
    presets={
        "demo": Preset(
            seeds=2,
            trials=20,
            note="handwritten digits, 8x8, small networks",
            parameters={**ranges.DIGITS, "horkd.orders": "1+2+3+C"},
        ),
        "tiny": Preset(
            seeds=2,
            trials=3,
            parameters=ranges.TINY,
            note="three cells, two seeds, two epochs: shows that everything works, means nothing",
        ),
        "paper": Preset(
            seeds=3,
            trials=60,
            data="cifar100",
            parameters={
                "teacher.architecture": "resnet50",
                "assistant.architecture": "resnet18",
                "resolution": 32,
                "augment": "crop_flip",
                "epochs": 240,
                "batch_size": 64,
                "learning_rate": 0.05,
                "schedule": "steps",
            },
            note="ResNet-50 teacher and ResNet-18 assistant at 32x32, as in the paper's Sec. 4.1",
        ),
    },
)

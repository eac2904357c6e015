"""How much of each relation? TPE over the weights of HORKD's Eq. 8, poor cells pruned early; or a Pareto search."""

from __future__ import annotations

from typing import Any

from search_spaces import own_data, ranges
from search_spaces.study import Preset, Study
from trainables.recipes import DISTILLATION


def space(trial: Any) -> dict[str, Any]:
    """Weights of points, pairs, angles and centres, log-uniform."""
    return {
        "horkd.w_1st": trial.suggest_float("horkd.w_1st", *ranges.W_1ST, log=True),
        "horkd.alpha": trial.suggest_float("horkd.alpha", *ranges.ALPHA, log=True),
        "horkd.beta": trial.suggest_float("horkd.beta", *ranges.BETA, log=True),
        "horkd.gamma": trial.suggest_float("horkd.gamma", *ranges.GAMMA, log=True),
    }


def pareto_space(trial: Any) -> dict[str, Any]:
    """The weights, and the student's width and resolution."""
    return space(trial) | {
        "width": trial.suggest_float("width", 0.125, 1.0, log=True),
        "resolution": trial.suggest_categorical("resolution", (8, 6, 5, 4)),
    }


STUDY = Study(
    name="horkd_loss_weights",
    title="How much of each relation?",
    question="Which weights w_1st (points), alpha (pairs), beta (angles) and gamma (centres) suit an assistant best?",
    paper="HORKD",
    figure="Eq. 8",
    recipe=DISTILLATION,
    space=space,
    prune=True,
    own=own_data.maker(
        lambda chosen: None,
        most_side=32,
        seeds=2,
        trials=20,
        without=("horkd.w_1st", "horkd.alpha", "horkd.beta", "horkd.gamma", "horkd.reduction"),
        route="cross_structure",
        horkd__orders="1+2+3+C",
    ),
    report="weight_search",
    presets={
        "demo": Preset(
            seeds=2,
            trials=20,
            note="handwritten digits, 8x8, small networks",
            parameters={**ranges.DIGITS, "horkd.orders": "1+2+3+C", "route": "cross_structure"},
        ),
        "pareto": Preset(
            seeds=2,
            trials=24,
            space=pareto_space,
            objectives=("score", "macs"),
            note="digits; students by width and resolution, taught directly: accuracy against multiply-adds, nothing pruned",
            parameters={k: v for k, v in ranges.DIGITS_CHAIN.items() if k != "width"}
            | {"horkd.orders": "1+2+3+C", "route": "direct"},
        ),
        "tiny": Preset(
            seeds=2,
            trials=3,
            parameters={**ranges.TINY, "route": "cross_structure"},
            note="three cells, two seeds, two epochs: shows that everything works, means nothing",
        ),
        "paper": Preset(
            seeds=3,
            trials=60,
            data="cifar100",
            parameters={
                "teacher.architecture": "resnet50",
                "assistant.architecture": "resnet18",
                "route": "cross_structure",
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

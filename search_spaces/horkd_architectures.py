"""Which student for which budget? Networks by resolution: the Pareto front of accuracy against multiply-adds."""

from __future__ import annotations

from dataclasses import replace

from search_spaces import own_data, ranges
from search_spaces.arms import HORKD, pick
from search_spaces.claims import RESOLUTION, Claim, Falls
from search_spaces.study import Preset, Study
from trainables.recipes.distillation import DISTILLATION

_SHOWN = ("ce", "ce_equal_compute", "horkd")
_ARMS = pick("teacher", *_SHOWN, "pixels", "random")
_ARMS["teacher"] = replace(_ARMS["teacher"], ignores=("resolution", "width", "architecture"))
_ARMS["pixels"] = replace(_ARMS["pixels"], ignores=("width", "architecture"))  # They have no network.

STUDY = Study(
    name="horkd_architectures",
    title="Which student for which budget?",
    question="Which structures and resolutions of the student give most accuracy for their multiply-adds and parameters?",
    paper="HORKD",
    figure="Tab. 1, Tab. 2",
    recipe=DISTILLATION,
    report="methods",
    arms=_ARMS,
    ours=HORKD,
    # The assistant has the student's structure; the teacher's is pinned by the presets.
    axes={"arm": tuple(_ARMS), "width": (0.25, 0.5, 1.0), "resolution": (8, 6, 4)},
    baseline={"arm": "ce"},
    own=own_data.maker(
        lambda chosen: {
            "arm": tuple(_ARMS),
            "width": (chosen.width / 2, chosen.width, 2 * chosen.width),
            "resolution": chosen.students,
        },
        most_side=32,
        without=("width",),
    ),
    sd_of_difference=0.01,
    presets={
        "demo": Preset(
            seeds=3,
            note="handwritten digits, a small residual network in three widths at three resolutions",
            parameters={name: value for name, value in ranges.DIGITS_CHAIN.items() if name != "width"},
            arms=ranges.DIGITS_TUNED,
            departures=(ranges.WEIGHTS_OF_DIGITS,),
        ),
        "tiny": Preset(
            seeds=2,
            note="two widths, two resolutions, two epochs: shows that everything works, means nothing",
            axes={"arm": ("ce", "horkd"), "width": (0.125, 0.25), "resolution": (8, 4)},
            parameters={"teacher.width": 0.25} | {n: v for n, v in ranges.TINY_CHAIN.items() if n != "width"},
        ),
        "paper": Preset(
            seeds=3,
            data="cifar100",
            note="the paper's two structures of students and one smaller, at 32x32 and 16x16",
            axes={
                "arm": tuple(_ARMS),
                "architecture": ("resnet18", "vgg11", "resnet34_thin"),
                "width": (0.5, 1.0),
                "resolution": (32, 16),
            },
            parameters={"teacher.width": 1.0} | {n: v for n, v in ranges.CIFAR_PAPER.items() if n != "architecture"},
            departures=(ranges.ORDERED_TUPLES,),
        ),
    },
    claims=(
        Claim(
            "Accuracy falls with the student's resolution",
            "HORKD, Sec. 4.1",
            test=Falls(RESOLUTION),
            name="accuracy_falls_with_resolution",
        ),
    ),
)

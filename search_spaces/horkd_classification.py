"""How good is a half-resolution student? HORKD's Tab. 1: its students beside KD, FitNet, AT and RKD."""

from __future__ import annotations

from search_spaces import own_data, ranges
from search_spaces.arms import HORKD, pick
from search_spaces.claims import EQUAL_COMPUTE, OTHER_METHODS, OURS, RESOLUTION, AllBetter, Better, Claim, Falls
from search_spaces.study import Preset, Published, Study
from trainables.recipes.distillation import DISTILLATION

_CONTROLS = ("ce_equal_compute", "ce_equal_compute_direct")
_SHOWN = ("teacher", "ce", *_CONTROLS, "kd", "fitnet", "at", "rkd", "horkd", "horkd_cross", "horkd_vgg")
_FLOORS = ("pixels", "random")
_ORDERS = ("l1", "l2", "l3", "lc", "horkd_direct")
_METHODS = ("ce", "kd", "fitnet", "at", "rkd", "horkd_direct", "horkd")


def _paper(method: str, arm: str, resolution: int | None) -> Published:
    return Published(table="Tab. 1", method=method, dataset="CIFAR-100", arm=arm, resolution=resolution)


STUDY = Study(
    name="horkd_classification",
    title="How good is a half-resolution student?",
    question="Does a student at half the resolution, taught through an assistant, keep up with distillation at full size?",
    paper="HORKD",
    figure="Tab. 1",
    recipe=DISTILLATION,
    report="methods",
    arms=pick(*_SHOWN, "horkd_cross_vgg", *_FLOORS, *_ORDERS, "pkt", "sp", "darkrank", "mkd", "crd"),
    ours=HORKD,
    axes={"arm": (*_SHOWN, *_FLOORS), "resolution": (8, 4)},
    baseline={"arm": "ce"},
    own=own_data.of_methods(*own_data.METHODS),
    sd_of_difference=0.01,
    presets={
        "demo": Preset(
            seeds=5,
            note="handwritten digits, 8x8 and 4x4, small networks; a stand-in for CIFAR-100",
            parameters=ranges.DIGITS_CHAIN,
            arms={
                **ranges.DIGITS_TUNED,
                "horkd_vgg": {"assistant.width": 0.12, "student.width": 0.12, "student.distillation": 0.3},
            },
            departures=(ranges.WEIGHTS_OF_DIGITS,),
        ),
        "small": Preset(
            seeds=3,
            data="cifar100",
            note="CIFAR-100 for two cores and an hour: VGG-11 of a quarter of the width, 16x16 students, few epochs",
            axes={
                "arm": (
                    "teacher",
                    "ce",
                    "ce_equal_compute_direct",
                    "kd",
                    "l1",
                    "l2",
                    "l3",
                    "lc",
                    "horkd_direct",
                    *_FLOORS,
                ),
                "resolution": (16,),
            },
            parameters=ranges.CIFAR_SMALL,
            # A tenth of cross-entropy is for hundreds of epochs under a strong teacher; in ten it holds KD back.
            arms={"kd": {"student.cross_entropy": 1.0}},
            departures=(ranges.WEIGHTS_FROM_DIGITS,),
        ),
        "tuning": Preset(
            seeds=3,
            note="each method by its overall weight, labels alone by the learning rate, five trials each; the best is "
            "chosen on validation. What it found for the digits is the demo's",
            axes={"arm": _METHODS, "resolution": (4,), "tuning": (0, 1, 2, 3, 4)},
            parameters=ranges.DIGITS_CHAIN,
            departures=(ranges.WEIGHTS_OF_DIGITS,),
        ),
        "tiny": Preset(
            seeds=2,
            note="four arms, two seeds, two epochs: shows that everything works, means nothing",
            axes={"arm": ("ce", "kd", "horkd", "pixels"), "resolution": (4,)},
            parameters=ranges.TINY_CHAIN,
        ),
        "paper": Preset(
            seeds=3,
            data="cifar100",
            note="ResNet-50 teacher, ResNet-18 and VGG-11 students at 32x32 and 16x16, as in Sec. 4.1; the networks of the "
            "paper's baselines are not stated",
            axes={"arm": (*_SHOWN, "horkd_cross_vgg", *_FLOORS), "resolution": (32, 16)},
            parameters=ranges.CIFAR_PAPER,
            departures=(ranges.ORDERED_TUPLES,),
        ),
    },
    published=(
        _paper("Teacher", "teacher", None),
        _paper("FitNet", "fitnet", 32),
        _paper("Attention", "at", 32),
        _paper("RKD", "rkd", 32),
        _paper("KD", "kd", 32),
        _paper("OUR-32-R", "horkd_cross", 32),
        _paper("OUR-16-R", "horkd", 16),
        _paper("OUR-32-V", "horkd_cross_vgg", 32),
        _paper("OUR-16-V", "horkd_vgg", 16),
    ),
    claims=(
        Claim(
            "HORKD is better than KD, FitNet, AT and RKD",
            "HORKD, Tab. 1",
            test=AllBetter(OURS, than=(OTHER_METHODS,)),
            name="ours_beats_baselines",
        ),
        Claim(
            "Accuracy falls with the student's resolution",
            "HORKD, Sec. 4.1",
            test=Falls(RESOLUTION),
            name="accuracy_falls_with_resolution",
        ),
        Claim(
            "Distillation gains more than the same compute spent on labels",
            "ours; no paper",
            test=Better(OURS, than=EQUAL_COMPUTE),
            name="distillation_survives_equal_compute",
        ),
    ),
)

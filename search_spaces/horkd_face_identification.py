"""Who is it, at low resolution? HORKD's Tab. 3: a frozen student, and a new softmax layer over known people."""

from __future__ import annotations

from search_spaces import own_data, ranges
from search_spaces.arms import HORKD, pick
from search_spaces.claims import OTHER_METHODS, OURS, RESOLUTION, AllBetter, Better, Claim, Falls
from search_spaces.study import Preset, Published, Study
from trainables.recipes.distillation import DISTILLATION

_SHOWN = ("teacher", "ce", "ce_equal_compute", "ce_equal_compute_direct", "kd", "rkd", "horkd_direct", "horkd")
_FLOORS = ("pixels", "random")

# What five trials of each arm found on validation (`--preset tuning --seeds 100-102`), which two digits make noisy.
_TUNED = {
    "ce": {"student.learning_rate": 0.05},
    "ce_equal_compute": {"student.learning_rate": 0.05},
    "ce_equal_compute_direct": {"student.learning_rate": 0.05},
    "kd": {"student.distillation": 1.0},
    "rkd": {"student.distillation": 0.3},
    "horkd": {"student.distillation": 3.0},
    "horkd_direct": {"student.distillation": 0.3},
}

STUDY = Study(
    name="horkd_face_identification",
    title="Who is it, at low resolution?",
    question="How often does a frozen low-resolution student recognise people it was never trained on?",
    paper="HORKD",
    figure="Tab. 3",
    recipe=DISTILLATION,
    report="methods",
    task="identification",
    arms=pick(*_SHOWN, *_FLOORS),
    ours=HORKD,
    axes={"arm": (*_SHOWN, *_FLOORS), "resolution": (8, 4)},
    baseline={"arm": "ce"},
    own=own_data.of_methods(*own_data.METHODS),
    sd_of_difference=0.02,
    presets={
        "demo": Preset(
            seeds=5,
            note="handwritten digits: four of the ten are the people to be recognised, none of them trained on, one known "
            "image each",
            parameters={**ranges.DIGITS_DISJOINT, "evaluation.gallery": 1},
            arms=_TUNED,
            departures=(ranges.WEIGHTS_OF_DIGITS,),
        ),
        "small": Preset(
            seeds=3,
            data="orl",
            data_size=64,
            note="ORL for two cores: 18 people to train on, 2 that select, 20 to be recognised from one known image each",
            axes={"arm": ("teacher", "ce", "ce_equal_compute", "horkd", *_FLOORS), "resolution": (32, 16, 8)},
            parameters=ranges.ORL_SMALL,
            departures=(ranges.WEIGHTS_FROM_DIGITS,),
        ),
        "tuning": Preset(
            seeds=3,
            note="each method by its overall weight, labels alone by the learning rate, five trials each, chosen on validation",
            axes={"arm": ("ce", "kd", "rkd", "horkd_direct", "horkd"), "resolution": (4,), "tuning": (0, 1, 2, 3, 4)},
            parameters={**ranges.DIGITS_DISJOINT, "evaluation.gallery": 1},
            departures=(ranges.WEIGHTS_OF_DIGITS,),
        ),
        "tiny": Preset(
            seeds=2,
            note="three arms, two seeds, two epochs: shows that everything works, means nothing",
            axes={"arm": ("ce", "horkd", "pixels"), "resolution": (4,)},
            parameters={**ranges.TINY_CHAIN, "held_out": 0.4, "evaluation.gallery": 1},
        ),
        "paper": Preset(
            seeds=3,
            data="umdfaces",
            test_data="uccs",
            data_size=224,
            note="trained on UMDFaces; 180 people of UCCS are to be recognised, 80 % of each one's images known: ResNet-50 "
            "teacher at 224, thin ResNet-34 students at 16x16; the paper's teacher is VGGFace2's, here it is trained as well",
            axes={"arm": (*_SHOWN, *_FLOORS), "resolution": (16,)},
            parameters={**ranges.FACES_PAPER, "subjects": 180},
            departures=(ranges.ORDERED_TUPLES, ranges.OWN_TEACHER),
        ),
    },
    published=(Published(table="Tab. 3", method="Our-16-R", dataset="UCCS", arm="horkd", resolution=16),),
    claims=(
        Claim(
            "Accuracy falls with the student's resolution",
            "HORKD, Sec. 4.1 says it of CIFAR-100",
            test=Falls(RESOLUTION),
            name="accuracy_falls_with_resolution",
        ),
        Claim(
            "The assistant helps",
            "HORKD, Sec. 4.4",
            test=Better("horkd", than="horkd_direct"),
            name="assistant_helps",
        ),
        Claim(
            "HORKD is better than the other methods",
            "HORKD, Tab. 3",
            test=AllBetter(OURS, than=(OTHER_METHODS,)),
            name="ours_beats_baselines",
        ),
    ),
)

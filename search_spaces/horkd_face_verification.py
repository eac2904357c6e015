"""Are two low-resolution faces one person? HORKD's Tab. 2, on people never trained on."""

from __future__ import annotations

from search_spaces import own_data, ranges
from search_spaces.arms import HORKD, pick
from search_spaces.claims import EQUAL_COMPUTE, OTHER_METHODS, OURS, RESOLUTION, AllBetter, Better, Claim, Falls
from search_spaces.study import Preset, Published, Study
from trainables.recipes.distillation import DISTILLATION

_SHOWN = ("teacher", "ce", "ce_equal_compute", "ce_equal_compute_direct", "kd", "rkd", "horkd_direct", "horkd")
_FLOORS = ("pixels", "random")
_ORDERS = ("l1", "l2", "l3", "lc")

# What five trials of each arm found on validation (`--preset tuning --seeds 100-102`), which two digits make noisy.
_TUNED = {
    "ce": {"student.learning_rate": 0.2},
    "ce_equal_compute": {"student.learning_rate": 0.2},
    "ce_equal_compute_direct": {"student.learning_rate": 0.2},
    "kd": {"student.distillation": 1.0},
    "rkd": {"student.distillation": 1.0},
    "horkd": {"student.distillation": 0.01},
    "horkd_direct": {"student.distillation": 0.3},
}

STUDY = Study(
    name="horkd_face_verification",
    title="Are two low-resolution faces one person?",
    question="How far down in resolution can a distilled student tell whether two faces show one person?",
    paper="HORKD",
    figure="Tab. 2",
    recipe=DISTILLATION,
    report="methods",
    task="verification",
    arms=pick(*_SHOWN, *_FLOORS, *_ORDERS),
    ours=HORKD,
    axes={"arm": (*_SHOWN, *_FLOORS), "resolution": (8, 4)},
    baseline={"arm": "ce"},
    own=own_data.of_methods(*own_data.METHODS),
    sd_of_difference=0.02,
    presets={
        "demo": Preset(
            seeds=5,
            note="handwritten digits: four of the ten are never trained on, pairs of them are tested; a stand-in for faces",
            parameters=ranges.DIGITS_DISJOINT,
            arms=_TUNED,
            departures=(ranges.WEIGHTS_OF_DIGITS,),
        ),
        "small": Preset(
            seeds=3,
            data="lfw",
            data_size=64,
            note="LFW for two cores: tested on folds 1 to 3, trained on people of no pair in them, thin networks",
            axes={
                "arm": ("teacher", "ce", "ce_equal_compute_direct", "horkd_direct", *_FLOORS),
                "resolution": (32, 16, 8),
            },
            parameters=ranges.LFW_SMALL,
            # As on CIFAR-100: in so few epochs a tenth of cross-entropy holds KD back.
            arms={"kd": {"student.cross_entropy": 1.0}},
            departures=(ranges.WEIGHTS_FROM_DIGITS,),
        ),
        "tuning": Preset(
            seeds=3,
            note="each method by its overall weight, labels alone by the learning rate, five trials each, chosen on validation",
            axes={"arm": ("ce", "kd", "rkd", "horkd_direct", "horkd"), "resolution": (4,), "tuning": (0, 1, 2, 3, 4)},
            parameters=ranges.DIGITS_DISJOINT,
            departures=(ranges.WEIGHTS_OF_DIGITS,),
        ),
        "tiny": Preset(
            seeds=2,
            note="three arms, two seeds, two epochs: shows that everything works, means nothing",
            axes={"arm": ("ce", "horkd", "pixels"), "resolution": (4,)},
            parameters={**ranges.TINY_CHAIN, "held_out": 0.4},
        ),
        "paper": Preset(
            seeds=3,
            data="umdfaces",
            test_data="lfw",
            data_size=224,
            note="trained on UMDFaces, tested on the 6,000 pairs of LFW: ResNet-50 teacher at 224, thin ResNet-34 students at "
            "32x32 and 16x16; the paper's teacher is VGGFace2's, here it is trained as well",
            axes={"arm": (*_SHOWN, *_FLOORS), "resolution": (32, 16)},
            parameters=ranges.FACES_PAPER,
            departures=(ranges.ORDERED_TUPLES, ranges.OWN_TEACHER),
        ),
    },
    published=(
        Published(table="Tab. 2", method="OUR-32-R", dataset="LFW", arm="horkd", resolution=32),
        Published(table="Tab. 2", method="OUR-16-R", dataset="LFW", arm="horkd", resolution=16),
        Published(table="Tab. 2", method="VGGFace2", dataset="LFW", arm="teacher"),
    ),
    claims=(
        Claim(
            "Accuracy falls with the student's resolution",
            "HORKD, Tab. 2",
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
            "HORKD, Tab. 2",
            test=AllBetter(OURS, than=(OTHER_METHODS,)),
            name="ours_beats_baselines",
        ),
        Claim(
            "Distillation gains more than the same compute spent on labels",
            "ours; no paper",
            test=Better(OURS, than=EQUAL_COMPUTE),
            name="distillation_survives_equal_compute",
        ),
    ),
)

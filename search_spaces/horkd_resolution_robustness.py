"""How far down does it hold? Students by resolution and method, each also tested at every other resolution."""

from __future__ import annotations

from dataclasses import replace

from search_spaces import own_data, ranges
from search_spaces.arms import HORKD, pick
from search_spaces.claims import EQUAL_COMPUTE, OURS, RESOLUTION, Better, Claim, EquivalentWithin, Falls
from search_spaces.study import Preset, Study
from trainables.recipes.distillation import DISTILLATION

_CONTROLS = ("ce_equal_compute", "ce_equal_compute_direct")
_SHOWN = ("ce", *_CONTROLS, "kd", "horkd")

_FLOORS = ("pixels", "random")
_PAPER_SIDES = (256, 224, 160, 128, 96)
_ARMS = pick("teacher", *_SHOWN, "horkd_direct", *_FLOORS)
# The matrix is for the methods; floors and the control have their own resolution only.
for _name in (*_FLOORS, *_CONTROLS):
    _ARMS[_name] = replace(_ARMS[_name], ignores=(*_ARMS[_name].ignores, "test_resolution"))

STUDY = Study(
    name="horkd_resolution_robustness",
    title="How far down does it hold?",
    question="How does accuracy fall with the student's resolution, by method, and with images smaller than those trained on?",
    paper="HORKD",
    figure="Fig. 3",
    recipe=DISTILLATION,
    report="methods",
    arms=_ARMS,
    ours=HORKD,
    axes={"arm": (*_SHOWN, *_FLOORS), "resolution": (8, 6, 5, 4), "test_resolution": (None, 8, 6, 5, 4)},
    baseline={"arm": "ce"},
    own=own_data.maker(
        lambda chosen: {
            "arm": ("ce", "ce_equal_compute", "kd", "horkd", *_FLOORS),
            "resolution": chosen.students,
            "test_resolution": (None, *chosen.students),
        },
        arms={"kd": {"student.cross_entropy": 1.0}},
    ),
    sd_of_difference=0.01,
    presets={
        "demo": Preset(
            seeds=3,
            note="handwritten digits at 8 to 4 pixels, small networks",
            parameters=ranges.DIGITS_CHAIN,
            arms=ranges.DIGITS_TUNED,
            departures=(ranges.WEIGHTS_OF_DIGITS,),
        ),
        "tiny": Preset(
            seeds=2,
            note="two arms, two resolutions, two epochs: shows that everything works, means nothing",
            axes={"arm": ("ce", "horkd"), "resolution": (8, 4), "test_resolution": (None, 8, 4)},
            parameters=ranges.TINY_CHAIN,
        ),
        "paper": Preset(
            seeds=3,
            data="cub200",
            data_size=256,
            note="metric learning, as Fig. 3 shows it: ResNet-50 teacher at 256, ResNet-18 students at 256 to 96, from scratch; "
            "--data cars196 and --data sop are the paper's other two sets; its curves are in the figure only",
            axes={
                "arm": (*_SHOWN, *_FLOORS),
                "resolution": _PAPER_SIDES,
                "test_resolution": (None, *_PAPER_SIDES),
            },
            parameters={**ranges.METRIC_PAPER, "task": "retrieval"},
            departures=(ranges.ORDERED_TUPLES,),
        ),
    },
    claims=(
        Claim(
            "Accuracy falls with the student's resolution",
            "HORKD, Fig. 3",
            test=Falls(RESOLUTION),
            name="accuracy_falls_with_resolution",
        ),
        Claim(
            "Down to a quarter of the resolution little is lost",
            "HORKD, Sec. 4.3, of 128 and 96 pixels of 256",
            test=EquivalentWithin(0.01, OURS, down_to=1 / 4),
            name="little_above_a_quarter",
        ),
        Claim(
            "Distillation gains more than the same compute spent on labels",
            "ours; no paper",
            test=Better(OURS, than=EQUAL_COMPUTE),
            name="distillation_survives_equal_compute",
        ),
    ),
)

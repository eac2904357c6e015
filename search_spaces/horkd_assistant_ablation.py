"""Does the assistant help? HORKD's Fig. 3 and Sec. 4.4: teacher to student directly, or in two steps."""

from __future__ import annotations

from search_spaces import own_data, ranges
from search_spaces.arms import HORKD, pick
from search_spaces.claims import RESOLUTION, Better, Claim, Falls
from search_spaces.study import Preset, Study
from trainables.recipes.distillation import DISTILLATION

_SHOWN = ("ce", "ce_equal_compute", "ce_equal_compute_direct", "horkd_direct", "horkd", "horkd_init")

STUDY = Study(
    name="horkd_assistant_ablation",
    title="Does the assistant help?",
    question="Is a student better taught by an assistant in between than by the teacher directly, and at which resolutions?",
    paper="HORKD",
    figure="Fig. 3",
    recipe=DISTILLATION,
    report="methods",
    arms=pick("teacher", *_SHOWN, "pixels", "random"),
    ours=HORKD,
    axes={"arm": ("teacher", *_SHOWN, "pixels", "random"), "resolution": (8, 6, 4)},
    baseline={"arm": "ce"},
    own=own_data.of_methods(
        "teacher", "ce", "ce_equal_compute", "horkd_direct", "horkd", "horkd_init", "pixels", "random"
    ),
    sd_of_difference=0.01,
    presets={
        "demo": Preset(
            seeds=5,
            note="handwritten digits at 8, 6 and 4 pixels, small networks",
            parameters=ranges.DIGITS_CHAIN,
            arms=ranges.DIGITS_TUNED,
            departures=(ranges.WEIGHTS_OF_DIGITS,),
        ),
        "tiny": Preset(
            seeds=2,
            note="three arms, two seeds, two epochs: shows that everything works, means nothing",
            axes={"arm": ("ce", "horkd_direct", "horkd"), "resolution": (8, 4)},
            parameters=ranges.TINY_CHAIN,
        ),
        "paper": Preset(
            seeds=3,
            data="cub200",
            data_size=256,
            note="the paper names no data set for this ablation (metric learning); its curves are in the figure only",
            axes={"arm": ("teacher", *_SHOWN, "pixels", "random"), "resolution": (256, 160, 96)},
            parameters={**ranges.METRIC_PAPER, "task": "retrieval"},
            departures=(ranges.ORDERED_TUPLES,),
        ),
    },
    claims=(
        Claim(
            "The assistant helps (3.03 points in metric learning)",
            "HORKD, Sec. 4.4",
            test=Better("horkd", than="horkd_direct"),
            name="assistant_helps",
        ),
        Claim(
            "Beginning from the assistant's weights helps",
            "ours; not stated in the paper",
            test=Better("horkd_init", than="horkd"),
            name="init_helps",
        ),
        Claim(
            "Accuracy falls with the student's resolution",
            "HORKD, Fig. 3",
            test=Falls(RESOLUTION),
            name="accuracy_falls_with_resolution",
        ),
    ),
)

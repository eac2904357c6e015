"""Which relation orders help? HORKD's ablation (Fig. 4): points, pairs, angles and centres, on or off."""

from __future__ import annotations

from itertools import combinations

from search_spaces import own_data, ranges
from search_spaces.study import Claim, Preset, Study
from trainables.recipes import HORKD_ASSISTANT
from trainables.spec import ORDERS

# The empty set first: cross-entropy alone is the reference and makes the 15 subsets a complete 2^4 factorial.
ORDER_SETS = ("none", *("+".join(c) for size in range(1, 5) for c in combinations(ORDERS, size)))

STUDY = Study(
    name="horkd_order_ablation",
    title="Which relation orders help?",
    question="Which of the four relation orders (1 points, 2 pairs, 3 angles, C centres) help an assistant?",
    paper="HORKD",
    figure="Fig. 4",
    recipe=HORKD_ASSISTANT,
    axes={"horkd.orders": ORDER_SETS},
    baseline={"horkd.orders": "none"},
    factors=ORDERS,
    own=own_data.maker(lambda chosen: {"horkd.orders": ORDER_SETS}, most_side=32),
    sd_of_difference=0.008,  # Mean over four cells of the demo, seeds 100 to 104.
    presets={
        "demo": Preset(
            seeds=5,
            note="handwritten digits, 8x8, small networks; a stand-in for the paper's faces",
            parameters={
                **ranges.DIGITS,
                "horkd.w_1st": 1.0,
                "horkd.alpha": 12.5,
                "horkd.beta": 50.0,
                "horkd.gamma": 12.5,
            },
            departures=(
                "The orders' weights (1, 12.5, 50, 12.5) were chosen on digits, seeds 100 to 104: the comparison of orders holds "
                "for these weights.",
            ),
        ),
        "tiny": Preset(
            seeds=2,
            note="two cells, two seeds, two epochs: shows that everything works, means nothing",
            axes={"horkd.orders": ("none", "1+2+3+C")},
            parameters=ranges.TINY,
        ),
        "paper": Preset(
            seeds=5,
            data="umdfaces",
            test_data="uccs",
            data_size=32,
            note="trained on UMDFaces; 180 people of UCCS are to be recognised, all images at 32x32 as in Sec. 4.4: ResNet-50 "
            "teacher, thin ResNet-34 assistant; optimiser and epochs are not stated there and follow common practice",
            parameters={
                **ranges.FACES_PAPER,
                "task": "identification",
                "teacher.stem": "small",
                "teacher.resolution": 32,
                "assistant.resolution": 32,
                "subjects": 180,
            },
            departures=(ranges.ORDERED_TUPLES, ranges.OWN_TEACHER),
        ),
    },
    claims=(
        Claim(
            name="more_orders_help",
            text="Accuracy rises with the number of orders",
            source="HORKD, Sec. 4.4",
        ),
        Claim(
            name="best_is_not_the_full_set",
            text="The best result does not come from all orders together",
            source="HORKD, Sec. 4.4",
        ),
        Claim(
            name="higher_order_at_equal_size",
            text="At equal number of orders, the higher order is better",
            source="HORKD, Sec. 4.4",
        ),
    ),
)

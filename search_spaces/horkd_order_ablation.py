"""Which relation orders help? HORKD's ablation (Fig. 4): points, pairs, angles and centres, on or off."""

from __future__ import annotations

from itertools import combinations

from search_spaces import own_data, ranges
from search_spaces.claims import COUNT, RANK, BestIsNot, Claim, Rises
from search_spaces.study import Factor, Preset, Study
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
    factor=Factor(
        parameter="horkd.orders",
        levels=ORDERS,
        noun="order",
        plural="orders",
        title="Which relation orders help?",
        note="The paper gives no numbers for its Fig. 4, so none are shown.",
    ),
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
            "Accuracy rises with the number of orders",
            "HORKD, Sec. 4.4",
            test=Rises(COUNT),
            name="more_orders_help",
        ),
        Claim(
            "The best result does not come from all orders together",
            "HORKD, Sec. 4.4",
            test=BestIsNot("+".join(ORDERS)),
            name="best_is_not_the_full_set",
        ),
        Claim(
            "At equal number of orders, the higher order is better",
            "HORKD, Sec. 4.4",
            test=Rises(RANK, within=COUNT),
            name="higher_order_at_equal_size",
        ),
    ),
)

"""Which relation orders help? HORKD's ablation (Fig. 4): points, pairs, angles and centres, on or off."""

from __future__ import annotations

from itertools import combinations

from search_spaces import ranges
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
        ),
        "tiny": Preset(
            seeds=2,
            note="two cells, two seeds, two epochs: shows that everything works, means nothing",
            axes={"horkd.orders": ("none", "1+2+3+C")},
            parameters=ranges.TINY,
        ),
        "paper": Preset(
            seeds=5,
            data="cifar100",
            note="ResNet-50 teacher, thin ResNet-34 assistant at 32x32; the paper's faces must be brought by the user "
            "(--data folder:PATH); optimiser and epochs are not stated there and follow common CIFAR practice",
            parameters={
                "teacher.architecture": "resnet50",
                "assistant.architecture": "resnet34_thin",
                "resolution": 32,
                "augment": "crop_flip",
                "epochs": 240,
                "batch_size": 128,
                "learning_rate": 0.05,
                "schedule": "steps",
                "weight_decay": 5e-4,
                "horkd.reduction": "sum_over_anchors_mean",
                "horkd.alpha": 0.02,  # HORKD, Sec. 4.4: 0.02, 0.01, 1.
                "horkd.beta": 0.01,
                "horkd.gamma": 1.0,
                "validation_fraction": 0.1,
            },
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

"""What run.json of the first releases leaves unsaid, when all studies were of one paper: its words, by the names of then.

Later runs say it themselves (`factor`, `ours`, `paper_data`, `roles`, `terms`, and a test beside each claim), and nothing
here is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FACTOR: Mapping[str, Any] = {
    "parameter": "orders",
    "noun": "order",
    "plural": "orders",
    "title": "Which relation orders help?",
    "none": "none",
    "none_title": "no distillation",
    "note": "The paper gives no numbers for its Fig. 4, so none are shown.",
}
OURS = ("horkd", "horkd_direct")
# An untrained network is one as it was drawn, or raw pixels: a floor for the trained ones.
ROLES: Mapping[str, Any] = {
    "order": ("teacher", "untrained", "assistant", "outputs", "student", "evaluation"),
    "learners": ("assistant", "student"),
    "result": (),
    "teacher": "teacher",
    "behind": ("assistant", "teacher"),
}
TERMS = {
    "cross_entropy": "cross-entropy",
    "point": "1 point",
    "pair": "2 pair",
    "angle": "3 angle",
    "center": "C centre",
    "kd": "KD",
    "fitnet": "FitNet",
    "at": "attention",
    "rkd_distance": "RKD distance",
    "rkd_angle": "RKD angle",
    "pkt": "PKT",
    "sp": "SP",
    "darkrank": "DarkRank",
    "mkd_absolute": "MKD absolute",
    "mkd_relative": "MKD relative",
    "crd": "CRD",
    "triplet": "triplet",
}
PAPER_DATA = ("umdfaces", "uccs")  # What the ablation of HORKD, section 4.4, was made on.

_OURS, _METHODS, _TEACHER, _EQUAL = "(ours)", "(other methods)", "(teacher)", "(equal compute)"

# Name -> text, source, test.
CLAIMS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "more_orders_help": (
        "Accuracy rises with the number of orders.",
        "HORKD, section 4.4",
        {"kind": "rises", "along": "count"},
    ),
    "best_is_not_the_full_set": (
        "The best order set is not the full one.",
        "HORKD, section 4.4",
        {"kind": "best_is_not", "arm": "1+2+3+C"},
    ),
    "higher_order_at_equal_size": (
        "At an equal number of terms the higher order is better.",
        "HORKD, section 4.4",
        {"kind": "rises", "along": "rank", "within": "count"},
    ),
    "assistant_helps": (
        "Two steps through an assistant are better than one.",
        "HORKD",
        {"kind": "better", "arm": "horkd", "than": "horkd_direct"},
    ),
    "accuracy_falls_with_resolution": (
        "The score falls with the resolution.",
        "HORKD",
        {"kind": "falls", "along": "resolution"},
    ),
    "little_above_a_quarter": (
        "Down to a quarter of the full side, little is lost (within 1 point).",
        "HORKD",
        {"kind": "equivalent_within", "margin": 0.01, "arm": _OURS, "down_to": 0.25},
    ),
    "ours_beats_baselines": (
        "Ours is better than every other method of distillation.",
        "HORKD",
        {"kind": "all_better", "arm": _OURS, "than": [_METHODS]},
    ),
    "student_above_teacher": (
        "The low-resolution student is better than its teacher.",
        "HORKD",
        {"kind": "better", "arm": _OURS, "than": _TEACHER, "in_any_setting": True},
    ),
    "init_helps": (
        "A student that starts as its assistant is better than one that starts anew.",
        "HORKD",
        {"kind": "better", "arm": "horkd_init", "than": "horkd"},
    ),
    "distillation_survives_equal_compute": (
        "Distillation is better than labels alone that are given as many multiply-adds.",
        "HORKD",
        {"kind": "better", "arm": _OURS, "than": _EQUAL},
    ),
}
OF_ORDERS = ("more_orders_help", "best_is_not_the_full_set", "higher_order_at_equal_size")
OF_METHODS = tuple(name for name in CLAIMS if name not in OF_ORDERS)


def claims(run: Mapping[str, Any]) -> tuple[Any, ...]:
    """What is asked of a run: what it says; an ablation of the first releases that says nothing has all three."""
    asked = tuple(run.get("claims") or ())
    return asked or (OF_ORDERS if run.get("factors") and "factor" not in run else ())


def ours(run: Mapping[str, Any]) -> tuple[str, ...]:
    """Which arm a study is about, and what stands for it."""
    return tuple(run["ours"]) if "ours" in run else OURS


def paper_data(run: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the data sets that the paper used."""
    return tuple(run["paper_data"]) if "paper_data" in run else PAPER_DATA

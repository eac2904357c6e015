"""What run.json of the first releases leaves unsaid, when all studies were of one paper: its words, by the names of then.

Later runs say it themselves (`factor`, `ours`, `paper_data`, `roles`, `terms`, `task_words`, and a test beside each claim),
and nothing here is read.
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
PAPER = "horkd"  # Whose numbers lie beside; its files are called so.
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

_NUMBERS: tuple[Mapping[str, Any], ...] = (
    {"name": "top1", "words": "top-1 accuracy", "heading": "top-1 %"},
    {"name": "verification_accuracy", "words": "verification accuracy", "heading": "verification %"},
    {"name": "recall_at_1", "words": "Recall@1", "heading": "Recall@1 %"},
    {"name": "top5", "words": "top-5 accuracy", "heading": "top-5 %"},
    {"name": "top1_error", "words": "top-1 error", "heading": "top-1 error %"},
    {"name": "top5_error", "words": "top-5 error", "heading": "top-5 error %"},
    {
        "name": "tpr_at_fpr_0.1",
        "words": "TPR at FPR 0.1",
        "heading": "TPR % at FPR 0.1",
        "short": "TPR@FPR 0.1",
        "false_rate": 0.1,
    },
    {"name": "tpr_at_fpr_0.01", "words": "TPR at FPR 0.01", "heading": "TPR % at FPR 0.01", "false_rate": 0.01},
    {"name": "tpr_at_fpr_0.001", "words": "TPR at FPR 0.001", "heading": "TPR % at FPR 0.001", "false_rate": 0.001},
    {
        "name": "best_threshold_accuracy",
        "words": "accuracy at the best threshold on test (optimistic)",
        "heading": "best threshold % (optimistic)",
    },
    {"name": "eer", "words": "equal error rate", "heading": "EER %"},
    {"name": "auc", "words": "area under the ROC curve", "heading": "AUC", "percent": False},
    {"name": "recall_at_2", "words": "Recall@2", "heading": "Recall@2 %"},
    {"name": "recall_at_4", "words": "Recall@4", "heading": "Recall@4 %"},
    {"name": "recall_at_8", "words": "Recall@8", "heading": "Recall@8 %"},
)
_ERRORS = {"top1_error": "top1", "top5_error": "top5"}  # Of identification alone.
_UNITS = {
    "classification": "test images",
    "verification": "test pairs",
    "identification": "probe images",
    "retrieval": "queries",
}
_BESIDE = {"verification": "tpr_at_fpr_0.1", "identification": "top1_error"}


def task_words(task: str) -> dict[str, Any]:
    """What a task calls what it measures."""
    errors = _ERRORS if task == "identification" else {}
    return {
        "unit": _UNITS.get(task, "test items"),
        "validation": ("recall_at_1", "verification_accuracy", "top1"),
        "known_classes": task == "classification",
        "numbers": [{**number, "error_of": errors.get(number["name"], "")} for number in _NUMBERS],
        "beside": _BESIDE.get(task),
    }


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

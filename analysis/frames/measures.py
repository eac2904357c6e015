"""What the numbers of an evaluation are called in print. Plain words: no frames, no drawing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number of an evaluation: its name in the records, and its words."""

    name: str
    words: str  # In a sentence: 'top-1 accuracy'.
    heading: str  # Of a column: 'top-1 %'.
    percent: bool = True
    false_rate: float | None = None  # Of a true accept rate: the false accept rate at which it is read.

    @property
    def title(self) -> str:
        """The words at the beginning of a sentence or of an axis."""
        return self.words[0].upper() + self.words[1:]


PRIMARY = {
    measure.name: measure
    for measure in (
        Measure(name="top1", words="top-1 accuracy", heading="top-1 %"),
        Measure(name="verification_accuracy", words="verification accuracy", heading="verification %"),
        Measure(name="recall_at_1", words="Recall@1", heading="Recall@1 %"),
    )
}

# Beside the primary one, in the order in which a table shows them; errors are made from their accuracies.
OTHERS = (
    Measure(name="top5", words="top-5 accuracy", heading="top-5 %"),
    Measure(name="top1_error", words="top-1 error", heading="top-1 error %"),
    Measure(name="top5_error", words="top-5 error", heading="top-5 error %"),
    Measure(name="tpr_at_fpr_0.1", words="TPR at FPR 0.1", heading="TPR % at FPR 0.1", false_rate=0.1),
    Measure(name="tpr_at_fpr_0.01", words="TPR at FPR 0.01", heading="TPR % at FPR 0.01", false_rate=0.01),
    Measure(name="tpr_at_fpr_0.001", words="TPR at FPR 0.001", heading="TPR % at FPR 0.001", false_rate=0.001),
    Measure(
        name="best_threshold_accuracy",
        words="accuracy at the best threshold on test (optimistic)",
        heading="best threshold % (optimistic)",
    ),
    Measure(name="eer", words="equal error rate", heading="EER %"),
    Measure(name="auc", words="area under the ROC curve", heading="AUC", percent=False),
    Measure(name="recall_at_2", words="Recall@2", heading="Recall@2 %"),
    Measure(name="recall_at_4", words="Recall@4", heading="Recall@4 %"),
    Measure(name="recall_at_8", words="Recall@8", heading="Recall@8 %"),
)

TESTED = {
    "classification": "test images",
    "verification": "test pairs",
    "identification": "probe images",
    "retrieval": "queries",
}


def measure(name: object) -> Measure:
    """The words of a metric; one that is not known is called by its name."""
    text = str(name or "top1")
    plain = text.replace("_", " ")
    return PRIMARY.get(text) or next(
        (other for other in OTHERS if other.name == text),
        Measure(name=text, words=plain, heading=f"{plain} %"),
    )


# What lies in [0, 1] whatever is measured, so that its interval ends there.
RATES = frozenset(m.name for m in (*PRIMARY.values(), *OTHERS))


def different_pairs(numbers: Mapping[str, Any], items: Any) -> int | None:
    """How many pairs of two people an evaluation had; of one that does not tell, half of them, as pairs are drawn."""
    told = numbers.get("different_pairs")
    if isinstance(told, int) and not isinstance(told, bool):
        return told
    return items // 2 if isinstance(items, int) else None


def measurable(name: str, negatives: int | None) -> bool:
    """Whether a rate can be read off so many pairs of two people: below 1 / n it says what accepting none of them gives."""
    rate = measure(name).false_rate
    return rate is None or negatives is None or rate * negatives >= 1


def of_run(run: Mapping[str, Any]) -> Measure:
    """The metric by which the cells of a run are compared."""
    return measure(run.get("metric"))


# The one number beside the score that a terminal has room for, by task, with a heading that is short.
BESIDE = {
    "verification": Measure(name="tpr_at_fpr_0.1", words="TPR at FPR 0.1", heading="TPR@FPR 0.1"),
    "identification": Measure(name="top1_error", words="top-1 error", heading="top-1 error %"),
}


def beside_score(run: Mapping[str, Any]) -> Measure | None:
    """What a short table shows beside the score; None for tasks whose score says it all."""
    return BESIDE.get(str(run.get("task")))


def tested(run: Mapping[str, Any]) -> str:
    """What one test item of a run is: images, pairs, queries."""
    return TESTED.get(str(run.get("task") or "classification"), "test items")


def with_errors(numbers: Mapping[str, Any], task: object) -> dict[str, Any]:
    """The numbers of an evaluation and, for identification, what the literature prints: errors."""
    found = dict(numbers)
    if task == "identification":
        for name in ("top1", "top5"):
            if isinstance(found.get(name), int | float):
                found[f"{name}_error"] = 1 - found[name]
    return found


def chance_of(numbers: Mapping[str, Any]) -> float | None:
    """The score expected by chance, where the evaluation told it."""
    value = numbers.get("chance")
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None

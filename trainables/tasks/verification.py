"""Verification: whether two images show the same person, of people never trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trainables.data.draws import draw_pairs
from trainables.data.packed import Packed
from trainables.data.protocols import Cut, SplitAsked, classes_apart, counts_of, of_folds, tested_and_rest
from trainables.errors import UsageError
from trainables.spec.training import TrainingSpec
from trainables.tasks.base import Number, Task, only_tested, task_entry

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.training.reading import Reader, Reading

RANK = 1
FALSE_RATES = (0.1, 0.01, 0.001)
VALIDATION_PAIRS = 3000  # Of each kind, at most; as many as in the second view of LFW.


def _true_accepts(rate: float) -> Number:
    """The rate of true accepts at one of false accepts."""
    return Number(
        name=f"tpr_at_fpr_{rate:g}",
        words=f"TPR at FPR {rate:g}",
        heading=f"TPR % at FPR {rate:g}",
        short=f"TPR@FPR {rate:g}",
        false_rate=rate,
    )


class Verification(Task):
    """Whether two images show the same person."""

    name: ClassVar[str] = "verification"
    metric: ClassVar[str] = "verification_accuracy"
    validation_metric: ClassVar[str] = "verification_accuracy"
    unit: ClassVar[str] = "test pairs"
    numbers: ClassVar[tuple[Number, ...]] = (
        Number(name="verification_accuracy", words="verification accuracy", heading="verification %"),
        *map(_true_accepts, FALSE_RATES),
        Number(
            name="best_threshold_accuracy",
            words="accuracy at the best threshold on test (optimistic)",
            heading="best threshold % (optimistic)",
        ),
        Number(name="eer", words="equal error rate", heading="EER %"),
        Number(name="auc", words="area under the ROC curve", heading="AUC", percent=False),
    )
    beside: ClassVar[str] = f"tpr_at_fpr_{FALSE_RATES[0]:g}"
    split_fields: ClassVar[tuple[str, ...]] = ("held_out", "folds", "min_images")
    score_fields: ClassVar[tuple[str, ...]] = ("flip",)

    def split(self, packed: Packed, asked: SplitAsked) -> Cut:
        """Pairs that come with the data are tested, those of `folds` or all; nobody named in them is trained on.

        Data without pairs holds classes out as retrieval does, and pairs are drawn among them.
        """
        labels = packed.labels
        pairs: np.ndarray | None = None
        if asked.held_out > 0.0 and packed.pairs is not None:
            pairs = of_folds(packed.pairs.astype(np.int64), asked.folds)
            tested = np.unique(labels[pairs[:, 1:3]])
            rest = np.setdiff1d(np.flatnonzero(counts_of(packed)), tested)
        else:
            tested, rest = tested_and_rest(packed, asked.held_out)
        test = np.flatnonzero(np.isin(labels, tested))
        if asked.held_out > 0.0:
            pairs = of_folds(_drawn(packed, test, asked.split_seed), asked.folds) if pairs is None else pairs
            test = np.unique(pairs[:, 1:3])
        made = classes_apart(packed, asked, tested, rest, test, pairs)
        if pairs is not None and len(np.unique(pairs[:, 0])) == 1 and len(made.validation) == 0:
            raise UsageError(
                "Verification on a single fold takes its threshold from validation pairs, but nothing validates. "
                "Raise `validation_fraction`, or test at least 2 `folds`."
            )
        return made

    def whole(self, packed: Packed, *, split_seed: int, folds: tuple[int, ...], subjects: int) -> Cut:
        """The pairs that come with the data, of `folds` or all, else drawn ones."""
        pairs = None if packed.pairs is None else packed.pairs.astype(np.int64)
        if pairs is None:
            present = self.tested_classes(packed, split_seed=split_seed, subjects=subjects)
            pairs = _drawn(packed, np.flatnonzero(np.isin(packed.labels, present)), split_seed)
        pairs = of_folds(pairs, folds)
        if len(np.unique(pairs[:, 0])) < 2:
            raise UsageError("Verification on other data takes each fold's threshold from the others: test 2 `folds`.")
        test = np.unique(pairs[:, 1:3])
        return only_tested(packed, np.unique(packed.labels[test]), test, pairs)

    def score(self, spec: Any, trained: TrainingSpec, cut: Cut, reader: Reader) -> Reading:
        """Accuracy over folds, each at the threshold that is best on the others; a single one at validation's."""
        import pyarrow as pa

        from trainables.metrics import verification
        from trainables.metrics.similarity import pair_similarity
        from trainables.training.reading import Reading, summary

        pairs = cut.pairs
        assert pairs is not None
        fold, same = pairs[:, 0], pairs[:, 3] == 1
        first, second = (np.searchsorted(cut.test, pairs[:, column]) for column in (1, 2))
        similarity = pair_similarity(reader.embeddings(cut.test, flip=spec.flip), first, second, spec.similarity)
        threshold = _validation_threshold(spec, trained, cut, reader) if len(np.unique(fold)) == 1 else None
        found = verification.over_folds(similarity, same, fold, threshold=threshold)
        low, high = found.interval()
        least, most = verification.wilson(int(found.correct.sum()), len(same))
        measured = summary(
            "verification_accuracy",
            found.accuracy,
            found.correct,
            chance=max(float(same.mean()), 1 - float(same.mean())),
        )
        measured |= {
            "accuracy_std": found.std,
            "accuracy_se": found.standard_error,
            "accuracy_low": low,
            "accuracy_high": high,
            "wilson_low": least,
            "wilson_high": most,
            "folds": len(found.folds),
            "different_pairs": int((~same).sum()),  # A false accept rate below one over these cannot be seen.
            "threshold": float(found.thresholds.mean()),
            "best_threshold_accuracy": verification.best_threshold(similarity, same)[1],
            "eer": verification.equal_error_rate(similarity, same),
            "auc": verification.area_under_curve(similarity, same),
        }
        for rate in FALSE_RATES:
            measured[f"tpr_at_fpr_{rate:g}"] = verification.tpr_at_fpr(similarity, same, rate)
        columns = {
            "fold": fold.astype(np.int32),
            "first": pairs[:, 1].astype(np.int32),
            "second": pairs[:, 2].astype(np.int32),
            "same": pa.array(same),
            "similarity": similarity,
            "correct": pa.array(found.correct),
        }
        return Reading(measured, columns)

    def validation_score(self, embeddings: Tensor, labels: Tensor, seed: int) -> float:
        """Accuracy by cosine at the best threshold on pairs drawn from the validation images.

        That is optimistic, as the threshold is chosen on the same pairs; all networks are flattered alike.

        Raises:
            UsageError: If no pairs can be drawn.
        """
        return _best_threshold(embeddings, labels.cpu().numpy(), seed, "cosine")[1]


def _drawn(packed: Packed, test: np.ndarray, seed: int) -> np.ndarray:
    pairs = draw_pairs(packed.labels[test], seed=seed)
    pairs[:, 1:3] = test[pairs[:, 1:3]]
    return pairs


def _validation_threshold(spec: Any, trained: TrainingSpec, cut: Cut, reader: Reader) -> float:
    embeddings = reader.embeddings(cut.validation, flip=spec.flip)
    return _best_threshold(embeddings, reader.packed.labels[cut.validation], trained.split_seed, spec.similarity)[0]


def _best_threshold(embeddings: Tensor, labels: np.ndarray, seed: int, similarity: str) -> tuple[float, float]:
    """(threshold, accuracy) on pairs drawn from images that validate."""
    from trainables.metrics.similarity import pair_similarity
    from trainables.metrics.verification import best_threshold

    pairs = draw_pairs(labels, seed=seed, folds=1, per_fold=VALIDATION_PAIRS)
    return best_threshold(pair_similarity(embeddings, pairs[:, 1], pairs[:, 2], similarity), pairs[:, 3] == 1)


ENTRY = task_entry(Verification())

"""Scores, as fractions in [0, 1], higher is better unless they are named errors: one file per task."""

from trainables.metrics.classification import correct, finite, spread
from trainables.metrics.validation import VALIDATION_PAIRS, validation_score

__all__ = ["VALIDATION_PAIRS", "correct", "finite", "spread", "validation_score"]

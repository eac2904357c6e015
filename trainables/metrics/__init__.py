"""Scores, as fractions in [0, 1], higher is better unless they are named errors: what tasks are scored by."""

from trainables.metrics.classification import correct, finite, spread

__all__ = ["correct", "finite", "spread"]

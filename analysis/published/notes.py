"""What a reader must know of a paper's own parameters before comparing numbers; one function per paper and trap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def on_parameters(parameters: Mapping[str, Any]) -> list[str]:
    """The sentences that apply to a run with these parameters."""
    return [words for note in (_horkd_sums,) if (words := note(parameters))]


def _horkd_sums(parameters: Mapping[str, Any]) -> str:
    """What the weights of HORKD's summed relations mean; '' where no relation is summed."""
    summed = any(
        name.endswith("horkd.reduction") and value in ("sum_over_anchors_mean", "reference")
        for name, value in parameters.items()
    )
    if not summed:
        return ""
    batch = parameters.get("batch_size")
    size = f" (B = {batch} here)" if isinstance(batch, int) else ""
    return (
        "HORKD's relations are summed over ordered tuples, a pair of images twice and three images six times, where the paper "
        f"counts combinations once; and the paper states no batch. Divided by the batch{size} such sums still grow with it, so "
        "published weights act by more than their size: they compare under equal batches only."
    )

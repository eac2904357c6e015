"""How the numbers of a report were got, in words and formulas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def method(run: Mapping[str, Any]) -> list[str]:
    """The sentences of the method section that apply to this run."""
    words = [
        "The unit of replication is the seed; a cell is all parameters but the seed, and every cell is "
        "run under the same seeds.",
        "Interval of a mean: mean ± t(0.975, n−1) · SD / √n over seeds. With one seed there is none.",
    ]
    if run.get("sampled"):
        words.append(
            "Cells are compared, and the search is led, by validation accuracy. The test "
            "accuracy is told for the chosen cell only."
        )
    else:
        words += [
            "Gain: the difference to the reference under the same seed; its p is that of a paired "
            "t-test, adjusted by Holm's method over all cells of a figure. Equal differences have no "
            "p. Cells that hang from different teachers are not paired.",
            "The highest mean is looked for among the cells with the most seeds. It is picked on the "
            "seeds it is reported on, so it looks too good: confirm a winner on fresh seeds.",
        ]
    if run.get("factors"):
        words.append(
            "Effect of a set T of orders, per seed: 2^−(k−1) · Σ over cells of accuracy · Π over T of "
            "(+1 if on, −1 if off). A pairwise term is half the difference of two simple effects. "
            "Seeds with missing cells: the same model by least squares."
        )
    words += [
        "Test-set noise floor: half of Wilson's 95% interval at the mean accuracy.",
        "Smallest gain found with 80 % power: (t(1−a/2, n−1) + t(0.8, n−1)) · SD of the differences / "
        "√n, for a = 0.05 and for a divided by the number of tests.",
        "Accuracies are top-1 on the test split. Inside a training every choice uses the validation split.",
    ]
    return words

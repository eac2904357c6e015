"""How the numbers of a report were got, in words and formulas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import measures


def method(run: Mapping[str, Any]) -> list[str]:
    """The sentences of the method section that apply to this run."""
    metric = measures.of_run(run).words
    words = [
        "The unit of replication is the seed; a cell is all parameters but the seed, and every cell is "
        "run under the same seeds.",
        "Interval of a mean: mean ± t(0.975, n−1) · SD / √n over seeds. With one seed there is none.",
    ]
    if run.get("sampled") and len(run.get("objectives") or ()) > 1:
        words.append(
            f"A cell is on the front when no other completed one with as many seeds has at least its validation "
            f"{metric} at no more cost. The test {metric} is told of the front only."
        )
    elif run.get("sampled"):
        words.append(
            f"Cells are compared, and the search is led, by validation {metric}. The test {metric} is told for the "
            "chosen cell only."
        )
    elif run.get("arms"):
        words += _of_methods(run)
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
            "Effect of a set T of orders, per seed: 2^−(k−1) · Σ over cells of the score · Π over T of "
            "(+1 if on, −1 if off). A pairwise term is half the difference of two simple effects. "
            "Seeds with missing cells: the same model by least squares."
        )
    words += [
        f"Test-set noise floor: half of Wilson's 95% interval at the mean {metric}.",
        "Smallest gain found with 80 % power: (t(1−a/2, n−1) + t(0.8, n−1)) · SD of the differences / "
        "√n, for a = 0.05 and for a divided by the number of tests.",
        f"Scores are {metric} on the test split. Inside a training every choice uses the validation split.",
    ]
    return words


def _of_methods(run: Mapping[str, Any]) -> list[str]:
    """What a comparison of methods needs said beside."""
    words = [
        "Gain at equal epochs: the difference to the reference under the same seed; its p is that of a paired t-test, "
        "adjusted by Holm's method over the trained methods of a setting (not over teachers and floors).",
        "Gain at equal compute: the same over labels alone that were trained for as many multiply-adds as the method "
        "took, its guides' forward passes counted, and not for as long a time; Holm over the methods of a setting. It is "
        "told of methods that go the same route with the same networks as the one whose multiply-adds were given.",
        "Methods that hang from different teachers are not paired. What has no seed (raw pixels) is one reading, "
        "however many seeds the others have.",
        "The highest mean is looked for among the trained methods with the most seeds; it is picked on the seeds it is "
        "reported on, so it looks too good.",
        "A claim over several settings counts each seed once, with its mean over the settings. 'Little is lost' is "
        "equivalence: both one-sided t-tests against a margin of 1 point reject at 5 %.",
        "Printed numbers of a paper were got by another protocol; they stand beside ours, untested.",
    ]
    if run.get("tuned"):
        words.append(
            f"'{run['tuned']}' is no axis of the comparison: each method takes its value with the highest mean "
            "validation score, in each setting for itself."
        )
    return words

"""How the numbers of a report were got, in words and formulas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.frames import measures
from analysis.frames.factor import factor_of
from analysis.published import notes

DUNNETT = (
    "Its p answers Dunnett's question, whether any of several differs from one reference: t = mean · √n / s of the paired "
    "differences, s the larger of the cell's own SD and the pooled one (wild cells cut), against the largest |t| of null "
    "studies drawn with these seeds; never below the paired t-test's own p."
)


def method(run: Mapping[str, Any]) -> list[str]:
    """The sentences of the method section that apply to this run."""
    metric = measures.of_run(run).words
    words = [
        "The unit of replication is the seed; a cell is all parameters but the seed, and every cell is "
        "run under the same seeds.",
        "Interval of a mean: mean ± t(0.975, n−1) · SD / √n over seeds, ending where a rate or a difference of rates ends. "
        "With one seed there is none, nor where all are equal: that nothing differed does not say how much the next would.",
        "Nothing is judged below three pairs or without any spread: such numbers stand, without p and without verdict.",
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
            f"Gain: the difference to the reference under the same seed. {DUNNETT} Cells that hang from different "
            "teachers are not paired.",
            "The highest mean is looked for among the cells with the most seeds. It is picked on the "
            "seeds it is reported on, so it looks too good: confirm a winner on fresh seeds.",
        ]
    if run.get("factors"):
        words.append(
            f"Effect of a set T of {factor_of(run).plural}, per seed: 2^−(k−1) · Σ over cells of the score · Π over T of "
            "(+1 if on, −1 if off). A pairwise term is half the difference of two simple effects. "
            "Seeds with missing cells: the same model by least squares. An effect's p is that of a t-test over seeds, adjusted "
            "by Holm's method over the main effects, and over the pairs."
        )
    words += notes.on_parameters(run.get("parameters") or {})
    if run.get("claims"):
        words.append(
            "A verdict on a claim needs p below 5 %, two-sided, after Holm over the claims tested together; 'not supported' means "
            "that the opposite passes, 'inconclusive' that neither does."
        )
    words += [
        f"Test-set noise floor: half of Wilson's 95% interval at the mean {metric}.",
        "Smallest gain found with 80 % power: by the noncentral t for a single comparison, and by drawing for one among all "
        "that are tested together, with the SD of the differences measured here.",
        f"Scores are {metric} on the test split. Inside a training every choice uses the validation split.",
    ]
    return words


def _of_methods(run: Mapping[str, Any]) -> list[str]:
    """What a comparison of methods needs said beside."""
    words = [
        "Gain at equal epochs: the difference to the reference under the same seed. "
        f"{DUNNETT} The trained methods of a setting are tested together, teachers and floors are not.",
        "Gain at equal compute: the same over labels alone that were trained for as many multiply-adds as the method "
        "took, its guides' forward passes counted, and not for as long a time; paired t-tests, Holm over the methods of a "
        "setting, as they are compared with different arms. It is "
        "told of methods that go the same route with the same networks as the one whose multiply-adds were given.",
        "Methods that hang from different teachers are not paired. What has no seed (raw pixels) is one reading, "
        "however many seeds the others have.",
        "The highest mean is looked for among the trained methods with the most seeds; it is picked on the seeds it is "
        "reported on, so it looks too good.",
        "A claim over several settings counts each seed once, with its mean over the settings. 'Little is lost' is "
        "equivalence: both one-sided t-tests against a margin of 1 point reject at 2.5 %.",
        "Printed numbers of a paper were got by another protocol; they stand beside ours, untested.",
    ]
    if run.get("tuned"):
        words.append(
            f"'{run['tuned']}' is no axis of the comparison: each method takes its value with the highest mean "
            "validation score, in each setting for itself."
        )
    return words

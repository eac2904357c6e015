"""The paper's claims as rows: the claim, its test, the estimate, and a verdict that names the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import polars as pl

from analysis import statistics
from analysis.frames.order_ablation import scores_by_cell, split_orders
from analysis.printed import p_value, points
from analysis.statistics import Gain, Summary, many_to_one

SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE = "supported", "not supported", "inconclusive"
NOT_CHECKED, NOT_TESTED = "not checked", "not tested yet"
OPEN = (NOT_CHECKED, NOT_TESTED)  # Nothing was asked of the data, so no data are named.
SOURCE = "HORKD, section 4.4"
MOST_NAMED = 5  # Of what has no result, in an estimate.
PAPER_DATA = ("umdfaces", "uccs")  # What the ablation of HORKD, section 4.4, was made on.


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim with its verdict; `on` is '' or tells that the data are not the paper's."""

    name: str
    claim: str
    test: str
    estimate: str
    verdict: str
    n: int
    source: str
    on: str = ""
    value: float | None = None  # The estimate as a fraction, unrounded.
    low: float | None = None
    high: float | None = None
    p: float | None = None  # Two-sided, of the verdict; None where nothing was tested.
    p_holm: float | None = None  # Over the claims checked together.

    @property
    def sentence(self) -> str:
        """The verdict as printed: 'supported on digits, not the paper's data'."""
        return self.verdict if self.verdict in OPEN else f"{self.verdict} {self.on}".strip()

    def told(self, text: str, source: str) -> Claim:
        """The same with the study's own words and source, where it has some."""
        return replace(self, claim=text or self.claim, source=source or self.source)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "sentence": self.sentence}


def check(trials: pl.DataFrame, data_name: str, asked: Sequence[Any] = ()) -> list[Claim]:
    """Check the claims of the order ablation on the trials of one panel.

    Args:
        trials: Rows of `load.trial_table` with their `orders`.
        data_name: Name of the data used.
        asked: The study's claims, as names or objects with `name` (or `claim`); none means all known.
            Unknown ones get a row that says no test is written for them.
    """
    stand_in = data_name.lower() not in PAPER_DATA
    on = f"on {data_name}, not the paper's data" if stand_in else f"on {data_name}"
    if "teacher" in trials.columns:
        per_seed = trials.drop_nulls("teacher").group_by("seed").agg(pl.col("teacher").n_unique())
        if (per_seed["teacher"] > 1).any():
            on += ", across different teachers"
    names = scores_by_cell(trials)
    known = dict(trials.filter(pl.col("orders").is_not_null()).select("cell", "orders").unique().iter_rows())
    # A set without a result is asked for, too: the claims say what they were checked without.
    scores = {split_orders(orders): names.get(cell, {}) for cell, orders in known.items()}
    rows: list[Claim] = []
    wanted = [read_asked(item) for item in asked] or [(name, "", "") for name in KNOWN]
    for name, text, source in wanted:
        if name in KNOWN:
            rows.append(KNOWN[name](scores, on))
        else:
            rows.append(not_checked(name, text, source))
    return settled(rows)


def settled(rows: Sequence[Claim]) -> list[Claim]:
    """The claims with their p adjusted by Holm for all that were tested together; what no longer passes is inconclusive.

    A study that checks three true nulls at 5 % each finds something in one report of seven.
    """
    adjusted = statistics.holm([row.p for row in rows])
    tests = sum(p is not None for p in adjusted)
    found = []
    for row, p in zip(rows, adjusted, strict=True):
        if p is None or row.p is None:
            found.append(row)
            continue
        words = f"p {p_value(row.p)}" + (f", {p_value(p)} after Holm over {tests} claims" if tests > 1 else "")
        passes = p < statistics.ALPHA
        verdict = row.verdict if passes else INCONCLUSIVE
        found.append(replace(row, verdict=verdict, p_holm=p, estimate=f"{row.estimate}; {words}"))
    return found


def judged(s: Summary, at: float = 0.0) -> str:
    """The verdict of a 95 % interval: above `at`, below, or neither; never below three seeds or without spread."""
    return {1: SUPPORTED, -1: NOT_SUPPORTED}.get(statistics.direction(s, at), INCONCLUSIVE)


def spread_words(s: Summary, unit: str = "points") -> str:
    """'+0.78 [-0.02, +1.59] points', and what keeps it from being judged."""
    assert s.mean is not None
    if s.low is None or s.high is None:
        why = "n=1: no interval" if s.n == 1 else f"n={s.n}, all equal: no interval and no test"
        return f"{points(s.mean)} {unit} ({why})"
    few = f" (n={s.n}: too few to judge)" if s.n < statistics.LEAST_PAIRS else ""
    return f"{points(s.mean)} [{points(s.low)}, {points(s.high)}] {unit}{few}"


def not_checked(name: str, text: str, source: str) -> Claim:
    """The row of a claim that nobody has written a test for."""
    return Claim(
        name=name,
        claim=text or name,
        test="no test is written for this claim",
        estimate="",
        verdict=NOT_CHECKED,
        n=0,
        source=source,
    )


def read_asked(item: Any) -> tuple[str, str, str]:
    """Name, text and source of a claim as a study gives it: an object, or a name alone."""
    if isinstance(item, Mapping):
        text = str(item.get("claim") or item.get("text") or "")
        return str(item.get("name") or item.get("id") or text), text, str(item.get("source") or "")
    return str(item), "", ""


Scores = Mapping[tuple[str, ...], Mapping[int, float]]


def more_orders_help(scores: Scores, on: str) -> Claim:
    """'With the increasing order of loss functions, the model performance is indeed getting better.'"""
    slopes = _slopes(scores, x=len)
    return _from_slopes(
        slopes,
        name="more_orders_help",
        claim="Accuracy rises with the number of orders.",
        test="slope of accuracy on the number of terms (1 and more), per seed; t-interval over seeds",
        unit="points per added order",
        on=on,
    )


def higher_order_at_equal_size(scores: Scores, on: str) -> Claim:
    """'When the number of loss terms is the same, the higher the order [...], the better [...].'"""
    slopes = _slopes(scores, x=_rank, by_size=True)
    return _from_slopes(
        slopes,
        name="higher_order_at_equal_size",
        claim="At an equal number of terms the higher order is better.",
        test="slope of accuracy on the summed rank of the orders (1, 2, 3, C count 1 to 4) inside groups "
        "of equal size, per seed; t-interval over seeds",
        unit="points per rank",
        on=on,
    )


def best_is_not_the_full_set(scores: Scores, on: str) -> Claim:
    """'The optimal results come from [a smaller set] rather than the highest-order.'"""
    claim = "The best order set is not the full one."
    test = "paired gain of every smaller set over the full one; Dunnett-type over these tests"
    row = partial(Claim, name="best_is_not_the_full_set", claim=claim, test=test, source=SOURCE, on=on)
    full = ("1", "2", "3", "C")
    if not scores.get(full):
        return row(estimate="the full set has no result", verdict=NOT_TESTED, n=0)
    others = [cell for cell in sorted(scores) if cell not in (full, ()) and scores[cell]]
    gains = [statistics.paired_gain(scores[cell], scores[full]) for cell in others]
    adjusted = many_to_one.adjusted([gain.differences for gain in gains])
    rated = [(g.mean, g, p, c) for g, p, c in zip(gains, adjusted, others, strict=True) if g.mean is not None]
    if not rated:
        return row(estimate="no smaller set to compare", verdict=NOT_TESTED, n=0)
    top, gain, p, cell = max(rated, key=lambda item: item[0])
    better = [(p, mean, g, c) for mean, g, p, c in rated if p is not None and mean > 0]
    # Better by the surest set; worse only if every one of them is.
    told = min((p for p, *_ in better), default=None)
    verdict = INCONCLUSIVE
    if told is not None and told < statistics.ALPHA:
        verdict = SUPPORTED
        # The smaller set that shows it, which need not be the one with the largest gain.
        p, top, gain, cell = max((item for item in better if item[0] < statistics.ALPHA), key=lambda item: item[1])
    elif all(p is not None and mean < 0 for mean, _, p, _ in rated):
        told = max(p for *_, p, _ in rated if p is not None)
        verdict = NOT_SUPPORTED if told < statistics.ALPHA else INCONCLUSIVE
    elif told is None and any(p is not None for *_, p, _ in rated):
        told = 1.0
    shown = _untested(gain) if p is None else f"Dunnett p {p_value(p)}"
    estimate = f"{'+'.join(cell)} over the full set: {points(top)} points ({shown})"
    return row(estimate=estimate, verdict=verdict, n=gain.pairs, value=top, low=gain.low, high=gain.high, p=told)


def _untested(gain: Gain) -> str:
    """Why a gain has no p."""
    return f"n={gain.pairs}: too few to judge" if gain.pairs < statistics.LEAST_PAIRS else "all equal: no test"


def _rank(cell: tuple[str, ...]) -> int:
    return sum("123C".index(order) + 1 for order in cell if order in "123C")


def _slopes(
    scores: Scores, *, x: Callable[[tuple[str, ...]], float], by_size: bool = False
) -> tuple[list[float], list[str], list[str]]:
    """Slope per seed over the non-empty sets with a result, from seeds that have them all; those sets, and those without."""
    cells = [cell for cell in sorted(scores) if cell and scores[cell]]
    seeds = sorted(set.intersection(*(set(scores[cell]) for cell in cells))) if cells else []
    found = []
    for seed in seeds:
        values = [(float(x(cell)), scores[cell][seed]) for cell in cells]
        value = statistics.slope(values, [len(cell) for cell in cells] if by_size else None)
        if value is not None:
            found.append(value)
    lacking = [cell for cell in sorted(scores) if cell and not scores[cell]]
    return found, ["+".join(cell) for cell in cells], ["+".join(cell) for cell in lacking]


def _from_slopes(
    slopes: tuple[list[float], list[str], list[str]], *, name: str, claim: str, test: str, unit: str, on: str
) -> Claim:
    values, cells, lacking = slopes
    s = statistics.summarise(values)
    row = partial(Claim, name=name, claim=claim, test=test, source=SOURCE, on=on, n=s.n)
    if s.mean is None:
        why = f"no seed has all {len(cells)} order sets" if len(cells) > 1 else "too few order sets have a result"
        return row(estimate=why + _without(lacking), verdict=NOT_TESTED)
    estimate = spread_words(s, unit) + (f", {len(cells)} order sets" if s.low is not None else "") + _without(lacking)
    return row(estimate=estimate, verdict=judged(s), value=s.mean, low=s.low, high=s.high, p=statistics.mean_p(s))


def _without(sets: Sequence[str]) -> str:
    more = f" and {len(sets) - MOST_NAMED} more" if len(sets) > MOST_NAMED else ""
    return f", without {', '.join(sets[:MOST_NAMED])}{more}: no result yet" if sets else ""


KNOWN: dict[str, Callable[[Scores, str], Claim]] = {
    "more_orders_help": more_orders_help,
    "best_is_not_the_full_set": best_is_not_the_full_set,
    "higher_order_at_equal_size": higher_order_at_equal_size,
}

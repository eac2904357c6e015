"""The sentences and tiles of a report, made from the very tables its figures are drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from analysis import statistics
from analysis.claims.verdict import OPEN, Claim
from analysis.frames import measures
from analysis.frames.order_ablation import Panel
from analysis.frames.weight_search import Search
from analysis.load import RunData
from analysis.printed import duration, p_value, percent, points
from analysis.report.blocks import Answer
from analysis.statistics import Effect, many_to_one


def ablation_answer(panel: Panel, claims: Sequence[Claim] = ()) -> Answer:
    """What a panel shows: the levels that help on average, the best cell that passes, and how the others fare."""
    start = f"At {panel.title}: " if panel.title else ""
    done = panel.rows.filter(pl.col("n") > 0)
    if done.is_empty():
        return Answer(headline=f"{start}no cell has a result yet.")
    if panel.baseline is None:
        headline, rest = _highest(panel), ["There is no reference cell, so no gain is shown."]
    elif not panel.rows["p"].is_not_null().any():
        headline, rest = _highest(panel), [too_few(panel.rows)]
    else:
        headline, rest = _shown(panel)
    rest.append(_incomplete(panel))
    for claim in claims:
        if claim.kind == "best_is_not" and claim.verdict not in OPEN:
            rest.append(f"That the full set is not the best is {claim.sentence}.")
    headline = start + headline
    return Answer(headline=headline[0].upper() + headline[1:], rest=" ".join(part for part in rest if part))


def _highest(panel: Panel) -> str:
    """The cell with the highest mean, as a number that nothing was concluded from."""
    best = panel.rows.filter("best").row(0, named=True)
    mean = f"{percent(best['mean'])} %"
    if panel.baseline is None:
        interval = "" if best["low"] is None else f", 95% CI {percent(best['low'])} to {percent(best['high'])}"
        return f"{panel.cell_name(best)} has the highest mean, {mean} ({n_words(best['n'])}{interval})."
    reference = reference_name(panel)
    if best["reference"]:
        return f"no other cell has a higher mean than {reference}, {mean} ({n_words(best['n'])})."
    if best["gain"] is None:
        return f"{panel.cell_name(best)} has the highest mean, {mean} ({n_words(best['n'])}); it has no pair with {reference}."
    return f"{panel.cell_name(best)} has the highest mean, {mean}: {gain_words(best)} over {reference}."


def too_few(rows: pl.DataFrame) -> str:
    """Why nothing was tested."""
    most = int(rows["pairs"].fill_null(0).max() or 0)  # type: ignore[arg-type]
    if most < statistics.LEAST_PAIRS:
        return f"Nothing is judged below {statistics.LEAST_PAIRS} pairs, and there are {most} at most: more seeds are needed."
    return "Nothing is judged: all differences to the reference are equal under every seed."


def _shown(panel: Panel) -> tuple[str, list[str]]:
    """Headline and what follows it where cells were tested: main effects first, then the best cell that passes."""
    reference = reference_name(panel)
    passing = proven(panel.rows)
    better = passing.filter(pl.col("gain") > 0).sort("gain", descending=True, maintain_order=True)
    levels = level_words(panel)
    tally = _tally(panel, reference)
    best = panel.rows.filter("best").row(0, named=True)
    rest = [tally]
    if better.height:
        top = better.row(0, named=True)
        words = f"{panel.cell_name(top)}, {percent(top['mean'])} %: {gain_words(top)}"
        if levels:
            rest.append(f"The largest gain that passes is that of {words} over {reference}.")
        else:
            levels = f"{panel.cell_name(top)} beats {reference}, with {percent(top['mean'])} %: {gain_words(top)}."
        if top["cell"] != best["cell"]:
            rest.append(_own_gain(panel, best, reference))
    else:
        nothing = f"no {panel.factor.noun} and " if panel.effects and panel.factor else ""
        levels = levels or f"{nothing}no cell is shown to beat {reference}."
        rest.append(_own_gain(panel, best, reference))
    return levels, rest


def _own_gain(panel: Panel, best: Mapping[str, Any], reference: str) -> str:
    """The highest mean where it is not what the answer is about."""
    if best["reference"]:
        return f"No cell has a higher mean than {reference}, {percent(best['mean'])} %."
    words = f"The highest mean, {percent(best['mean'])} %, is that of {panel.cell_name(best)}"
    if best["gain"] is None:
        return f"{words}, which has no pair with {reference}."
    passes = best["p_dunnett"] is not None and best["p_dunnett"] < statistics.ALPHA
    return f"{words}, whose own gain {'passes, too' if passes else 'does not pass'}: {gain_words(best)}."


def level_words(panel: Panel) -> str:
    """'Order 3 helps: +1.26 points ...' for the main effects that pass; '' where none does."""
    factor = panel.factor
    if panel.effects is None or factor is None:
        return ""
    mains = [effect for effect in panel.effects.effects if len(effect.factors) == 1]
    groups = []
    for helps, verb in ((True, "help"), (False, "hurt")):
        own = sorted((e for e in mains if e.passes and (e.mean > 0) is helps), key=lambda e: -abs(e.mean))
        if own:
            named = _listed([effect.factors[0] for effect in own])
            shown = "; ".join(_effect_words(effect, alone=len(own) == 1) for effect in own)
            one = len(own) == 1
            groups.append(f"{factor.noun if one else factor.plural} {named} {verb}{'s' if one else ''}: {shown}")
    if not groups:
        return ""
    n = max(effect.n for effect in mains)
    tested = sum(effect.p is not None for effect in mains)
    return (
        f"{'; '.join(groups)}, averaged over the other {factor.plural} ({n_words(n)}; Holm over {tested} main effects)."
    )


def _effect_words(effect: Effect, *, alone: bool) -> str:
    assert effect.low is not None and effect.high is not None and effect.p_holm is not None
    start = "" if alone else f"{effect.factors[0]} by "
    interval = f"95% CI {points(effect.low)} to {points(effect.high)}"
    return f"{start}{points(effect.mean)} points ({interval}, p {p_value(effect.p_holm)})"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _incomplete(panel: Panel) -> str:
    """What has no result or too few seeds yet, and whether it may still overtake."""
    best = panel.rows.filter("best").row(0, named=True)
    words = []
    for row in panel.rows.filter(pl.col("n") < best["n"], pl.col("mean") > best["mean"]).iter_rows(named=True):
        mean = percent(row["mean"])
        words.append(f"{panel.cell_name(row)} is higher ({mean} %) but has {row['n']} of {row['n_expected']} seeds.")
    return " ".join(words)


def reference_name(panel: Panel) -> str:
    return panel.cell_name(panel.rows.filter(pl.col("reference")).row(0, named=True))


def gain_words(row: Mapping[str, Any], p: str = "p_dunnett", by: str = "Dunnett p") -> str:
    """'+3.86 points (95% CI +3.07 to +4.66, Dunnett p 0.002, n=5 seeds)'."""
    parts = []
    seeds = n_words(row["pairs"])
    if row["gain_low"] is None:
        why = "no interval" if row["pairs"] < 2 else "all equal: no interval and no test"
        return f"{points(row['gain'])} points ({why}, {seeds})"
    parts.append(f"95% CI {points(row['gain_low'])} to {points(row['gain_high'])}")
    if row[p] is not None:
        parts.append(f"{by} {p_value(row[p])}")
    parts.append(seeds + (": too few to judge" if row["pairs"] < statistics.LEAST_PAIRS else ""))
    return f"{points(row['gain'])} points ({', '.join(parts)})"


def _tally(panel: Panel, reference: str) -> str:
    others = panel.rows.filter(pl.col("reference").not_())
    return tally(others, reference, "cell", [panel.cell_name(row) for row in others.iter_rows(named=True)])


def tally(rows: pl.DataFrame, reference: str, noun: str, names: Sequence[str]) -> str:
    """How many of the tested rows differ from the reference, and which were not tested yet with what they have."""
    tested = rows.filter(pl.col("p_dunnett").is_not_null())
    better = proven(tested).filter(pl.col("gain") > 0).height
    worse = proven(tested).filter(pl.col("gain") < 0).height
    parts = []
    if tested.height:
        nouns = noun if tested.height == 1 else f"{noun}s"
        beat = "beats" if better == 1 else "beat"
        parts.append(f"{better} of {tested.height} {nouns} tested {beat} {reference}")
        if worse:
            parts.append(f"{worse} {'falls' if worse == 1 else 'fall'} below it")
        if unsure := tested.height - better - worse:
            parts.append(f"{unsure} {'is' if unsure == 1 else 'are'} inconclusive")
    waiting = [
        f"{name} ({_lacking(row)})"
        for name, row in zip(names, rows.iter_rows(named=True), strict=True)
        if row["p_dunnett"] is None
    ]
    told = "; ".join(parts) + "." if parts else ""
    if waiting:
        more = f" and {len(waiting) - MOST_WAITING} more" if len(waiting) > MOST_WAITING else ""
        told += f" Not tested yet: {', '.join(waiting[:MOST_WAITING])}{more}."
    return told.strip()


MOST_WAITING = 5  # Named in a sentence.


def _lacking(row: Mapping[str, Any]) -> str:
    """What a row lacks for a test."""
    if row["note"] and "teacher" in row["note"]:
        return "another teacher than the reference"
    if row["n"] < row["n_expected"] or row["n"] == 0:
        return f"{row['n']} of {row['n_expected']} seeds"
    if (row["pairs"] or 0) < statistics.LEAST_PAIRS:
        return f"{row['pairs'] or 0} pairs"
    return "all differences equal"


def search_answer(search: Search) -> Answer:
    """The chosen cell with its values, its validation accuracy, and its test accuracy."""
    if search.best is None:
        return Answer(headline="No cell of the search has completed yet.")
    row = search.cells.filter(pl.col("cell") == search.best).row(0, named=True)
    values = ", ".join(f"{name} {row[name]:.3g}" for name in search.weights if row[name] is not None)
    completed = search.cells.filter(pl.col("status") == "completed").height
    pruned = search.cells.filter(pl.col("status") == "pruned").height
    score = f"{percent(row['value'])} % ({n_words(row['n'])})"
    headline = f"{values or row['label']} has the highest mean validation {search.measure.words}, {score}."
    rest = [f"It was chosen among {completed} completed cells; {pruned} were pruned."]
    t = search.test
    if t.mean is not None:
        interval = "no interval" if t.low is None or t.high is None else f"95% CI {percent(t.low)} to {percent(t.high)}"
        rest.append(f"Its test {search.measure.words} is {percent(t.mean)} % ({interval}, {n_words(t.n)}).")
    if search.gain:
        rest.append(f"On the test set that is {gain_words(search.gain, 'p', 'p')} over the reference.")
    return Answer(headline=headline, rest=" ".join(rest))


def proven(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows whose gain over the reference differs from 0 at 5 %, adjusted for all rows that are tested."""
    return rows.filter(pl.col("p_dunnett") < statistics.ALPHA)


def n_words(n: int) -> str:
    return f"n={n} seed{'' if n == 1 else 's'}"


def tiles(
    data: RunData,
    trials: pl.DataFrame,
    panels: Sequence[Panel],
    cost: pl.DataFrame,
    scored: pl.DataFrame | None = None,
) -> list[tuple[str, str]]:
    """Four pairs of a number and what it is: trials, paired seeds, noise floor, compute time.

    The noise floor is that of the `scored` trials, of all when they are not given.
    """
    count = {status: int((trials["status"] == status).sum()) for status in ("completed", "failed", "pruned", "missing")}
    words = [f"trials finished, {count['failed']} failed"]
    words += [f"{count[status]} {status}" for status in ("pruned", "missing") if count[status]]
    found = [(f"{count['completed']} / {trials.height}", ", ".join(words))]
    rows = pl.concat([panel.rows for panel in panels], how="diagonal") if panels else None
    if rows is not None:
        paired = rows.filter(pl.col("pairs").is_not_null() & (pl.col("pairs") > 0))["pairs"]
        n = paired if len(paired) else rows.filter(pl.col("n") > 0)["n"]
        what = "paired seeds per cell" if len(paired) else "seeds per cell"
    else:
        done = trials.filter(pl.col("status") == "completed")
        n, what = done.group_by("cell").len()["len"], "seeds per completed cell"
    lowest, highest = (int(n.min()), int(n.max())) if len(n) else (0, 0)  # type: ignore[arg-type]
    found.append((str(lowest) if lowest == highest else f"{lowest} to {highest}", what))
    floor = noise(trials if scored is None else scored)
    if floor:
        told = f"test-set noise floor, points ({floor[1]} {measures.words_of(data.run).unit})"
        found.append((f"±{100 * floor[0]:.2f}", told))
    else:
        found.append(("–", f"test-set noise floor: number of {measures.words_of(data.run).unit} unknown"))
    on_gpu = data.records.filter(pl.col("device").str.starts_with("cuda"))
    gpu = math.fsum(on_gpu["seconds"].drop_nulls())
    if gpu:
        found.append((duration(gpu), "GPU time, every stage counted once"))
    else:
        found.append((duration(math.fsum(cost["cpu_seconds"])), "CPU time, every stage counted once"))
    return found


def noise(trials: pl.DataFrame) -> tuple[float, int] | None:
    """Half of Wilson's interval at the mean score of all completed trials, and the number of test items."""
    done = trials.filter(pl.col("status") == "completed", pl.col("items") > 0)
    if done.is_empty():
        return None
    items = int(done["items"].min())  # type: ignore[arg-type]
    score = min(1.0, max(0.0, math.fsum(done["score"]) / done.height))
    return statistics.noise_floor(score, items), items


def detectable_gains(panel: Panel) -> dict[str, float] | None:
    """Smallest gain found with 80 % power, alone and among all tests, from the pooled SD of the differences."""
    rows = panel.rows.filter(pl.col("gain_sd") > 0)
    if "apart" in rows.columns:
        rows = rows.filter(~pl.col("apart"))
    if rows.is_empty():
        return None
    sd = math.sqrt(math.fsum(sd * sd for sd in rows["gain_sd"]) / rows.height)
    n = int(rows["pairs"].median())  # type: ignore[arg-type]
    if n < statistics.LEAST_PAIRS:
        return None
    tests = max(panel.tests, 1)
    return {
        "sd": sd,
        "pairs": n,
        "tests": tests,
        "alone": statistics.detectable(sd, n),
        "after_holm": statistics.detectable(sd, n, tests=tests),
        "after_dunnett": many_to_one.detectable(sd, tests, n),
    }

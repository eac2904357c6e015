"""The sentences, tiles and cautions of a report, made from the very tables its figures are drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis import measures, statistics
from analysis.claims import NOT_CHECKED, PAPER_DATA, Claim
from analysis.load import RunData, as_object
from analysis.order_ablation import Panel
from analysis.tables import p_value, percent, points
from analysis.weight_search import Search

FEW_SEEDS = 5  # Below this, 15 comparisons after Holm find next to nothing (29 % power at a gain of 2 SD for n=5).


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The one sentence that answers the question, and what belongs beside it."""

    headline: str
    rest: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.headline} {self.rest}".strip()


def ablation_answer(panel: Panel, claims: Sequence[Claim] = ()) -> Answer:
    """The best cell of a panel, its gain, and how the others fare."""
    start = f"At {panel.title}: " if panel.title else ""
    done = panel.rows.filter(pl.col("n") > 0)
    if done.is_empty():
        return Answer(headline=f"{start}no cell has a result yet.")
    best = panel.rows.filter(pl.col("best")).row(0, named=True)
    named = _cell_name(best)
    mean = f"{percent(best['mean'])} %"
    seeds = n_words(best["n"])
    rest = []
    if panel.baseline is None:
        interval = "" if best["low"] is None else f", 95% CI {percent(best['low'])} to {percent(best['high'])}"
        headline = f"{start}{named} has the highest mean, {mean} ({seeds}{interval})."
        rest.append("There is no reference cell, so no gain is shown.")
    else:
        reference = _cell_name(panel.rows.filter(pl.col("reference")).row(0, named=True))
        if best["reference"]:
            headline = f"{start}no other cell has a higher mean than {reference}, {mean} ({seeds})."
        elif best["gain"] is None:
            headline = f"{start}{named} has the highest mean, {mean} ({seeds}); it has no pair with {reference}."
        else:
            headline = f"{start}{named} has the highest mean, {mean}: {gain_words(best)} over {reference}."
        rest.append(_tally(panel, reference))
    incomplete = panel.rows.filter(pl.col("n") < best["n"], pl.col("mean") > best["mean"])
    for row in incomplete.iter_rows(named=True):
        rest.append(
            f"{_cell_name(row)} is higher ({percent(row['mean'])} %) but has {row['n']} of {row['n_expected']} seeds."
        )
    for claim in claims:
        if claim.name == "best_is_not_the_full_set" and claim.verdict != NOT_CHECKED:
            rest.append(f"That the full set is not the best is {claim.sentence}.")
    return Answer(headline=headline[0].upper() + headline[1:], rest=" ".join(part for part in rest if part))


def gain_words(row: Mapping[str, Any]) -> str:
    """'+3.86 points (95% CI +3.07 to +4.66, Holm p 0.002, n=5 seeds)'."""
    parts = []
    if row["gain_low"] is not None:
        parts.append(f"95% CI {points(row['gain_low'])} to {points(row['gain_high'])}")
        parts.append("p undefined" if row["p_holm"] is None else f"Holm p {p_value(row['p_holm'])}")
    else:
        parts.append("no interval")
    parts.append(n_words(row["pairs"]))
    return f"{points(row['gain'])} points ({', '.join(parts)})"


def _tally(panel: Panel, reference: str) -> str:
    others = panel.rows.filter(pl.col("reference").not_())
    if others.is_empty():
        return ""
    sure = others.filter(pl.col("p_holm") < statistics.ALPHA)
    better, worse = sure.filter(pl.col("gain") > 0).height, sure.filter(pl.col("gain") < 0).height
    tested = others["p_holm"].is_not_null().sum()
    if not tested:
        return f"None of {others.height} cells can be tested against {reference} yet."
    parts = [f"{better} of {others.height} cells {'beats' if better == 1 else 'beat'} {reference} after Holm"]
    if worse:
        parts.append(f"{worse} {'falls' if worse == 1 else 'fall'} below it")
    if unsure := tested - better - worse:
        parts.append(f"{unsure} {'is' if unsure == 1 else 'are'} inconclusive")
    if untested := others.height - tested:
        parts.append(f"{untested} could not be tested")
    return "; ".join(parts) + "."


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
        rest.append(f"On the test set that is {gain_words(search.gain).replace('Holm p', 'p')} over the reference.")
    return Answer(headline=headline, rest=" ".join(rest))


def _cell_name(row: Mapping[str, Any]) -> str:
    return "no distillation" if row["orders"] == "none" else str(row["orders"] or row["label"])


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
        told = f"test-set noise floor, points ({floor[1]} {measures.tested(data.run)})"
        found.append((f"±{100 * floor[0]:.2f}", told))
    else:
        found.append(("–", f"test-set noise floor: number of {measures.tested(data.run)} unknown"))
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


def duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def detectable_gains(panel: Panel) -> dict[str, float] | None:
    """Smallest gain found with 80 % power, alone and after Holm, from the pooled SD of the differences."""
    rows = panel.rows.filter(pl.col("gain_sd").is_not_null())
    if "apart" in rows.columns:
        rows = rows.filter(~pl.col("apart"))
    if rows.is_empty():
        return None
    sd = math.sqrt(math.fsum(sd * sd for sd in rows["gain_sd"]) / rows.height)
    n = int(rows["pairs"].median())  # type: ignore[arg-type]
    if n < 2:
        return None
    tests = max(panel.tests, 1)
    return {
        "sd": sd,
        "pairs": n,
        "tests": tests,
        "alone": statistics.detectable(sd, n),
        "after_holm": statistics.detectable(sd, n, tests=tests),
    }


def cautions(data: RunData, trials: pl.DataFrame, panels: Sequence[Panel]) -> list[str]:
    """What a reader must know before believing the numbers; empty when there is nothing."""
    run = data.run
    name = str((run.get("data") or {}).get("name") or "unknown")
    found = []
    if run.get("factors") and name.lower() not in PAPER_DATA:
        found.append(
            f"Stand-in data: {name} was used, the paper used {' and '.join(PAPER_DATA)}. Numbers do not "
            "compare with it."
        )
    if (preset := run.get("preset")) and preset != "paper":
        found.append(f"Preset '{preset}', not the paper's protocol.")
    found += [str(departure) for departure in run.get("departures") or ()]
    done = trials.filter(pl.col("status") == "completed")
    seeds = done.group_by("cell").len()["len"] if done.height else pl.Series([], dtype=pl.Int64)
    if len(seeds) and int(seeds.max()) < FEW_SEEDS:  # type: ignore[arg-type]
        most = int(seeds.max())  # type: ignore[arg-type]
        text = f"At most {n_words(most)} per cell."
        text += " One seed has no interval and no test." if most == 1 else " Read the effects, not the p-values."
        found.append(text)
    for panel in panels[:1]:
        if power := detectable_gains(panel):
            found.append(
                f"With {power['pairs']} pairs this design finds gains of {100 * power['alone']:.2f} points "
                "or more "
                f"with 80 % power, {100 * power['after_holm']:.2f} after Holm over {power['tests']} tests."
            )
    lacking = {s: int((trials["status"] == s).sum()) for s in ("failed", "missing")}
    if any(lacking.values()):
        text = " and ".join(f"{count} {status}" for status, count in lacking.items() if count)
        found.append(
            f"{text} of {trials.height} trials: means are over those that finished, and failing may not be chance."
        )
    finished = data.records.filter(pl.col("status") == "completed")
    # What is tested is another set than what is trained on, where the run says so: then each must be one.
    tested = pl.col("stage") == "evaluation"
    parts = [finished.filter(tested), finished.filter(~tested)] if run.get("test_data") else [finished]
    for column, what, frames in (
        ("numerics", "numerics (versions or processors)", [finished]),
        ("data", "data fingerprints", parts),
    ):
        if (kinds := max(frame[column].drop_nulls().n_unique() for frame in frames)) > 1:
            found.append(f"The stages compared mix {kinds} {what}.")
    if text := also_trained_on(trials):
        found.append(text)
    withheld = sum(int(p.rows["note"].str.contains("another teacher").fill_null(False).sum()) for p in panels)
    if withheld:
        found.append(f"{withheld} cells hang from another teacher than their reference; their gains are withheld.")
    if data.unreadable:
        found.append(
            f"{len(data.unreadable)} of {data.files_listed} record files could not be read: "
            + "; ".join(f"{file} ({why})" for file, why in list(data.unreadable.items())[:5])
            + ("; and more" if len(data.unreadable) > 5 else "")
            + "."
        )
    if data.odd:
        found.append(
            "Strange record files: " + "; ".join(f"{f} ({why})" for f, why in list(data.odd.items())[:5]) + "."
        )
    return found


def also_trained_on(trials: pl.DataFrame) -> str:
    """How many of the classes tested have the name of one that was trained on; '' where none has."""
    values = [as_object(text).get("classes_also_trained_on") for text in trials["metrics"].unique(maintain_order=True)]
    counts = sorted({value for value in values if isinstance(value, int) and not isinstance(value, bool) and value > 0})
    if not counts:
        return ""
    count = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    if counts[-1] == 1:
        return "1 tested class has the name of a class that was trained on."
    return f"{count} tested classes have the name of a class that was trained on."

"""The sentences and cautions of a page that compares methods, made from the very rows its figures are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from analysis.arm_kinds import DISTILLED, EQUAL_COMPUTE, FLOOR
from analysis.frames.arms import Arm, equal_compute_of, our_arm
from analysis.frames.methods import Setting
from analysis.frames.pareto import COSTS, ParetoSearch
from analysis.printed import duration, p_value, percent, points
from analysis.published.reading import data_words, paper_of, paper_sets
from analysis.report.blocks import Answer
from analysis.report.wording import gain_words, n_words, proven, tally, too_few

MOST_SETTINGS = 4  # Named in the answer; the tables have all.


def answer(settings: Sequence[Setting], arms: Mapping[str, Arm]) -> Answer:
    """Ours in the first setting with a result, at equal epochs and at equal compute; then the other settings."""
    usable = [s for s in settings if s.rows.filter(pl.col("n") > 0, ~pl.col("apart")).height]
    if not usable:
        return Answer(headline="No trained method has a result yet.")
    first = usable[0]
    row = _told(first, arms)
    name = row["label"]
    start = f"At {first.title}: " if first.title else ""
    mean = f"{percent(row['mean'])} % {first.measure.words}"
    rest = []
    reference = None if first.baseline is None else first.rows.filter(cell=first.baseline)["label"][0]
    if reference is None:
        span = "" if row["low"] is None else f", 95% CI {percent(row['low'])} to {percent(row['high'])}"
        headline = f"{start}{name} reaches {mean} ({n_words(row['n'])}{span})."
        rest.append("The reference has no result here, so no gain is shown.")
    elif row["reference"]:
        headline = f"{start}{name}, the reference, reaches {mean} ({n_words(row['n'])})."
    elif row["gain"] is None:
        headline = f"{start}{name} reaches {mean} ({n_words(row['n'])}); it has no pair with {reference}."
    else:
        headline, more = _gain(first, row, reference, start, mean)
        rest.append(more)
    rest.append(_at_equal_compute(row))
    rest.append(_best(first, row))
    if over := above(first, row["arm"]):
        rest.append(f"{over}.")
    if reference is not None:
        rest.append(_tally(first, reference))
    others = [_short(setting, arms) for setting in usable[1:MOST_SETTINGS]]
    if others:
        more = f"; {len(usable) - MOST_SETTINGS} more in the tables" if len(usable) > MOST_SETTINGS else ""
        rest.append(f"Elsewhere: {'; '.join(others)}{more}.")
    return Answer(headline=headline[0].upper() + headline[1:], rest=" ".join(part for part in rest if part))


def _gain(setting: Setting, row: Mapping[str, Any], reference: str, start: str, mean: str) -> tuple[str, str]:
    """Headline and what follows: ours where its gain passes, else the best that passes, else that none does."""
    words = f"{row['label']} reaches {mean}: {gain_words(row)} over {reference} at equal epochs"
    passing = proven(setting.rows)
    if row["arm"] in passing["arm"] or row["p_dunnett"] is None:
        return f"{start}{words}.", "" if setting.rows["p_dunnett"].is_not_null().any() else too_few(setting.rows)
    better = passing.filter(pl.col("gain") > 0, pl.col("kind").is_in(DISTILLED))
    if better.is_empty():
        return f"{start}{words}, which does not pass.", ""
    top = better.sort("gain", descending=True, maintain_order=True).row(0, named=True)
    first = f"{top['label']} beats {reference} at equal epochs: {percent(top['mean'])} %, {gain_words(top)}"
    return f"{start}{first}.", f"{words}, which does not pass."


def _told(setting: Setting, arms: Mapping[str, Arm]) -> dict[str, Any]:
    """The row an answer is about: ours, else the best."""
    done = setting.rows.filter(pl.col("n") > 0, ~pl.col("apart"))
    ours = our_arm(arms, done["arm"].to_list())
    wanted = pl.col("arm") == ours if ours is not None else pl.col("best")
    return done.filter(wanted).row(0, named=True)


def _at_equal_compute(row: Mapping[str, Any]) -> str:
    if row["compute_gain"] is None:
        return ""
    span = "no interval"
    if row["compute_low"] is not None:
        span = f"95% CI {points(row['compute_low'])} to {points(row['compute_high'])}"
        p = row["compute_p_holm"]
        span += ", too few to judge" if p is None else f", Holm p {p_value(p)}"
    words = f"{points(row['compute_gain'])} points ({span}, {n_words(row['compute_pairs'])})"
    times = ""
    if row["train_seconds"] is not None and row["compute_seconds"] is not None:
        clock = f" ({row['train_clock']} time)" if row["train_clock"] else ""
        times = f", which trained {duration(row['compute_seconds'])} where it trained {duration(row['train_seconds'])}{clock}"
    return f"At equal multiply-adds it is {words} over {row['compute_against']}{times}."


def _best(setting: Setting, told: Mapping[str, Any]) -> str:
    best = setting.rows.filter("best")
    if best.is_empty() or best["arm"][0] == told["arm"]:
        others = setting.rows.filter(pl.col("n") > 0, ~pl.col("apart")).height - 1
        return "No other trained method has a higher mean." if others else ""
    which = f"{best['label'][0]} has the highest mean"
    if told["n"] < best["n"][0]:
        which = f"Of the methods with {n_words(best['n'][0])} {which}"
    return f"{which}, {percent(best['mean'][0])} %."


def above(setting: Setting, arm: str) -> str:
    """'Raw pixels: 80.00 % untrained, above every trained network here': floors above an arm's mean; '' without one."""
    done = setting.rows.filter(pl.col("n") > 0)
    told, floors, trained = done.filter(arm=arm), done.filter(kind=FLOOR), done.filter(pl.col("kind") != FLOOR)
    over = floors.filter(pl.col("mean") > told["mean"][0]) if told.height else floors.clear()
    words = []
    for row in over.sort("mean", descending=True, maintain_order=True).iter_rows(named=True):
        higher = trained.filter(pl.col("mean") >= row["mean"])
        whom = told["label"][0]
        if higher.is_empty():
            whom = "every trained network here"
        elif higher["apart"].all():
            whom = "every method compared here"
        side = row["resolution"] if row["resolution"] != setting.side else None
        where = f" of {side}×{side} images" if side else ""
        words.append(f"{row['label']}: {percent(row['mean'])} %{where} untrained, above {whom}")
    return "; ".join(words)


def _tally(setting: Setting, reference: str) -> str:
    others = setting.rows.filter(pl.col("kind").is_in(DISTILLED), ~pl.col("apart"))
    # Where nothing was tested the answer has said why.
    if others.height < 2 or setting.rows["p_dunnett"].null_count() == setting.rows.height:
        return ""
    return tally(others, reference, "distillation method", others["label"].to_list())


def _short(setting: Setting, arms: Mapping[str, Arm]) -> str:
    row = _told(setting, arms)
    gain = ""
    if row["gain"] is not None:
        span = "" if row["gain_low"] is None else f" [{points(row['gain_low'])}, {points(row['gain_high'])}]"
        gain = f", gain {points(row['gain'])}{span}"
    return f"{setting.title}: {row['label']} {percent(row['mean'])} %{gain}"


def cautions(run: Mapping[str, Any], settings: Sequence[Setting], arms: Mapping[str, Arm]) -> list[str]:
    """What is particular to a comparison of methods: stand-in data, no reference, no equal compute, uneven tuning."""
    found = []
    data = data_words(run)
    if "not the paper's data" in data:
        known = {str(entry.get("dataset")) for entry in run.get("published") or () if isinstance(entry, Mapping)}
        theirs = ", ".join(sorted(known & set(paper_sets(paper_of(run))))) or "other images"
        found.append(f"Stand-in data: {data.removeprefix('on ').partition(',')[0]}; the paper used {theirs}.")
    elif "part of" in data:
        found.append(f"Only {data.removeprefix('on ')} was used; numbers do not compare with the paper's.")
    left_out = run.get("left_out")
    for arm, why in left_out.items() if isinstance(left_out, Mapping) else ():
        found.append(f"Left out: {arm} ({why}).")
    lacking = [setting.title or "this study" for setting in settings if setting.baseline is None]
    if lacking:
        found.append(
            f"No result of the reference, so no gain: {', '.join(lacking[:4])}{' and more' * (len(lacking) > 4)}."
        )
    usable = [s for s in settings if s.rows.filter(pl.col("n") > 0, ~pl.col("apart")).height]
    # The answer says it of the first.
    for setting in usable[1:]:
        if over := above(setting, _told(setting, arms)["arm"]):
            found.append(f"At {setting.title}, {over}.")
    trained = any(arm.kind in DISTILLED for arm in arms.values())
    if trained and not any(arm.kind == EQUAL_COMPUTE for arm in arms.values()):
        found.append(
            "Gains are at equal epochs; the study has no arm on labels alone with the compute distillation takes."
        )
    if run.get("tuned"):
        found.extend(_uneven(settings))
    shared = sorted({label for setting in settings for label in setting.rows.filter(n_expected=1, n=1)["label"]})
    if shared and any(int(s.trials["seed"].n_unique()) > 1 for s in settings):
        found.append(f"One reading for all seeds, so no interval: {', '.join(shared)}.")
    withheld = sum(
        int(setting.rows["note"].str.contains("another teacher").fill_null(False).sum()) for setting in settings
    )
    if withheld:
        found.append(
            f"{withheld} gains are withheld: those methods hang from another teacher than what they compare with."
        )
    return found


def without_control(settings: Sequence[Setting], arms: Mapping[str, Arm]) -> str:
    """Which distilled arms have no gain at equal compute as no arm was given theirs; '' where all have one, or none."""
    shown = [name for name in arms if any(name in setting.cells for setting in settings)]
    lacking = [n for n in shown if arms[n].kind in DISTILLED and equal_compute_of(arms[n], arms) is None]
    if not lacking or not any(arms[name].kind == EQUAL_COMPUTE for name in shown):
        return ""
    titles = ", ".join(arms[name].title for name in lacking)
    return (
        f"No gain at equal compute, and no part in its tests: {titles}. No arm on labels alone was given the "
        "multiply-adds of that route with those networks."
    )


def _uneven(settings: Sequence[Setting]) -> list[str]:
    rows = pl.concat([setting.rows for setting in settings]).filter(~pl.col("apart"))
    counts = sorted(set(rows.filter(pl.col("n") > 0)["tried"]))
    if len(counts) < 2:
        return []
    fewest = sorted(set(rows.filter(pl.col("tried") == counts[0])["label"]))
    return [
        f"Tuning was not equal: {', '.join(fewest)} had {counts[0]} setting{'' if counts[0] == 1 else 's'} to choose "
        f"from, others up to {counts[-1]}."
    ]


def pareto_answer(search: ParetoSearch) -> Answer:
    """How many cells are on the front, and its two ends."""
    front = search.cells.filter("front")
    done = search.cells.filter(pl.col("status") == "completed").height
    if front.is_empty():
        return Answer(headline="No cell of the search has a validation score and a cost yet.")
    words = search.measure.words
    best = front.sort("value", "cell", descending=[True, False]).row(0, named=True)
    cheap = front.sort(search.cost, "cell").row(0, named=True)
    cost = COSTS[search.cost]
    headline = (
        f"{front.height} of {done} completed cells {'is' if front.height == 1 else 'are'} beaten by none in both "
    )
    headline += f"validation {words} and {cost}."
    rest = [f"The best, {best['label']}, has {percent(best['value'])} % with {best[search.cost]:,.0f} {cost}"]
    if best["test"] is not None:
        rest[0] += f" ({percent(best['test'])} % on test, {n_words(best['n'])})"
    if cheap["cell"] != best["cell"]:
        rest[0] += f"; the cheapest, {cheap['label']}, {percent(cheap['value'])} % with {cheap[search.cost]:,.0f}"
    return Answer(headline=headline, rest=rest[0] + ".")

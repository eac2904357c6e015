"""The tables of a page that compares methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from analysis import statistics
from analysis.arm_kinds import FLOOR, TEACHER
from analysis.frames.arms import Arm
from analysis.frames.measures import Measure, TaskWords, different_pairs
from analysis.frames.methods import Setting
from analysis.frames.pareto import COSTS, ParetoSearch, with_front
from analysis.load import as_object
from analysis.printed import big, duration, gain_interval, interval, p_value, percent, points
from analysis.published.reading import Beside
from analysis.report.blocks import Column, Table

MEASURE_SCHEMA: dict[str, Any] = {
    "setting": pl.String,
    "arm": pl.String,
    "label": pl.String,
    "name": pl.String,
    "n": pl.Int64,
    **dict.fromkeys(("mean", "sd", "low", "high"), pl.Float64),
    "note": pl.String,  # Why there is no mean, else null.
}


def _p(row: Mapping[str, Any], name: str) -> str | None:
    value = None if row["apart"] else row[name]
    return None if value is None else p_value(value)


def training_times(row: Mapping[str, Any]) -> str:
    """'12.0 s, 14.0 s CPU': mean training time of a method and of labels alone at equal compute; '' without both."""
    times = (row["train_seconds"], row["compute_seconds"])
    if row["compute_gain"] is None or None in times:
        return ""
    return f"{', '.join(map(duration, times))} {row['train_clock'] or ''}".strip()


def methods_table(setting: Setting, name: str, *, chance: float | None) -> Table:
    """All arms of a setting: score, both gains, validation, costs; floors below, chance last."""
    paired = setting.baseline is not None
    rows = setting.rows.to_dicts()
    compute = any(row["compute_against"] for row in rows)
    columns = [
        Column(heading="method", number=False),
        Column(heading=setting.measure.heading, show=percent),
        Column(heading="95% CI"),
    ]
    if paired:
        columns += [
            Column(heading="gain", show=points),
            Column(heading="95% CI of the gain"),
            Column(heading="p Dunnett"),
        ]
    if compute:
        columns += [
            Column(heading="gain at equal compute", show=points),
            Column(heading="its 95% CI"),
            Column(heading="its p Holm"),
            Column(heading="training, both"),
        ]
    columns += [Column(heading="seeds")]
    body = []
    for row in rows:
        own: list[Any] = [named(row, setting.side), row["mean"]]
        own.append(interval(row["low"], row["high"], row["n"]) if row["n"] else "no result")
        if paired:
            own += [row["gain"], gain_interval(row["gain_low"], row["gain_high"], row["pairs"]), _p(row, "p_dunnett")]
        if compute:
            span = gain_interval(row["compute_low"], row["compute_high"], row["compute_pairs"])
            own += [row["compute_gain"], span, _p(row, "compute_p_holm") if row["compute_pairs"] else None]
            own += [training_times(row) or None]
        own.append(row["n"] if row["n"] == row["n_expected"] else f"{row['n']} of {row['n_expected']}")
        body.append(own)
    if chance is not None:
        body.append(["chance", chance, "expected", *[None] * (len(columns) - 3)])
    best = frozenset(index for index, row in enumerate(rows) if row["best"])
    return Table(name=name, caption=_caption(setting, paired, rows), columns=columns, rows=body, best=best)


def networks_table(settings: Sequence[Setting], tuned: str) -> Table:
    """What every method trains and costs, with its validation score; one row per method and setting."""
    several = len(settings) > 1
    columns = [Column(heading="setting", number=False)] if several else []
    columns += [Column(heading="method", number=False), Column(heading="reads, px")]
    columns += [Column(heading=h, show=big) for h in ("parameters", "multiply-adds an image")]
    clock = next(
        (row["train_clock"] for s in settings for row in s.rows.iter_rows(named=True) if row["train_clock"]), ""
    )
    columns += [
        Column(heading="epochs"),
        Column(heading=f"training, {clock} time" if clock else "training", show=duration),
    ]
    columns += [Column(heading="validation %", show=percent)]
    if tuned:
        columns += [Column(heading=f"{tuned} chosen"), Column(heading="of")]
    body = []
    for setting in settings:
        for row in setting.rows.iter_rows(named=True):
            own: list[Any] = [setting.title] if several else []
            own += [row["label"], row["resolution"], row["parameters_count"], row["macs"], row["epochs"] or None]
            own += [row["train_seconds"] if row["epochs"] else None, row["validation_mean"]]
            body.append([*own, row["tuning"], row["tried"]] if tuned else own)
    caption = "The network that is evaluated: mean training time over seeds, without that of its guides."
    caption += " Wall time grows with what else the machine did." if clock == "wall" else ""
    if tuned:
        caption += f" '{tuned}' was chosen on validation in each setting; the others of a method enter nothing here."
    return Table(name="networks", caption=caption, columns=columns, rows=body)


def named(row: Mapping[str, Any], side: int | None) -> str:
    """The title with what sets the row apart: the reference, a floor, another side."""
    mark = "reference" if row["reference"] else {TEACHER: "teacher", FLOOR: "floor"}.get(row["kind"])
    marks = [mark] if mark and mark not in row["label"].lower() else []
    if row["apart"] and row["resolution"] not in (None, side) and side is not None:
        marks.append(f"reads {row['resolution']}×{row['resolution']}")
    return row["label"] + (f" ({', '.join(marks)})" if marks else "")


def _caption(setting: Setting, paired: bool, rows: Sequence[Mapping[str, Any]]) -> str:
    where = f", {setting.title}" if setting.title else ""
    caption = f"Test {setting.measure.words}{where}: mean and 95% t-interval over seeds."
    untested = any(row["apart"] for row in rows)
    if paired:
        caption += f" Gain: paired by seed, over the reference at equal epochs; p adjusted for {_tests(setting.tests)}"
        caption += " (not of teachers, floors and what reads another side)." if untested else "."
    against = sorted({row["compute_against"] for row in rows if row["compute_against"]})
    if against:
        caption += f" At equal compute, which is equal multiply-adds and not equal time: over {' or '.join(against)}; "
        caption += f"Holm over {_tests(setting.compute_tests)}; beside it the mean training time of both, no guides'."
    return caption


def _tests(count: int) -> str:
    return f"{count} test{'' if count == 1 else 's'}"


def measure_frame(settings: Sequence[Setting], words: TaskWords) -> pl.DataFrame:
    """One row per setting, arm and number of the evaluation, columns of MEASURE_SCHEMA; with errors where the task has them.

    A rate that the test pairs cannot show has no mean, and its note says how many there were.
    """
    rows = []
    for setting in settings:
        for row in setting.rows.filter(pl.col("n") > 0).iter_rows(named=True):
            own = setting.trials.filter(cell=row["cell"], status="completed").unique("key", maintain_order=True)
            values: dict[str, list[float]] = {}
            negatives: list[int] = []
            for text, items in own.select("metrics", "items").iter_rows():
                numbers = words.with_errors(as_object(text))
                if (count := different_pairs(numbers, items)) is not None:
                    negatives.append(count)
                for name, value in numbers.items():
                    if isinstance(value, int | float) and not isinstance(value, bool):
                        values.setdefault(name, []).append(value)
            fewest = min(negatives, default=None)
            for name in sorted(values):
                shown = words.measurable(name, fewest)
                bounds = statistics.RATE if words.is_rate(name) else None
                s = statistics.summarise(values[name] if shown else (), bounds=bounds)
                note = None if shown else f"not measurable with {fewest}"
                rows.append((setting.title, row["arm"], row["label"], name, s.n, s.mean, s.sd, s.low, s.high, note))
    return pl.DataFrame(rows, schema=MEASURE_SCHEMA, orient="row")


def measures_table(frame: pl.DataFrame, words: TaskWords, primary: Measure) -> Table | None:
    """The other metrics of the task, mean and interval in one column each; None when there is none."""
    present = set(frame.filter((pl.col("n") > 0) | pl.col("note").is_not_null())["name"])
    shown = [other for other in words.numbers if other.name in present and other.name != primary.name]
    if not shown:
        return None
    several = frame["setting"].n_unique() > 1
    columns = [Column(heading="setting", number=False)] if several else []
    columns += [Column(heading="method", number=False)] + [Column(heading=other.heading) for other in shown]
    body = []
    for (setting, _arm), own in frame.group_by("setting", "arm", maintain_order=True):
        by_name = {row["name"]: row for row in own.iter_rows(named=True)}
        cells = [_mean_and_interval(by_name.get(other.name), other) for other in shown]
        body.append([*([setting] if several else []), own["label"][0], *cells])
    caption = "Other metrics on the test split: mean and 95% t-interval over seeds, inside what a rate can be."
    if frame["note"].is_not_null().any():
        caption += " Not measurable with n: n pairs of two people show no rate of false accepts below 1 / n."
    return Table(name="measures", caption=caption, columns=columns, rows=body)


def _mean_and_interval(row: Mapping[str, Any] | None, measure: Measure) -> str | None:
    if row is None or row["mean"] is None:
        return None if row is None else row["note"]
    scale, digits = (100, 2) if measure.percent else (1, 4)
    text = f"{scale * row['mean']:.{digits}f}"
    if row["low"] is not None:
        text += f" [{scale * row['low']:.{digits}f}, {scale * row['high']:.{digits}f}]"
    return text


def resolution_table(curves: Sequence[tuple[str, pl.DataFrame]], measure: Measure) -> Table:
    """Score, gain and retained share of each arm at each side."""
    several = len(curves) > 1
    columns = [Column(heading="setting", number=False)] if several else []
    columns += [Column(heading="method", number=False), Column(heading="side, px")]
    columns += [Column(heading=measure.heading, show=percent), Column(heading="95% CI"), Column(heading="retained %")]
    columns += [Column(heading="gain", show=points), Column(heading="95% CI of the gain"), Column(heading="seeds")]
    body = []
    for title, frame in curves:
        for row in frame.iter_rows(named=True):
            kept = None if row["retained"] is None else f"{100 * row['retained']:.1f}"
            body.append(
                [
                    *([title] if several else []),
                    row["label"],
                    row["resolution"],
                    row["mean"],
                    interval(row["low"], row["high"], row["n"]),
                    kept,
                    row["gain"],
                    gain_interval(row["gain_low"], row["gain_high"], row["pairs"]),
                    row["n"],
                ]
            )
    caption = f"Test {measure.words} by side; retained: of the method's own score at its largest side."
    return Table(name="resolution", caption=caption, columns=columns, rows=body)


def matrix_table(rows: pl.DataFrame, measure: Measure) -> Table:
    """The cross-evaluation as a list: method, trained at, tested at."""
    columns = [
        Column(heading="method", number=False),
        Column(heading="trained at, px"),
        Column(heading="tested at, px"),
    ]
    columns += [Column(heading=measure.heading, show=percent), Column(heading="95% CI"), Column(heading="seeds")]
    body = [
        [r["label"], r["trained"], r["tested"], r["mean"], interval(r["low"], r["high"], r["n"]), r["n"]]
        for r in rows.iter_rows(named=True)
    ]
    caption = f"Test {measure.words} by the side trained at and the side of the test images."
    return Table(name="cross_evaluation", caption=caption, columns=columns, rows=body)


def published_table(found: Sequence[Beside], paper: str) -> Table:
    """The paper's numbers beside ours, as the paper prints them (errors stay errors)."""
    columns = [Column(heading=h, number=False) for h in ("in the paper", "its data")]
    columns += [Column(heading="paper %", show=lambda value: f"{value:.2f}"), Column(heading="ours", number=False)]
    columns += [Column(heading="ours %", show=percent), Column(heading="95% CI"), Column(heading="seeds")]
    columns += [Column(heading="difference", show=lambda value: f"{value:+.2f}")]
    columns += [Column(heading="comparable?", number=False), Column(heading="about theirs", number=False)]
    body = []
    for item in found:
        s, number = item.ours, item.number
        words = item.data if s.n or item.where != "not run" else "not run"
        if item.data == "the paper's data" and s.n and not item.exact:
            words += ", other side"
        error = " (error)" if number.metric.endswith("_error") else ""
        side = f", {number.resolution.replace('x', '×')}" if number.resolution else ""
        body.append(
            [
                f"{number.table}, {number.method}{error}",
                f"{number.dataset}{side}",
                number.value,
                f"{item.arm}, {item.where}" if item.where != "not run" else "not run",
                s.mean,
                interval(s.low, s.high, s.n) if s.n else None,
                s.n or None,
                item.difference,
                words,
                number.note or None,
            ]
        )
    caption = f"Numbers printed in {paper} beside ours; a difference is shown on the paper's whole data set only."
    return Table(name="published", caption=caption, columns=columns, rows=body)


def front_table(frame: pl.DataFrame, cost: str, measure: Measure) -> Table:
    """The arms and settings that no other beats at their cost, cheapest first."""
    columns = [Column(heading="method", number=False), Column(heading="setting", number=False)]
    columns += [Column(heading=COSTS[cost], show=big), Column(heading=measure.heading, show=percent)]
    columns += [Column(heading="95% CI"), Column(heading="seeds")]
    body = [
        [row["label"], row["setting"], row[cost], row["mean"], interval(row["low"], row["high"], row["n"]), row["n"]]
        for row in with_front(frame, cost).filter("front").sort(cost).iter_rows(named=True)
    ]
    caption = f"Nothing has a higher mean test {measure.words} with as few {COSTS[cost]}."
    return Table(name=f"front_{cost}", caption=caption, columns=columns, rows=body)


def pareto_search_table(search: ParetoSearch) -> Table:
    """The front of a search: what was drawn, cost, validation and, of the front alone, test."""
    columns = [Column(heading=name.split(".")[-1].replace("_", " "), number=False) for name in search.varied]
    columns += [Column(heading=COSTS[search.cost], show=big)]
    columns += [Column(heading="validation %", show=percent), Column(heading="95% CI"), Column(heading="seeds")]
    columns += [Column(heading="test %", show=percent), Column(heading="its 95% CI")]
    body = []
    for row in search.cells.filter("front").iter_rows(named=True):
        own = [row[f"parameter {name}"] for name in search.varied]
        own += [row[search.cost], row["value"], interval(row["low"], row["high"], row["n"]), row["n"], row["test"]]
        body.append([*own, interval(row["test_low"], row["test_high"], row["n"])])
    words = search.measure.words
    caption = f"The front by validation {words}, cheapest first; test {words} of the front only."
    return Table(name="front", caption=caption, columns=columns, rows=body)


def titles(arms: Mapping[str, Arm]) -> dict[str, str]:
    """Title of each arm by name."""
    return {name: arm.title for name, arm in arms.items()}

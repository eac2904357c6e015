"""Which method is better, at equal epochs and at equal compute? Estimates for studies that compare arms.

An arm is a method; a setting is what the other axes (resolution, network) say, and every arm of a setting is run
under the same seeds. An arm that an axis means nothing to (a teacher, raw pixels) belongs to every value of that axis.
Scores are fractions; drawing and wording are elsewhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis import statistics
from analysis.arm_kinds import DISTILLED, EQUAL_COMPUTE, FLOOR, TEACHER, UNTESTED
from analysis.frames.arms import ORDER, Arm, arms_of, equal_compute_of, reference_arm
from analysis.frames.measures import Measure, chance_of, of_run
from analysis.frames.order_ablation import Panel
from analysis.load import as_object
from analysis.statistics import Gain, many_to_one

ARM, TEST_RESOLUTION = "arm", "test_resolution"

ROW_SCHEMA: dict[str, Any] = {
    "arm": pl.String,
    "cell": pl.String,
    "label": pl.String,
    "kind": pl.String,
    "tuning": pl.String,  # The chosen value of the tuned axis, null where nothing was tuned.
    "tried": pl.Int64,  # Readings that the arm's tuning had to choose from.
    "resolution": pl.Int64,
    "n": pl.Int64,
    "n_expected": pl.Int64,
    "n_failed": pl.Int64,
    **dict.fromkeys(("mean", "sd", "low", "high", "minimum", "maximum", "validation_mean"), pl.Float64),
    "pairs": pl.Int64,
    **dict.fromkeys(
        ("gain", "gain_sd", "gain_low", "gain_high", "p", "p_holm", "p_dunnett", "effect_size"), pl.Float64
    ),
    "note": pl.String,
    "compute_against": pl.String,  # Label of the arm with equal compute, null without one.
    "compute_pairs": pl.Int64,
    **dict.fromkeys(("compute_gain", "compute_low", "compute_high", "compute_p", "compute_p_holm"), pl.Float64),
    "compute_note": pl.String,
    "compute_seconds": pl.Float64,  # Mean training time of that arm.
    "chance": pl.Float64,
    "parameters_count": pl.Int64,
    "macs": pl.Int64,
    "epochs": pl.Int64,
    "train_seconds": pl.Float64,
    "train_clock": pl.String,
    "apart": pl.Boolean,  # Beside the tests: teachers, floors, and what reads another side than the setting is about.
    "reference": pl.Boolean,
    "best": pl.Boolean,
    "orders": pl.String,  # Always null: an arm is no order set.
    "group": pl.Int64,  # Rows of a kind belong together.
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The arms under one value of the other axes, each with the tuning chosen for it."""

    title: str  # '' when there is only one setting.
    values: Mapping[str, Any]  # Axis -> value.
    rows: pl.DataFrame  # ROW_SCHEMA, in drawing order.
    trials: pl.DataFrame  # Of the chosen cells.
    cells: Mapping[str, str]  # Arm -> chosen cell.
    baseline: str | None  # The chosen cell of the reference; None when it has no result.
    tests: int  # How many arms are tested against the reference at equal epochs,
    compute_tests: int  # and at equal compute, each against its own arm (Holm).
    measure: Measure

    def scores(self, arm: str) -> dict[int, float]:
        """Finite scores of an arm by seed; empty when it has none."""
        own = self.trials.filter(pl.col("cell") == pl.lit(self.cells.get(arm), dtype=pl.String))
        return scores_by_seed(own)

    @property
    def side(self) -> int | None:
        """What the arms that are tested read."""
        sides = self.rows.filter(~pl.col("apart"))["resolution"].drop_nulls()
        return sides[0] if len(sides) else None

    def row(self, arm: str) -> dict[str, Any] | None:
        """The arm's row when it has a result."""
        found = self.rows.filter(pl.col("arm") == arm, pl.col("n") > 0)
        return found.row(0, named=True) if found.height else None


def setting_axes(cells: pl.DataFrame, tuned: str | None) -> list[str]:
    """Names of the axes that make settings: not the arm, not the tuned one, not the side of the test images."""
    values: dict[str, set[str]] = {}
    for parameters in cells["parameters"]:
        for name, value in as_object(parameters).items():
            values.setdefault(name, set()).add(json.dumps(value, sort_keys=True))
    special = (ARM, tuned)
    return [
        name
        for name, seen in values.items()
        if len(seen) > 1 and name not in special and name.split(".")[-1] != TEST_RESOLUTION
    ]


def is_side(name: str) -> bool:
    """Whether an axis is the side of what a network reads."""
    return name.split(".")[-1] == "resolution"


def setting_title(values: Mapping[str, Any]) -> str:
    """'16×16 pixels, resnet18' for people."""
    words = []
    for name, value in values.items():
        last = name.split(".")[-1]
        if is_side(name):
            words.append("images as they are" if value is None else f"{value}×{value} pixels")
        else:
            words.append(str(value) if last == "architecture" else f"{last.replace('_', ' ')} {value}")
    return ", ".join(words)


def settings(run: Mapping[str, Any], cells: pl.DataFrame, trials: pl.DataFrame) -> list[Setting]:
    """One setting per combination of the other axes, in the cells' order; those without a single trial are left out."""
    arms = arms_of(run, trials)
    tuned = run.get("tuned")
    axes = setting_axes(cells, tuned)
    points = {cell: as_object(parameters) for cell, parameters in cells.select("cell", "parameters").iter_rows()}
    combinations: dict[str, dict[str, Any]] = {}
    for point in points.values():
        if all(axis in point for axis in axes):
            values = {axis: point[axis] for axis in axes}
            combinations.setdefault(json.dumps(values, sort_keys=True), values)
    if not combinations:  # Every arm ignores some axis: what there is makes one setting.
        combinations, axes = {"": {}}, []
    by_cell = {group["cell"][0]: group for group in trials.partition_by("cell", maintain_order=True)}
    found = []
    for values in combinations.values():
        members: dict[str, list[str]] = {}
        for cell, point in points.items():
            fits = all(point.get(axis, value) == value for axis, value in values.items())
            if fits and cell in by_cell and point.get(ARM) is not None:
                members.setdefault(str(point[ARM]), []).append(cell)
        chosen = {arm: _choose(own, by_cell, tuned) for arm, own in members.items()}
        if chosen:
            found.append(_setting(run, arms, values, chosen, points, by_cell, tuned))
    return found


def _choose(
    cells: Sequence[str],
    by_cell: Mapping[str, pl.DataFrame],
    tuned: str | None,
) -> tuple[str, int]:
    """The arm's cell in a setting, and how many different readings its tuning had.

    Chosen by the highest mean validation score among those with the most seeds, of equal ones the first.
    Only the network's own test resolution counts, where it was read at that.
    """
    candidates = list(tested_as_trained(cells, by_cell))
    rated = []
    readings = set()
    for place, cell in enumerate(candidates):
        done = by_cell[cell].filter(pl.col("status") == "completed")
        value = statistics.summarise(done["validation_score"]).mean
        rated.append((done.height, -math.inf if value is None else value, -place, cell))
        readings.add(tuple(by_cell[cell].sort("seed")["key"]))
    if tuned is None:  # Nothing to choose: the first with a result.
        best = next((cell for height, _, _, cell in rated if height), candidates[0])
        return best, 1
    return max(rated)[-1], len(readings)


def tested_as_trained(cells: Sequence[str], by_cell: Mapping[str, pl.DataFrame]) -> list[str]:
    """Of an arm's cells those whose test images were not reduced below what the network reads."""

    def reduced(cell: str) -> int:
        seen, own = by_cell[cell].row(0, named=True)["test_resolution"], by_cell[cell]["resolution"].max()
        if seen is None:
            return 0
        return 1 if own is not None and seen == own else 2

    least = min(reduced(cell) for cell in cells)
    return [cell for cell in cells if reduced(cell) == least]


def scores_by_seed(trials: pl.DataFrame) -> dict[int, float]:
    """Finite scores of completed trials."""
    done = trials.filter(pl.col("status") == "completed", pl.col("score").is_finite())
    return dict(done.select("seed", "score").iter_rows())


def readings(trials: pl.DataFrame, column: str = "score") -> list[float]:
    """The values of completed trials, a reading that several seeds share (raw pixels have none) counted once."""
    done = trials.filter(pl.col("status") == "completed", pl.col(column).is_finite())
    return done.unique("key", maintain_order=True)[column].to_list()


def _gain(ours: pl.DataFrame, theirs: pl.DataFrame | None, our_kind: str, their_kind: str | None) -> Gain:
    if theirs is None:
        return Gain(pairs=0, note="nothing to compare with")
    keys = [
        dict(frame.select("seed", "teacher").iter_rows()) if kind in DISTILLED else {}
        for frame, kind in ((ours, our_kind), (theirs, their_kind))
    ]
    try:
        return statistics.paired_gain(scores_by_seed(ours), scores_by_seed(theirs), teachers=(keys[0], keys[1]))
    except ValueError:
        return Gain(pairs=0, note="hangs from another teacher than the reference: not compared")


def _setting(
    run: Mapping[str, Any],
    arms: Mapping[str, Arm],
    values: Mapping[str, Any],
    chosen: Mapping[str, tuple[str, int]],
    points: Mapping[str, Mapping[str, Any]],
    by_cell: Mapping[str, pl.DataFrame],
    tuned: str | None,
) -> Setting:
    names = [name for name in arms if name in chosen]
    own = {name: by_cell[chosen[name][0]] for name in names}
    reference = reference_arm(run, arms)
    if reference not in own or not scores_by_seed(own[reference]):
        reference = None
    elsewhere = _read_elsewhere(values, own, {name: points[chosen[name][0]] for name in names})
    rows, gains, computes = [], [], []
    for name in names:
        arm, frame = arms[name], own[name]
        cell, tried = chosen[name]
        against = equal_compute_of(arm, arms) if name not in elsewhere else None
        against = against if against in own and scores_by_seed(own[against]) else None
        theirs = own[reference] if reference is not None and reference != name else None
        gain = _gain(frame, theirs, arm.kind, arms[reference].kind if reference else None)
        same = _gain(frame, own[against] if against else None, arm.kind, EQUAL_COMPUTE)
        gains.append(gain)
        computes.append(same)
        choice = points[cell].get(tuned) if tuned else None
        rows.append(
            _about(frame)
            | {
                "arm": name,
                "cell": cell,
                "label": arm.title,
                "kind": arm.kind,
                "tuning": None if choice is None else str(choice),
                "tried": tried,
                **_gain_columns(gain, name == reference or reference is None),
                **_compute_columns(same, arms[against] if against else None, own[against] if against else None),
                "reference": name == reference,
                "best": False,
                "apart": arm.kind in UNTESTED or name in elsewhere,
                "group": ORDER[TEACHER] if name in elsewhere and arm.kind != FLOOR else ORDER[arm.kind],
            }
        )
    _adjust(rows, gains, computes)
    _mark_best(rows)
    rows.sort(key=_place)
    cells = {name: chosen[name][0] for name in names}
    return Setting(
        title=setting_title(values),
        values=values,
        rows=pl.DataFrame(rows, schema=ROW_SCHEMA, orient="row"),
        trials=pl.concat([own[name] for name in names]),
        cells=cells,
        baseline=cells[reference] if reference is not None else None,
        tests=sum(row["p_holm"] is not None for row in rows),
        compute_tests=sum(row["compute_p_holm"] is not None for row in rows),
        measure=of_run(run),
    )


def _read_elsewhere(
    values: Mapping[str, Any], own: Mapping[str, pl.DataFrame], points: Mapping[str, Mapping[str, Any]]
) -> set[str]:
    """Arms that have no part in the setting's resolution and were read at another side than those that have."""
    sides = [axis for axis in values if is_side(axis)]
    with_part = [name for name in own if all(axis in points[name] for axis in sides)]
    theirs = {side for name in with_part for side in own[name]["resolution"].drop_nulls()}
    return {
        name
        for name in own
        if name not in with_part and theirs and not theirs & set(own[name]["resolution"].drop_nulls())
    }


def _about(frame: pl.DataFrame) -> dict[str, Any]:
    """The columns of a row that its own trials tell."""
    done = frame.filter(pl.col("status") == "completed", pl.col("score").is_finite())
    values = readings(frame)
    # Seeds that share one reading are one result, not several that agree.
    shared = len(values) == 1 and done.height > 1
    s = statistics.summarise(values, n_expected=1 if shared else frame.height, bounds=statistics.RATE)
    chances = {found for text in done["metrics"] if (found := chance_of(as_object(text))) is not None}

    def first(name: str) -> Any:
        column = frame[name].drop_nulls()
        return column[0] if len(column) else None

    return {
        "resolution": first("resolution"),
        "n": s.n,
        "n_expected": s.n_expected,
        "n_failed": int((frame["status"] == "failed").sum()),
        "mean": s.mean,
        "sd": s.sd,
        "low": s.low,
        "high": s.high,
        "minimum": s.minimum,
        "maximum": s.maximum,
        "validation_mean": statistics.summarise(readings(frame, "validation_score")).mean,
        "chance": math.fsum(chances) / len(chances) if chances else None,
        "parameters_count": first("parameters_count"),
        "macs": first("macs"),
        "epochs": first("epochs"),
        "train_seconds": _train_seconds(frame),
        "train_clock": first("train_clock"),
        "orders": None,
    }


def _train_seconds(frame: pl.DataFrame) -> float | None:
    """Mean training time of the measured networks, without their guides."""
    return statistics.summarise(readings(frame, "train_seconds")).mean


def _gain_columns(gain: Gain, none: bool) -> dict[str, Any]:
    names = ("pairs", "gain", "gain_sd", "gain_low", "gain_high", "p", "effect_size", "note")
    if none:
        return dict.fromkeys(names)
    values = (gain.pairs, gain.mean, gain.sd, gain.low, gain.high, gain.p, gain.effect_size, gain.note)
    return dict(zip(names, values, strict=True))


def _compute_columns(same: Gain, against: Arm | None, theirs: pl.DataFrame | None) -> dict[str, Any]:
    return {
        "compute_against": against.title if against else None,
        "compute_pairs": same.pairs if against else None,
        "compute_gain": same.mean,
        "compute_low": same.low,
        "compute_high": same.high,
        "compute_p": same.p,
        "compute_note": same.note if against else None,
        "compute_seconds": _train_seconds(theirs) if theirs is not None else None,
    }


def _adjust(rows: Sequence[dict[str, Any]], gains: Sequence[Gain], computes: Sequence[Gain]) -> None:
    """Give every row its p-values over all arms that are tested."""
    tested = [gain if not row["apart"] else Gain(pairs=0) for row, gain in zip(rows, gains, strict=True)]
    adjusted = statistics.holm([gain.p for gain in tested])
    dunnett = many_to_one.adjusted([gain.differences for gain in tested])
    at_compute = statistics.holm([same.p for same in computes])
    for row, p, d, q in zip(rows, adjusted, dunnett, at_compute, strict=True):
        row["p_holm"], row["p_dunnett"], row["compute_p_holm"] = p, d, q


def _mark_best(rows: list[dict[str, Any]]) -> None:
    """The highest mean of the arms that are tested among those with the most seeds."""
    able = [row for row in rows if not row["apart"] and row["n"]]
    if able:
        most = max(row["n"] for row in able)
        max((row for row in able if row["n"] == most), key=lambda row: row["mean"])["best"] = True


def _place(row: Mapping[str, Any]) -> tuple[int, float]:
    """Teacher, reference and other plain arms, methods, ours, floors; inside a kind by rising mean."""
    mean = math.inf if row["mean"] is None else row["mean"]
    return row["group"], -math.inf if row["reference"] else mean


def panel(setting: Setting) -> Panel:
    """The setting as a forest draws it: without floors, which would squeeze all others together."""
    rows = setting.rows.filter(pl.col("kind") != FLOOR)
    reads = pl.concat_str(pl.col("label"), pl.lit(", reads "), pl.col("resolution").cast(pl.String))
    elsewhere = pl.col("apart") & (pl.col("resolution") != pl.lit(setting.side, dtype=pl.Int64))
    rows = rows.with_columns(pl.when(elsewhere).then(reads).otherwise(pl.col("label")).alias("label"))
    trials = setting.trials.filter(pl.col("cell").is_in(rows["cell"].to_list()))
    return Panel(
        title=setting.title,
        rows=rows,
        trials=trials,
        baseline=setting.baseline,
        tests=setting.tests,
        measure=setting.measure,
    )

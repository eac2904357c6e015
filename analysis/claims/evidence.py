"""What claims are checked on: scores by name, setting and seed, of the arms of a study or of the sets of its factor.

Every test pairs by seed. Where a claim is about several settings (resolutions, networks), a seed counts once, with its
mean over the settings; a seed that lacks one of them is left out.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from analysis.arm_kinds import DISTILLED, EQUAL_COMPUTE, FLOOR, METHOD, TEACHER
from analysis.frames.arms import Arm, equal_compute_of, our_arm
from analysis.frames.factor import Factor
from analysis.frames.methods import Setting, is_side
from analysis.frames.order_ablation import scores_by_cell

# What a declared name in brackets stands for.
OURS, THE_TEACHER, SAME_COMPUTE, OTHER_METHODS = "(ours)", "(teacher)", "(equal compute)", "(other methods)"
RESOLUTION, COUNT, RANK = "resolution", "count", "rank"  # What a score may fall or rise along, beside axes by name.
MOST_NAMED = 5  # Of what has no result, in an estimate.

Scores = Mapping[int, float]  # By seed.


@dataclass(frozen=True, kw_only=True)
class Trend:
    """Scores along something, and the words for it."""

    points: Sequence[tuple[float, float, Scores]]  # Place, group inside which slopes are taken, scores.
    test: str  # What the slope is of.
    unit: str
    count: str  # How many there are.
    none: str  # Why no seed has a slope.
    lacking: str = ""  # What has no result yet.


class Evidence(ABC):
    """Scores by name in each setting; what a name means and which others there are, kinds of evidence say."""

    on: str  # 'on digits, not the paper's data'.
    native: int | None = None  # Side of the data set's images.

    @property
    @abstractmethod
    def parts(self) -> Sequence[Part]:
        """The settings."""

    @abstractmethod
    def resolve(self, name: str, beside: str | None = None) -> str | None:
        """The arm or level set that a declared name means, next to another one; None where the run has none."""

    @abstractmethod
    def lacking(self, *declared: str) -> str:
        """Why these cannot be compared with each other; '' where all are there."""

    @abstractmethod
    def title(self, name: str) -> str:
        """What a sentence calls it."""

    @abstractmethod
    def others(self, name: str) -> list[str]:
        """What could be better than this one."""

    def rivals(self, declared: Sequence[str], name: str) -> list[str]:
        """Those of the declared ones that there are, a name in brackets replaced by what it stands for."""
        known = [self.resolve(other, name) for other in declared]
        return [other for other in known if other is not None and not self.lacking(other)]

    @abstractmethod
    def trend(self, along: str, name: str | None, within: str) -> Trend:
        """Scores along an axis, of one arm or of all."""

    def by_side(self, name: str) -> dict[int, list[Scores]]:
        """Scores by the resolution they were read at, one entry per setting."""
        return {}

    def differences(self, left: str, right: str) -> tuple[dict[int, float], list[Part]]:
        """Difference by seed, the mean over the settings where both have seeds in common; and those settings."""
        own = []
        for part in self.parts:
            pairs = paired(part, left, right)
            if pairs and not self.hang_apart(part, left, right):
                own.append((part, pairs))
        seeds = sorted(set.intersection(*(set(pairs) for _, pairs in own))) if own else []
        return {s: math.fsum(pairs[s] for _, pairs in own) / len(own) for s in seeds}, [part for part, _ in own]

    def hang_apart(self, part: Part, left: str, right: str) -> bool:
        """Whether the two are not to be compared in a setting."""
        return False

    def seeds_words(self, *names: str) -> str:
        """'HORKD has 0 seeds, KD 5': how many seeds have a result, in the setting that has most."""
        counts = [max((len(part.scores(name)) for part in self.parts), default=0) for name in names]
        words = [f"{self.title(name)} {n}" for name, n in zip(names, counts, strict=True)]
        return f"seeds with a result: {', '.join(words)}"


class Part(Protocol):
    """One setting."""

    @property
    def title(self) -> str: ...

    def scores(self, name: str, /) -> Scores:
        """Finite scores by seed."""


def paired(part: Part, left: str, right: str) -> dict[int, float]:
    """Differences in a setting under the seeds that both have."""
    ours, theirs = part.scores(left), part.scores(right)
    return {seed: ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())}


@dataclass(frozen=True, kw_only=True)
class ArmEvidence(Evidence):
    """The arms of a study in each of its settings."""

    settings: Sequence[Setting]
    arms: Mapping[str, Arm]
    on: str
    native: int | None = None

    @property
    def parts(self) -> Sequence[Setting]:
        return self.settings

    @property
    def ours(self) -> str | None:
        """The arm that the study is about, whether or not it has a result yet."""
        return our_arm(self.arms, list(self.arms))

    def resolve(self, name: str, beside: str | None = None) -> str | None:
        if name == OURS:
            return self.ours
        if name == THE_TEACHER:
            return next((known for known, arm in self.arms.items() if arm.kind == TEACHER), None)
        if name == SAME_COMPUTE:
            arm = self.arms.get(beside or "")
            return None if arm is None else equal_compute_of(arm, self.arms)
        return name

    def lacking(self, *declared: str) -> str:
        first = self.resolve(declared[0])
        for name in declared:
            if name == THE_TEACHER and self.resolve(name) is None:
                return "the study has no teacher arm beside ours"
            if name == SAME_COMPUTE and first is not None and self.resolve(name, first) is None:
                any_control = any(arm.kind == EQUAL_COMPUTE for arm in self.arms.values())
                which = f"with the multiply-adds of '{first}'" if any_control else f"of kind {EQUAL_COMPUTE}"
                return f"the study has no arm {which}"
        if first is None:
            return "the study has no arm of ours"
        known = [self.resolve(name, first) for name in declared]
        absent = [f"'{name}'" for name in known if name not in self.arms]
        return f"the study has no arm {' and '.join(absent)}" if absent else ""

    def title(self, name: str) -> str:
        return self.arms[name].title if name in self.arms else name

    def others(self, name: str) -> list[str]:
        return [other for other, arm in self.arms.items() if arm.kind in DISTILLED and other != name]

    def rivals(self, declared: Sequence[str], name: str) -> list[str]:
        found: list[str] = []
        for other in declared:
            methods = [n for n, arm in self.arms.items() if arm.kind == METHOD and not self._is_part_of(n, name)]
            found += methods if other == OTHER_METHODS else super().rivals([other], name)
        return list(dict.fromkeys(found))

    def _is_part_of(self, name: str, whole: str) -> bool:
        """Whether an arm is a variant of another: called after it, or distilled by its method (with other options)."""
        if name == whole or name.startswith(f"{whole}_"):
            return True
        method = self.arms[whole].method
        return method is not None and self.arms[name].method == method

    def hang_apart(self, part: Part, left: str, right: str) -> bool:
        """Whether two distilled arms hang from different teachers under some seed."""
        assert isinstance(part, Setting)
        seen: dict[int, set[str]] = {}
        kinds = dict(part.rows.select("arm", "kind").iter_rows())
        for name in (left, right):
            if kinds.get(name) in DISTILLED:
                frame = part.trials.filter(cell=part.cells[name])
                for seed, teacher in frame.select("seed", "teacher").iter_rows():
                    if teacher:
                        seen.setdefault(seed, set()).add(teacher)
        return any(len(teachers) > 1 for teachers in seen.values())

    def by_side(self, name: str) -> dict[int, list[Scores]]:
        found: dict[int, list[Scores]] = {}
        for setting in self.settings:
            row = setting.row(name)
            if row is not None and row["resolution"]:
                found.setdefault(row["resolution"], []).append(setting.scores(name))
        return found

    def trend(self, along: str, name: str | None, within: str) -> Trend:
        """Within each arm and network: on the number of halvings, or on the values of another axis."""
        sides = along == RESOLUTION
        lines: dict[str, dict[float, Scores]] = {}  # Arm and the other axes -> place -> scores.
        for setting in self.settings:
            held = {n: v for n, v in setting.values.items() if (is_side(n) if sides else n.split(".")[-1] == along)}
            rest = json.dumps({n: v for n, v in setting.values.items() if n not in held}, sort_keys=True)
            for arm in self.arms.values():
                row = setting.row(arm.name)
                place = None if row is None else _place(row["resolution"] if sides else next(iter(held.values()), None))
                if arm.kind not in (TEACHER, FLOOR) and name in (None, arm.name) and place is not None:
                    lines.setdefault(f"{arm.name} {rest}", {})[place] = setting.scores(arm.name)
        lines = {line: own for line, own in lines.items() if len(own) > 1}
        points = [
            (-math.log2(place) if sides else place, float(index), scores)
            for index, own in enumerate(lines.values())
            for place, scores in own.items()
        ]
        what = "the number of halvings within each arm and network" if sides else f"{along} within each arm"
        none = "no seed has all resolutions" if sides else f"no seed has all values of {along}"
        if not points:
            none = "no arm was read at two resolutions" if sides else f"no arm has two values of {along}"
        return Trend(
            points=points,
            test=f"slope of the score on {what}, per seed; t-interval over seeds",
            unit="points per halving" if sides else f"points per 1 of {along}",
            count=f"{len(lines)} {'line' if len(lines) == 1 else 'lines'}",
            none=none,
        )


def _place(value: Any) -> float | None:
    """Where a value of an axis stands; None for what is no number, or none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value else None


@dataclass(frozen=True, kw_only=True)
class LevelEvidence(Evidence):
    """The sets of a factor's levels in one panel; a set without a result is in it, too."""

    factor: Factor
    by_levels: Mapping[tuple[str, ...], Scores]
    on: str

    @property
    def parts(self) -> Sequence[Part]:
        return (_Sets(self.factor, self.by_levels),)

    def resolve(self, name: str, beside: str | None = None) -> str | None:
        return name

    def lacking(self, *declared: str) -> str:
        absent = [self.title(name) for name in declared if self.factor.split(name) not in self.by_levels]
        return f"the study has no {self.factor.noun} set {' and '.join(absent)}" if absent else ""

    def title(self, name: str) -> str:
        levels = self.factor.split(name)
        if levels and set(levels) == set(self.factor.levels):
            return "the full set"
        return name if levels else self.factor.none_title

    def others(self, name: str) -> list[str]:
        own = self.factor.split(name)
        return [
            self.factor.joined(levels)
            for levels in sorted(self.by_levels)
            if levels not in (own, ()) and self.by_levels[levels]
        ]

    def trend(self, along: str, name: str | None, within: str) -> Trend:
        """Over the sets that are not empty, on the number of levels or the sum of their places."""
        f = self.factor
        known = [levels for levels in sorted(self.by_levels) if levels and self.by_levels[levels]]
        rank = {level: index for index, level in enumerate(f.levels, start=1)}
        points = [
            (
                float(len(levels) if along == COUNT else sum(rank.get(level, 0) for level in levels)),
                float(len(levels)) if within == COUNT else 0.0,
                self.by_levels[levels],
            )
            for levels in known
        ]
        inside = "inside groups of equal size, " if within == COUNT else ""
        what = (
            "the number of terms (1 and more), "
            if along == COUNT
            else f"the summed rank of the {f.plural} ({', '.join(f.levels)} count 1 to {len(f.levels)}) "
        )
        sets = f"{len(known)} {f.noun} sets"
        return Trend(
            points=points,
            test=f"slope of accuracy on {what}{inside}per seed; t-interval over seeds",
            unit=f"points per added {f.noun}" if along == COUNT else "points per rank",
            count=sets,
            none=f"no seed has all {sets}" if len(known) > 1 else f"too few {f.noun} sets have a result",
            lacking=_without(
                [f.joined(levels) for levels in sorted(self.by_levels) if levels and not self.by_levels[levels]]
            ),
        )


@dataclass(frozen=True)
class _Sets:
    factor: Factor
    by_levels: Mapping[tuple[str, ...], Scores]
    title: str = ""

    def scores(self, name: str, /) -> Scores:
        return self.by_levels.get(self.factor.split(name), {})


def _without(sets: Sequence[str]) -> str:
    more = f" and {len(sets) - MOST_NAMED} more" if len(sets) > MOST_NAMED else ""
    return f", without {', '.join(sets[:MOST_NAMED])}{more}: no result yet" if sets else ""


def of_panel(trials: pl.DataFrame, factor: Factor, data_name: str, paper_data: Sequence[str]) -> LevelEvidence:
    """The evidence of one panel.

    Args:
        trials: Rows of `load.trial_table` with their `levels`.
        factor: Of the study.
        data_name: Name of the data used.
        paper_data: Names of those that the paper used.
    """
    stand_in = data_name.lower() not in paper_data
    on = f"on {data_name}, not the paper's data" if stand_in else f"on {data_name}"
    if "teacher" in trials.columns:
        per_seed = trials.drop_nulls("teacher").group_by("seed").agg(pl.col("teacher").n_unique())
        if (per_seed["teacher"] > 1).any():
            on += ", across different teachers"
    names = scores_by_cell(trials)
    known = dict(trials.filter(pl.col("levels").is_not_null()).select("cell", "levels").unique().iter_rows())
    return LevelEvidence(
        factor=factor, by_levels={factor.split(levels): names.get(cell, {}) for cell, levels in known.items()}, on=on
    )

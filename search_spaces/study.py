"""What a study is: one question, its cells, its seeds, and what it is compared with. No torch, ray or optuna."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from search_spaces.claims import Claim
from trainables.recipes import Recipe

ARM = "arm"  # The axis whose values are names of arms.
TUNING = "tuning"  # The axis whose values number the tuning trials of each arm.
OWN = "own"  # The preset that is made from the data.


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the methods that a study compares: a name for some parameters."""

    title: str
    kind: str  # What the report makes of it: teacher, plain, equal_compute, method, ours or floor.
    parameters: Mapping[str, Any]
    # Settings tried for this arm, the best chosen on validation; every arm of a study must have equally many.
    tuning: tuple[Mapping[str, Any], ...] = ()
    # Name of the arm whose multiply-adds this one may spend; its epochs follow from that.
    compute_of: str = ""
    # Axes that mean nothing to this arm: it has one cell for all their values.
    ignores: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Published:
    """A number of the paper that belongs beside a cell of ours."""

    table: str
    method: str  # As the table calls it.
    dataset: str
    arm: str
    resolution: int | None = None  # Of the student on the paper's data.
    architecture: str = ""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A setting of a study: `demo` fits a laptop, `own` the data, `paper` is the paper's, `tiny` is for tests."""

    parameters: Mapping[str, Any]  # By the recipe's names; everything else keeps the spec's default.
    seeds: int
    trials: int = 0  # Of a sampled study.
    axes: Mapping[str, tuple[Any, ...]] | None = None  # Replaces the study's own axes.
    note: str = ""
    data: str = "digits"
    test_data: str | None = None  # Another data set that is tested, all of it.
    space: Callable[[Any], dict[str, Any]] | None = None  # Replaces the study's own space.
    objectives: tuple[str, ...] = ()  # Sampled studies: more than one makes a Pareto search; names of metrics.
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # Arm -> parameters over the arm's own.
    data_size: int | None = None  # Side at which image files are packed, unless the person names one.
    departures: tuple[str, ...] = ()  # Where its numbers need a word beside them: `show` and the report print these.


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What the preset `own` is made from."""

    name: str
    side: int  # Of the images as they are packed, the shorter one.
    channels: int  # 0 where only packing tells.
    classes: int
    train_images: int
    test_images: int
    trained_images: int  # What the study's task leaves of them to train on.
    trained_classes: int
    stored: int = 0  # Side of the usual image file before packing; 0 where the data come at one size.
    exact: bool = True  # Whether they were counted; else they are estimated from what is known before packing.

    @property
    def images(self) -> int:
        """Of both splits."""
        return self.train_images + self.test_images


@dataclass(frozen=True, kw_only=True)
class Factor:
    """What a factorial turns on and off: the parts of one parameter's values, joined by `+`, and its words in a report."""

    parameter: str  # An axis of the study.
    levels: tuple[str, ...]
    noun: str  # 'order'.
    plural: str
    title: str  # Over the figure: 'Which relation orders help?'.
    none: str = "none"  # The value in which no level is on,
    none_title: str = "no distillation"  # and what it is called.
    titles: Mapping[str, str] = field(default_factory=dict)  # Of levels; without one a level is 'order 1'.
    note: str = ""  # A sentence under the figure.

    def plain(self) -> dict[str, Any]:
        """What run.json says of it, beside its levels."""
        words = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "levels"}
        return words | {"titles": dict(self.titles)}


@dataclass(frozen=True, kw_only=True)
class Study:
    """One question.

    A grid study has `axes`, whose product are its cells. A sampled study has `space`, which draws a cell from the
    Optuna trial it is handed, and `trials` in its presets.
    """

    name: str
    title: str
    question: str
    paper: str
    figure: str
    recipe: Recipe
    presets: Mapping[str, Preset]
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    space: Callable[[Any], dict[str, Any]] | None = None
    baseline: Mapping[str, Any] | None = None  # The cell every other one is compared with.
    factor: Factor | None = None  # Of a grid that is a factorial.
    claims: tuple[Claim, ...] = ()
    sd_of_difference: float = 0.01  # Fraction; measured on seeds 100 to 104 of the demo.
    prune: bool = False  # Sampled studies only.
    report: str = "order_ablation"  # Which page of `analysis.report` answers it.
    task: str = "classification"  # What the data must offer.
    arms: Mapping[str, Arm] = field(default_factory=dict)  # What the axis `arm` can name.
    # Which arm the study is about; the later ones stand for it where a run has no arm of kind `ours`.
    ours: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()
    # Makes the preset `own` from what a data set is; without it other data get the demo.
    own: Callable[[DataFacts], Preset] | None = None

    @property
    def preset_names(self) -> tuple[str, ...]:
        """What `--preset` can name."""
        return (*self.presets, *((OWN,) if self.own is not None else ()))

    def points(self, axes: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
        """The points of a grid over `axes`, in their order; an arm has no part in the axes that it ignores."""
        seen = set()
        for values in itertools.product(*axes.values()):
            point = dict(zip(axes, values, strict=True))
            if ARM in point:
                arm = self.arms[point[ARM]]
                for name in (*arm.ignores, *(() if arm.tuning else (TUNING,))):
                    point.pop(name, None)
                mark = tuple(point.items())
                if mark in seen:
                    continue
                seen.add(mark)
            yield point

    def preset_for(self, data: str | None) -> str:
        """The preset meant by a data set alone: the one made for two cores and that data, else `own`."""
        small, demo = self.presets.get("small"), self.presets.get("demo")
        if small is not None and data == small.data:
            return "small"
        elsewhere = data is not None and demo is not None and data != demo.data
        return OWN if elsewhere and self.own is not None else "demo"

    @property
    def paper_data(self) -> tuple[str, ...]:
        """Names of the data sets that the paper used, as the preset `paper` has them."""
        paper = self.presets.get("paper")
        return () if paper is None else tuple(filter(None, (paper.data, paper.test_data)))

    @property
    def sampled(self) -> bool:
        """Whether cells are drawn rather than enumerated."""
        return self.space is not None

"""What a study is: one question, its cells, its seeds, and what it is compared with. No torch, ray or optuna."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A setting of a study: `demo` fits a laptop, `paper` is the paper's, `tiny` is for tests."""

    parameters: Mapping[str, Any]  # By the recipe's names; everything else keeps the spec's default.
    seeds: int
    trials: int = 0  # Of a sampled study.
    axes: Mapping[str, tuple[Any, ...]] | None = None  # Replaces the study's own axes.
    note: str = ""
    data: str = "digits"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence of a paper that this study can hold against its numbers."""

    name: str  # What the analysis calls the test.
    text: str
    source: str


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
    factors: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    sd_of_difference: float = 0.01  # Fraction; measured on seeds 100 to 104 of the demo.
    prune: bool = False  # Sampled studies only.
    report: str = "order_ablation"  # Which report of `analysis` answers it.

    @property
    def sampled(self) -> bool:
        """Whether cells are drawn rather than enumerated."""
        return self.space is not None

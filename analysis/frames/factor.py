"""What a factorial turns on and off, and what its study calls that. Plain words, no numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from analysis.published import earlier


@dataclass(frozen=True, kw_only=True)
class Factor:
    """The parts of one parameter's values, joined by `+`; without `levels` the study is no factorial."""

    parameter: str
    levels: tuple[str, ...] = ()
    noun: str = "part"
    plural: str = "parts"
    title: str = "Which parts help?"
    none: str = "none"
    none_title: str = "none"
    titles: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def column(self) -> str:
        """What CSV, JSON and Parquet files of a report call the column `levels`."""
        return self.parameter.split(".")[-1]

    def held_in(self, names: Iterable[str]) -> str | None:
        """The name that is this parameter, whatever groups it is called with; None if there is none."""
        known = set(names)
        if self.parameter in known:
            return self.parameter
        return next((name for name in sorted(known) if name.split(".")[-1] == self.column), None)

    def split(self, value: str) -> tuple[str, ...]:
        """The levels that are on: '1+2' is ('1', '2'), 'none' is ()."""
        return () if value == self.none else tuple(part for part in value.split("+") if part)

    def joined(self, levels: Iterable[str]) -> str:
        """The value in which these are on."""
        return "+".join(levels) or self.none

    def level(self, name: str) -> str:
        """'order 1', or the title that the study gives it."""
        return self.titles.get(name, f"{self.noun} {name}")

    def effect(self, levels: Sequence[str]) -> str:
        """What an effect is of: one level, or several together."""
        return self.level(levels[0]) if len(levels) == 1 else " × ".join(levels)

    def count(self, number: int) -> str:
        """'no distillation', '1 order', '2 orders'."""
        return {0: self.none_title, 1: f"1 {self.noun}"}.get(number, f"{number} {self.plural}")


_WORDS = {each.name for each in fields(Factor)} - {"levels"}


def factor_of(run: Mapping[str, Any]) -> Factor:
    """The factor of a run; runs that name none have that of the first releases, with or without levels."""
    told = run.get("factor")
    words = told if isinstance(told, Mapping) else earlier.FACTOR
    known = {name: value for name, value in words.items() if name in _WORDS}
    return Factor(levels=tuple(run.get("factors") or ()), **known)

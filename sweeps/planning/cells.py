"""Cells, and what stands in for an Optuna trial where one is drawn: without optuna."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.study import ARM
from trainables.spec.parameter import field_of

Space = Callable[[Any], dict[str, Any]]  # What draws a cell of a sampled study from an Optuna trial.


@dataclass(frozen=True)
class Cell:
    """All parameters of a trial but the seed."""

    id: str
    parameters: Mapping[str, Any]  # All of the study's, by canonical name.
    point: Mapping[str, Any]  # Only what varies between cells.
    number: int = -1  # Of the Optuna trial, for sampled cells.
    speaking: frozenset[str] = frozenset({ARM})  # What of the point needs no name beside its value.

    @property
    def label(self) -> str:
        """What tells it from the others, for people."""
        return (
            ", ".join(str(v) if k in self.speaking else f"{field_of(k)}={_shown(v)}" for k, v in self.point.items())
            or "the only cell"
        )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Pinned:
    """An Optuna trial whose named parameters are already decided: the others are drawn."""

    def __init__(self, trial: Any, values: Mapping[str, Any]) -> None:
        self._trial, self._values = trial, values

    def __getattr__(self, method: str) -> Any:
        if not method.startswith("suggest_"):
            return getattr(self._trial, method)

        def suggest(name: str, *limits: Any, **more: Any) -> Any:
            if name in self._values:
                return self._values[name]
            return getattr(self._trial, method)(name, *limits, **more)

        return suggest


class Probe:
    """Stands in for an Optuna trial to learn what a space draws, without optuna."""

    def __init__(self) -> None:
        self.drawn: dict[str, str] = {}
        self.choices: dict[str, tuple[Any, ...]] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, log: bool = False, step: float | None = None
    ) -> float:
        """Lowest value; remembers the range."""
        self.drawn[name] = f"{low:g} to {high:g}{', log' if log else ''}"
        return low

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False, step: int = 1) -> int:
        """Lowest value; remembers the range."""
        self.drawn[name] = f"{low} to {high}{', log' if log else ''}"
        return low

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """First choice; remembers them."""
        self.drawn[name] = " | ".join(str(c) for c in choices)
        self.choices[name] = tuple(choices)
        return choices[0]


def sampled_names(space: Space | None) -> dict[str, str]:
    """Name -> range of what a space draws."""
    if space is None:
        return {}
    probe = Probe()
    space(probe)
    return probe.drawn

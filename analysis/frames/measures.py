"""What the numbers of an evaluation are called in print. Plain words: no frames, no drawing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from analysis.published import earlier


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number of an evaluation: its name in the records, and its words."""

    name: str
    words: str  # In a sentence: 'top-1 accuracy'.
    heading: str  # Of a column: 'top-1 %'.
    percent: bool = True
    false_rate: float | None = None  # Of a true accept rate: the false accept rate at which it is read.
    short: str = ""  # A heading for a terminal.
    error_of: str = ""  # The accuracy that it is one minus, where evaluations tell that one alone.

    @property
    def title(self) -> str:
        """The words at the beginning of a sentence or of an axis."""
        return self.words[0].upper() + self.words[1:]


@dataclass(frozen=True, kw_only=True)
class TaskWords:
    """What a run's task calls what it measures."""

    unit: str  # What one test item is, plural: images, pairs, queries.
    validation: tuple[str, ...]  # What may select, as histories name it behind `validation/`, the best first.
    known_classes: bool  # Whether it tests the classes that it trains on: guessing gets one over their number.
    numbers: tuple[Measure, ...]  # In the order in which a table shows them.
    beside: Measure | None  # The one number beside the score that a terminal has room for, with a short heading.

    def measure(self, name: object) -> Measure:
        """The words of a metric; one that is not known is called by its name."""
        text = str(name or "top1")
        plain = text.replace("_", " ")
        unknown = Measure(name=text, words=plain, heading=f"{plain} %")
        return next((known for known in self.numbers if known.name == text), unknown)

    def is_rate(self, name: str) -> bool:
        """Whether a number lies in [0, 1] whatever is measured, so that its interval ends there."""
        return any(known.name == name for known in self.numbers)

    def measurable(self, name: str, negatives: int | None) -> bool:
        """Whether a rate can be read off so many pairs of two people: below 1 / n it says what accepting none of them gives."""
        rate = self.measure(name).false_rate
        return rate is None or negatives is None or rate * negatives >= 1

    def with_errors(self, numbers: Mapping[str, Any]) -> dict[str, Any]:
        """The numbers of an evaluation and, where the literature prints errors, these."""
        found = dict(numbers)
        for error in self.numbers:
            if isinstance(found.get(error.error_of), int | float):
                found[error.name] = 1 - found[error.error_of]
        return found


def words_of(run: Mapping[str, Any]) -> TaskWords:
    """The words of a run's task; runs that bring none have those of the first releases."""
    told = run.get("task_words")
    words = told if isinstance(told, Mapping) else earlier.task_words(str(run.get("task") or "classification"))
    numbers = tuple(Measure(**number) for number in words["numbers"])
    beside = next((number for number in numbers if number.name == words["beside"]), None)
    return TaskWords(
        unit=words["unit"],
        validation=tuple(words["validation"]),
        known_classes=bool(words["known_classes"]),
        numbers=numbers,
        beside=None if beside is None else replace(beside, heading=beside.short or beside.heading),
    )


def different_pairs(numbers: Mapping[str, Any], items: Any) -> int | None:
    """How many pairs of two people an evaluation had; of one that does not tell, half of them, as pairs are drawn."""
    told = numbers.get("different_pairs")
    if isinstance(told, int) and not isinstance(told, bool):
        return told
    return items // 2 if isinstance(items, int) else None


def of_run(run: Mapping[str, Any]) -> Measure:
    """The metric by which the cells of a run are compared."""
    return words_of(run).measure(run.get("metric"))


def chance_of(numbers: Mapping[str, Any]) -> float | None:
    """The score expected by chance, where the evaluation told it."""
    value = numbers.get("chance")
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None

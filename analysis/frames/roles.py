"""What the recipe of a run calls its stages, and what its losses call their terms: both stand in run.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.published import earlier


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The stages of a recipe by what they are."""

    order: tuple[str, ...]  # As tables show them, parents first; one that is not among them comes last.
    learners: tuple[str, ...]  # Whose curves are a cell's own, parents first; teachers are shared by all cells.
    result: tuple[str, ...]  # Of which the first that a trial has is what its result is about; none: the last trained.
    teacher: str  # What all that learns hangs from.
    behind: tuple[str, ...]  # Whose parameters say less of the measured network than its own, the nearest first.

    @property
    def place(self) -> dict[str, int]:
        """Role -> its place in tables."""
        return {role: place for place, role in enumerate(self.order)}


def roles_of(run: Mapping[str, Any]) -> Roles:
    """The roles of a run; runs that name none have those of the first releases."""
    told = run.get("roles")
    words: Mapping[str, Any] = told if isinstance(told, Mapping) else earlier.ROLES
    order, result = tuple(words["order"]), tuple(words["result"])
    behind = words.get("behind") or [role for role in reversed(order) if role not in result[:1]]
    return Roles(
        order=order,
        learners=tuple(words["learners"]),
        result=result,
        teacher=words["teacher"],
        behind=tuple(behind),
    )


def terms_of(run: Mapping[str, Any]) -> dict[str, str]:
    """Term of a loss, as histories name it -> its title, in the order of legends."""
    told = run.get("terms")
    return {str(term): str(title) for term, title in (earlier.TERMS if told is None else told).items()}

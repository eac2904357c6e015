"""The arms of a study: what kinds there are, and which one others are held against. Plain words, no numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

TEACHER, PLAIN, EQUAL_COMPUTE, METHOD, OURS, FLOOR = "teacher", "plain", "equal_compute", "method", "ours", "floor"
KINDS = (TEACHER, PLAIN, EQUAL_COMPUTE, METHOD, OURS, FLOOR)
UNTESTED = (TEACHER, FLOOR)  # Shown with their gain, but no part of the tests: nobody asks whether they win.
DISTILLED = (METHOD, OURS)  # Of these the teacher counts: they are compared only where they hang from the same one.
# The order of rows; plain arms of either length stand together.
ORDER = {TEACHER: 0, PLAIN: 1, EQUAL_COMPUTE: 1, METHOD: 2, OURS: 3, FLOOR: 4}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A method of the study."""

    name: str
    title: str
    kind: str
    compute_of: str | None = None  # The arm whose multiply-adds it may spend.


def arms_of(run: Mapping[str, Any], trials: pl.DataFrame) -> dict[str, Arm]:
    """The arms by name, in the run's order; one that only the trials know counts as a method."""
    found = {}
    for name, words in (run.get("arms") or {}).items():
        given = words if isinstance(words, Mapping) else {}
        kind = given.get("kind") if given.get("kind") in KINDS else METHOD
        title = str(given.get("title") or name)
        found[str(name)] = Arm(name=str(name), title=title, kind=str(kind), compute_of=given.get("compute_of"))
    for name in trials["arm"].drop_nulls().unique(maintain_order=True):
        found.setdefault(name, Arm(name=name, title=name, kind=METHOD))
    return found


def reference_arm(run: Mapping[str, Any], arms: Mapping[str, Arm]) -> str | None:
    """The arm all others are compared with: the one named, else the first on labels alone."""
    named = run.get("reference")
    return named if named in arms else next((arm.name for arm in arms.values() if arm.kind == PLAIN), None)


def our_arm(arms: Mapping[str, Arm], present: Sequence[str]) -> str | None:
    """The arm the study is about: `horkd`, else the first of kind `ours`, among those present."""
    ours = [arm.name for arm in arms.values() if arm.kind == OURS and arm.name in present]
    return "horkd" if "horkd" in ours else (ours[0] if ours else None)


def equal_compute_of(arm: Arm, arms: Mapping[str, Arm]) -> str | None:
    """The arm that spends as much as `arm`, else the first of its kind; None for what is no distillation."""
    if arm.kind not in DISTILLED:
        return None
    same = [other for other in arms.values() if other.kind == EQUAL_COMPUTE]
    return next((other.name for other in same if other.compute_of == arm.name), same[0].name if same else None)

"""What a study holds against its numbers: a sentence of a paper, and which of six tests settles it. Plain data.

The tests are made in `analysis/claims/`; what is declared here travels there in run.json. Arms and levels are named as the
study names them (`horkd_direct`, `1+2+3+C`); a name in brackets stands for whatever the run has in that part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

OURS = "(ours)"  # The arm that the study is about, or what stands for it in the run: the first of `Study.ours` it has.
EQUAL_COMPUTE = "(equal compute)"  # Labels alone with the multiply-adds of the arm that is compared.
OTHER_METHODS = "(other methods)"  # Every method of distillation that is no variant of the arm that is compared.
TEACHER = "(teacher)"

# What a score may fall or rise along; any other axis of the study by its name.
RESOLUTION = "resolution"  # Per halving, within each arm and network.
COUNT = "count"  # How many levels of the factor are on.
RANK = "rank"  # Sum of the places of the levels that are on, in the order in which the factor names them.


@dataclass(frozen=True)
class Test:
    """How a claim is settled."""

    kind: ClassVar[str] = ""  # What `analysis.claims` calls it.

    def plain(self) -> dict[str, Any]:
        """What run.json says of it."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {"kind": self.kind} | {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}


@dataclass(frozen=True)
class Better(Test):
    """One is better than another, by the paired difference: on average over the settings, or in any of them."""

    kind: ClassVar[str] = "better"
    arm: str
    than: str
    in_any_setting: bool = False


@dataclass(frozen=True)
class AllBetter(Test):
    """One is better than each of several."""

    kind: ClassVar[str] = "all_better"
    arm: str
    than: tuple[str, ...]


@dataclass(frozen=True)
class Falls(Test):
    """The score falls along an axis; of `arm` alone, or of every trained arm."""

    kind: ClassVar[str] = "falls"
    along: str
    arm: str = ""
    within: str = ""  # COUNT: among sets of as many levels.


@dataclass(frozen=True)
class Rises(Falls):
    """The score rises along an axis."""

    kind: ClassVar[str] = "rises"


@dataclass(frozen=True)
class EquivalentWithin(Test):
    """Within a margin of another arm; without one, of itself at the largest resolution, `down_to` a share of the side."""

    kind: ClassVar[str] = "equivalent_within"
    margin: float  # A fraction: 0.01 is one point.
    arm: str
    to: str = ""
    down_to: float = 0.0


@dataclass(frozen=True)
class BestIsNot(Test):
    """Something else is better than this one, which one would have thought the best."""

    kind: ClassVar[str] = "best_is_not"
    arm: str


@dataclass(frozen=True)
class OrderOfMeans(Test):
    """The means come in this order, the best first: each is better than the next."""

    kind: ClassVar[str] = "order_of_means"
    arms: tuple[str, ...]


KINDS: tuple[type[Test], ...] = (Better, AllBetter, Falls, Rises, EquivalentWithin, BestIsNot, OrderOfMeans)


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper that this study can hold against its numbers."""

    text: str
    source: str
    test: Test = field(kw_only=True)
    name: str = field(default="", kw_only=True)  # In report.json; without one it is made from the text.

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", re.sub(r"\W+", "_", self.text.lower()).strip("_"))

    def plain(self) -> dict[str, Any]:
        """What run.json says of it."""
        return {"name": self.name, "text": self.text, "source": self.source, "test": self.test.plain()}

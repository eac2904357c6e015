"""Checks the claims that a study declares: one test per kind, whatever the study is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from analysis.claims import compare, equivalence, trend
from analysis.claims.compare import Row
from analysis.claims.evidence import Evidence
from analysis.claims.verdict import NOT_CHECKED, Claim, settled
from analysis.published import earlier

TESTS: Mapping[str, Callable[[Evidence, Mapping[str, Any], Row], Claim]] = {
    "better": compare.better,
    "all_better": compare.all_better,
    "falls": trend.falls,
    "rises": trend.rises,
    "equivalent_within": equivalence.equivalent_within,
    "best_is_not": compare.best_is_not,
    "order_of_means": compare.order_of_means,
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A claim as a study declares it."""

    name: str
    text: str
    source: str
    test: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Which test settles it; '' where none is written."""
        kind = str(self.test.get("kind") or "")
        return kind if kind in TESTS else ""


def read_asked(item: Any) -> Asked:
    """A claim in run.json: an object with its test, or what the first releases wrote, which named tests of theirs."""
    told = item if isinstance(item, Mapping) else {"name": str(item)}
    text = str(told.get("claim") or told.get("text") or "")
    name = str(told.get("name") or told.get("id") or text)
    source, test = str(told.get("source") or ""), told.get("test")
    if not isinstance(test, Mapping):
        known = earlier.CLAIMS.get(name, ("", "", {}))
        text, source, test = text or known[0], source or known[1], known[2]
    return Asked(name=name, text=text or name, source=source, test=test)


def check(evidence: Evidence, asked: Sequence[Any]) -> list[Claim]:
    """The claims that a study asks for; one of an unknown kind gets a row that says no test is written for it."""
    rows = []
    for item in map(read_asked, asked):
        if item.kind:
            told = partial(Claim, name=item.name, claim=item.text, source=item.source, on=evidence.on, kind=item.kind)
            rows.append(TESTS[item.kind](evidence, item.test, told))
        else:
            rows.append(_not_checked(item))
    return settled(rows)


def _not_checked(item: Asked) -> Claim:
    return Claim(
        name=item.name,
        claim=item.text,
        test="no test is written for this claim",
        estimate="",
        verdict=NOT_CHECKED,
        n=0,
        source=item.source,
    )

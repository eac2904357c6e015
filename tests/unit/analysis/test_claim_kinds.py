"""Each kind of test on arms, with the sentences that other papers need."""

import json

import numpy as np
import polars as pl
import pytest

from analysis.claims.check import check
from analysis.claims.evidence import ArmEvidence
from analysis.frames.arms import arms_of
from analysis.frames.methods import settings
from analysis.load import TRIAL_SCHEMA
from search_spaces.claims import (
    RESOLUTION,
    AllBetter,
    BestIsNot,
    Better,
    Claim,
    EquivalentWithin,
    Falls,
    OrderOfMeans,
    Rises,
)

SIGNALS = {"c": 0.70, "s": 0.66, "dc": 0.74, "sc": 0.78}  # A student's signals, and what each reaches.


def evidence(score, *, axis="student.resolution", values=(32, 16, 8), seeds=5, noise=0.0005):
    """Arms by planted scores: `score(arm, value)` along an axis."""
    generator = np.random.default_rng(0)
    cells, rows = [], []
    for arm in SIGNALS:
        for value in values:
            cell = f"{arm}-{value}"
            cells.append((cell, cell, None, json.dumps({"arm": arm, axis: value})))
            for seed in range(seeds):
                row = dict.fromkeys(TRIAL_SCHEMA) | {"cell": cell, "label": cell, "seed": seed, "status": "completed"}
                row |= {"arm": arm, "resolution": value if "resolution" in axis else 16, "key": f"{cell}-{seed}"}
                rows.append(row | {"score": score(arm, value) + float(generator.normal(0, noise))})
    schema = {"cell": pl.String, "label": pl.String, "levels": pl.String, "parameters": pl.String}
    frame = pl.DataFrame(cells, schema=schema, orient="row")
    run = {
        "arms": {name: {"title": name.upper(), "kind": "plain" if name == "c" else "method"} for name in SIGNALS},
        "reference": "c",
        "ours": ["sc"],
    }
    trials = pl.DataFrame(rows, schema=TRIAL_SCHEMA, orient="row")
    return ArmEvidence(settings=settings(run, frame, trials), arms=arms_of(run, trials), native=32, on="on digits")


def plain(arm, value):
    return SIGNALS[arm]


def checked(test, given):
    (claim,) = check(given, [Claim("It is so", "a paper", test=test).plain()])
    return claim


@pytest.mark.parametrize(
    "test, verdict",
    [
        (Better("sc", than="c"), "supported"),
        (Better("s", than="c"), "not supported"),
        (Better("sc", than="c", in_any_setting=True), "supported"),
        (AllBetter("sc", than=("s", "dc", "c")), "supported"),
        (AllBetter("dc", than=("s", "sc")), "not supported"),
        (AllBetter("sc", than=("(other methods)",)), "supported"),
        (OrderOfMeans(("sc", "dc", "c", "s")), "supported"),
        (OrderOfMeans(("sc", "c", "dc", "s")), "not supported"),
        (BestIsNot("dc"), "supported"),
        (BestIsNot("sc"), "not supported"),
        (EquivalentWithin(0.01, "sc", to="dc"), "not supported"),
        (EquivalentWithin(0.01, "s", to="dc"), "not supported"),
        (EquivalentWithin(0.05, "sc", to="dc"), "supported"),
        (Better("sc", than="e"), "not tested yet"),
        (OrderOfMeans(("sc", "e")), "not tested yet"),
        (BestIsNot("e"), "not tested yet"),
    ],
)
def test_a_declared_test_judges_what_was_planted(test, verdict):
    claim = checked(test, evidence(plain))
    assert claim.verdict == verdict, claim
    assert claim.estimate and claim.test and (claim.p is None) == (verdict == "not tested yet")


@pytest.mark.parametrize("test", [Better("sc", than="dc"), OrderOfMeans(("sc", "dc", "s")), BestIsNot("s")])
def test_two_seeds_judge_nothing(test):
    claim = checked(test, evidence(plain, seeds=2))
    assert (claim.verdict, claim.p) == ("inconclusive", None)


def test_a_trend_is_of_one_arm_or_of_all_along_the_resolution_or_any_axis():
    one = evidence(lambda arm, side: 0.7 + (0.05 if arm == "sc" else -0.05) * np.log2(side / 8))
    assert checked(Falls(RESOLUTION, arm="sc"), one).verdict == "supported"
    assert checked(Falls(RESOLUTION, arm="s"), one).verdict == "not supported"
    assert checked(Falls(RESOLUTION, arm="(ours)"), one).value == pytest.approx(-0.05, abs=0.001)
    by_temperature = evidence(lambda arm, t: 0.6 + 0.01 * t, axis="adaptation.temperature", values=(1, 4, 8))
    claim = checked(Rises("temperature"), by_temperature)
    assert claim.verdict == "supported" and claim.value == pytest.approx(0.01, abs=0.001)
    assert "points per 1 of temperature" in claim.estimate and "temperature within each arm" in claim.test
    assert checked(Falls(RESOLUTION, arm="e"), one).estimate == "the study has no arm 'e'"
    assert checked(Rises("tau"), by_temperature).estimate == "no arm has two values of tau"


def test_an_unknown_kind_is_listed_as_not_checked():
    (claim,) = check(evidence(plain), [{"name": "x", "text": "Cats fly", "source": "p. 3", "test": {"kind": "flies"}}])
    assert (claim.claim, claim.verdict, claim.source) == ("Cats fly", "not checked", "p. 3")

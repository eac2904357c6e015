import json
import re

import numpy as np
import polars as pl
import pytest
import synthetic

from analysis import statistics
from analysis.claims import verdict as claims
from analysis.claims.check import check
from analysis.claims.evidence import of_panel
from analysis.frames.factor import factor_of
from analysis.printed import p_value
from analysis.published import earlier
from analysis.report.write import write_report


def trials(score, seeds=5, noise=0.0005, sets=None):
    generator = np.random.default_rng(0)
    rows = [
        {
            "cell": name,
            "levels": name,
            "seed": seed,
            "status": "completed",
            "score": score(name) + generator.normal(0, noise),
        }
        for name in sets or synthetic.order_sets()
        for seed in range(seeds)
    ]
    return pl.DataFrame(rows)


def checked(frame, data="digits", asked=earlier.OF_ORDERS):
    factor = factor_of({"factors": ["1", "2", "3", "C"]})
    return check(of_panel(frame, factor, data, earlier.PAPER_DATA), asked)


def terms(name):
    return [] if name == "none" else name.split("+")


def verdicts(frame, data="digits"):
    return {claim.name: claim for claim in checked(frame, data)}


def test_claims_hold_when_they_were_planted():
    found = verdicts(
        trials(
            lambda n: (
                0.8 + 0.01 * len(terms(n)) + 0.003 * sum("123C".index(o) for o in terms(n)) - 0.08 * (n == "1+2+3+C")
            )
        )
    )
    assert [claim.verdict for claim in found.values()] == ["supported", "supported", "supported"]
    assert found["more_orders_help"].n == 5 and "section 4.4" in found["more_orders_help"].source
    assert found["more_orders_help"].sentence == "supported on digits, not the paper's data"


def test_claims_fail_when_the_opposite_was_planted():
    found = verdicts(
        trials(
            lambda n: (
                0.9 - 0.01 * len(terms(n)) - 0.003 * sum("123C".index(o) for o in terms(n)) + 0.2 * (n == "1+2+3+C")
            )
        )
    )
    assert found["best_is_not_the_full_set"].verdict == "not supported"
    assert found["higher_order_at_equal_size"].verdict == "not supported"


def test_slopes_equal_the_planted_ones():
    found = verdicts(trials(lambda n: 0.8 + 0.01 * len(terms(n)), noise=0))
    assert (
        abs(found["more_orders_help"].value - 0.01) < 1e-12 and abs(found["higher_order_at_equal_size"].value) < 1e-12
    )


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_the_numbers_stand_and_nothing_is_judged(seeds):
    found = checked(trials(lambda n: 0.8 + 0.01 * len(terms(n)), seeds=seeds), "digits")
    assert {c.verdict for c in found} == {"inconclusive"} and {c.p for c in found} == {None}
    assert all(f"n={seeds}" in c.estimate and c.value is not None for c in found)


def test_what_has_no_result_is_not_tested_yet_and_names_no_data():
    found = checked(trials(lambda n: 0.8, sets=["1"]), "digits")
    assert {(c.verdict, c.sentence, c.n) for c in found} == {("not tested yet", "not tested yet", 0)}
    assert {c.estimate for c in found} >= {"the full set has no result"}


@pytest.mark.parametrize("seeds", [3, 5])
def test_equal_differences_are_no_evidence_for_any_claim(seeds):
    # Every seed gains the same for every order: no spread, so nobody knows how much the next seed would.
    found = verdicts(trials(lambda n: 0.8 + 0.0125 * len(terms(n)), seeds=seeds, noise=0))
    assert {claim.verdict for claim in found.values()} == {"inconclusive"}
    assert claims.judged(statistics.summarise([0.0125] * seeds)) == "inconclusive"


def test_claims_that_are_checked_together_are_adjusted_for_it():
    def claim(p):
        return claims.Claim(name="x", claim="x", test="t", estimate="e", verdict="supported", n=5, source="s", p=p)

    alone, *_ = claims.settled([claim(0.03)])
    assert (alone.verdict, alone.p_holm, alone.estimate) == ("supported", 0.03, "e; p 0.030")
    first, second, third = claims.settled([claim(0.04), claim(None), claim(0.03)])
    assert [c.verdict for c in (first, third)] == ["inconclusive"] * 2 and first.p_holm == pytest.approx(0.06)
    assert second.verdict == "supported" and second.p_holm is None  # Nothing was tested, so nothing is taken back.
    assert first.estimate == "e; p 0.060 after Holm over 2 claims"


def test_a_claim_without_a_test_is_listed_as_not_checked():
    found = checked(
        trials(lambda n: 0.8),
        "digits",
        ["more_orders_help", {"name": "x", "claim": "Cats.", "source": "p. 3"}],
    )
    assert [(c.claim, c.verdict) for c in found][1] == ("Cats.", "not checked")
    assert found[1].sentence == "not checked"


def test_a_sentence_has_one_p_the_one_that_the_verdict_was_made_with(tmp_path):
    for name, folder in (
        ("ablation", synthetic.ablation(tmp_path / "a", epochs=0)),
        ("methods", synthetic.methods(tmp_path / "m", sides=(16, 8))),
    ):
        write_report(folder, folder / "report")
        rows = json.loads((folder / "report" / "report.json").read_text())["claims"]
        tested = [row for row in rows if row["p"] is not None]
        assert len(tested) >= 3, name
        for row in tested:
            shown = re.findall(r"\bp (<?[\d.]+)", row["estimate"])
            assert shown == [p_value(row["p_holm"])], row

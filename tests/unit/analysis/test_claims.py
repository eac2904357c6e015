import numpy as np
import polars as pl
import synthetic

from analysis import claims


def trials(score, seeds=5, noise=0.0005, sets=None):
    generator = np.random.default_rng(0)
    rows = [
        {
            "cell": name,
            "orders": name,
            "seed": seed,
            "status": "completed",
            "score": score(name) + generator.normal(0, noise),
        }
        for name in sets or synthetic.order_sets()
        for seed in range(seeds)
    ]
    return pl.DataFrame(rows)


def terms(name):
    return [] if name == "none" else name.split("+")


def verdicts(frame, data="digits"):
    return {claim.name: claim for claim in claims.check(frame, data)}


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


def test_one_seed_or_one_cell_is_inconclusive():
    assert {c.verdict for c in claims.check(trials(lambda n: 0.8 + 0.01 * len(terms(n)), seeds=1), "digits")} == {
        "inconclusive"
    }
    assert {c.verdict for c in claims.check(trials(lambda n: 0.8, sets=["1"]), "digits")} == {"inconclusive"}


def test_a_claim_without_a_test_is_listed_as_not_checked():
    found = claims.check(
        trials(lambda n: 0.8),
        "digits",
        ["more_orders_help", {"name": "x", "claim": "Cats.", "source": "p. 3"}],
    )
    assert [(c.claim, c.verdict) for c in found][1] == ("Cats.", "not checked")
    assert found[1].sentence == "not checked"

from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import pytest
from scipy import stats

from analysis import statistics
from analysis.claims.check import TESTS, read_asked
from analysis.claims.check import check as checked
from analysis.claims.equivalence import margin_p
from analysis.claims.evidence import ArmEvidence
from analysis.claims.verdict import Claim, judged
from analysis.frames.arms import arms_of
from analysis.frames.methods import settings
from analysis.load import TRIAL_SCHEMA
from analysis.published import earlier

KINDS = {
    "teacher": "teacher",
    "ce": "plain",
    "ce_long": "equal_compute",
    "kd": "method",
    "at": "method",
    "horkd_direct": "ours",
    "horkd_init": "ours",
    "horkd": "ours",
}


COMPUTE_OF = {"ce_long": "horkd"}


def evidence(score, *, arms=tuple(KINDS), sides=(16,), seeds=5, noise=0.0005, wobble=0.0, native=32, compute_of=None):
    """Arms by planted scores: `score(arm, side)`; `wobble` moves `horkd` below 32 pixels up and down by seed."""
    generator = np.random.default_rng(0)
    cells, rows = [], []
    for arm in arms:
        for side in sides:
            cell = f"{arm}-{side}"
            cells.append((cell, cell, None, f'{{"arm": "{arm}", "student.resolution": {side}}}'))
            for seed in range(seeds):
                value = score(arm, side) + float(generator.normal(0, noise))
                value += wobble * (-1) ** seed * (arm == "horkd" and side < 32)
                known = {"cell": cell, "label": cell, "seed": seed, "status": "completed", "arm": arm, "score": value}
                known |= {"resolution": side, "key": f"{cell}-{seed}"}
                known |= {"train_seconds": 20.0 if arm == "ce_long" else 15.0}
                rows.append(dict.fromkeys(TRIAL_SCHEMA) | known)
    frame = pl.DataFrame(
        cells,
        schema={"cell": pl.String, "label": pl.String, "levels": pl.String, "parameters": pl.String},
        orient="row",
    )
    of = COMPUTE_OF if compute_of is None else compute_of
    words = {name: {"title": name.upper(), "kind": KINDS[name], "compute_of": of.get(name)} for name in arms}
    run = {"arms": words, "reference": "ce"}
    trials = pl.DataFrame(rows, schema=TRIAL_SCHEMA, orient="row")
    return ArmEvidence(settings=settings(run, frame, trials), arms=arms_of(run, trials), native=native, on="on digits")


def claim_of(name):
    """What checks one claim alone, before several are settled together."""
    asked = read_asked(name)
    row = partial(Claim, name=name, claim=asked.text, source=asked.source)
    return lambda given: TESTS[asked.kind](given, asked.test, row)


def planted(**gains):
    return lambda arm, side: 0.7 + gains.get(arm, 0.0)


@pytest.mark.parametrize(
    "name, better, worse",
    [
        ("assistant_helps", "horkd", "horkd_direct"),
        ("init_helps", "horkd_init", "horkd"),
        ("distillation_survives_equal_compute", "horkd", "ce_long"),
    ],
)
def test_one_arm_against_another_is_judged_by_the_paired_interval(name, better, worse):
    check = claim_of(name)
    assert check(evidence(planted(**{better: 0.02}))).verdict == "supported"
    assert check(evidence(planted(**{worse: 0.02}))).verdict == "not supported"
    assert check(evidence(planted(), wobble=0.01)).verdict == "inconclusive"
    assert check(evidence(planted(**{better: 0.02}), seeds=1)).verdict == "inconclusive"
    lacking = check(evidence(planted(), arms=[arm for arm in KINDS if arm != worse]))
    assert (lacking.verdict, lacking.n) == ("not tested yet", 0) and "no arm" in lacking.estimate


def test_equal_compute_is_told_as_multiply_adds_with_the_time_it_took():
    claim = claim_of("distillation_survives_equal_compute")(evidence(planted(horkd=0.02)))
    assert claim.estimate.endswith("; equal multiply-adds, mean training 15.0 s against 20.0 s")


def test_the_claim_of_equal_compute_names_what_is_lacking():
    check = claim_of("distillation_survives_equal_compute")
    other = check(evidence(planted(), compute_of={"ce_long": "kd"}, arms=["ce", "ce_long", "horkd"]))
    assert (other.verdict, other.estimate) == (
        "not tested yet",
        "the study has no arm with the multiply-adds of 'horkd'",
    )
    assert check(evidence(planted(), arms=["ce", "horkd"])).estimate == "the study has no arm of kind equal_compute"
    assert check(evidence(planted(), arms=["ce", "ce_long"])).estimate == "the study has no arm of ours"


def test_a_study_of_direct_students_alone_is_about_horkd_without_an_assistant(monkeypatch):
    monkeypatch.setitem(KINDS, "horkd_direct", "method")
    found = evidence(
        planted(horkd_direct=0.03), arms=["ce", "ce_long", "kd", "horkd_direct"], compute_of={"ce_long": "horkd_direct"}
    )
    assert found.ours == "horkd_direct"
    claim = claim_of("distillation_survives_equal_compute")(found)
    assert claim.verdict == "supported" and claim.value == pytest.approx(0.03, abs=0.001)
    rivals = claim_of("ours_beats_baselines")(found)
    assert rivals.verdict == "supported" and "KD" in rivals.estimate and "DIRECT" not in rivals.estimate


def test_some_orders_of_ours_are_no_rival():
    found = evidence(planted(horkd=0.03, at=0.09))
    # As if the arm were distilled by the orders of HORKD alone.
    arms = {
        name: replace(arm, parameters={"student.method": "horkd" if name in ("horkd", "at") else "kd"})
        for name, arm in found.arms.items()
    }
    claim = claim_of("ours_beats_baselines")(replace(found, arms=arms))
    assert claim.verdict == "supported" and "AT" not in claim.estimate
    assert claim_of("ours_beats_baselines")(found).verdict == "not supported"


def test_a_difference_over_settings_is_the_mean_per_seed():
    def score(arm, side):
        return 0.7 + (0.01 if side == 16 else 0.03) * (arm == "horkd")

    claim = claim_of("assistant_helps")(evidence(score, sides=(16, 8), noise=0.0))
    assert claim.value == pytest.approx(0.02) and "mean over 2 settings" in claim.estimate and claim.n == 5


def test_the_slope_per_halving_is_the_planted_one():
    claim = claim_of("accuracy_falls_with_resolution")(
        evidence(lambda arm, side: 0.5 + 0.02 * np.log2(side), sides=(32, 16, 8), noise=0.0001)
    )
    assert claim.verdict == "supported" and claim.value == pytest.approx(-0.02, abs=2e-4)
    rising = evidence(lambda arm, side: 0.9 - 0.02 * np.log2(side), sides=(32, 16, 8))
    assert claim_of("accuracy_falls_with_resolution")(rising).verdict == "not supported"
    assert claim_of("accuracy_falls_with_resolution")(evidence(planted())).verdict == "not tested yet"


def test_little_is_lost_when_every_side_down_to_a_quarter_is_within_a_point():
    def score(loss):
        return lambda arm, side: 0.8 - (loss if side < 32 else 0.0) - (0.3 if side < 8 else 0.0)

    sides = (32, 16, 8, 4)
    small = claim_of("little_above_a_quarter")(evidence(score(0.002), sides=sides))
    assert small.verdict == "supported" and "4×4" not in small.estimate
    assert claim_of("little_above_a_quarter")(evidence(score(0.03), sides=sides)).verdict == "not supported"
    # A loss of about the margin is neither.
    near = claim_of("little_above_a_quarter")(evidence(score(0.01), sides=sides, wobble=0.004))
    assert near.verdict == "inconclusive"
    none = claim_of("little_above_a_quarter")(evidence(score(0.0), sides=(32, 4)))
    assert none.verdict == "not tested yet" and "from 8" in none.estimate


def test_ours_must_beat_every_baseline():
    check = claim_of("ours_beats_baselines")
    assert check(evidence(planted(horkd=0.03, kd=0.01))).verdict == "supported"
    assert check(evidence(planted(horkd=0.03, kd=0.05))).verdict == "not supported"
    unsure = check(evidence(planted(horkd=0.03, kd=0.03), wobble=0.004))
    assert unsure.verdict == "inconclusive" and "− KD" in unsure.estimate and "− AT" in unsure.estimate
    assert check(evidence(planted(), arms=["ce", "horkd"])).verdict == "not tested yet"


def test_a_baseline_without_a_result_leaves_the_claim_open_unless_another_is_better():
    check = claim_of("ours_beats_baselines")
    without = evidence(planted(horkd=0.03), arms=["ce", "kd", "horkd"])
    arms = arms_of(
        {"arms": {n: {"kind": KINDS[n], "title": n.upper()} for n in ("ce", "kd", "at", "horkd")}},
        without.settings[0].trials,
    )
    claim = check(replace(without, arms=arms))
    assert (claim.verdict, claim.p) == ("not tested yet", None) and "− AT: no pair yet" in claim.estimate
    worse = replace(evidence(planted(kd=0.03), arms=["ce", "kd", "horkd"]), arms=arms)
    assert check(worse).verdict == "not supported"


def test_a_claim_about_ours_waits_for_ours_and_takes_no_other_arm():
    without = evidence(planted(horkd_direct=0.03), arms=["ce", "ce_long", "kd", "horkd_direct"])
    arms = arms_of({"arms": {n: {"kind": kind} for n, kind in KINDS.items()}}, without.settings[0].trials)
    for name in ("ours_beats_baselines", "student_above_teacher", "distillation_survives_equal_compute"):
        claim = claim_of(name)(replace(without, arms=arms))
        assert claim.verdict == "not tested yet" and claim.n == 0, name


def test_a_variant_of_ours_is_no_rival(monkeypatch):
    monkeypatch.setitem(KINDS, "horkd_direct", "method")
    claim = claim_of("ours_beats_baselines")(evidence(planted(horkd=0.03, horkd_direct=0.09)))
    assert claim.verdict == "supported" and "DIRECT" not in claim.estimate


def test_the_student_is_held_against_its_teacher_in_each_setting():
    check = claim_of("student_above_teacher")
    assert check(evidence(planted(horkd=0.03))).verdict == "supported"
    assert check(evidence(planted(teacher=0.03))).verdict == "not supported"
    mixed = check(evidence(lambda arm, side: 0.7 + (0.03 if side == 16 else -0.03) * (arm == "horkd"), sides=(16, 8)))
    assert mixed.verdict == "inconclusive" and "16×16 pixels: +3.0" in mixed.estimate
    assert "no teacher arm" in check(evidence(planted(), arms=["ce", "horkd"])).estimate


def test_claims_are_told_with_the_words_and_the_source_of_the_study():
    given = [{"name": "assistant_helps", "text": "The assistant helps", "source": "HORKD, Sec. 4.4"}, "flies"]
    first, second = checked(evidence(planted(horkd=0.02)), given)
    assert (first.claim, first.source, first.sentence) == (
        "The assistant helps",
        "HORKD, Sec. 4.4",
        "supported on digits",
    )
    assert (second.claim, second.verdict) == ("flies", "not checked")


@pytest.mark.parametrize("name", list(earlier.OF_METHODS))
@pytest.mark.parametrize("arms", [("horkd",), ("ce",), tuple(KINDS)])
@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_no_claim_finds_anything_on_few_arms_few_seeds_or_equal_scores(name, arms, seeds):
    given = evidence(planted(horkd=0.02), arms=arms, sides=(32, 16), seeds=seeds, noise=0.0)
    claim = claim_of(name)(given)
    assert claim.verdict in ("inconclusive", "not tested yet") and claim.estimate and claim.p is None
    assert (claim.verdict == "not tested yet") == (claim.n == 0)


@pytest.mark.parametrize("name", list(earlier.OF_METHODS))
def test_two_seeds_give_no_verdict_however_clear_they_are(name):
    def score(arm, side):
        return 0.5 + 0.05 * np.log2(side) + (0.2 if arm == "horkd" else 0.0)

    claim = claim_of(name)(evidence(score, sides=(32, 16, 8), seeds=2, noise=0.0001))
    assert (claim.verdict, claim.p, claim.n) == ("inconclusive", None, 2) and "too few to judge" in claim.estimate


@pytest.mark.parametrize(
    "values", [[0.0125, 0.0125], [0.0125] * 3, [0.9125 - 0.9, 0.8125 - 0.8, 0.7125 - 0.7], [0.01, 0.02]]
)
def test_neither_two_differences_nor_equal_ones_are_a_verdict(values):
    assert judged(statistics.summarise(values)) == "inconclusive"


def test_equivalence_equals_the_two_one_sided_tests():
    differences = [0.004, -0.002, 0.006, 0.001, 0.003]
    same = statistics.equivalence(differences, 0.01)
    above = stats.ttest_1samp(differences, -0.01, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, 0.01, alternative="less").pvalue
    assert same.p == pytest.approx(max(above, below)) and same.within is bool(max(above, below) < 0.05)
    low, high = stats.t.interval(0.9, 4, np.mean(differences), stats.sem(differences))
    assert (same.low, same.high) == pytest.approx((low, high))


def test_equivalence_is_unknown_below_three_and_without_spread():
    for few in ([0.0], [0.0, 0.0], [0.0, 0.001], [0.0] * 5, [0.02] * 3):
        assert (statistics.equivalence(few, 0.01).within, statistics.equivalence(few, 0.01).p) == (None, None)
    assert statistics.equivalence([0.0, 0.001, 0.002], 0.01).within is True
    assert statistics.equivalence([0.02, 0.021, 0.022], 0.01).within is False
    with pytest.raises(ValueError, match="margin"):
        statistics.equivalence([0.0, 0.0], 0.0)


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_loss_of_exactly_the_margin_is_judged_in_one_study_of_twenty(seeds):
    generator = np.random.default_rng(seeds)
    found = 0
    for _ in range(2000):
        little, much = margin_p([list(generator.normal(-0.01, 0.002, seeds)) for _ in range(2)], 0.01)
        found += min(little, much) < 0.05
    assert found / 2000 <= 0.05


def test_equivalence_wrongly_found_at_the_margin_in_one_case_of_twenty():
    generator = np.random.default_rng(1)
    found = sum(bool(statistics.equivalence(generator.normal(0.01, 0.003, 5), 0.01).within) for _ in range(2000))
    assert 0.035 < found / 2000 < 0.065

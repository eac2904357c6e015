import math

import numpy as np
import pytest
from scipy import stats

from analysis import statistics as s


def test_summary_of_a_hand_worked_case():
    # Mean (1+2+6)/3 = 3; squares 4+1+9 = 14; sd = sqrt(14/2) = 2.6458; t(0.975, 2) = 4.3027.
    # Half width 4.3027 * 2.6458 / sqrt(3) = 6.5724.
    found = s.summarise([1.0, 2.0, 6.0, float("nan"), None], n_failed=1)
    assert (found.n, found.n_expected, found.n_failed, found.minimum, found.maximum) == (3, 5, 1, 1.0, 6.0)
    assert found.mean == 3 and found.sd == pytest.approx(math.sqrt(7))
    assert (found.low, found.high) == (
        pytest.approx(3 - 6.5724, abs=1e-4),
        pytest.approx(3 + 6.5724, abs=1e-4),
    )


def test_one_value_has_no_interval_and_none_has_no_mean():
    one, none = s.summarise([0.5]), s.summarise([])
    assert (one.mean, one.sd, one.low) == (0.5, None, None)
    assert (none.n, none.mean) == (0, None)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_t_interval_covers_as_often_as_it_says(n):
    draws = np.random.default_rng(n).normal(2.0, 3.0, size=(6000, n))
    found = [s.summarise(row) for row in draws]
    cover = np.mean([item.low <= 2.0 <= item.high for item in found])
    assert 0.94 <= cover <= 0.96


def test_paired_gain_of_a_hand_worked_case():
    # Differences 1, 2, 3: mean 2, sd 1, t = 2 / (1 / sqrt 3) = 3.4641, d_z = 2.
    gain = s.paired_gain({0: 2.0, 1: 4.0, 2: 6.0, 9: 5.0}, {0: 1.0, 1: 2.0, 2: 3.0, 8: 1.0})
    assert (gain.pairs, gain.mean, gain.sd, gain.effect_size) == (3, 2, pytest.approx(1), pytest.approx(2))
    assert gain.p == pytest.approx(stats.ttest_rel([2, 4, 6], [1, 2, 3]).pvalue)
    assert gain.p == pytest.approx(2 * stats.t.sf(3.4641016, 2), rel=1e-6)
    assert gain.low == pytest.approx(2 - 4.302653 / math.sqrt(3), rel=1e-6)


def test_equal_differences_have_no_p_value_and_say_so():
    gain = s.paired_gain({0: 0.3, 1: 0.4, 2: 0.8}, {0: 0.2, 1: 0.3, 2: 0.7})
    assert gain.p is None and gain.sd == 0 and "undefined" in gain.note
    assert gain.low is None and gain.high is None and gain.mean == pytest.approx(0.1)
    assert s.direction(s.summarise(gain.differences.values())) == 0


def test_one_pair_has_no_interval_and_no_pair_no_gain():
    assert "n=1" in s.paired_gain({0: 1.0}, {0: 0.5}).note
    assert s.paired_gain({0: 1.0}, {1: 0.5}).mean is None


def test_pairs_of_different_teachers_are_refused_unless_allowed():
    ours, base = {0: 1.0, 1: 2.0}, {0: 0.5, 1: 1.0}
    teachers = ({0: "a", 1: "b"}, {0: "a", 1: "c"})
    with pytest.raises(ValueError, match="seed 1 they hang from b and c"):
        s.paired_gain(ours, base, teachers=teachers)
    assert "1 of 2 seeds" in s.paired_gain(ours, base, teachers=teachers, allow_different_teachers=True).note
    assert s.paired_gain(ours, base, teachers=({0: "a", 1: "b"}, {0: None})).pairs == 2


def test_holm_of_a_known_case():
    # Sorted 0.005 0.01 0.03 0.04 times 4 3 2 1: 0.02 0.03 0.06 0.04, then the running maximum.
    assert s.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert s.holm([0.01, None, 0.6]) == [0.02, None, 0.6]
    assert s.holm([]) == []


def test_effects_of_a_hand_worked_2_by_2():
    # none 1, a 3, b 2, ab 8: E_a = ((3-1)+(8-2))/2 = 4; E_b = ((2-1)+(8-3))/2 = 3; E_ab = (1+8-3-2)/2 = 2.
    cells = {
        frozenset(): {0: 1.0},
        frozenset("a"): {0: 3.0},
        frozenset("b"): {0: 2.0},
        frozenset("ab"): {0: 8.0},
    }
    found = s.factorial_effects(cells, ["a", "b"])
    assert {e.factors: pytest.approx(e.mean) for e in found.effects} == {("a",): 4, ("b",): 3, ("a", "b"): 2}
    assert found.method == "contrasts" and found.effects[0].low is None


def planted(noise: float, seeds=range(5)):
    """x = 0.8 + sum of halves of the effects times the signs, as the contrasts define them."""
    true = {("1",): 0.01, ("2",): 0.02, ("3",): 0.03, ("C",): 0.04, ("2", "C"): -0.006, ("1", "3"): 0.002}
    rng = np.random.default_rng(1)
    cells = {}
    for code in range(16):
        cell = frozenset(f for bit, f in enumerate("123C") if code >> bit & 1)
        signs = {t: math.prod(1 if f in cell else -1 for f in t) for t in true}
        base = 0.8 + sum(true[t] * signs[t] / 2 for t in true)
        cells[cell] = {seed: base + 0.01 * seed + rng.normal(0, noise) for seed in seeds}
    return cells, true


def test_a_planted_model_is_recovered_exactly_without_noise():
    cells, true = planted(0)
    found = s.factorial_effects(cells, list("123C"))
    assert len(found.effects) == 10 and not found.missing
    for effect in found.effects:
        assert effect.mean == pytest.approx(true.get(effect.factors, 0), abs=1e-12)


def test_a_planted_model_lies_within_its_intervals_with_noise():
    cells, true = planted(0.002)
    found = s.factorial_effects(cells, list("123C"))
    assert sum(e.low <= true.get(e.factors, 0) <= e.high for e in found.effects) >= 9


def test_an_incomplete_grid_is_fitted_by_least_squares_and_names_what_is_missing():
    cells, true = planted(0)
    del cells[frozenset("12")]
    del cells[frozenset("3")][2]
    found = s.factorial_effects(cells, list("123C"))
    assert found.method == "least squares"
    assert (frozenset("12"), 0) in found.missing and (frozenset("3"), 2) in found.missing and len(found.missing) == 6
    for effect in found.effects:
        assert effect.mean == pytest.approx(true.get(effect.factors, 0), abs=1e-12)


def test_too_few_cells_give_main_effects_or_nothing_and_say_so():
    cells, _ = planted(0)
    small = {cell: by_seed for cell, by_seed in cells.items() if len(cell) <= 1 or len(cell) == 4}
    found = s.factorial_effects(small, list("123C"))
    assert [e.factors for e in found.effects] == [
        ("1",),
        ("2",),
        ("3",),
        ("C",),
    ] and "main effects only" in found.note
    assert not s.factorial_effects({frozenset(): {0: 1.0}}, list("123C")).effects


def test_slope_within_groups_ignores_the_groups_levels():
    # Group 0: (0,0) (1,2); group 1: (5,100) (6,102): slope 2 inside each, whatever lies between.
    points = [(0.0, 0.0), (1.0, 2.0), (5.0, 100.0), (6.0, 102.0)]
    assert s.slope(points, [0, 0, 1, 1]) == pytest.approx(2)
    assert s.slope([(1.0, 3.0), (1.0, 4.0)]) is None


def test_wilson_of_a_known_case():
    # p = 0.5, n = 10, z = 1.95996: centre 0.5, half = z/(1+z^2/10) sqrt(0.025 + z^2/400) = 0.26341.
    assert s.wilson(5, 10) == pytest.approx((0.23659, 0.76341), abs=1e-5)
    reference = stats.binomtest(884, 907).proportion_ci(method="wilson")
    assert s.wilson(884, 907) == pytest.approx((reference.low, reference.high))
    assert s.noise_floor(0.75, 10_000) == pytest.approx(0.0085, abs=1e-4)
    with pytest.raises(ValueError, match="got 3 and 2"):
        s.wilson(3, 2)


@pytest.mark.parametrize("n, expected", [(2, 11.5499), (3, 3.2640), (5, 1.6820)])
def test_the_detectable_gain_is_that_of_the_noncentral_t(n, expected):
    # Of statsmodels 0.14, TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8).
    assert s.detectable(1.0, n) == pytest.approx(expected, abs=1e-4)
    assert s.detectable(0.4, n) == pytest.approx(0.4 * s.detectable(1.0, n))
    with pytest.raises(ValueError, match="n >= 2"):
        s.detectable(0.4, 1)


def test_a_detectable_gain_is_found_in_four_of_five_studies():
    gain = s.detectable(1.0, 3, tests=4)
    draws = np.random.default_rng(0).normal(gain, 1.0, size=(20_000, 3))
    found = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05 / 4
    assert found.mean() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("values", [[0.0, 0.2], [0.9, 1.0, 1.0], [0.0, 0.001, 0.0], [1.0, 0.99]])
def test_the_interval_of_a_rate_stays_a_rate(values):
    found = s.summarise(values, bounds=s.RATE)
    free = s.summarise(values)
    assert 0 <= found.low < found.mean < found.high <= 1 and not 0 <= free.low <= free.high <= 1
    assert (found.low, found.high) == (max(free.low, 0), min(free.high, 1))


def test_bounds_mean_nothing_to_numbers_that_are_no_rates():
    assert s.summarise([0.5, 7.0, 2.0], bounds=s.RATE) == s.summarise([0.5, 7.0, 2.0])


def test_gains_stay_inside_a_hundred_points():
    gain = s.paired_gain({0: 0.9, 1: 0.1}, {0: 0.1, 1: 0.2})
    assert (gain.low, gain.high) == (-1.0, 1.0)


@pytest.mark.parametrize("values", [[0.94, 0.94], [0.1 + 0.2, 0.3, 0.3], [0.5 + 1e-9, 0.5, 0.5 - 1e-9]])
def test_no_spread_is_no_interval(values):
    found = s.summarise(values)
    assert (found.sd, found.low, found.high) == (0.0, None, None) and found.n == len(values)


def test_two_pairs_have_an_interval_and_no_test():
    gain = s.paired_gain({0: 0.3, 1: 0.5}, {0: 0.2, 1: 0.3})
    assert gain.p is None and gain.low is not None and "n=2: too few for a test" in gain.note


@pytest.mark.parametrize("factors", ["a", "abcd"])
def test_effects_without_spread_or_of_two_seeds_do_not_pass(factors):
    for seeds, noise in ((5, 0.0), (2, 0.001)):
        rng = np.random.default_rng(0)
        grid = [frozenset(f for bit, f in enumerate(factors) if code >> bit & 1) for code in range(2 ** len(factors))]
        cells = {cell: {seed: 0.5 + 0.1 * len(cell) + rng.normal(0, noise) for seed in range(seeds)} for cell in grid}
        found = s.factorial_effects(cells, list(factors))
        assert found.effects and not any(effect.passes for effect in found.effects)


def test_main_effects_and_interactions_are_two_families():
    cells, _ = planted(0.004)
    found = s.factorial_effects(cells, list("123C")).effects
    mains, pairs = [e for e in found if len(e.factors) == 1], [e for e in found if len(e.factors) == 2]
    for family in (mains, pairs):
        assert [e.p_holm for e in family] == pytest.approx(s.holm([e.p for e in family]))

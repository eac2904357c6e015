"""Sentences: they lead with what is supported, judge nothing of few seeds, and say what was not tested yet."""

import re

import pytest
import synthetic

from analysis.frames import order_ablation
from analysis.load import cell_table, load_run, trial_table
from analysis.report import cautions, method, wording
from analysis.report.write import write_report
from analysis.statistics import ALPHA


def panel_of(folder):
    data = load_run(folder)
    (panel,) = order_ablation.panels(data.run, cell_table(data.run), trial_table(data))
    return panel


def answer(tmp_path, **options):
    panel = panel_of(synthetic.ablation(tmp_path / "run", epochs=0, **options))
    return wording.ablation_answer(panel), panel


def rows(panel):
    return {row["levels"]: row for row in panel.rows.iter_rows(named=True)}


def only(order, points=0.02):
    return lambda orders, noise: 0.8 + points * (order in orders) + noise


def test_a_main_effect_that_passes_comes_first_whatever_has_the_highest_mean(tmp_path):
    found, panel = answer(tmp_path, score=only("3"))
    effect = next(e for e in panel.effects.effects if e.factors == ("3",))
    assert effect.passes
    assert found.headline.startswith(f"Order 3 helps: {100 * effect.mean:+.2f} points (95% CI")
    assert "Holm over 4 main effects" in found.headline and "n=5 seeds" in found.headline
    passing = [row for row in rows(panel).values() if row["p_dunnett"] is not None and row["p_dunnett"] < ALPHA]
    assert f"{len(passing)} of 15 cells tested beat no distillation" in found.rest
    top = max(passing, key=lambda row: row["gain"])
    assert f"The largest gain that passes is that of {top['levels']}" in found.rest


def test_an_order_that_hurts_is_said_to(tmp_path):
    found, _ = answer(
        tmp_path, score=lambda orders, noise: 0.8 + 0.02 * ("3" in orders) - 0.03 * ("C" in orders) + noise
    )
    assert found.headline.startswith("Order 3 helps: +") and "; order C hurts: -" in found.headline


def test_without_a_main_effect_the_best_cell_that_passes_leads(tmp_path):
    found, panel = answer(tmp_path, orders=["none", "1", "2"], factors=None, score=only("2", 0.05))
    told = rows(panel)["2"]
    assert found.headline.startswith(
        f"2 beats no distillation, with {100 * told['mean']:.2f} %: {100 * told['gain']:+.2f} points"
    )
    assert f"Dunnett p {told['p_dunnett']:.3f}" in found.headline or "Dunnett p <0.001" in found.headline


def test_where_nothing_passes_the_highest_mean_is_told_with_its_own_test(tmp_path):
    found, panel = answer(tmp_path, score=lambda orders, noise: 0.8 + noise)
    best = next(row for row in rows(panel).values() if row["best"])
    assert found.headline == "No order and no cell is shown to beat no distillation."
    assert "0 of 15 cells tested beat no distillation; 15 are inconclusive." in found.rest
    assert f"is that of {best['levels']}, whose own gain does not pass: {100 * best['gain']:+.2f} points" in found.rest


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
@pytest.mark.parametrize("score", [only("3", 0.1), only("3", -0.1)])
def test_below_three_seeds_nothing_beats_and_nothing_falls_below(tmp_path, seeds, score):
    found, panel = answer(tmp_path, seeds=seeds, score=score)
    assert not re.search(r"\b(beats?|falls?|helps?|hurts?|supported|Holm|Dunnett)\b", found.sentence)
    assert f"Nothing is judged below 3 pairs, and there are {len(seeds)} at most" in found.rest
    assert panel.tests == 0 and panel.rows["p"].null_count() == panel.rows.height
    if len(seeds) == 2:
        assert "n=2 seeds: too few to judge" in found.headline and "95% CI" in found.headline


def test_what_has_no_result_or_too_few_pairs_is_not_tested_yet(tmp_path):
    found, panel = answer(
        tmp_path,
        failed=[("C", seed) for seed in range(5)],
        missing=[("1+2", 0), ("1+2", 1), ("1+2", 2), ("3", 4)],
    )
    assert "of 13 cells tested" in found.rest and panel.tests == 13
    assert "Not tested yet: C (0 of 5 seeds), 1+2 (2 of 5 seeds)." in found.rest


def test_a_comparison_counts_the_methods_that_were_tested(tmp_path):
    options = {"arms": ["ce", "kd", "at", "horkd"], "sides": (16,), "failed": [("at", seed) for seed in range(5)]}
    summary = write_report(synthetic.methods(tmp_path / "run", **options), tmp_path / "out")
    assert (
        "2 of 2 distillation methods tested beat labels alone. Not tested yet: AT (0 of 5 seeds)." in summary.sentence
    )


def test_another_method_leads_where_ours_does_not_pass(tmp_path):
    def score(arm, side, noise):
        # Ours goes up and down by seed as much as it gains.
        return 0.7 + {"kd": 0.03}.get(arm, 0.0) + noise * (8 if arm == "horkd" else 1)

    folder = synthetic.methods(tmp_path / "run", arms=["ce", "kd", "horkd"], sides=(16,), score=score)
    summary = write_report(folder, tmp_path / "out")
    assert re.match(r"KD beats labels alone at equal epochs: 7\d\.\d\d %, \+3\.\d\d points \(95% CI", summary.sentence)
    assert re.search(r"HORKD reaches .* at equal epochs, which does not pass\.", summary.sentence)


@pytest.mark.parametrize("seeds", [(0, 1), (0, 1, 2)])
def test_the_caution_on_few_seeds_fits_their_number(tmp_path, seeds):
    folder = synthetic.methods(tmp_path / "run", arms=["ce", "kd", "horkd"], sides=(16,), seeds=seeds)
    summary = write_report(folder, tmp_path / "out")
    told = next(item for item in summary.cautions if item.startswith("At most n="))
    assert ("nothing is judged" in told) == (len(seeds) == 2)
    assert any("finds gains of" in item for item in summary.cautions) == (len(seeds) == 3)


def test_rounding_is_named_with_how_far_it_moved_means(tmp_path):
    folder = synthetic.ablation(tmp_path / "run", orders=["none", "1"], epochs=0)
    told = [item for item in write_report(folder, tmp_path / "out").cautions if "Rounding" in item]
    assert len(told) == 1 and f"{100 * cautions.ROUNDING_MOVES:.2f} points" in told[0]


@pytest.mark.parametrize(
    "parameters, told",
    [
        ({"horkd.reduction": "sum_over_anchors_mean", "batch_size": 128}, "B = 128"),
        ({"student.horkd.reduction": "reference"}, "ordered tuples"),
        ({"horkd.reduction": "mean", "batch_size": 128}, ""),
        ({}, ""),
    ],
)
def test_weights_on_sums_are_told_with_what_they_count_and_their_batch(parameters, told):
    found = [line for line in method.method({"parameters": parameters}) if "ordered tuples" in line]
    assert bool(found) == bool(told) and all(told in line for line in found)

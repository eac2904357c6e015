import itertools
import json

import numpy as np
import polars as pl
import pytest
import synthetic

from analysis.frames import methods, pareto, resolutions
from analysis.frames.arms import arms_of
from analysis.load import cell_table, load_run, trial_table


def read(folder):
    data = load_run(folder)
    cells, trials = cell_table(data.run), trial_table(data)
    return data.run, arms_of(data.run, trials), cells, trials, methods.settings(data.run, cells, trials)


def planted(arm, side, noise):
    return synthetic.method_score(arm, side, 0.0)


def test_a_curve_holds_the_scores_by_what_the_networks_read(tmp_path):
    folder = synthetic.methods(tmp_path, seeds=(0, 1), arms=["teacher", "ce", "horkd"], score=planted)
    _, arms, _, _, settings = read(folder)
    (curve,) = resolutions.curves(settings, arms)
    assert curve.sides == [8, 16, 32] and curve.title == ""
    rows = {(r["arm"], r["resolution"]): r for r in curve.rows.iter_rows(named=True)}
    assert set(rows) == {("teacher", 32), *itertools.product(("ce", "horkd"), (8, 16, 32))}
    for side in (8, 16, 32):
        assert rows["horkd", side]["mean"] == pytest.approx(planted("horkd", side, 0))
        assert rows["horkd", side]["gain"] == pytest.approx(0.06)
    assert rows["ce", 8]["retained"] == pytest.approx(planted("ce", 8, 0) / planted("ce", 32, 0))


def test_networks_make_a_curve_each_and_one_side_makes_none(tmp_path):
    options = {"seeds": (0,), "arms": ["ce", "horkd"], "architectures": ("resnet_thin", "resnet18")}
    _, arms, _, _, settings = read(synthetic.methods(tmp_path / "a", sides=(16, 8), **options))
    assert [curve.title for curve in resolutions.curves(settings, arms)] == ["resnet_thin", "resnet18"]
    _, arms, _, _, settings = read(synthetic.methods(tmp_path / "b", sides=(16,), **options))
    assert resolutions.curves(settings, arms) == []


def test_the_cross_evaluation_has_every_pair_of_trained_and_tested_side_once(tmp_path):
    folder = synthetic.methods(
        tmp_path,
        seeds=(0, 1),
        arms=["teacher", "ce", "horkd", "pixels"],
        tests=(None, 16, 8),
        sides=(32, 16),
        tunings=2,
        score=planted,
    )
    _, arms, cells, trials, settings = read(folder)
    rows = resolutions.cross_evaluation(settings, arms, cells, trials)
    seen = {(r["arm"], r["trained"], r["tested"]): r["mean"] for r in rows.iter_rows(named=True)}
    sides = [(32, 32), (32, 16), (32, 8), (16, 16), (16, 8)]
    assert set(seen) == {(arm, *pair) for arm in ("ce", "horkd") for pair in sides} | {
        ("teacher", 32, side) for side in (32, 16, 8)
    }
    assert seen["horkd", 32, 8] == pytest.approx(planted("horkd", 32, 0) - 0.05 * 2)
    assert rows["arm"][0] == "horkd"  # Ours is drawn first.


def test_without_another_tested_side_there_is_no_cross_evaluation(tmp_path):
    _, arms, cells, trials, settings = read(synthetic.methods(tmp_path, seeds=(0,), arms=["ce", "horkd"]))
    assert resolutions.cross_evaluation(settings, arms, cells, trials).is_empty()


def test_the_front_equals_the_definition_on_random_points():
    generator = np.random.default_rng(0)
    for _ in range(50):
        points = [(float(s), float(c)) for s, c in generator.integers(0, 6, (12, 2))]
        beaten = [
            any(s >= score and c <= cost and (s > score or c < cost) for s, c in points) for score, cost in points
        ]
        assert pareto.on_front(points) == [not b for b in beaten]


def test_equal_points_share_the_front_and_unknown_ones_are_not_on_it():
    assert pareto.on_front([(0.5, 1.0), (0.5, 1.0), (None, 0.5), (0.9, None)]) == [True, True, False, False]


def test_points_leave_out_floors_and_show_a_teacher_once(tmp_path):
    folder = synthetic.methods(tmp_path, seeds=(0, 1), architectures=("resnet_thin", "resnet18"), sides=(16, 8))
    *_, settings = read(folder)
    points = pareto.points_of(settings)
    assert points.filter(arm="pixels").is_empty() and points.filter(arm="teacher").height == 1
    assert points.filter(arm="horkd")["macs"].n_unique() == 3 and points.filter(arm="horkd").height == 4
    assert points.filter(arm="teacher")["setting"][0] == "" and "resnet18" in points.filter(arm="horkd")["setting"][-1]


def test_a_search_tells_the_test_score_of_its_front_alone(tmp_path):
    folder = synthetic.pareto_search(tmp_path)
    run, _, cells, trials, _ = read(folder)
    search = pareto.search(run, cells, trials)
    front = search.cells.filter("front")
    assert search.cost == "macs" and set(search.varied) == {"student.architecture", "student.resolution"}
    # A bigger side is better in the planted score, and the thin network with it is beaten by none at its cost.
    means = {r["cell"]: (r["value"], r["macs"]) for r in search.cells.iter_rows(named=True) if r["value"] is not None}
    expected = {
        cell
        for cell, (value, cost) in means.items()
        if not any(v >= value and c <= cost and (v, c) != (value, cost) for v, c in means.values())
    }
    assert set(front["cell"]) == expected and 1 < front.height < search.cells.height
    assert search.cells.filter(~pl.col("front"))["test"].null_count() == search.cells.height - front.height
    assert front["test"].null_count() == 0 and front["macs"].is_sorted()


@pytest.mark.parametrize(
    "objectives, column",
    [
        (["score", "macs"], "macs"),
        (["score", "parameters_count"], "parameters_count"),
        (["score", "params"], "parameters_count"),
    ],
)
def test_the_second_objective_names_the_cost(objectives, column):
    assert pareto.objective_column(objectives) == column


def test_a_failed_cell_of_a_search_is_on_no_front(tmp_path):
    folder = synthetic.pareto_search(tmp_path, failed=("c0",))
    run, _, cells, trials, _ = read(folder)
    told = pareto.search(run, cells, trials).cells.filter(cell="c0").row(0, named=True)
    assert (told["status"], told["front"]) == ("failed", False)
    assert json.loads(cells.filter(cell="c0")["parameters"][0])

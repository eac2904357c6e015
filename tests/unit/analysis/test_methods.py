import json
import math

import polars as pl
import pytest
import synthetic
from scipy import stats

from analysis.frames import methods
from analysis.frames.arms import arms_of, our_arm
from analysis.load import cell_table, load_run, trial_table


def read(folder):
    run = load_run(folder)
    trials = trial_table(run)
    return run, trials, methods.settings(run.run, cell_table(run.run), trials)


def made(tmp_path, **options):
    return read(synthetic.methods(tmp_path / "run", **options))


def scores(trials, cell):
    return {row["seed"]: row["score"] for row in trials.iter_rows(named=True) if row["cell"] == cell}


def row(setting, arm):
    found = setting.row(arm)
    assert found is not None
    return found


def test_gains_equal_a_loop_over_seeds_and_holm_counts_the_trained_methods_only(tmp_path):
    _, trials, settings = made(tmp_path, sides=(16,))
    (setting,) = settings
    p = {}
    for arm in ("ce_long", "kd", "at", "horkd_direct", "horkd"):
        ours, base = scores(trials, f"{arm}-16"), scores(trials, "ce-16")
        differences = [ours[seed] - base[seed] for seed in sorted(base)]
        told = row(setting, arm)
        assert told["gain"] == pytest.approx(sum(differences) / 5, abs=1e-12)
        low, high = stats.t.interval(0.95, 4, sum(differences) / 5, stats.sem(differences))
        assert (told["gain_low"], told["gain_high"]) == pytest.approx((low, high), abs=1e-12)
        p[arm] = stats.ttest_1samp(differences, 0).pvalue
    smallest = min(p, key=p.__getitem__)
    assert row(setting, smallest)["p_holm"] == pytest.approx(5 * p[smallest])
    assert setting.tests == 5
    assert row(setting, "teacher")["gain"] is not None and row(setting, "teacher")["p_holm"] is None
    assert row(setting, "pixels")["p_holm"] is None


def with_arms(folder, **arms):
    """A run whose arms are changed or added to."""
    run = json.loads((folder / "run.json").read_text())
    for name, words in arms.items():
        run["arms"][name] = run["arms"].get(name, {}) | words
    synthetic.save(folder, run)
    return read(folder)


def control(of, **parameters):
    route = {"route": "assistant" if of == "horkd" else "direct"}
    words = {"title": f"labels, as {of}", "kind": "equal_compute", "parameters": parameters}
    return words | {"compute_of": of, "compute_parameters": route}


def test_each_distilled_arm_is_held_against_what_has_its_route_and_networks(tmp_path):
    names = ["ce", "ce_long", "ce_direct", "ce_kd", "kd", "at", "horkd_direct", "horkd"]
    folder = synthetic.methods(tmp_path / "run", sides=(16,), arms=names)
    _, trials, (setting,) = with_arms(folder, ce_direct=control("horkd_direct"), ce_kd=control("kd"))
    against = {name: row(setting, name)["compute_against"] for name in names}
    assert against == {
        "ce": None,
        "ce_long": None,
        "ce_direct": None,
        "ce_kd": None,
        "kd": "labels, as kd",
        "at": "labels, as horkd_direct",  # The first of the two that go its route.
        "horkd_direct": "labels, as horkd_direct",
        "horkd": "labels alone, equal compute",
    }
    assert setting.compute_tests == 4
    ours, base = scores(trials, "at-16"), scores(trials, "ce_direct-16")
    assert row(setting, "at")["compute_gain"] == pytest.approx(sum(ours[s] - base[s] for s in base) / 5, abs=1e-12)


def test_without_a_fitting_control_there_is_neither_gain_nor_test_at_equal_compute(tmp_path):
    _, _, (setting,) = made(tmp_path, sides=(16,))
    for arm in ("kd", "at", "horkd_direct"):
        told = row(setting, arm)
        assert told["compute_gain"] is None and told["compute_p_holm"] is None and told["compute_against"] is None
        assert told["gain"] is not None
    # The family is of one, so Holm changes nothing.
    told = row(setting, "horkd")
    assert setting.compute_tests == 1 and told["compute_p_holm"] == told["compute_p"]


@pytest.mark.parametrize("name", ["student.architecture", "student.width", "assistant.width", "width"])
def test_an_arm_with_other_networks_does_not_fit(tmp_path, name):
    folder = synthetic.methods(tmp_path / "run", sides=(16,), arms=["ce", "ce_long", "horkd", "horkd_other"])
    parameters = {"route": "assistant", "student.method": "horkd"}
    _, _, (setting,) = with_arms(folder, horkd_other={"kind": "ours", "parameters": parameters | {name: 0.5}})
    assert row(setting, "horkd_other")["compute_against"] is None
    again = {"kind": "ours", "parameters": parameters | {"student.init_from_assistant": True}}
    _, _, (setting,) = with_arms(folder, horkd_other=again)
    assert row(setting, "horkd_other")["compute_against"] == "labels alone, equal compute"


def test_a_control_may_have_the_compute_of_an_arm_that_was_not_run(tmp_path):
    folder = synthetic.methods(tmp_path / "run", sides=(16,), arms=["ce", "ce_direct", "kd", "horkd"])
    _, _, (setting,) = with_arms(folder, ce_direct=control("horkd_direct"))
    assert row(setting, "kd")["compute_against"] == "labels, as horkd_direct"
    assert row(setting, "horkd")["compute_against"] is None
    _, _, (setting,) = with_arms(folder, ce_direct=control("nobody") | {"compute_parameters": {}})
    assert row(setting, "kd")["compute_against"] is None


def test_the_training_times_of_both_sides_of_a_gain_at_equal_compute_are_means_over_seeds(tmp_path):
    folder = synthetic.methods(tmp_path / "run", sides=(16,), arms=["ce", "ce_long", "horkd"])
    for seconds, arm in ((1.0, "horkd"), (2.0, "ce_long")):
        for seed, path in enumerate(sorted((folder / "records").glob(f"student-n-{arm}-16-*.parquet"))):
            _rewrite(path, pl.read_parquet(path).with_columns(pl.lit(seconds * (seed + 1)).alias("cpu_seconds")))
    _, _, (setting,) = read(folder)
    told = row(setting, "horkd")
    assert told["train_clock"] == "CPU"
    assert (told["train_seconds"], told["compute_seconds"]) == (pytest.approx(3.0), pytest.approx(6.0))
    assert row(setting, "ce")["compute_seconds"] is None


def test_an_arm_that_an_axis_means_nothing_to_is_in_every_setting(tmp_path):
    _, _, settings = made(tmp_path, sides=(32, 16, 8))
    assert [setting.title for setting in settings] == ["32×32 pixels", "16×16 pixels", "8×8 pixels"]
    assert len({row(setting, "teacher")["mean"] for setting in settings}) == 1
    assert {row(setting, "teacher")["resolution"] for setting in settings} == {32}
    assert [row(setting, "horkd")["resolution"] for setting in settings] == [32, 16, 8]


def test_what_reads_another_side_stands_beside_the_tests_of_a_setting(tmp_path):
    folder = synthetic.methods(tmp_path / "run", arms=["ce", "ce_long", "kd", "horkd"], sides=(32, 16))
    run = json.loads((folder / "run.json").read_text())
    # As an arm that ignores the axis: one cell, read at the full side.
    run["cells"] = [cell for cell in run["cells"] if cell["id"] != "horkd-16"]
    for cell in run["cells"]:
        if cell["id"] == "horkd-32":
            cell["parameters"] = {"arm": "horkd"}
    synthetic.save(folder, run)
    _, _, (full, half) = read(folder)
    assert row(full, "horkd")["apart"] is False and row(full, "horkd")["best"] and full.tests == 3
    told = row(half, "horkd")
    assert told["apart"] and not told["best"] and told["p_holm"] is None and told["compute_gain"] is None
    assert half.rows.filter("best")["arm"].to_list() == ["kd"] and half.tests == 2 and half.side == 16


def test_a_reading_that_all_seeds_share_is_one_result_without_interval(tmp_path):
    _, _, (setting,) = made(tmp_path, sides=(16,))
    pixels = row(setting, "pixels")
    assert (pixels["n"], pixels["n_expected"], pixels["low"]) == (1, 1, None)
    assert pixels["pairs"] == 5  # Its pairs differ, as the reference has seeds.


def test_tuning_is_chosen_by_validation_whatever_the_test_says(tmp_path):
    folder = synthetic.methods(tmp_path / "run", sides=(16,), arms=["ce", "kd"], tunings=3)
    for path in (folder / "records").glob("*.parquet"):
        frame = pl.read_parquet(path)
        if frame["stage"][0] == "evaluation" and frame["cells"][0][0].startswith("kd"):
            tuning = int(frame["cells"][0][0].rsplit("-", 1)[1])
            # The worse on test, the better on validation.
            frame = frame.with_columns(
                pl.lit(0.5 + 0.1 * tuning).alias("validation_score"), pl.lit(0.9 - 0.1 * tuning).alias("score")
            )
            _rewrite(path, frame)
    _, _, (setting,) = read(folder)
    told = row(setting, "kd")
    assert (told["tuning"], told["tried"], told["mean"]) == ("2", 3, pytest.approx(0.7))
    assert setting.cells["kd"] == "kd-16-2"
    assert row(setting, "ce")["tuning"] == "1"  # The middle one was planted as the best.


def _rewrite(path, frame):
    from analysis.records import SCHEMA, write_record

    values = {name: value for name, value in frame.row(0, named=True).items() if name in SCHEMA.names}
    write_record(path, values)


def test_the_table_shows_what_was_tested_as_it_was_trained(tmp_path):
    _, trials, settings = made(tmp_path, arms=["ce", "horkd"], sides=(32, 16), tests=(8, None))
    assert [setting.cells["horkd"] for setting in settings] == ["horkd-32-None", "horkd-16-None"]
    mean = row(settings[0], "horkd")["mean"]
    assert mean == pytest.approx(sum(scores(trials, "horkd-32-None").values()) / 5)


def test_seeds_that_only_one_of_two_arms_has_make_no_pair(tmp_path):
    _, _, (setting,) = made(tmp_path, sides=(16,), missing=[("ce", 0), ("horkd", 1)])
    told = row(setting, "horkd")
    assert (told["n"], told["n_expected"], told["pairs"]) == (4, 5, 3)


@pytest.mark.parametrize("why", ["absent", "failed"])
def test_without_a_result_of_the_reference_there_is_no_gain(tmp_path, why):
    arms = [name for name in synthetic.ARMS if name != "ce" or why == "failed"]
    failed = [("ce", seed) for seed in range(5)] if why == "failed" else []
    _, _, (setting,) = made(tmp_path, sides=(16,), arms=arms, failed=failed)
    assert setting.baseline is None and setting.tests == 0
    assert setting.rows["gain"].null_count() == setting.rows.height
    assert row(setting, "horkd")["mean"] is not None


def test_the_first_arm_on_labels_alone_is_the_reference_when_none_is_named(tmp_path):
    _, _, (setting,) = made(tmp_path, sides=(16,), reference=None)
    assert setting.baseline == "ce-16"


def test_distilled_arms_of_different_teachers_are_not_compared_but_both_with_labels_alone(tmp_path):
    folder = synthetic.methods(tmp_path / "run", sides=(16,), arms=["ce", "kd", "horkd"])
    for path in (folder / "records").glob("evaluation-e-kd*.parquet"):
        _rewrite(path, pl.read_parquet(path).with_columns(pl.lit("another").alias("teacher")))
    _, _, (setting,) = read(folder)
    assert row(setting, "kd")["pairs"] == 5
    run = json.loads((folder / "run.json").read_text())
    synthetic.save(folder, run | {"reference": "kd"})
    _, _, (setting,) = read(folder)
    assert row(setting, "horkd")["gain"] is None and "another teacher" in row(setting, "horkd")["note"]
    assert row(setting, "ce")["pairs"] == 5


def test_best_is_neither_a_teacher_nor_a_floor_nor_short_of_seeds(tmp_path):
    _, _, (setting,) = made(tmp_path, sides=(16,), missing=[("horkd", 0)])
    assert setting.rows.filter("best")["arm"].to_list() == ["horkd_direct"]
    assert setting.rows["kind"].to_list()[0] == "teacher" and setting.rows["kind"].to_list()[-1] == "floor"


def test_an_arm_of_a_kind_unknown_to_the_report_counts_as_a_method(tmp_path):
    _, trials, _ = made(tmp_path, sides=(16,), arms=["ce", "kd"])
    arms = arms_of({"arms": {"ce": {"kind": "plain"}, "x": {"kind": "odd"}, "y": "text"}}, trials)
    assert {name: arm.kind for name, arm in arms.items()} == {
        "ce": "plain",
        "x": "method",
        "y": "method",
        "kd": "method",
    }


def test_a_score_that_is_no_number_counts_as_failed(tmp_path):
    def score(arm, side, noise):
        return math.nan if arm == "kd" else synthetic.method_score(arm, side, noise)

    _, trials, (setting,) = made(tmp_path, sides=(16,), score=score)
    assert set(trials.filter(arm="kd")["status"]) == {"failed"}
    told = setting.rows.filter(arm="kd").row(0, named=True)
    assert (told["n"], told["n_failed"], told["mean"]) == (0, 5, None)


@pytest.mark.parametrize(
    "kinds, ours",
    [
        ({"ce": "plain", "mine": "ours", "horkd": "ours"}, "horkd"),
        ({"ce": "plain", "horkd_direct": "method", "mine": "ours"}, "mine"),
        ({"ce": "plain", "kd": "method", "horkd_direct": "method"}, "horkd_direct"),
        ({"ce": "plain", "kd": "method"}, None),
    ],
)
@pytest.mark.parametrize("told", [{}, {"ours": ["horkd", "horkd_direct"]}], ids=["first releases", "told"])
def test_ours_is_what_the_study_names_else_of_that_kind_else_what_stands_for_it(kinds, ours, told):
    arms = arms_of(
        {"arms": {name: {"kind": kind} for name, kind in kinds.items()}} | told, pl.DataFrame({"arm": ["ce"]})
    )
    assert our_arm(arms, list(kinds)) == ours
    assert our_arm(arms, ["ce"]) is None

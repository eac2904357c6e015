import base64
import json
import re

import polars as pl
import pytest
import synthetic
from reports import Page, only_svg

from analysis.report.write import write_report

PRINTED = [
    {"table": "Tab. 1", "method": "OUR-32-R", "dataset": "CIFAR-100", "arm": "horkd", "resolution": 32},
    {"table": "Tab. 1", "method": "KD", "dataset": "CIFAR-100", "arm": "kd", "resolution": None},
]


POOR = {"seeds": (0, 1), "sides": (16, 8), "arms": ("teacher", "ce", "ce_long", "kd", "horkd", "pixels")}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    only_svg(monkeypatch)


def report(tmp_path, maker=synthetic.methods, **options):
    summary = write_report(maker(tmp_path / "run", **options), tmp_path / "out")
    text = summary.index.read_text(encoding="utf-8")
    numbers = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    return summary, text, numbers


def sections(text):
    return re.findall(r'<section id="([a-z-]+)"', text)


def test_the_whole_page(tmp_path):
    summary, text, numbers = report(
        tmp_path, tests=(None, 8), tunings=2, published=PRINTED, seeds=(0, 1, 2), sides=(32, 16, 8)
    )
    assert sections(text) == [
        "findings",
        "table",
        "networks",
        "measures",
        "claims",
        "paper",
        "resolution",
        "cross-evaluation",
        "pareto",
        "curves",
        "cost",
        "method",
        "environment",
        "reproduce",
        "left-out",
    ]
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    assert all(a.get("alt") for tag, a in page.tags if tag == "img")
    assert "http:" not in text and "https:" not in text
    # Sentence, report.json and figure say the same.
    told = next(row for row in numbers["settings"][0]["rows"] if row["arm"] == "horkd")
    gain, mean = f"{100 * told['gain']:+.2f}", f"{100 * told['mean']:.2f}"
    assert f"HORKD reaches {mean} % top-1 accuracy: {gain} points" in summary.sentence
    assert f"At equal multiply-adds it is {100 * told['compute_gain']:+.2f} points" in summary.sentence
    assert "equal compute, which trained 11.0 s where it trained 11.0 s (CPU time)." in summary.sentence
    assert gain in (tmp_path / "out" / "figures" / "forest_1.svg").read_text()
    drawn = pl.read_csv(tmp_path / "out" / "figures" / "resolution.csv").filter(arm="horkd", resolution=32)
    assert drawn["mean"][0] == pytest.approx(told["mean"], abs=1e-12)
    assert {claim["name"] for claim in numbers["claims"]} == set(synthetic.METHOD_CLAIMS)
    assert [row["difference"] for row in numbers["published"]] == [None, None]
    assert any("Stand-in data: digits; the paper used CIFAR-100" in caution for caution in summary.cautions)
    kept = pl.read_parquet(tmp_path / "out" / "data" / "cells.parquet")
    assert kept.height == 3 * len(synthetic.ARMS) and summary.rows[0]["n"] == 3


def test_the_same_records_give_the_same_bytes(tmp_path):
    folder = synthetic.methods(tmp_path / "run", seeds=(0, 1), tests=(None, 8), arms=["ce", "kd", "horkd"])
    first, again = write_report(folder, tmp_path / "a"), write_report(folder, tmp_path / "b")
    for path in first.index.parent.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again.index.parent / path.relative_to(first.index.parent)).read_bytes(), path


@pytest.mark.parametrize(
    "task, metric, words, others, heading",
    [
        (
            "verification",
            "verification_accuracy",
            "% verification accuracy",
            {"tpr_at_fpr_0.1": 0.8, "eer": 0.1, "auc": 0.95},
            "TPR % at FPR 0.1",
        ),
        ("retrieval", "recall_at_1", "% Recall@1", {"recall_at_2": 0.8, "recall_at_4": 0.9}, "Recall@4 %"),
        ("identification", "top1", "% top-1 accuracy", {"top5": 0.9}, "top-1 error %"),
    ],
)
def test_every_task_is_told_in_its_own_words(tmp_path, task, metric, words, others, heading):
    summary, text, numbers = report(
        tmp_path, task=task, metric=metric, numbers=others, sides=(16,), seeds=(0, 1), arms=["ce", "kd", "horkd"]
    )
    assert words in summary.sentence and heading in text
    assert "accuracy" not in summary.sentence or metric != "recall_at_1"
    assert re.search(
        r"test-set noise floor, points \(360 (test pairs|queries|probe images)\)", " ".join(Page(text).words)
    )
    if task == "identification":
        errors = {(r["arm"], r["name"]): r["mean"] for r in numbers["measures"]}
        assert errors["kd", "top1_error"] == pytest.approx(1 - errors["kd", "top1"])


def verification(tmp_path, name="run", **numbers):
    told = {"tpr_at_fpr_0.1": 0.8, "tpr_at_fpr_0.01": 0.3, "tpr_at_fpr_0.001": 0.0667} | numbers
    options = {"sides": (16,), "seeds": (0, 1, 2), "arms": ["ce", "kd"]}
    folder = synthetic.methods(
        tmp_path / name, task="verification", metric="verification_accuracy", numbers=told, **options
    )
    for number, path in enumerate(sorted((folder / "records").glob("evaluation-*.parquet"))):
        row = {n: v for n, v in pl.read_parquet(path).row(0, named=True).items() if n != "schema"}
        metrics = json.loads(row["metrics"]) | {"tpr_at_fpr_0.1": 0.02 + 0.1 * (number % 3 == 0)}
        synthetic.write_record(path, row | {"metrics": json.dumps(metrics)})
    write_report(folder, tmp_path / f"{name} out")
    table = (tmp_path / f"{name} out" / "tables" / "measures.md").read_text()
    numbers = json.loads((tmp_path / f"{name} out" / "report.json").read_text())["measures"]
    return table, {(row["arm"], row["name"]): row for row in numbers}


def test_a_rate_that_the_pairs_cannot_show_is_not_printed(tmp_path):
    # 360 pairs are drawn half and half: 180 of two people show 1 in 100, not 1 in 1,000.
    table, numbers = verification(tmp_path)
    assert table.count("not measurable with 180") == 2 and "below 1 / n" in table
    hidden, shown = numbers["kd", "tpr_at_fpr_0.001"], numbers["kd", "tpr_at_fpr_0.01"]
    assert (
        hidden["mean"] is None and hidden["note"] == "not measurable with 180" and shown["mean"] == pytest.approx(0.3)
    )
    # An evaluation that tells how many there were is believed.
    table, numbers = verification(tmp_path, "few", different_pairs=90)
    assert table.count("not measurable with 90") == 4 and numbers["ce", "tpr_at_fpr_0.01"]["mean"] is None
    table, numbers = verification(tmp_path, "many", different_pairs=1000)
    assert "not measurable" not in table and numbers["ce", "tpr_at_fpr_0.001"]["mean"] == pytest.approx(0.0667)


def test_intervals_of_rates_stay_rates_and_equal_ones_have_none(tmp_path):
    table, numbers = verification(tmp_path)
    low = numbers["kd", "tpr_at_fpr_0.1"]
    assert low["low"] == 0.0 < low["mean"] < low["high"] <= 1.0 and f"[0.00, {100 * low['high']:.2f}" in table.replace(
        "\\", ""
    )
    equal = numbers["kd", "tpr_at_fpr_0.01"]
    assert (equal["mean"], equal["low"], equal["high"], equal["n"]) == (pytest.approx(0.3), None, None, 3)
    assert "30.00" in table and "30.00 [" not in table.replace("\\", "")


def test_equal_scores_of_several_seeds_have_no_interval_of_zero_width(tmp_path):
    def score(arm, side, noise):
        return 0.94 if arm == "kd" else 0.9 + noise

    _, text, numbers = report(tmp_path, arms=["ce", "kd"], sides=(16,), seeds=(0, 1, 2), score=score)
    told = next(row for row in numbers["settings"][0]["rows"] if row["arm"] == "kd")
    assert (told["mean"], told["low"], told["high"]) == (pytest.approx(0.94), None, None)
    assert "n=3, all equal" in text and "[94.00, 94.00]" not in text


def test_filled_means_the_same_in_every_figure_and_each_has_a_key(tmp_path):
    report(tmp_path, seeds=(0, 1, 2), sides=(32, 16, 8), tests=(None, 8))
    figures = tmp_path / "out" / "figures"
    for name in ("forest_1", "resolution"):
        svg = (figures / f"{name}.svg").read_text()
        assert all(word in svg for word in ("● differs from 0", "○ not shown to", "× not tested")), name
    assert "Nothing is tested here" in (figures / "pareto.svg").read_text()
    assert "Empty: not run" in (figures / "cross_evaluation.svg").read_text()
    drawn = pl.read_csv(figures / "resolution.csv").filter(pl.col("kind") == "ours")
    kept = pl.read_parquet(tmp_path / "out" / "data" / "cells.parquet")
    for row in drawn.iter_rows(named=True):
        own = kept.filter(arm=row["arm"], resolution=row["resolution"])
        assert row["p_dunnett"] == pytest.approx(own["p_dunnett"][0])


def test_a_phone_gets_a_forest_whose_numbers_are_in_sight(tmp_path):
    _, text, numbers = report(tmp_path, sides=(16,), seeds=(0, 1, 2))
    (slim,) = re.findall(r'media="\(max-width:640px\)" srcset="data:image/svg\+xml;base64,([^"]+)"', text)
    svg = base64.b64decode(slim).decode()
    width = float(re.search(r'width="([0-9.]+)pt"', svg)[1])
    assert width <= 300  # Points, 400 pixels.
    for row in numbers["settings"][0]["rows"]:
        if row["kind"] != "floor":
            assert f"{100 * row['mean']:.2f}" in svg and (row["reference"] or f"{100 * row['gain']:+.2f} [" in svg)


def test_floors_and_chance_stand_below_the_table_and_outside_the_forest(tmp_path):
    _, text, _ = report(tmp_path, sides=(16,), seeds=(0, 1, 2))
    rows = (tmp_path / "out" / "tables" / "methods.csv").read_text().splitlines()
    assert rows[-2].startswith('"raw pixels, nearest neighbour (floor, reads 32×32)",0.3') and rows[-1].startswith(
        "chance,0.1,expected"
    )
    assert "raw pixels" not in (tmp_path / "out" / "figures" / "forest.svg").read_text()
    assert "One reading for all seeds, so no interval: raw pixels, nearest neighbour." in text


def test_a_failed_method_keeps_its_row_and_a_half_finished_one_its_count(tmp_path):
    summary, text, _ = report(
        tmp_path, sides=(16,), seeds=(0, 1, 2), failed=[("at", s) for s in (0, 1, 2)], missing=[("kd", 2)]
    )
    svg = (tmp_path / "out" / "figures" / "forest.svg").read_text()
    assert "no result (3 failed)" in svg and "n=2 of 3" in svg
    assert (summary.failed, summary.missing) == (3, 1) and "failures" in sections(text)


@pytest.mark.parametrize(
    "options",
    [
        {"arms": ["horkd"]},
        {"arms": ["pixels"]},
        {"arms": ["teacher", "pixels"]},
        {"arms": ["ce"], "claims": [], "sides": (16,)},
        {"seeds": (0,)},
        {"reference": "nobody"},
        {"failed": [("ce", 0), ("ce", 1)]},
        {"score": lambda *_: 0.5},
        {"score": lambda arm, side, noise: float("nan") if arm == "kd" else 0.5 + noise},
        {"score": lambda *_: 0.0},
        {"tests": (8, 16)},
        {"arms": ["ce", "horkd"], "data": {}},
        {"arms": ["ce", "horkd"], "axes": {}, "claims": None, "published": None, "seeds": (0, 1)},
        {"arms": ["ce", "horkd"], "numbers": {"top5": float("nan"), "loss": None}},
    ],
    ids=[
        "ours alone",
        "a floor alone",
        "nothing trained",
        "the reference alone",
        "one seed",
        "no such reference",
        "reference failed",
        "all equal",
        "no number",
        "all zero",
        "never tested as trained",
        "no data named",
        "no axes, claims, numbers",
        "odd metrics",
    ],
)
def test_no_run_is_too_poor_for_a_page(tmp_path, options):
    summary, text, _ = report(tmp_path, **(POOR | options))
    assert summary.sentence and "findings" in sections(text)


def test_a_study_without_equal_compute_says_so(tmp_path):
    summary, *_ = report(tmp_path, arms=["ce", "kd", "horkd"], sides=(16,), seeds=(0, 1))
    assert any("no arm on labels alone with the compute" in caution for caution in summary.cautions)
    assert "equal compute" not in summary.sentence and "multiply-adds" not in summary.sentence


def test_what_has_no_fitting_control_is_named_once_below_the_tables(tmp_path):
    _, text, _ = report(tmp_path, sides=(16, 8), seeds=(0, 1), arms=["ce", "ce_long", "kd", "at", "horkd"])
    assert text.count("No gain at equal compute, and no part in its tests: KD, AT.") == 1
    assert "which is equal multiply-adds and not equal time" in text
    header, *rows = (tmp_path / "out" / "tables" / "methods_1.csv").read_text().splitlines()
    assert "training, both" in header and any(
        '"11.0 s, 11.0 s CPU"' in line for line in rows if line.startswith("HORKD")
    )


def test_where_every_method_has_its_control_nothing_is_said_of_it(tmp_path):
    _, text, _ = report(tmp_path, sides=(16,), seeds=(0, 1), arms=["ce", "ce_long", "horkd"])
    assert "no part in its tests" not in text


def changed(folder, stages, **columns):
    """The same run with columns of some stages' records changed."""
    from analysis.records import SCHEMA, write_record

    for path in (folder / "records").glob("*.parquet"):
        row = pl.read_parquet(path).row(0, named=True)
        if row["stage"] in stages:
            write_record(path, {name: row[name] for name in SCHEMA.names if name in row} | columns)
    return folder


def mixed(folder, **options):
    options = {"sides": (16,), "seeds": (0, 1), "arms": ("ce", "kd", "horkd")} | options
    return synthetic.methods(folder, **options)


def test_testing_on_other_data_is_no_mix_of_fingerprints_unless_one_kind_mixes(tmp_path):
    elsewhere = {"name": "lfw", "fingerprint": "fedcba9876543210", "classes": 20, "test_images": 100}
    told = {"test_data": elsewhere}
    found = {}
    for name, options, stages in (
        ("by design", told, ("evaluation",)),
        ("undeclared", {}, ("evaluation",)),
        ("trained on two", told, ("evaluation", "teacher")),
    ):
        folder = changed(mixed(tmp_path / name, **options), stages, data="fedcba9876543210")
        summary = write_report(folder, tmp_path / f"{name} out")
        found[name] = any("data fingerprints" in caution for caution in summary.cautions)
    assert found == {"by design": False, "undeclared": True, "trained on two": True}
    text = (tmp_path / "by design out" / "index.html").read_text(encoding="utf-8")
    assert "tested on lfw" in text and "Tested: lfw, fingerprint fedcba9876543210." in text


@pytest.mark.parametrize(
    "count, words",
    [(0, ""), (1, "1 tested class has the name of a class"), (3, "3 tested classes have the name of a class")],
)
def test_classes_that_were_trained_on_under_the_same_name_are_told(tmp_path, count, words):
    folder = mixed(tmp_path / "run", numbers={"classes_also_trained_on": count})
    summary = write_report(folder, tmp_path / "out")
    told = [caution for caution in summary.cautions if "trained on" in caution]
    assert len(told) == bool(words) and all(caution.startswith(words) for caution in told)


def test_the_mean_of_the_students_leaves_out_teachers_and_floors(tmp_path):
    arms = ("teacher", "ce", "kd", "pixels")
    _, text, numbers = report(tmp_path, arms=arms, sides=(16, 8), seeds=(0, 1), tests=(None, 8))
    trials = pl.read_parquet(tmp_path / "out" / "data" / "trials.parquet").filter(pl.col("arm").is_in(["ce", "kd"]))
    networks = {row["network"]: row["validation_score"] for row in trials.iter_rows(named=True)}
    students = numbers["validation"]["students"]
    assert students["n"] == len(networks)
    assert students["mean"] == pytest.approx(sum(networks.values()) / len(networks))
    assert numbers["validation"]["teachers"]["n"] == 2


def test_one_network_tested_at_two_sides_counts_once(tmp_path):
    folder = mixed(tmp_path / "run", tests=(None, 8), arms=("ce", "kd"))
    for path in (folder / "records").glob("evaluation-*.parquet"):
        row = pl.read_parquet(path).row(0, named=True)
        shared = [row["parents"][0].replace("-16-8-", "-16-None-")]
        changed_row = {name: value for name, value in row.items() if name != "schema"} | {"parents": shared}
        synthetic.write_record(path, changed_row)
    write_report(folder, tmp_path / "out")
    numbers = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert numbers["validation"]["students"]["n"] == 4  # Two arms, two seeds.


def test_a_floor_above_ours_is_said_plainly(tmp_path):
    def score(arm, side, noise):
        return 0.95 if arm == "pixels" else synthetic.method_score(arm, side, noise)

    arms = ("teacher", "ce", "horkd", "pixels")
    summary, *_ = report(tmp_path, arms=arms, sides=(32, 16), seeds=(0, 1), score=score)
    words = "raw pixels, nearest neighbour: 95.00 %"
    assert f"{words} untrained, above every trained network here." in summary.sentence
    # The pixels are read at full size, whatever the setting.
    told = [caution for caution in summary.cautions if words in caution]
    assert told == [f"At 16×16 pixels, {words} of 32×32 images untrained, above every trained network here."]


def test_a_floor_between_ours_and_others_is_above_ours_alone(tmp_path):
    def score(arm, side, noise):
        return 0.5 if arm == "pixels" else {"ce": 0.4, "kd": 0.6, "horkd": 0.45, "teacher": 0.7}[arm] + noise

    summary, *_ = report(tmp_path / "a", arms=("ce", "kd", "horkd", "pixels"), sides=(16,), seeds=(0, 1), score=score)
    assert "50.00 % of 32×32 images untrained, above HORKD." in summary.sentence
    summary, *_ = report(
        tmp_path / "b", arms=("teacher", "ce", "horkd", "pixels"), sides=(16,), seeds=(0, 1), score=score
    )
    assert "untrained, above every method compared here." in summary.sentence


def test_the_rows_for_a_terminal_hold_floors_and_chance_setting_by_setting(tmp_path):
    summary, *_ = report(
        tmp_path, task="identification", sides=(16, 8), seeds=(0, 1), arms=("ce", "kd", "horkd", "pixels")
    )
    for title in ("16×16 pixels", "8×8 pixels"):
        own = [row for row in summary.rows if row["setting"] == title]
        assert [row["mean"] for row in own] == sorted((row["mean"] for row in own), reverse=True)
        assert {row["kind"] for row in own} == {"plain", "method", "ours", "floor", "chance"}
        assert [row["method"] for row in own if row["reference"]] == ["labels alone (reference)"]
        for row in own:
            if row["kind"] != "chance":
                assert row["beside"]["mean"] == pytest.approx(1 - row["mean"])


def test_ours_ahead_on_fewer_seeds_is_not_called_lower_than_the_best(tmp_path):
    summary, *_ = report(tmp_path, arms=["ce", "kd", "horkd"], sides=(16,), seeds=(0, 1), missing=[("horkd", 1)])
    assert "Of the methods with n=2 seeds KD has the highest mean" in summary.sentence


def test_the_detectable_gain_leaves_out_what_is_not_tested(tmp_path):
    def score(arm, side, noise):
        return 0.5 + (noise * 40 if arm == "teacher" else 0.0) + synthetic.GAIN[arm] + noise

    _, _, numbers = report(tmp_path, arms=["teacher", "ce", "horkd"], sides=(16,), seeds=(0, 1, 2), score=score)
    rows = {row["arm"]: row for row in numbers["settings"][0]["rows"]}
    assert numbers["settings"][0]["detectable"]["sd"] == pytest.approx(rows["horkd"]["gain_sd"])
    assert rows["teacher"]["gain_sd"] > 2 * rows["horkd"]["gain_sd"]


def test_uneven_tuning_is_told(tmp_path):
    folder = synthetic.methods(tmp_path / "run", arms=["ce", "horkd"], sides=(16,), seeds=(0, 1), tunings=2)
    run = json.loads((folder / "run.json").read_text())
    run["cells"] = [cell for cell in run["cells"] if cell["id"] != "ce-16-0"]
    run["trials"] = [trial for trial in run["trials"] if trial["cell"] != "ce-16-0"]
    synthetic.save(folder, run)
    summary = write_report(folder, tmp_path / "out")
    assert any("labels alone had 1 setting to choose from, others up to 2" in item for item in summary.cautions)


def test_hostile_titles_stay_text(tmp_path):
    folder = synthetic.methods(tmp_path / "run", arms=["ce", "horkd"], seeds=(0, 1))
    run = json.loads((folder / "run.json").read_text())
    run["arms"]["horkd"]["title"] = "<script>alert(1)</script> $x_1$ & | \\"
    run["arms"]["ce"]["title"] = "=1+1,\n<b>"
    synthetic.save(folder, run)
    summary = write_report(folder, tmp_path / "out")
    text = summary.index.read_text(encoding="utf-8")
    assert "<script>" not in text and "<b>" not in text.replace("<b>2", "").split("<section", 1)[1]
    assert "'=1+1" in (tmp_path / "out" / "tables" / "methods_1.csv").read_text()


def test_a_search_with_two_objectives_shows_its_front(tmp_path):
    summary, text, numbers = report(tmp_path, maker=synthetic.pareto_search)
    front = [cell for cell in numbers["search"]["cells"] if cell["front"]]
    assert f"{len(front)} of 10 completed cells are beaten by none" in summary.sentence
    assert summary.score == "validation" and len(summary.rows) == len(front)
    assert all((cell["test"] is not None) == cell["front"] for cell in numbers["search"]["cells"])
    assert "data/cells.parquet" in text and (tmp_path / "out" / "figures" / "pareto.csv").is_file()


@pytest.mark.parametrize("failed", [("c0",), tuple(f"c{index}" for index in range(9))])
def test_a_search_with_failures_still_has_a_page(tmp_path, failed):
    summary, text, _ = report(tmp_path, maker=synthetic.pareto_search, failed=failed, seeds=(0,))
    assert summary.sentence and "findings" in sections(text)


def test_pictures_keep_the_colour_of_a_method_and_name_every_line(tmp_path):
    report(tmp_path, seeds=(0, 1), sides=(16, 8), architectures=("resnet_thin", "resnet18"))
    figures = tmp_path / "out" / "figures"
    for name in ("resolution_1", "resolution_2"):
        svg = (figures / f"{name}.svg").read_text()
        assert "HORKD, direct" in svg and "labels alone" in svg and "raw pixels" not in svg
    assert re.search(r"fill: #0072b2[^>]*>HORKD<", (figures / "resolution_1.svg").read_text())


def test_every_method_has_one_look_and_ours_the_first():
    from analysis.figures import theme
    from analysis.figures.resolution import arm_looks
    from analysis.frames.arms import Arm, arms_of

    arms = arms_of({"arms": synthetic.ARMS}, pl.DataFrame({"arm": []}, schema={"arm": pl.String}))
    looks = arm_looks(arms, "ce")
    assert looks["horkd"][0] == theme.BLUE and looks["ce"][0] == theme.GREY and "pixels" not in looks
    assert len({look[:2] for look in looks.values()}) == len(looks)
    many = arms | {f"m{index}": Arm(name=f"m{index}", title="m", kind="method") for index in range(9)}
    assert len(arm_looks(many, "ce")) == 5 + 2  # Five with a colour, the reference and the teacher.

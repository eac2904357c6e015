import base64
import itertools
import json
import re

import polars as pl
import pytest
import synthetic
from reports import Page, only_svg

from analysis.errors import NothingToReport
from analysis.report.write import write_report


def read(summary):
    return summary.index.read_text(encoding="utf-8")


def test_the_page_asks_for_nothing_and_runs_nothing(ablation_report):
    text = read(ablation_report[0])
    page = Page(text)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "img-src data:" in policy
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object")]
    for _, attributes in page.tags:
        for name in ("src", "srcset", "href"):
            target = attributes.get(name, "")
            assert not target or target.startswith(("data:image/svg+xml;base64,", "#", "figures/")), target
    assert "url(" not in text and "@import" not in text and "http:" not in text and "https:" not in text


def test_inlined_pictures_hold_no_address_to_load(ablation_report):
    pictures = re.findall(r"base64,([A-Za-z0-9+/=]+)", read(ablation_report[0]))
    assert len(pictures) == 8  # Three figures, light and dark, and the forest for a phone.
    for picture in pictures:
        svg = base64.b64decode(picture).decode()
        links = set(re.findall(r'(?:href|src)="([^"]*)"', svg))
        assert all(link.startswith("#") for link in links)
        assert "<!DOCTYPE" not in svg and "<text" in svg and "<script" not in svg


def test_nothing_private_leaves_with_the_report(ablation_report):
    summary, folder = ablation_report
    for path in summary.index.parent.rglob("*"):
        if path.suffix in (".html", ".json", ".csv", ".md", ".tex", ".svg", ".parquet"):
            content = path.read_bytes().decode("utf-8", "replace")
            for word in ("nodeadaseven", "/home/", "ada/", str(folder)):
                assert word not in content, (path.name, word)


def test_sentence_tiles_table_and_figure_tell_the_same_number(ablation_report):
    summary, _ = ablation_report
    numbers = json.loads((summary.index.parent / "report.json").read_text())
    best = next(row for row in numbers["panels"][0]["rows"] if row["best"])
    assert best["cell"] == "1+2+3+C" and numbers["sentence"] == summary.sentence
    gain = f"{100 * best['gain']:+.2f}"
    text = " ".join(Page(read(summary)).words)
    assert f"{gain} points" in summary.sentence and gain in text
    drawn = pl.read_csv(summary.index.parent / "figures" / "forest.csv").filter(pl.col("best"))
    assert drawn["gain"][0] == pytest.approx(best["gain"], abs=1e-12)
    assert gain in (summary.index.parent / "figures" / "forest.svg").read_text()
    assert numbers["tiles"][0]["value"] == "80 / 80" and summary.rows[0]["cell"] == "1+2+3+C"


def test_planted_effects_are_in_the_report(ablation_report):
    numbers = json.loads((ablation_report[0].index.parent / "report.json").read_text())
    effects = {row["effect"]: row for row in numbers["effects"][0]["effects"]}
    # Switching 2 on adds 1.0 points alone and 0.4 beside C, 0.7 on average; the pairwise term is half of
    # -0.6.
    assert effects["order 2"]["low"] < 0.007 < effects["order 2"]["high"]
    assert effects["order 3"]["low"] < 0.012 < effects["order 3"]["high"] + 0.001
    assert effects["2 × C"]["low"] < -0.003 < effects["2 × C"]["high"]


def test_all_promised_files_are_there(ablation_report):
    folder = ablation_report[0].index.parent
    for name in ("forest", "effects", "curves"):
        for suffix, start in (("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")):
            assert (folder / "figures" / f"{name}.{suffix}").read_bytes().startswith(start)
    for name in ("cells", "claims", "effects", "cost"):
        assert all((folder / "tables" / f"{name}.{suffix}").is_file() for suffix in ("csv", "md", "tex"))
    assert pl.read_parquet(folder / "data" / "trials.parquet").height == 80
    assert pl.read_parquet(folder / "data" / "cells.parquet").height == 16
    assert (
        b"/Type /Font /Subtype /Type0" in (pdf := (folder / "figures" / "forest.pdf").read_bytes())
        or b"TrueType" in pdf
    )
    listed = json.loads((folder / "report.json").read_text())["files"]
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == set(listed)


def test_the_same_records_give_the_same_bytes(ablation_report, tmp_path):
    summary, folder = ablation_report
    again = write_report(folder, tmp_path / "again")
    for path in summary.index.parent.rglob("*"):
        if path.is_file():
            other = again.index.parent / path.relative_to(summary.index.parent)
            assert path.read_bytes() == other.read_bytes(), path.name


def test_cells_without_results_keep_their_rows(tmp_path, monkeypatch):
    only_svg(monkeypatch)
    missing = [("1+2", 0), ("1+2", 3)]
    folder = synthetic.ablation(tmp_path / "run", missing=missing, failed=[("C", s) for s in range(5)], epochs=0)
    summary = write_report(folder, tmp_path / "out")
    svg = (tmp_path / "out" / "figures" / "forest.svg").read_text()
    assert "n=3 of 5" in svg and "no result (5 failed)" in svg
    assert (summary.finished, summary.failed, summary.missing) == (73, 5, 2)
    text = " ".join(Page(read(summary)).words)
    assert "least squares" in text.lower() and "C (seeds 0, 1, 2, 3, 4)" in text
    assert "5 failed and 2 missing of 80" in text and "loss is nan at …/train.py" in text and "logs/a.log" in text


def test_departures_of_a_preset_are_read_with_care(tmp_path, monkeypatch):
    only_svg(monkeypatch)
    folder = synthetic.ablation(tmp_path / "run", seeds=(0, 1), orders=["none", "1"], epochs=0)
    content = json.loads((folder / "run.json").read_text())
    said = "HORKD's inner weights were chosen on digits, before the five equal trials."
    (folder / "run.json").write_text(json.dumps(content | {"departures": [said]}))
    summary = write_report(folder, tmp_path / "out")
    assert said in summary.cautions
    assert "chosen on digits" in " ".join(Page(read(summary)).words)


def test_one_seed_has_no_intervals_and_says_so(tmp_path, monkeypatch):
    only_svg(monkeypatch)
    summary = write_report(synthetic.ablation(tmp_path / "run", seeds=(0,), epochs=0), tmp_path / "out")
    assert "n=1 seed" in summary.sentence and "CI" not in summary.sentence
    assert "(n=1)" in (tmp_path / "out" / "figures" / "forest.svg").read_text()
    assert any("One seed has no interval" in item for item in summary.cautions)


@pytest.mark.parametrize("orders", [["1"], ["none"], ["1", "2", "1+2+3+C"]])
def test_a_study_of_few_cells_or_no_reference_still_answers(tmp_path, monkeypatch, orders):
    only_svg(monkeypatch)
    folder = synthetic.ablation(tmp_path / "run", seeds=(0, 1), orders=orders, epochs=0)
    summary = write_report(folder, tmp_path / "out")
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())
    assert numbers["panels"][0]["reference"] == ("none" if "none" in orders else None)
    assert "highest mean" in summary.sentence or "higher mean" in summary.sentence
    assert ("no gain is shown" in summary.sentence) == ("none" not in orders)


def test_other_axes_make_a_forest_each_and_the_rest_is_counted(tmp_path, monkeypatch):
    only_svg(monkeypatch)
    orders = ["none", "1", "2"]
    folder = synthetic.ablation(tmp_path / "run", seeds=(0, 1), orders=orders, resolutions=(4, 6, 8, 12, 16), epochs=0)
    summary = write_report(folder, tmp_path / "out")
    text = " ".join(Page(read(summary)).words)
    assert len(list((tmp_path / "out" / "figures").glob("forest_?.svg"))) == 4
    assert "first of 5 settings" in text and (tmp_path / "out" / "tables" / "cells_5.csv").is_file()
    assert summary.sentence.startswith("At resolution 4:")


def test_cells_of_another_teacher_get_no_gain(tmp_path, monkeypatch):
    only_svg(monkeypatch)
    folder = synthetic.ablation(
        tmp_path / "run", seeds=(0, 1, 2), orders=["none", "1", "2"], epochs=0,
        teacher_of=lambda orders, seed: "other" if orders == "2" else "same",
    )  # fmt: skip
    summary = write_report(folder, tmp_path / "out")
    assert any("another teacher" in item for item in summary.cautions)
    assert "not compared" in (tmp_path / "out" / "figures" / "forest.svg").read_text()


def test_equal_scores_have_no_p_value(tmp_path, monkeypatch):
    only_svg(monkeypatch)
    folder = synthetic.ablation(tmp_path / "run", orders=["none", "1"], score=lambda orders, noise: 0.5, epochs=0)
    summary = write_report(folder, tmp_path / "out")
    svg = (tmp_path / "out" / "figures" / "forest.svg").read_text()
    assert ">equal<" in svg and "+0.00 (n=5, all equal)" in svg and "differs from 0" not in svg
    assert "all differences to the reference are equal" in summary.sentence and "beat" not in summary.sentence


def test_a_sampled_study_chooses_by_validation_and_marks_the_pruned(tmp_path, monkeypatch):
    only_svg(monkeypatch)
    summary = write_report(synthetic.weight_search(tmp_path / "run"), tmp_path / "out")
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())["search"]
    done = [cell for cell in numbers["cells"] if cell["status"] == "completed"]
    assert numbers["chosen"] == max(done, key=lambda cell: cell["value"])["cell"]
    assert (summary.finished, summary.pruned, summary.missing) == (48, 24, 0)
    assert "validation top-1 accuracy" in summary.sentence and "8 were pruned" in summary.sentence
    assert (tmp_path / "out" / "figures" / "slices.csv").is_file()


def test_a_grid_without_orders_is_drawn_by_label(tmp_path, monkeypatch):
    only_svg(monkeypatch)
    cells = [
        {"id": i, "parameters": {"student.width": w}, "label": f"width {w} $<b>&_"} for i, w in (("a", 1), ("b", 2))
    ]
    folder, axes = tmp_path / "run", {"student.width": [1, 2]}
    trials = []
    for (cell, gain), seed in itertools.product((("a", 0), ("b", 0.1)), range(3)):
        key = f"{cell}{seed}"
        synthetic.write(
            folder,
            "evaluation",
            key,
            cells=[cell],
            seed=seed,
            top1=0.5 + gain + 0.01 * seed**2 * gain,
            items=100,
        )
        trials.append({"cell": cell, "seed": seed, "stages": {"evaluation": key}})
    run = synthetic.base_run() | {
        "cells": cells,
        "trials": trials,
        "seeds": [0, 1, 2],
        "axes": axes,
        "factors": None,
    }
    synthetic.save(folder, run | {"baseline": "a", "question": "<script>alert(1)</script>"})
    text = read(write_report(folder, tmp_path / "out"))
    assert "width 2" in text and "<script>" not in text and "<b>&" not in text


@pytest.mark.parametrize("failed", [True, False])
def test_without_a_finished_trial_there_is_nothing_to_report(tmp_path, failed):
    cells = [("none", 0)]
    folder = synthetic.ablation(
        tmp_path / "run",
        seeds=(0,),
        orders=["none"],
        failed=cells if failed else (),
        missing=() if failed else cells,
    )
    with pytest.raises(NothingToReport, match="no finished trial yet"):
        write_report(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_new_report_removes_the_old_ones_files_and_no_others(tmp_path, monkeypatch):
    only_svg(monkeypatch)
    folder = synthetic.ablation(tmp_path / "run", seeds=(0, 1), orders=["none", "1"], resolutions=(4, 8), epochs=0)
    write_report(folder, tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("keep")
    (tmp_path / "run" / "records").rename(tmp_path / "old")
    folder = synthetic.ablation(tmp_path / "run", seeds=(0, 1), orders=["none", "1"], epochs=0)
    write_report(folder, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").rglob("*")}
    assert "forest.svg" in names and "forest_2.svg" not in names and "mine.txt" in names


def test_drawing_changes_no_global_setting():
    import matplotlib as mpl

    from analysis.figures import drawing as figures

    before = dict(mpl.rcParams)
    with figures.style():
        assert mpl.rcParams["pdf.fonttype"] == 42
    assert dict(mpl.rcParams) == before

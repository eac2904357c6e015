"""What `show` tells of a plan: tests as the report counts them, disk with the data, estimates to the digits they have."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import search_spaces
from analysis import record_files
from analysis.frames import methods, order_ablation
from analysis.load import RunData, cell_table, trial_table
from sweeps.commands.app import main
from sweeps.planning import families, rough
from sweeps.planning.forecast import Forecast
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Planner
from sweeps.planning.request import Request
from sweeps.planning.resolve import resolve
from sweeps.runs.datasets import stand_in
from sweeps.runs.folder import Place, RunFolder
from sweeps.runs.open_stages import write_grid
from sweeps.runs.prepare import prepare
from sweeps.runs.run_content import describe
from trainables.store.artifacts import Store

GRIDS = [name for name in search_spaces.names() if not search_spaces.load(name).sampled]


def both_counts(request: Request, store: Store, folder: Path) -> tuple[list[int], list[int]]:
    """Sizes of the families that the plan foresees, and those of a report in which every trial has a score."""
    ready = prepare(request, Place(folder / "runs", store.root), lambda line: None, pack=False)
    run = RunFolder(folder / "runs" / "a-1")
    run.prepare()
    content = describe(ready, run, {}, "")
    _, _, cells = write_grid(ready, run, content, {}, retry_failed=False)
    planner = ready.planner
    sides = {}
    for cell in cells:
        made = planner.specs(cell)
        sides[cell.id] = getattr(made[planner.recipe.measured(made)], "resolution", None) or ready.plan.side
    content = json.loads(json.dumps(content))
    trials = trial_table(RunData(folder=run.path, run=content, records=record_files.read_all(run.records, []).frame))
    draw = random.Random(0)
    trials = trials.with_columns(
        pl.lit("completed").alias("status"),
        pl.Series("score", [draw.random() for _ in range(trials.height)]),
        pl.Series("resolution", [sides[cell] for cell in trials["cell"]]),
        pl.col("levels").fill_null("1"),
    )
    table = cell_table(content)
    if content["arms"]:
        counted = [setting.tests for setting in methods.settings(content, table, trials)]
    else:
        counted = [panel.tests for panel in order_ablation.panels(content, table, trials)]
    return families.sizes(planner), [size for size in counted if size]


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("preset", ["demo", "tiny"])
def test_the_tests_of_a_plan_are_those_of_its_report(
    name: str, preset: str, digits_store: Store, tmp_path: Path
) -> None:
    foreseen, counted = both_counts(Request(name, preset=preset, seeds="3"), digits_store, tmp_path)
    assert foreseen == counted != []


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("horkd_order_ablation", ["assistant.train_images=100,200"]),  # Two panels.
        ("horkd_order_ablation", ["teacher.width=0.5,1"]),  # Another teacher: its own panel.
        ("horkd_order_ablation", ["orders=1,2"]),  # No reference.
        ("horkd_classification", ["arm=ce,teacher,pixels,horkd"]),  # Teachers and floors are beside the tests.
        ("horkd_classification", ["arm=kd,horkd"]),  # No reference.
        ("horkd_classification", ["resolution=4"]),  # HORKD at full resolution reads another side.
        ("horkd_classification", ["arm=ce,horkd_cross"]),  # Nothing but what has no part in the resolution.
        ("horkd_classification", ["student.width=0.25,0.5"]),
    ],
)
def test_axes_arms_and_references_count_as_in_the_report(
    name: str, settings: list[str], digits_store: Store, tmp_path: Path
) -> None:
    foreseen, counted = both_counts(Request(name, settings=settings, seeds="3"), digits_store, tmp_path)
    assert foreseen == counted


def test_drawn_cells_are_no_family() -> None:
    resolved = resolve(search_spaces.load("horkd_loss_weights"))
    assert families.sizes(Planner(Plan(resolved, {"fingerprint": "d", "height": 8}))) == []


# The words.


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, dict[str, Any]]:
    found = []
    for more in ((), ("--json",)):
        with pytest.raises(SystemExit) as end:
            main(["show", *words, *more])
        assert end.value.code in (0, None)
        found.append(capsys.readouterr().out)
    return found[0], json.loads(found[1])


def test_the_disk_counts_the_packed_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("horkd_face_verification", "--preset", "paper", "--data-root", str(tmp_path), "--out", str(tmp_path))
    text, told = shown(capsys, *words)
    study = search_spaces.load("horkd_face_verification").presets["paper"]
    sets = [stand_in(name, None, study.data_size) for name in (study.data, study.test_data) if name]
    pixels = sum((one["train_images"] + one["test_images"]) * one["height"] * one["width"] * 3 for one in sets)
    assert told["packed_megabytes"] == pytest.approx(pixels / 1e6)
    assert told["packed_megabytes"] > 50_000 > 10_000 > told["artifact_megabytes"]
    assert told["megabytes"] == pytest.approx(told["artifact_megabytes"] + told["packed_megabytes"])
    assert told["packing_megabytes"] == pytest.approx(2 * told["packed_megabytes"])
    (disk,) = [line for line in text.splitlines() if line.startswith("  disk ")]
    assert rough.size(pixels) in disk and "GB while they are packed" in disk
    (cost,) = [line for line in text.splitlines() if line.startswith("  cost ")]
    assert rough.FACTOR in cost and "000 core hours" in cost and ".0" not in cost


def test_packed_data_are_told_as_they_are(
    digits_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--out", str(tmp_path), "--store", str(digits_store.root))
    _, told = shown(capsys, "horkd_order_ablation", *place)
    assert told["packed_megabytes"] == pytest.approx(1797 * 64 / 1e6) and told["packing_megabytes"] == 0
    assert told["holm_tests"] == [15]


def test_no_share_of_hits_is_impossible() -> None:
    worse = Forecast("cached", asked=1000, computed=5430, bytes=2e6, seconds=10)
    assert (
        worse.hits == 0 and "5.4 times" in worse.sentence and "-" not in worse.sentence and "hits" not in worse.sentence
    )
    better = Forecast("cached", asked=100_000, computed=25, bytes=2e6, seconds=10)
    assert 0.995 < better.hits < 1 and "hits over 99 %" in better.sentence
    assert Forecast("cached", asked=100, computed=25).sentence.count("hits 75 %") == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (42_575.09 * 3600, "43,000 core hours"),
        (99.6 * 3600, "100 core hours"),
        (2.449 * 3600, "2.4 core hours"),
        (900, "15 core minutes"),
        (50.4, "50 core seconds"),
        (0, "1 core second"),
    ],
)
def test_times_have_two_digits(value: float, words: str) -> None:
    assert rough.hours(value, "core") == words


def test_numbers_sizes_and_durations_have_two_digits() -> None:
    assert [rough.number(x) for x in (0, 0.25, 0.0123456, 9.96, 10.4, 12_345, 1e9)] == (
        ["0", "0.25", "0.012", "10", "10", "12,000", "1,000,000,000"]
    )
    assert [rough.size(x) for x in (0, 3e5, 4.4e7, 9.96e8, 5.54e10, 1.37e12)] == (
        ["1 MB", "1 MB", "44 MB", "1 GB", "55 GB", "1.4 TB"]
    )
    assert [rough.lasting(x) for x in (0, 89, 455, 3 * 3600, 900 * 86400)] == (
        ["a minute", "a minute", "7.6 minutes", "3 hours", "900 days"]
    )
    assert [rough.counted(x) for x in (0, 7, 312_345, 999_999, 1.23e6, 4.56e9)] == (
        ["0", "7", "310,000", "1 million", "1.2 million", "4.6 billion"]
    )

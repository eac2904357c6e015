"""Benchmarks in tiny settings: both sides compute the same, and every one prints its ratio. No time is asserted."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import __main__ as everything
from benchmarks import (
    analysis_query,
    angle_loss,
    augmentation,
    losses,
    measure,
    null_verdicts,
    overhead,
    packing,
    sharing,
    whole_step,
)
from benchmarks.measure import Row


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_sides_take_turns_and_every_second_round_begins_at_the_other_end() -> None:
    order: list[str] = []
    clock = itertools.count()
    sides = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = measure.by_turns(sides, 3, clock=lambda: float(next(clock)))
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b"]  # The first two are not counted.
    assert seconds == {"a": [1.0] * 3, "b": [1.0] * 3}


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # Medians alone would give 20 / 3; round by round it is 10, 10 and 4.
    made = measure.row("G1", "x", "y", [10.0, 30.0, 20.0], [1.0, 3.0, 5.0], wanted=10.0)
    assert (made.ratio, made.reference, made.ours, made.reached) == (10.0, 20.0, 3.0, True)
    assert (made.low, made.high) == (7.0, 10.0)


def test_an_upper_bound_is_reached_from_below() -> None:
    assert measure.row("G9", "x", "y", [10.0], [10.5], wanted=1.1, at_most=True).reached is True
    assert measure.row("G9", "x", "y", [10.0], [12.0], wanted=1.1, at_most=True).reached is False
    assert measure.row("", "x", "y", [10.0], [12.0]).reached is None


def test_sides_of_different_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="same rounds, at least one, but have 2 and 1"):
        measure.row("G1", "x", "y", [1.0, 2.0], [1.0])


def test_the_table_says_what_was_reached() -> None:
    rows = [
        measure.row("G1", "fast", "B=4", [0.05], [0.001], wanted=40.0),
        measure.row("G9", "slow", "one run", [100.0], [150.0], wanted=1.1, at_most=True, note="on a busy machine"),
        measure.row("", "known", "B=4", [2.0], [1.0], unit="MiB"),
    ]
    assert measure.table(rows).splitlines() == [
        "goal  what   setting  reference     ours              ratio  wanted  reached",
        "G1    fast   B=4        50.0 ms  1.00 ms  50.0 [50.0, 50.0]  >= 40   yes",
        "G9    slow   one run      100 s    150 s  1.50 [1.50, 1.50]  <= 1.1  no",
        "-     known  B=4        2.0 MiB  1.0 MiB  2.00 [2.00, 2.00]  -       -",
        "slow: on a busy machine",
    ]


def test_rows_come_back_from_their_json(tmp_path: Path) -> None:
    rows = [measure.row("G1", "fast", "B=4", [0.05, 0.04], [0.001, 0.002], wanted=40.0)]
    measure.write_json(tmp_path / "rows.json", rows, {"processor": "a"}, quick=True)
    assert measure.read_rows(tmp_path / "rows.json") == rows
    told = json.loads((tmp_path / "rows.json").read_text())
    assert told["quick"] is True and told["machine"] == {"processor": "a"} and told["rows"][0]["reached"] is False


def test_memory_of_a_call_is_about_what_it_allocates() -> None:
    # In a process of its own, as benchmarks do: this one may hold memory that was freed, and take it from there.
    program = (
        "import numpy as np; from benchmarks import measure; print(measure.extra_memory(lambda: np.ones(8 << 20)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=measure.ROOT, env=measure.environment(), capture_output=True, check=True
    )
    assert 60 < float(done.stdout) < 80  # 64 MiB.


def test_what_fails_in_a_fresh_process_is_told() -> None:
    with pytest.raises(RuntimeError, match="division by zero"):
        measure.fresh("operator:truediv", 1, 0)


@pytest.mark.parametrize(("method", "orders"), losses.ORDERS.values(), ids=list(losses.ORDERS))
def test_losses_and_their_formulas_have_the_same_value_and_gradient(method: str, orders: str) -> None:
    made = losses.case(method, orders, batch=9, teacher_width=24, classes=5)
    leaves = [leaf for leaf in made.student[:2] if orders != "1+2+3+C" or leaf is made.student.embedding]
    ours, theirs = made.ours(), made.direct()
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=1e-5, atol=1e-6)
    pairs = zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves), strict=True)
    for mine, direct in pairs:
        torch.testing.assert_close(mine, direct, rtol=1e-3, atol=1e-5)


def test_both_sides_move_the_running_centres_alike() -> None:
    made = losses.case("horkd", "2+3+C", batch=9, teacher_width=24, classes=5)
    made.ours()
    made.direct()
    assert made.distiller.horkd is not None
    torch.testing.assert_close(made.distiller.horkd.student_centers, made.formulas.student_centers)


def test_pillow_and_tensors_make_the_same_views_but_for_rounding() -> None:
    # Of little contrast: Pillow also clamps between its two passes, which shows at hard edges.
    images = augmentation.photographs(24) // 4 + 96
    index = torch.randint(162, (24,), generator=torch.Generator().manual_seed(3))
    (high, low), (pillow_high, pillow_low) = augmentation.both(images, index, (32, 16))
    torch.testing.assert_close(high, pillow_high, rtol=0, atol=1e-5)
    # A grey level of 1/255 over the smallest deviation, 0.257, and a little.
    assert (low - pillow_low).abs().max() < 1.5 / 255 / 0.257


def test_the_reference_step_and_ours_have_the_same_losses_on_the_same_views(tmp_path: Path) -> None:
    problem = whole_step.Problem("resnet_thin", side=32, batch=12, width=0.5)
    trainer = problem.trainer()
    logged = problem.reference(trainer).step(*whole_step.drawn_by(trainer))
    with measure.as_stages_run():
        trainer.train_epoch()
    for name, value in logged.items():
        assert trainer.history[0][name] == pytest.approx(value, rel=2e-3), name


def test_a_filled_cache_gives_one_row_for_each_image_and_view(tmp_path: Path) -> None:
    kept = whole_step.filled(tmp_path, images=3, classes=4, width=6, per_shard=50)
    rows, views = torch.tensor([0, 2, 2]), torch.tensor([161, 0, 161])
    outputs = kept(rows, views)
    assert outputs.embedding.shape == (3, 6) and outputs.logits.shape == (3, 4)
    torch.testing.assert_close(kept(rows[1:], views[1:]).embedding, outputs.embedding[1:])
    assert len({tuple(row) for row in outputs.embedding.tolist()}) == 3


def test_all_ways_through_the_results_of_trials_give_one_table(tmp_path: Path) -> None:
    analysis_query.make(tmp_path, trials=3, epochs=2)
    expected = [
        (orders, resolution, row["epoch"], row["validation/top1"])
        for _, orders, resolution, rows in analysis_query.histories(3, 2)
        for row in rows
    ]
    for way, read in analysis_query.WAYS.items():
        found = sorted(read(tmp_path))
        assert [line[:3] for line in found] == [line[:3] for line in sorted(expected)], way
        assert [line[3] for line in found] == pytest.approx([line[3] for line in sorted(expected)]), way


def test_the_forecast_adds_up_the_stages_of_every_trial() -> None:
    costs = sharing.Costs(teacher=100.0, assistant=50.0, live=10.0, kept=4.0, base=2.0, view=0.5, evaluation=1.0)
    nothing = practice = ours = 0.0
    for _ in range(2):
        practice += 100.0
        ours += 100.0 + 50.0 + 2.0 + 8 * 0.5
        for _ in range(3):
            nothing += 100.0 + 50.0 + 10.0 + 1.0
            practice += 50.0 + 10.0 + 1.0
            ours += 4.0 + 1.0
    assert sharing.totals(costs, 3, 2, views=8) == {"nothing": nothing, "practice": practice, "ours": ours}


def made_up(kind: str, cpu_seconds: float, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "cpu_seconds": cpu_seconds, "metrics": {}, "spec": {}, **more}


def test_costs_are_means_over_the_stages_that_were_measured() -> None:
    kept = [made_up("teacher", 9.0), made_up("assistant", 5.0), made_up("student", 2.0), made_up("student", 4.0)]
    kept += [made_up("evaluation", 1.0), made_up("outputs", 3.0, spec={"part": "base"}, metrics={"views": 0})]
    kept += [made_up("outputs", 8.0, spec={"part": "views"}, metrics={"views": 2})]
    live = [made_up("teacher", 11.0), made_up("assistant", 7.0), made_up("student", 8.0), made_up("evaluation", 3.0)]
    costs = sharing.Costs(teacher=10.0, assistant=6.0, live=8.0, kept=3.0, base=3.0, view=4.0, evaluation=2.0)
    assert sharing.costs_of(kept, live) == costs


def test_a_trial_whose_numbers_change_by_sharing_is_counted() -> None:
    live = {"a / 0": {"score": 0.50, "correct": 5}, "b / 0": {"score": 0.25, "correct": 2}}
    alone = {"a / 0": {"score": 0.50, "correct": 5}, "b / 0": {"score": 0.25, "correct": 3}}
    kept = {"a / 0": {"score": 0.52}, "b / 0": {"score": 0.25}}
    (row,) = sharing.neutral(live, alone, kept, "two trials")
    assert (row.ours, row.reference, row.reached) == (1, 2, False)
    assert row.note.endswith("2.00 points")


def ratio_of(row: Row) -> float:
    assert math.isfinite(row.ratio) and row.ratio > 0
    assert row.low <= row.ratio <= row.high
    return row.ratio


def test_every_comparison_in_a_process_gives_a_ratio(tmp_path: Path) -> None:
    options = whole_step.options_of(["--teacher", "resnet_thin", "--side", "16", "--batch", "8", "--width", "0.25"])
    rows = [
        angle_loss.time_row(8, 2, 6, 12),
        losses.row("KL, pairs, angles, centres", 8, 12, rounds=2, repeats=1),
        losses.share_row(8, 12, 0.05, 8, rounds=2),
        augmentation.row((32, 16), 8, rounds=2, repeats=1),
        *whole_step.rows(options, 1, tmp_path),
    ]
    assert len(rows) >= 6
    for row in rows:
        ratio_of(row)


def test_every_comparison_of_processes_gives_a_ratio() -> None:
    for row in (angle_loss.memory_row(48, 1, 64, 64), packing.row(0.05, steps=1, rounds=1, threads=1)):
        ratio_of(row)


def test_the_engine_is_asked_to_sleep_in_as_many_stages_as_wanted() -> None:
    command = overhead.words(Path("out"), seconds=60.0, cells=3, seeds=2, jobs=2)
    assert "student.label=s00,s01,s02" in command and "epochs=60" in command and "seconds=1.0" in command


def test_one_command_runs_them_and_prints_a_table_of_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert everything.main(["--quick", "--only", "augmentation", "--json", str(tmp_path / "all.json")]) == 0
    said = capfd.readouterr().out
    assert said.count("augmentation against Pillow") == 4  # Its own table and that of all, two rows each.
    assert [row.setting for row in measure.read_rows(tmp_path / "all.json")] == ["B=64, 32 px", "B=64, 32 + 16 px"]


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_null_studies_go_through_the_whole_analysis_and_find_next_to_nothing(seeds: int) -> None:
    blocks = [
        ("null order ablations", null_verdicts.ABLATION, 60, {seeds: null_verdicts.ablations(60, seeds)}),
        ("null studies of methods", null_verdicts.METHODS, 12, {seeds: null_verdicts.comparisons(12, seeds)}),
    ]
    for _, names, count, by_seeds in blocks:
        assert set(by_seeds[seeds]) <= set(names)
        for name in names:
            assert by_seeds[seeds][name] <= (0 if seeds == 2 else 0.15 * count), name


def test_what_is_there_is_found_by_the_very_same_way() -> None:
    study, generator = null_verdicts.ablation(5), np.random.default_rng(0)
    loss = np.array([-0.03 * ("3" in cell) for cell in dict.fromkeys(cell for cell, _ in study.trials)])
    found = null_verdicts.findings_of_ablation(study.drawn(generator, 10_000, 0.003, loss))
    assert {"an order helps or hurts", "a cell differs from none"} <= found
    arms = null_verdicts.methods(5)
    loss = np.array([-0.05 * cell.startswith("horkd ") for cell in dict.fromkeys(cell for cell, _ in arms.trials)])
    better = arms.drawn(generator, 10_000, 0.003, loss)
    assert {"ours_beats_baselines", "assistant_helps"} <= null_verdicts.findings_of_methods(better, better)


def test_a_finding_too_many_is_named() -> None:
    found = {2: Counter(more_orders_help=1), 5: Counter(more_orders_help=6, assistant_helps=5)}
    blocks = [("null order ablations", ("more_orders_help", "assistant_helps"), 100, found)]
    assert null_verdicts.broken(blocks) == [
        "more_orders_help: 1 of 100 null order ablations at 2 seeds",
        "more_orders_help: 6 of 100 null order ablations at 5 seeds",
    ]
    lines = null_verdicts.table(blocks).splitlines()
    assert lines[0].split() == ["100", "null", "order", "ablations", "2", "seeds", "5", "seeds"]
    assert lines[1].split() == ["more_orders_help", "1.0", "%", "6.0", "%"]


def test_null_verdicts_prints_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert null_verdicts.main(["--quick", "--seeds", "3", "--json", str(tmp_path / "found.json")]) == 0
    said = capsys.readouterr().out
    assert all(said.count(f"  {name} ") == 1 for name in (*null_verdicts.ABLATION, *null_verdicts.METHODS))
    assert [block["studies"] for block in json.loads((tmp_path / "found.json").read_text())["blocks"]] == [12, 12]

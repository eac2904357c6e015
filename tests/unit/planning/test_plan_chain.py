"""Request, resolved and plan are each whole and frozen: nobody downstream fills in what was left open upstream."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import search_spaces
from sweeps.planning.bind import bind
from sweeps.planning.cells import Cell
from sweeps.planning.plan import Plan
from sweeps.planning.request import Request, Setting
from sweeps.planning.resolve import Resolved, resolve
from sweeps.planning.weight_files import WeightFiles
from sweeps.runs.datasets import stand_in

PHOTOS = stand_in("cifar100", None)


def test_what_is_bound_leaves_what_was_resolved_as_it_was() -> None:
    resolved = resolve(search_spaces.load("horkd_classification"), settings=("architecture=resnet18", "stem=large"))
    before = {name: repr(value) for name, value in vars(resolved).items()}
    said: list[str] = []
    plan = bind(resolved, PHOTOS, WeightFiles(), said.append, name="cifar100")
    assert {name: repr(value) for name, value in vars(resolved).items()} == before
    # The plan has all that the data decided: arms that cannot be, and a word about settings made for other data.
    assert set(plan.left_out) == {"horkd_vgg"} and "horkd_vgg" not in plan.resolved.axes["arm"]
    assert "made for digits, used on cifar100" in plan.resolved.preset.note and len(said) == 1
    assert (plan.fingerprint, plan.side) == (PHOTOS["fingerprint"], 32)


@pytest.mark.parametrize("kind", [Request, Setting, Resolved, Plan, WeightFiles, Cell])
def test_every_stop_is_frozen(kind: Any) -> None:
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_weight_files_describe_cells_and_touch_no_words() -> None:
    study = search_spaces.load("horkd_order_ablation")
    resolved = resolve(study, settings=("teacher.weights=0123456789abcdef",))
    about = {"family": "plain", "architecture": "resnet_thin", "width": 0.5, "embedding": 0, "stem": "small"}
    bare, told = (
        Plan(resolved, PHOTOS, weights=WeightFiles(teachers)).cells()[0].parameters
        for teachers in ({}, {"0123456789abcdef": about})
    )
    assert "teacher.family" not in bare
    assert {name: told[f"teacher.{name}"] for name in about} == about
    assert "teacher.family" not in resolved.parameters


def test_a_setting_is_taken_apart_once() -> None:
    setting = Setting.parse(" epochs = 5, 10 ")
    assert (setting.name, setting.values, setting.whole) == ("epochs", ["5", "10"], True)
    assert not Setting.parse("epochs").whole and not Setting.parse("=5").whole
    assert Setting.parse("a=b=c").values == ["b=c"]


def test_a_look_at_own_settings_plans_with_the_weights_that_a_run_would_have(tmp_path: Path) -> None:
    """`show` with a file of weights and settings made from the data names the run that `run` will begin."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from sweeps.runs.folder import Place
    from sweeps.runs.prepare import prepare
    from trainables.models import build

    torch.manual_seed(0)
    network = build("resnet_thin", channels=1, classes=10, width=0.5)
    save_file(network.state_dict(), str(tmp_path / "thin.safetensors"))
    words = {"preset": "own", "data": "digits", "settings": [f"teacher.weights={tmp_path / 'thin.safetensors'}"]}
    place = Place(tmp_path / "runs", tmp_path / "store")
    look, run, again = (
        prepare(Request("horkd_order_ablation", **words), place, lambda line: None, pack=pack)
        for pack in (False, True, False)
    )
    digits = run.resolved.parameters["teacher.weights"]
    assert look.resolved.parameters["teacher.weights"] == again.resolved.parameters["teacher.weights"] == digits
    assert again.run_id == run.run_id
    assert str(tmp_path) in str(look.request.settings) and str(tmp_path) not in str(run.request.settings)

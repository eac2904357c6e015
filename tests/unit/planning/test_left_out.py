"""Arms that cannot be are left out with a word; what was asked for, and mistakes of a person, are refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import search_spaces
from analysis.report.wording_methods import cautions
from search_spaces.study import ARM
from sweeps.commands.app import main
from sweeps.planning.checks import check_against_data
from sweeps.planning.left_out import leave_out
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Planner
from sweeps.planning.request import Request
from sweeps.planning.resolve import resolve
from sweeps.runs.datasets import stand_in
from sweeps.runs.folder import Place, RunFolder
from sweeps.runs.prepare import prepare
from sweeps.runs.run_content import describe
from trainables.errors import UsageError
from trainables.store.artifacts import Store

MOBILE = ("student.architecture=torchvision:mobilenet_v3_small", "student.width=1")


def asked(*settings: str, study: str = "horkd_classification", preset: str = "demo") -> Plan:
    return Plan(resolve(search_spaces.load(study), settings=settings, preset=preset), stand_in("digits", None))


def check(plan: Plan) -> None:
    check_against_data(Planner(plan))


def test_methods_on_feature_maps_are_left_out_beside_a_network_that_has_none() -> None:
    pytest.importorskip("torchvision")
    before = asked(*MOBILE)
    plan = leave_out(before)
    found = plan.left_out
    assert set(found) == {"fitnet", "at"}
    assert all("feature maps of torchvision:mobilenet_v3_small" in why for why in found.values())
    assert plan.resolved.axes[ARM] == tuple(arm for arm in before.resolved.axes[ARM] if arm not in found)
    assert {cell.point[ARM] for cell in plan.cells()} == set(plan.resolved.axes[ARM])
    check(plan)


@pytest.mark.parametrize("arm", ["fitnet", "ce,fitnet,horkd"])
def test_an_arm_that_was_asked_for_is_refused(arm: str) -> None:
    pytest.importorskip("torchvision")
    plan = leave_out(asked(*MOBILE, f"arm={arm}"))
    assert plan.left_out == {}
    with pytest.raises(UsageError, match="method=fitnet needs feature maps"):
        check(plan)


def test_arms_whose_own_network_cannot_have_a_stem_are_left_out() -> None:
    plan = leave_out(asked("architecture=resnet18", "stem=large"))
    found = plan.left_out
    assert set(found) == {"horkd_vgg"}
    assert "vgg11" in found["horkd_vgg"] and "stem=large" in found["horkd_vgg"]
    check(plan)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        # The reference is never left out.
        (("stem=large",), "stem=large is for"),
        # A mistake in a word is not a property of the arms that it hits, although the reference is spared.
        (("assistant.resolution=64",), "resolution must be at most 8"),
        (("teacher.architecture=torchvision:mobilenet_v3_small", "teacher.width=2"), "width is of our own networks"),
    ],
)
def test_what_is_no_matter_of_an_arm_is_refused(settings: tuple[str, ...], message: str) -> None:
    before = asked(*settings)
    plan = leave_out(before)
    arms = plan.resolved.axes[ARM]
    assert "ce" in arms and len(arms) == len(before.resolved.axes[ARM]) - len(plan.left_out)
    with pytest.raises(UsageError, match=message):
        check(plan)


def test_nothing_is_left_out_where_no_method_would_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")
    plan = asked(*MOBILE)
    few = {**plan.resolved.axes, ARM: ("ce", "fitnet", "at", "pixels")}
    plan = leave_out(dataclasses.replace(plan, resolved=dataclasses.replace(plan.resolved, axes=few)))
    assert plan.left_out == {} and plan.resolved.axes[ARM] == few[ARM]
    with pytest.raises(UsageError, match="needs feature maps"):
        check(plan)


def test_studies_without_arms_and_default_settings_are_as_they_were() -> None:
    for name in search_spaces.names():
        before = asked(study=name)
        plan = leave_out(before)
        assert plan.left_out == {} and plan.resolved.axes == before.resolved.axes


def test_plan_run_and_report_say_what_was_left_out(
    digits_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torchvision")
    said: list[str] = []
    place = Place(tmp_path / "runs", digits_store.root)
    ready = prepare(Request("horkd_classification", settings=list(MOBILE)), place, said.append, pack=False)
    assert sorted(line.partition(" (")[0] for line in said) == ["Left out: at", "Left out: fitnet"]
    content = describe(ready, RunFolder(tmp_path / "runs" / "a-1"), {}, "")
    assert set(content["left_out"]) == {"at", "fitnet"} and "fitnet" not in content["arms"]
    assert any(line.startswith("Left out: fitnet (needs feature maps of torch") for line in cautions(content, [], {}))
    words = [part for setting in MOBILE for part in ("--set", setting)]
    with pytest.raises(SystemExit) as end:
        main(["show", "horkd_classification", *words, "--store", str(digits_store.root), "--json"])
    assert end.value.code in (0, None)
    assert set(json.loads(capsys.readouterr().out)["left_out"]) == {"at", "fitnet"}
    plain = prepare(Request("horkd_classification"), place, said.append, pack=False)
    assert "left_out" not in describe(plain, RunFolder(tmp_path / "runs" / "a-1"), {}, "")

"""Arms and routes: from the name of a method to the stages of its cells."""

from __future__ import annotations

from typing import Any

import pytest

import search_spaces
from analysis.arm_kinds import KINDS
from search_spaces.arms import ARMS
from sweeps.planning.cells import Cell
from sweeps.planning.checks import check_against_data
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Planner, build_graph
from sweeps.planning.request import Request
from sweeps.planning.resolve import resolve
from sweeps.planning.survey import survey
from sweeps.runs.datasets import stand_in
from trainables.errors import UsageError
from trainables.recipes.distillation import DISTILLATION, ROUTES
from trainables.spec import StudentSpec, TeacherSpec, TrainingSpec
from trainables.spec.compute import equal_compute_epochs, forward_macs, training_macs
from trainables.store.artifacts import Store

STUDY = search_spaces.load("horkd_classification")


def asked(*settings: str, **more: Any) -> Plan:
    return Plan(resolve(STUDY, settings=settings, **more), stand_in("digits", None))


def cell_of(plan: Plan, arm: str, **point: Any) -> Cell:
    found = [c for c in plan.cells() if c.point["arm"] == arm and all(c.point[k] == v for k, v in point.items())]
    assert len(found) == 1, [c.label for c in found]
    return found[0]


@pytest.mark.parametrize(
    ("route", "roles", "read"),
    [
        ("assistant", ["teacher", "assistant", "student", "evaluation"], "student"),
        ("direct", ["teacher", "student", "evaluation"], "student"),
        ("plain", ["student", "evaluation"], "student"),
        ("cross_structure", ["teacher", "assistant", "evaluation"], "assistant"),
        ("teacher", ["teacher", "evaluation"], "teacher"),
        ("untrained", ["untrained", "evaluation"], "untrained"),
    ],
)
def test_a_route_says_which_stages_a_cell_has(route: str, roles: list[str], read: str) -> None:
    cell = {"route": route, "resolution": 8, f"{read}.resolution": 4, "task": "retrieval"}
    placed = DISTILLATION.steps_of(cell)
    made = DISTILLATION.specs(cell, "d")
    assert [step.role for step in placed] == list(made) == roles
    assert dict(placed[-1].parents) == {"network": read}
    assert DISTILLATION.measured(made) == read
    # The evaluation sees what the network it reads was made for.
    assert (made["evaluation"].resolution, made["evaluation"].protocol) == (4, "retrieval")  # type: ignore[attr-defined]
    guides = {"assistant": {"guide": "assistant"}, "direct": {"guide": "teacher"}, "plain": {}}
    if route in guides:
        assert dict(next(step.parents for step in placed if step.role == "student")) == guides[route]


def test_an_unknown_route_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        UsageError, match=f"route must be one of {', '.join(ROUTES)}, got 'directly'. Did you mean 'direct'"
    ):
        DISTILLATION.coerce("route", "directly")


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_names_parameters_of_the_recipe_and_a_kind(name: str) -> None:
    arm = ARMS[name]
    assert arm.kind in KINDS and arm.title
    for parameters in (arm.parameters, *arm.tuning):
        for parameter, value in parameters.items():
            DISTILLATION.coerce(parameter, value)
    assert not arm.compute_of or arm.compute_of in ARMS


def test_an_arm_has_one_cell_in_the_axes_it_ignores() -> None:
    cells = asked("arm=teacher,ce").cells()
    assert [cell.label for cell in cells] == ["teacher", "ce, resolution=8", "ce, resolution=4"]


def test_labels_alone_depend_on_no_teacher_and_are_trained_once_for_all() -> None:
    plan = asked("arm=ce,kd", "resolution=4")
    planner = Planner(plan)
    first = planner.keys(cell_of(plan, "ce"), 0)
    other = asked("arm=ce,kd", "resolution=4", "teacher.epochs=3")
    again = Planner(other).keys(cell_of(other, "ce"), 0)
    assert first["student"] == again["student"]
    assert planner.keys(cell_of(plan, "kd"), 0) != Planner(other).keys(cell_of(other, "kd"), 0)


def test_teacher_assistant_and_pixels_are_shared(store: Store) -> None:
    plan = asked("arm=kd,at,horkd,horkd_cross,pixels", seeds=3)
    graph, trials, _ = build_graph(plan, store)
    roles = [node.role for node in graph.nodes.values()]
    # One of each per seed, whatever the arm and the resolution; pixels know no seed.
    assert (roles.count("teacher"), roles.count("assistant"), roles.count("untrained")) == (3, 3, 2)
    assert roles.count("student") == 3 * 3 * 2
    assert {tuple(trial.stages) for trial in trials if "untrained" in trial.stages} == {("untrained", "evaluation")}


def test_the_command_line_outranks_the_arm_and_the_arm_the_preset() -> None:
    plain = cell_of(asked(), "kd", resolution=4).parameters
    assert plain["student.cross_entropy"] == 0.1
    for setting, name in (
        ("student.cross_entropy=0.5", "student.cross_entropy"),
        ("cross_entropy=0.5", "cross_entropy"),
    ):
        parameters = cell_of(asked(setting), "kd", resolution=4).parameters
        made = DISTILLATION.specs(parameters, "d")["student"]
        assert parameters[name] == made.cross_entropy == 0.5  # type: ignore[attr-defined]


def test_no_word_for_all_arms_undoes_what_an_arm_is() -> None:
    plan = asked("architecture=resnet18", "horkd.orders=1")
    made = {
        arm: DISTILLATION.specs(cell_of(plan, arm, resolution=4).parameters, "d")
        for arm in ("pixels", "random", "horkd_vgg")
    }
    networks = {
        (arm, role): spec.architecture
        for arm, s in made.items()
        for role, spec in s.items()
        if hasattr(spec, "architecture")
    }
    assert networks[("pixels", "untrained")] == "pixels" and networks[("random", "untrained")] == "resnet18"
    assert networks[("horkd_vgg", "student")] == networks[("horkd_vgg", "assistant")] == "vgg11"
    assert networks[("horkd_vgg", "teacher")] == "resnet18"
    single = asked("arm=l2,horkd_direct", "horkd.orders=1", "resolution=4")
    orders = [DISTILLATION.specs(c.parameters, "d")["student"].horkd.orders for c in single.cells()]  # type: ignore[attr-defined]
    assert orders == ["2", "1"]


@pytest.mark.parametrize("setting", ["method=kd", "student.method=kd", "route=direct"])
def test_words_that_would_make_all_arms_one_are_refused(setting: str) -> None:
    with pytest.raises(
        UsageError, match="is what the arms of horkd_classification decide. Choose among them with --set arm="
    ):
        asked(setting)


def test_scores_of_two_tasks_are_not_compared() -> None:
    with pytest.raises(UsageError, match="task takes one value"):
        asked("task=retrieval,verification")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("student.width=0.25", "arm=horkd_init"),
            "needs a student built like its assistant, but width is 0.25 and 0.5",
        ),
        (("validation_fraction=0", "tuning=0,1"), "validation_fraction must be above 0: horkd_classification chooses"),
        (("stem=large", "architecture=resnet_thin"), "stem=large is for resnet18, resnet34, resnet50, got resnet_thin"),
    ],
)
def test_what_could_only_fail_after_hours_is_refused_at_planning(settings: tuple[str, ...], message: str) -> None:
    study = search_spaces.load("horkd_assistant_ablation" if "horkd_init" in settings[-1] else "horkd_classification")
    resolved = resolve(study, settings=settings, preset="tuning" if "tuning" in settings[-1] else "demo")
    with pytest.raises(UsageError, match=message):
        check_against_data(Planner(Plan(resolved, stand_in("digits", None))))


@pytest.mark.parametrize("name", search_spaces.names())
def test_every_preset_fits_the_data_it_names(name: str) -> None:
    study = search_spaces.load(name)
    for preset, chosen in study.presets.items():
        resolved = resolve(study, preset=preset, elsewhere=bool(chosen.test_data))
        data = stand_in(chosen.data, None, chosen.data_size)
        check_against_data(Planner(Plan(resolved, data)))


def test_the_survey_counts_what_the_graph_holds(store: Store) -> None:
    plan = asked(seeds=3)
    counted = survey(Planner(plan), store)
    graph, trials, _ = build_graph(plan, store)
    roles = [node.role for node in graph.nodes.values()]
    assert dict(counted.distinct) == {role: roles.count(role) for role in counted.distinct}
    assert counted.asked == sum(len(trial.stages) for trial in trials)


@pytest.mark.parametrize(("preset", "data"), [("demo", None), ("demo", "lfw"), ("small", "lfw"), ("tiny", None)])
def test_a_recorded_command_asks_for_the_same_preset(preset: str, data: str | None) -> None:
    words = Request("horkd_face_verification", preset=preset, data=data).command().split()
    study = search_spaces.load("horkd_face_verification")
    given = words[words.index("--preset") + 1] if "--preset" in words else study.preset_for(data)
    assert given == preset


def test_a_pinned_resolution_of_the_teacher_stays_when_the_axis_is_narrowed() -> None:
    made = DISTILLATION.specs(cell_of(asked("resolution=4"), "horkd").parameters, "d")
    assert [made[role].resolution for role in ("teacher", "assistant", "student")] == [None, None, 4]  # type: ignore[attr-defined]


def test_an_unknown_arm_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="horkd_classification has no arm 'hork'. Did you mean 'horkd'"):
        asked("arm=hork")
    with pytest.raises(UsageError, match="tuning must be from 0 to 4 for horkd_classification, got 5"):
        asked("tuning=5", preset="tuning")


def test_every_cell_is_compared_with_labels_alone_in_its_own_setting() -> None:
    plan = asked()
    for cell in plan.cells():
        reference = plan.baseline(cell)
        if "resolution" not in cell.point:
            assert reference is None
            continue
        assert reference is not None
        assert reference.point == {"arm": "ce", "resolution": cell.point["resolution"]}
        assert reference.id in {c.id for c in plan.cells()}


def test_tuning_tries_equally_many_settings_of_every_arm() -> None:
    plan = asked(preset="tuning")
    per_arm = {name: [c for c in plan.cells() if c.point["arm"] == name] for name in plan.resolved.axes["arm"]}
    assert {len(cells) for cells in per_arm.values()} == {5}
    weights = [DISTILLATION.specs(c.parameters, "d")["student"].distillation for c in per_arm["kd"]]  # type: ignore[attr-defined]
    assert weights == [0.01, 0.1, 0.3, 1.0, 3.0]
    rates = [DISTILLATION.specs(c.parameters, "d")["student"].learning_rate for c in per_arm["ce"]]  # type: ignore[attr-defined]
    assert rates == [0.0125, 0.025, 0.05, 0.1, 0.2]


def test_equal_compute_means_as_many_multiply_adds_as_the_distilled_student_took() -> None:
    plan = asked()
    for resolution in (8, 4):
        plain = DISTILLATION.specs(cell_of(plan, "ce_equal_compute", resolution=resolution).parameters, "d")["student"]
        chain = DISTILLATION.specs(cell_of(plan, "horkd", resolution=resolution).parameters, "d")
        spent = chain["student"].epochs * training_macs(chain["student"], chain["assistant"], 8)  # type: ignore[arg-type, attr-defined]
        assert plain.epochs * training_macs(plain, None, 8) == pytest.approx(spent, rel=0.02)  # type: ignore[arg-type, attr-defined]
        assert plain.epochs > chain["student"].epochs  # type: ignore[attr-defined]
        assert not plain.distils  # type: ignore[attr-defined]


def test_multiply_adds_grow_with_pixels_and_with_the_square_of_the_width() -> None:
    small = TeacherSpec(architecture="resnet18", resolution=16)
    assert forward_macs(TeacherSpec(architecture="resnet18"), 32) == 4 * forward_macs(small, 32)
    assert forward_macs(TeacherSpec(architecture="resnet18", width=2.0, resolution=16), 32) == 4 * forward_macs(
        small, 32
    )
    assert forward_macs(TeacherSpec(architecture="resnet18", resolution=16, upsample_to=32), 32) == 4 * forward_macs(
        small, 32
    )
    assert forward_macs(TeacherSpec(architecture="resnet18", stem="large"), 224) == pytest.approx(1.8e9, rel=0.1)


def test_labels_alone_cost_no_pass_of_the_guide() -> None:
    guide = TeacherSpec(architecture="resnet50", resolution=32)
    plain = StudentSpec(architecture="resnet18", resolution=16, method="none")
    taught = StudentSpec(architecture="resnet18", resolution=16, method="kd", epochs=10)
    assert training_macs(plain, guide, 32) == training_macs(taught, None, 32) == 3 * forward_macs(taught, 32)
    assert training_macs(taught, guide, 32) == 3 * forward_macs(taught, 32) + forward_macs(guide, 32)
    expected = 10 * (1 + forward_macs(guide, 32) / (3 * forward_macs(taught, 32)))
    assert equal_compute_epochs(plain, taught, guide, 32) == round(expected)


@pytest.mark.parametrize("name", [n for n in search_spaces.names() if search_spaces.load(n).arms])
def test_studies_with_arms_have_floors_a_reference_and_a_reading_at_equal_compute(name: str) -> None:
    study = search_spaces.load(name)
    kinds = {study.arms[arm].kind for arm in study.axes["arm"]}
    assert study.baseline == {"arm": "ce"} and "ce" in study.axes["arm"]
    assert {"floor", "equal_compute", "ours"} <= kinds
    for preset in study.presets:
        resolved = resolve(study, preset=preset)
        for cell in Plan(resolved, {"fingerprint": "d", "height": 64}).cells():
            for role, spec in DISTILLATION.specs(cell.parameters, "d").items():
                if isinstance(spec, TrainingSpec):
                    assert spec.task == resolved.task, (preset, cell.label, role)

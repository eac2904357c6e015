"""What presets promise beside their numbers: the paper's data and task, one batch for published weights, departures."""

from __future__ import annotations

from typing import Any

import pytest

import search_spaces
from search_spaces import ranges
from search_spaces.study import Preset, Study
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Planner
from sweeps.planning.resolve import resolve
from trainables.spec import DistillationSpec, StageSpec, TrainingSpec

PRESETS = [
    (study, name)
    for study in map(search_spaces.load, search_spaces.names())
    for name in study.presets
    if name != "tiny"
]


def specs_of(study: Study, name: str) -> list[StageSpec]:
    preset = study.presets[name]
    resolved = resolve(study, preset=name, elsewhere=bool(preset.test_data))
    side = preset.data_size or (32 if preset.data.startswith("cifar") else 8)
    planner = Planner(Plan(resolved, {"fingerprint": "d", "height": side}))
    return [spec for cell in planner.plan.examples() for spec in planner.specs(cell).values()]


def trained(study: str, name: str = "paper") -> list[TrainingSpec]:
    return [spec for spec in specs_of(search_spaces.load(study), name) if isinstance(spec, TrainingSpec)]


@pytest.mark.parametrize(("study", "name"), PRESETS, ids=lambda part: part if isinstance(part, str) else part.name)
def test_published_weights_act_on_one_size_of_batch(study: Study, name: str) -> None:
    sums = [
        spec
        for spec in specs_of(study, name)
        if isinstance(spec, DistillationSpec) and spec.horkd.reduction == "sum_over_anchors_mean"
    ]
    assert {spec.batch_size for spec in sums} <= {ranges.PAPER_BATCH}
    assert bool(sums) == (name == "paper" and not study.sampled)


@pytest.mark.parametrize(("study", "name"), PRESETS, ids=lambda part: part if isinstance(part, str) else part.name)
def test_a_preset_says_where_its_weights_come_from(study: Study, name: str) -> None:
    def of(preset: Preset) -> dict[str, Any]:
        return {k: v for k, v in preset.parameters.items() if k.startswith("horkd.")}

    preset = study.presets[name]
    digits = of(preset).get("horkd.beta") == ranges.MEAN_WEIGHTS["horkd.beta"]
    if digits and not study.sampled:
        assert any("chosen on digits" in text for text in preset.departures)
    if of(preset).get("horkd.reduction") == "sum_over_anchors_mean":
        assert ranges.ORDERED_TUPLES in preset.departures


def test_the_order_ablation_of_the_paper_is_about_its_faces() -> None:
    preset = search_spaces.load("horkd_order_ablation").presets["paper"]
    assert (preset.data, preset.test_data) == ("umdfaces", "uccs")
    specs = trained("horkd_order_ablation")
    assert {(spec.task, spec.resolution, spec.subjects) for spec in specs} == {("identification", 32, 180)}
    assert {spec.kind: spec.architecture for spec in specs} == {"teacher": "resnet50", "assistant": "resnet34_thin"}


def test_the_curve_over_resolutions_of_the_paper_is_about_metric_learning() -> None:
    preset = search_spaces.load("horkd_resolution_robustness").presets["paper"]
    specs = trained("horkd_resolution_robustness")
    assert preset.data == "cub200" and {spec.task for spec in specs} == {"retrieval"}
    assert {spec.resolution for spec in specs if spec.kind == "student"} == {256, 224, 160, 128, 96}


def test_teachers_of_faces_read_the_same_size_in_both_tables() -> None:
    for study in ("horkd_face_verification", "horkd_face_identification"):
        assert {spec.resolution for spec in trained(study) if spec.kind == "teacher"} == {224}
        assert search_spaces.load(study).presets["paper"].data_size == 224


@pytest.mark.parametrize(("study", "side"), [("horkd_classification", 32), ("horkd_metric_learning", 256)])
def test_the_papers_model_at_the_teachers_side_is_the_assistant_in_every_table(study: str, side: int) -> None:
    found = search_spaces.load(study)
    rows = [row for row in found.published if row.method.startswith("OUR-") and row.method.endswith("-R")]
    assert rows
    for row in rows:
        assert row.arm == ("horkd_cross" if row.resolution == side else "horkd"), row
    axes = found.presets["paper"].axes or found.axes
    assert {row.arm for row in rows} <= set(axes["arm"])


@pytest.mark.parametrize(
    ("study", "name", "groups"),
    [
        ("horkd_metric_learning", "paper", 4),
        ("horkd_metric_learning", "small", 4),
        ("horkd_metric_learning", "demo", 0),
        ("horkd_assistant_ablation", "paper", 4),
        ("horkd_resolution_robustness", "paper", 4),
        ("horkd_classification", "paper", 0),
        ("horkd_face_verification", "paper", 0),
    ],
)
def test_metric_learning_on_photographs_has_groups_of_one_class(study: str, name: str, groups: int) -> None:
    seen = {spec.images_per_class for spec in trained(study, name) if spec.kind != "untrained"}
    assert seen == {groups}

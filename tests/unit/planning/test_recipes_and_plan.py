"""From words to parameters, cells, stages and their costs."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

import search_spaces
from search_spaces.study import Preset, Study
from sweeps.planning import cost, power
from sweeps.planning.cells import sampled_names
from sweeps.planning.checks import check_against_data
from sweeps.planning.identity import run_id
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Planner, build_graph
from sweeps.planning.resolve import Resolved, resolve
from sweeps.planning.seeds import parse_seeds
from sweeps.planning.survey import survey
from trainables.errors import UsageError
from trainables.recipes import HORKD_ASSISTANT
from trainables.recipes import recipe as recipes
from trainables.recipes.distillation import DISTILLATION
from trainables.recipes.sleep import SLEEP
from trainables.spec import (
    ARCHITECTURES,
    SEED_MARK,
    SPECS,
    TrainingSpec,
    compute,
    field_paths,
    fields,
    stage_key,
    to_plain,
)
from trainables.store.artifacts import Store

DATA: dict[str, Any] = {
    "name": "digits",
    "fingerprint": "5d41402abc4b2a76",
    "classes": 10,
    "channels": 1,
    "height": 8,
    "width": 8,
    "train_images": 1258,
    "test_images": 539,
}
ABLATION = search_spaces.load("horkd_order_ablation")
WEIGHTS = search_spaces.load("horkd_loss_weights")


def asked(*settings: str, study: Study = ABLATION, **more: Any) -> Resolved:
    return resolve(study, settings=settings, **more)


def planned(*settings: str, study: Study = ABLATION, **more: Any) -> Plan:
    return Plan(asked(*settings, study=study, **more), DATA)


def planner_of(*settings: str, study: Study = ABLATION, data: dict[str, Any] = DATA, **more: Any) -> Planner:
    return Planner(Plan(asked(*settings, study=study, **more), data))


# Names.


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("alpha", "horkd.alpha"),
        ("horkd.alpha", "horkd.alpha"),
        ("orders", "horkd.orders"),
        ("learning_rate", "learning_rate"),
        ("teacher.epochs", "teacher.epochs"),
        ("assistant.horkd.alpha", "assistant.horkd.alpha"),
        ("cross_entropy", "cross_entropy"),
        ("evaluation.batch_size", "evaluation.batch_size"),
    ],
)
def test_a_parameter_may_be_shortened_where_nothing_else_is_called_so(name: str, full: str) -> None:
    assert HORKD_ASSISTANT.canonical(name) == full


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("learnig_rate", "Did you mean 'learning_rate'"),
        ("horkd.alfa", "Did you mean 'horkd.alpha'"),
        ("teacher.horkd.alpha", "is not a parameter of recipe horkd"),
        ("assistant.alpha", "is not a parameter of recipe horkd"),
        ("student.epochs", "is not a parameter of recipe horkd"),
        ("seed", "is not a parameter"),
        ("data", "is not a parameter"),
        ("", "is not a parameter"),
        ("evaluation.resolution", "is not a parameter"),
    ],
)
def test_an_unknown_parameter_is_refused_with_the_nearest_and_the_way_to_all(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        HORKD_ASSISTANT.canonical(name)
    assert hint in str(caught.value)
    assert len(str(caught.value)) < 200
    if name not in ("seed", "data"):  # These have a flag, and an answer of their own.
        with pytest.raises(UsageError, match="params horkd_order_ablation|takes name=value"):
            resolve(search_spaces.load("horkd_order_ablation"), settings=[f"{name}=1"])


def test_every_parameter_belongs_to_a_field_of_a_stage() -> None:
    for recipe in (DISTILLATION, HORKD_ASSISTANT, SLEEP):
        for name in recipe.parameters:
            role, _, rest = name.partition(".")
            steps = [s for s in recipe.steps if s.role == role] if role in recipe.roles else recipe.steps
            path = rest if role in recipe.roles else name
            assert name == "route" or any(
                path in field_paths(kind) for step in steps for kind in (step.spec, step.given) if kind is not None
            ), name


@pytest.mark.parametrize("recipe", [DISTILLATION, HORKD_ASSISTANT, SLEEP], ids=lambda r: f"{r.name} of {len(r.steps)}")
def test_a_recipe_lists_parents_first_and_inherits_what_both_have(recipe: recipes.Recipe) -> None:
    for index, step in enumerate(recipe.steps):
        earlier = {s.role: s for s in recipe.steps[:index]}
        assert {role for roles in step.parents.values() for role in roles} <= set(earlier)
        assert step.spec in SPECS.values()
        for roles, names in step.inherits.items():
            for own, theirs in names.items():
                assert own in field_paths(step.spec)
                assert all(theirs in field_paths(earlier[role].spec) for role in roles)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", "ten", "epochs must be a whole number, got 'ten'"),
        ("teacher.epochs", "0", "teacher.epochs must be a whole number from 1 to 100000, got 0"),
        ("alpha", "-1", "alpha must be a number of at least 0, got -1"),
        ("centers", "runing", "Did you mean 'running'"),
        ("orders", "1+5", "'5' is not an order"),
        ("nesterov", "perhaps", "nesterov must be true or false"),
    ],
)
def test_a_bad_value_is_refused_under_the_name_that_was_used(name: str, value: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        HORKD_ASSISTANT.coerce(name, value)
    assert message in str(caught.value)


def test_a_value_takes_the_type_of_its_field() -> None:
    coerced = [HORKD_ASSISTANT.coerce(n, v) for n, v in (("epochs", "3.0"), ("alpha", "1"), ("orders", "c 3"))]
    assert coerced == [3, 1.0, "3+C"]
    assert [type(v) for v in coerced] == [int, float, str]
    assert HORKD_ASSISTANT.coerce("resolution", "native") is None


# Specs of a cell.


def test_a_word_for_one_stage_outranks_the_word_for_all() -> None:
    made = DISTILLATION.specs({"epochs": 9, "teacher.epochs": 5, "student.resolution": 4, "horkd.alpha": 3.0}, "d")
    assert [made[role].epochs for role in ("teacher", "assistant", "student")] == [5, 9, 9]  # type: ignore[attr-defined]
    assert made["student"].horkd.alpha == made["assistant"].horkd.alpha == 3.0  # type: ignore[attr-defined]
    assert made["evaluation"].resolution == 4  # type: ignore[attr-defined]
    assert made["assistant"].resolution is None  # type: ignore[attr-defined]
    assert {spec.data for spec in made.values()} == {"d"}


def test_the_evaluation_reads_what_the_network_it_measures_reads() -> None:
    made = DISTILLATION.specs(
        {"resolution": 8, "student.resolution": 4, "student.filter": "area", "student.blur": 1.5}, "d"
    )
    seen = made["evaluation"]
    assert (seen.resolution, seen.filter, seen.blur) == (4, "area", 1.5)  # type: ignore[attr-defined]


# Words of the command line.


def test_a_word_for_all_stages_outranks_what_the_preset_says_for_one() -> None:
    assert asked().parameters["teacher.epochs"] != 3
    plan = planned("epochs=3")
    assert plan.resolved.sources["epochs"] == "--set"
    made = Planner(plan).specs(plan.cells()[0])
    assert [made[role].epochs for role in ("teacher", "assistant")] == [3, 3]  # type: ignore[attr-defined]
    both = planner_of("epochs=3", "assistant.epochs=7")
    made = both.specs(both.plan.cells()[0])
    assert [made[role].epochs for role in ("teacher", "assistant")] == [3, 7]  # type: ignore[attr-defined]


def test_several_values_make_an_axis_and_repeated_ones_count_once() -> None:
    plan = planned("alpha=1,2,2.0,1e0", "orders=none,2+1,1+2")
    assert plan.resolved.axes == {"horkd.orders": ("none", "1+2"), "horkd.alpha": (1.0, 2.0)}
    assert plan.resolved.cell_count == 4 == len(plan.cells())
    assert len({cell.id for cell in plan.cells()}) == 4
    assert "horkd.alpha" not in plan.resolved.parameters


def test_an_axis_may_be_narrowed_to_one_value() -> None:
    plan = planned("orders=1+2")
    assert plan.resolved.axes == {"horkd.orders": ("1+2",)}
    assert plan.baseline(plan.cells()[0]) is None  # Its cell is not part of this run.


def test_the_baseline_of_a_cell_differs_only_in_what_the_study_names() -> None:
    plan = planned("alpha=1,2")
    for cell in plan.cells():
        base = plan.baseline(cell)
        assert base is not None
        assert base.point == dict(cell.point) | {"horkd.orders": "none"}
        assert base.id in {c.id for c in plan.cells()}


def test_a_sampled_parameter_can_be_fixed_to_one_value() -> None:
    plan = planned("alpha=3", study=WEIGHTS)
    assert plan.resolved.pinned == {"horkd.alpha": 3.0}
    cell = next(plan.examples())
    assert cell.point["horkd.alpha"] == 3.0
    assert set(sampled_names(WEIGHTS.space)) == {"horkd.w_1st", "horkd.alpha", "horkd.beta", "horkd.gamma"}


@pytest.mark.parametrize(
    ("study", "settings", "more", "messages"),
    [
        (ABLATION, ["alpha"], {}, ["--set takes name=value, got 'alpha'"]),
        (ABLATION, ["=3"], {}, ["--set takes name=value, got '=3'"]),
        (ABLATION, ["alpha="], {}, ["alpha needs a value"]),
        (ABLATION, ["alpha=1,,2"], {}, ["alpha needs a value"]),
        (ABLATION, ["seed=3"], {}, ["Seeds are set with --seeds"]),
        (ABLATION, ["data=cifar10"], {}, ["The data set is chosen with --data"]),
        (ABLATION, ["aplha=3"], {}, ["is not a parameter of horkd_order_ablation", "Did you mean 'alpha'"]),
        (ABLATION, [], {"trials": 3}, ["--trials is for studies that draw", "fixed grid of 16"]),
        (WEIGHTS, [], {"trials": 0}, ["--trials must be a whole number from 1 to 1000000, got 0"]),
        (WEIGHTS, ["alpha=1,2"], {}, ["horkd.alpha is drawn by this study (0.001 to 100, log)"]),
        (WEIGHTS, ["epochs=1,2"], {}, ["epochs can take one value, got 2"]),
        (ABLATION, [f"alpha={','.join(map(str, range(1000)))}", f"beta={','.join(map(str, range(1000)))}"], {},
         ["A grid may have at most 1,000,000 cells, got 16,000,000"]),
        (ABLATION, ["epochs=x", "aplha=3"], {"seeds": "-1"},
         ["epochs must be a whole number", "'aplha'", "--seeds must be a number"]),
    ],
)  # fmt: skip
def test_mistakes_are_told_all_at_once_one_line_each(
    study: Study, settings: list[str], more: dict[str, Any], messages: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(study, settings=settings, **more)
    for message in messages:
        assert message in str(caught.value)


def test_an_unknown_preset_or_study_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="has no preset 'papr'. Did you mean 'paper'"):
        resolve(ABLATION, preset="papr")
    with pytest.raises(UsageError, match="Did you mean 'horkd_order_ablation'"):
        search_spaces.load("horkd_order_ablatoin")
    for name in ("study", "ranges", "", "../study"):
        with pytest.raises(UsageError):
            search_spaces.load(name)


@pytest.mark.parametrize("name", search_spaces.names())
def test_every_preset_of_every_study_resolves_and_plans(name: str) -> None:
    study = search_spaces.load(name)
    for preset in study.presets:
        planner = Planner(Plan(resolve(study, preset=preset), DATA | {"height": 32}))
        for cell in itertools.islice(planner.plan.examples(), 100):
            for node in planner.stages(cell, 0):
                assert stage_key(node.spec, node.parents) == node.key


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", [0, 1, 2]),
        (2, [0, 1]),
        (None, [0, 1, 2, 3, 4]),
        ("100-103", [100, 101, 102, 103]),
        ("7,0,3,0", [0, 3, 7]),
        (" 5-5 , 1 ", [1, 5]),
        ("0", None),
        ("", None),
        ("-3", None),
        ("3-1", None),
        ("a", None),
        ("1,,2", None),
        ("1.5", None),
        ("20000", None),
        ("0-10000", None),
        ("0-9999,20000", None),
        (f"{SEED_MARK},", None),
        (f"{SEED_MARK}-{SEED_MARK}", None),
        ("0-99999999999999", None),
        ("²", None),
    ],
)
def test_seeds_are_a_number_a_range_or_a_list(text: Any, seeds: list[int] | None) -> None:
    if seeds is None:
        with pytest.raises(UsageError, match="--seeds"):
            parse_seeds(text, 5)
    else:
        assert parse_seeds(text, 5) == seeds


# Identity of a run.


@pytest.mark.parametrize(
    "text",
    [
        "99999999999999999999",
        "9" * 5000,
        "0-99999999999999999999",
        "99999999999999999999",
        "10001",
        "1e9",
        "²",
        "-1",
        "0,-1",
    ],
)
def test_seeds_beyond_all_measure_are_refused_in_a_short_sentence(text: str) -> None:
    with pytest.raises(UsageError, match="--seeds") as caught:
        parse_seeds(text, 5)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["99999999999999999999", "0-99999999999999999999", "10001"])
def test_too_many_seeds_are_told_the_most_there_may_be(text: str) -> None:
    with pytest.raises(UsageError, match="at most 10000 seeds"):
        parse_seeds(text, 5)


def test_a_run_is_the_same_for_other_seeds_and_another_one_for_other_parameters() -> None:
    name = run_id(planner_of())
    assert name.startswith("horkd_order_ablation-")
    assert run_id(planner_of(seeds="7")) == run_id(planner_of(seeds="100-104")) == name
    said = asked().parameters["horkd.alpha"]
    assert run_id(planner_of(f"alpha={said}0")) == name  # What the preset says anyway.
    others = [
        run_id(planner_of("alpha=1")),
        run_id(planner_of("orders=1,2")),
        run_id(planner_of(data=DATA | {"fingerprint": "e"})),
        run_id(planner_of(preset="tiny")),
    ]
    assert len({name, *others}) == 5


def test_a_sampled_run_is_the_same_for_more_trials_and_another_one_when_pinned() -> None:
    name = run_id(planner_of(study=WEIGHTS))
    assert run_id(planner_of(study=WEIGHTS, trials=60, seeds="1")) == name
    assert run_id(planner_of("alpha=3", study=WEIGHTS)) != name


# Plans.


def test_an_order_ablation_of_16_cells_and_5_seeds_is_not_240_trainings(store: Store) -> None:
    counted = survey(planner_of(), store)
    assert counted.asked == 240
    assert counted.distinct == {"teacher": 5, "assistant": 80, "evaluation": 80}
    assert counted.missing == 165
    assert counted.sentence() == "5 teachers, 80 assistants, 80 evaluations"
    assert counted.seconds > 0
    assert counted.bytes > 0


def test_the_graph_has_what_the_survey_counted_with_seeds_outermost(store: Store) -> None:
    plan = planned(seeds=2)
    graph, trials, cells = build_graph(plan, store)
    counted = survey(Planner(plan), store)
    assert len(graph.nodes) == sum(counted.distinct.values()) == 2 + 32 + 32
    assert [trial.seed for trial in trials] == [0] * 16 + [1] * 16
    assert [trial.cell for trial in trials[:16]] == [cell.id for cell in cells]
    first = next(iter(graph.nodes.values()))
    assert first.role == "teacher"
    assert len(first.cells) == 16
    for node in graph.nodes.values():
        assert stage_key(node.spec, node.parents) == node.key


def test_cells_that_differ_in_the_teacher_alone_share_nothing_and_in_the_evaluation_alone_share_the_network() -> None:
    for setting, shared in (("teacher.width=0.5,1", set()), ("evaluation.batch_size=64,128", {"teacher", "assistant"})):
        plan = planned(setting, "orders=1")
        planner = Planner(plan)
        one, two = (planner.keys(cell, 0) for cell in plan.cells())
        assert {role for role in one if one[role] == two[role]} == shared


def test_what_the_store_has_is_left_out_of_the_plan(store: Store, publish: Callable[..., Any]) -> None:
    plan = planned(seeds=2)
    planner = Planner(plan)
    keys = planner.keys(plan.cells()[3], 1)
    publish(keys["teacher"], kind="teacher")
    publish(keys["assistant"], kind="assistant")
    counted = survey(Planner(plan), store)
    assert counted.asked == 96
    assert counted.present == {"teacher": 1, "assistant": 1}
    assert counted.missing == 64
    assert counted.sentence().endswith("; 2 already in the store")
    graph, _, _ = build_graph(plan, store)
    assert {n.key for n in graph.in_state("done")} == {keys["teacher"], keys["assistant"]}
    ready = {n.key for n in graph.in_state("ready")}
    assert keys["evaluation"] in ready
    assert len([k for k in ready if graph.nodes[k].role == "assistant"]) == 15


def test_ten_thousand_cells_are_planned_with_one_look_at_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Any] = []
    made: list[Any] = []
    listing = Store.keys
    monkeypatch.setattr(Store, "keys", lambda self: (looks.append("keys"), listing(self))[1])
    monkeypatch.setattr(Store, "has", lambda self, key: looks.append(key))
    monkeypatch.setattr(Store, "get", lambda self, key: looks.append(key))
    for maker in ("from_plain", "variant"):
        whole = getattr(fields, maker)
        for module in (m for m in (fields, recipes.specs) if hasattr(m, maker)):
            monkeypatch.setattr(module, maker, lambda *a, whole=whole: (made.append(a[0]), whole(*a))[1])
    recipes._made.cache_clear()
    values = ",".join(str(1 + n) for n in range(25))
    plan = planned(f"alpha={values}", f"beta={values}", seeds=1)
    graph, trials, cells = build_graph(plan, store)
    assert len(cells) == len(trials) == 10_000
    assert looks == ["keys"]
    # Weights of orders that are off do not count: 4 sets have both, 4 and 4 one of them, 4 none.
    assistants = 4 * 625 + (4 + 4) * 25 + 4
    assert len(graph.nodes) == 1 + 2 * assistants
    # A teacher, an evaluation, and per cell an assistant with its group of weights: nothing is made twice.
    assert len(made) == 2 + 2 * 10_000


def test_two_trials_never_share_what_their_seeds_change(store: Store) -> None:
    plan = planned(seeds=3)
    planner = Planner(plan)
    for cell in plan.cells():
        keys = [planner.keys(cell, seed) for seed in plan.resolved.seeds]
        for role in keys[0]:
            assert len({k[role] for k in keys}) == 3


# What only the data set can say.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["resolution=16"], "resolution must be at most 8, the size of digits, got 16 for the teacher"),
        (
            ["stem=large", "architecture=vgg11"],
            "stem=large is for resnet18, resnet34, resnet50, got vgg11 for the teacher",
        ),
        (["resolution=8", "upsample_to=6"], "upsample_to must be at least the resolution, 8, got 6 for the teacher"),
        (["train_images=1133"], "train_images must be at most 1132, what validation leaves of digits, got 1133"),
        (["train_images=9"], "train_images must be at least 10"),
    ],
)
def test_what_the_data_cannot_give_is_refused_before_anything_starts(settings: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_against_data(planner_of(*settings))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "settings", [["resolution=8"], ["train_images=1132"], ["train_images=10"], ["assistant.resolution=4"]]
)
def test_the_limits_of_the_data_are_themselves_allowed(settings: list[str]) -> None:
    check_against_data(planner_of(*settings))


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1, 0.25, 0.3, 0.7, 0.9])
@pytest.mark.parametrize("images", [20, 35, 1000])
def test_the_plan_and_the_split_agree_on_how_many_images_are_left(fraction: float, images: int, tmp_path: Any) -> None:
    import numpy as np

    from trainables.data.packed import Items, open_packed
    from trainables.data.packing import write_packed
    from trainables.data.splits import split_indices

    labels = np.arange(images, dtype=np.int32) % 2
    items = Items(
        images=np.arange(images * 16, dtype=np.uint64).astype(np.uint8).reshape(images, 1, 4, 4),
        labels=labels,
        split=np.zeros(images, dtype=np.uint8),
        names=[""] * images,
        classes=("a", "b"),
    )
    packed = open_packed(write_packed(tmp_path, "made", items).path)
    left = len(split_indices(packed, "train", validation_fraction=fraction, split_seed=0, train_images=0))
    data = DATA | {"train_images": images, "classes": 2}
    check_against_data(planner_of(f"train_images={left}", f"validation_fraction={fraction}", data=data))
    with pytest.raises(UsageError, match=f"at most {left}"):
        check_against_data(planner_of(f"train_images={left + 1}", f"validation_fraction={fraction}", data=data))


def test_each_mistake_is_told_once_and_at_most_ten() -> None:
    with pytest.raises(UsageError) as caught:
        check_against_data(planner_of("resolution=16"))
    assert len(str(caught.value).splitlines()) == 2  # Teacher and assistant, not 16 cells.
    with pytest.raises(UsageError) as caught:
        check_against_data(planner_of(f"resolution={','.join(str(n) for n in range(9, 40))}"))
    assert len(str(caught.value).splitlines()) == 10


# What a design can find.


@pytest.mark.parametrize("pairs", [3, 4, 5, 6, 9, 10, 25, 100])
@pytest.mark.parametrize("tests", [1, 4, 15])
def test_the_detectable_gain_has_the_power_it_says(pairs: int, tests: int) -> None:
    from scipy import stats

    gain = power.detectable_gain(pairs, 0.01, tests)
    assert gain is not None
    needed = stats.t.ppf(1 - 0.025 / tests, pairs - 1)
    assert stats.nct.sf(needed, pairs - 1, gain * pairs**0.5 / 0.01) == pytest.approx(0.8, abs=1e-6)


def test_below_three_pairs_nothing_can_be_detected() -> None:
    assert [power.detectable_gain(pairs, 0.01) for pairs in (0, 1, 2)] == [None] * 3


# Costs.


@pytest.mark.parametrize("name", [*ARCHITECTURES, "pixels"])
def test_the_cost_table_is_what_hooks_count(name: str) -> None:
    import torch

    from trainables.models import build

    with torch.device("meta"):
        network = build(name, channels=3, classes=10).eval()
        counted: list[int] = []

        def count(layer: torch.nn.Conv2d, inputs: Any, output: torch.Tensor) -> None:
            counted.append(output[0].numel() * layer.weight[0].numel())

        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.register_forward_hook(count)
        network(torch.empty(1, 3, 32, 32))
    size = compute.size_of(name)
    assert sum(counted) == pytest.approx(size.macs, rel=0.01)
    assert len(counted) == size.layers
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(size.parameters, rel=0.03)
    assert name == "pixels" or network.embedding_width == size.embedding * size.widened


def test_distilling_costs_more_than_labels_alone_and_longer_more_than_short() -> None:
    made = HORKD_ASSISTANT.specs({"architecture": "resnet_thin", "epochs": 10}, "d")
    teacher, assistant = made["teacher"], made["assistant"]
    assert isinstance(teacher, TrainingSpec)
    assert isinstance(assistant, TrainingSpec)
    counts = cost.Counts(DATA)
    alone = cost.seconds_of(assistant, counts, None)
    assert cost.seconds_of(assistant, counts, teacher) > alone > 0
    assert cost.seconds_of(dataclasses.replace(assistant, epochs=20), counts, None) == pytest.approx(2 * alone)


def test_finished_stages_of_the_same_shape_replace_the_estimate(store: Store) -> None:
    plan = planned("orders=none,1", seeds=3)
    planner = Planner(plan)
    cell = plan.cells()[0]
    for node in planner.stages(cell, 0):
        manifest: dict[str, Any] = {"kind": node.spec.kind, "spec": to_plain(node.spec), "parents": {}, "metrics": {}}
        manifest |= {"epochs": getattr(node.spec, "epochs", 1), "seconds": 1000.0}
        store.publish(node.key, manifest, lambda folder: None)
    counted = survey(Planner(plan), store)
    assert counted.known == counted.missing == 3 * 5 - 3
    assert counted.seconds == pytest.approx(1000.0 * counted.missing)


def test_damaged_manifests_do_not_spoil_the_estimate(store: Store, publish: Callable[..., Any]) -> None:
    for digit, changes in enumerate(
        ({"key": 3}, {}, {"seconds": "x"}, {"seconds": "nan"}, {"seconds": "inf"}, {"seconds": 1, "epochs": "x"})
    ):
        artifact = publish(f"{digit:016x}", kind="teacher")
        (artifact.path / "manifest.json").write_text(json.dumps(artifact.manifest | changes))
    (publish("f" * 16).path / "manifest.json").write_text("")
    assert cost.measured_rates(store, store.keys()) == {}
    assert survey(planner_of(), store).seconds > 0


def test_a_study_is_a_question_with_a_baseline_among_its_cells() -> None:
    for name in search_spaces.names():
        study = search_spaces.load(name)
        assert study.name == name
        assert {"demo", "tiny", "paper"} <= set(study.presets)
        assert all(isinstance(preset, Preset) and preset.seeds >= 1 for preset in study.presets.values())
        for key, value in (study.baseline or {}).items():
            assert value in study.axes[key]

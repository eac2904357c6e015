"""Keys: equal for equal numbers, and only then."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables import spec as sp
from trainables.errors import UsageError
from trainables.spec import (
    SEED_MARK,
    SPECS,
    AssistantSpec,
    EvaluationSpec,
    HorkdSpec,
    KeyTemplate,
    OutputsSpec,
    SleepSpec,
    StageSpec,
    StudentSpec,
    TeacherSpec,
    TripletSpec,
    UntrainedSpec,
    built_in,
    canonical_orders,
    coerce,
    field_paths,
    flatten,
    later,
    options_of,
    registry,
    spec_from,
    stage_key,
    to_plain,
    version_of,
)
from trainables.spec.components import COMPONENTS
from trainables.spec.fields import from_plain
from trainables.spec.keys import canonical_json
from trainables.spec.losses import AtSpec, KdSpec

OF_FAMILIES = {entry.name: tuple(entry.facts["sizes"]) for entry in registry.entries("network_family")}
PARENT, OTHER = "0" * 15 + "a", "0" * 15 + "b"
DATA = "5d41402abc4b2a76"


# Coercion and limits.


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("learning_rate", (1, 1.0, "1", "1e0")),
        ("epochs", (3, 3.0, "3", "3.0")),
        ("nesterov", (True, "true", "Yes", "on", "1")),
        ("resolution", (None, "none", "native", " None ")),
        ("blur", (0.0, -0.0, 0, "-0")),
        ("milestones", ((0.5, 0.75), [0.5, "0.75"], "0.5 0.75", "0.5/0.75")),
    ],
)
def test_values_that_mean_the_same_give_the_same_key(name: str, same: tuple[Any, ...]) -> None:
    assert len({stage_key(TeacherSpec(**{name: value}), {}) for value in same}) == 1


def test_minus_zero_is_stored_as_zero() -> None:
    assert str(TeacherSpec(weight_decay=-0.0).weight_decay) == "0.0"


@pytest.mark.parametrize("wrong", ["nan", float("nan"), float("inf"), "-inf", "fast", True, None])
def test_a_number_must_be_finite_and_no_truth_value(wrong: Any) -> None:
    with pytest.raises(UsageError, match="learning_rate must be a"):
        TeacherSpec(learning_rate=wrong)


def test_a_number_too_large_for_a_float_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="learning_rate must be a number"):
        TeacherSpec(learning_rate=10**400)
    with pytest.raises(UsageError, match="epochs must be a whole number from 1 to 100000, got 1000"):
        TeacherSpec(epochs=10**400)


@pytest.mark.parametrize("wrong", [True, False, 1.5, "1.5", "two", float("nan"), "1e999", None, [3]])
def test_a_whole_number_is_whole_and_no_truth_value(wrong: Any) -> None:
    with pytest.raises(UsageError, match="epochs must be a whole number"):
        TeacherSpec(epochs=wrong)


@pytest.mark.parametrize("wrong", [2, 1, 0, "perhaps", None, 0.5])
def test_a_truth_value_is_one_of_the_words(wrong: Any) -> None:
    if wrong in (0, 1):
        assert TeacherSpec(nesterov=wrong).nesterov is bool(wrong)
        return
    with pytest.raises(UsageError, match="nesterov must be true or false"):
        TeacherSpec(nesterov=wrong)


@pytest.mark.parametrize("number", [2**53 + 1, str(2**53 + 1), 10**30 + 1], ids=str)
def test_a_large_whole_number_keeps_its_last_digit(number: Any) -> None:
    assert coerce(number, int, "split_seed") == int(number)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number from 1 to 100000, got 0"),
        ({"learning_rate": -1e-9}, "learning_rate must be a number of at least 0, got -1e-09"),
        ({"resolution": 3}, "resolution must be a whole number from 4 to 1024, got 3"),
        ({"momentum": 1.01}, "momentum must be a number from 0 to 1"),
        ({"width": 0}, "width must be a number from 0.01 to 16, got 0"),
        ({"batch_size": 65_537}, "batch_size must be a whole number from 1 to 65536"),
        ({"architecture": "resnet81"}, "Did you mean 'resnet18'"),
        ({"optimizer": "adam"}, "optimizer must be one of sgd, adamw, got 'adam'. Did you mean 'adamw'"),
        ({"schedule": ["cosine"]}, "schedule must be text"),
        ({"data": True}, "data must be text"),
        ({"seed": 2**31}, "seed must be a whole number from 0 to 2147483646, got 2147483648"),
    ],
)
def test_a_value_outside_its_limits_is_refused_with_them(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        TeacherSpec(**fields)
    assert message in str(caught.value)


def test_limits_are_themselves_allowed() -> None:
    assert TeacherSpec(epochs=1, momentum=1.0, resolution=4, batch_size=65_536).resolution == 4


def test_nested_groups_are_checked_too() -> None:
    with pytest.raises(UsageError, match="Did you mean 'running'"):
        AssistantSpec(horkd={"centers": "runing"})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="'alhpa' is not a field of HorkdSpec. Did you mean 'alpha'"):
        AssistantSpec(horkd={"alhpa": 1})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="horkd must be a group of parameters"):
        AssistantSpec(horkd="1+2")  # type: ignore[arg-type]


def test_an_unknown_field_or_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'learning_rate'"):
        from_plain(TeacherSpec, {"learnig_rate": 1})
    with pytest.raises(UsageError, match="Did you mean 'teacher'"):
        spec_from("teachr", {})


def test_a_spec_does_not_change_once_made() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TeacherSpec().epochs = 3  # type: ignore[misc]


# Orders.


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("C+3", "3+C"),
        ("c 1", "1+C"),
        (" 2 + 1 + 2 ", "1+2"),
        ("3+2+1+C", "1+2+3+C"),
        ("", "none"),
        ("None", "none"),
        ("+", "none"),
        ("1", "1"),
    ],
)
def test_orders_are_written_one_way(written: str, canonical: str) -> None:
    assert canonical_orders(written) == canonical
    assert canonical_orders(canonical) == canonical
    assert HorkdSpec(orders=written) == HorkdSpec(orders=canonical)


@pytest.mark.parametrize("wrong", ["4", "1,2", "1+none", "12", "point"])
def test_what_is_no_order_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="is not an order"):
        canonical_orders(wrong)


# Plain form.

texts = st.text(max_size=12)
rates = st.floats(0, 1e6, allow_nan=False)
horkds = st.builds(
    HorkdSpec,
    orders=st.sets(st.sampled_from(sp.ORDERS)).map("+".join),
    w_1st=rates,
    alpha=rates,
    gamma=rates | st.integers(0, 100),
    reduction=st.sampled_from(["mean", "sum_over_anchors_mean", "reference"]),
    center_momentum=st.floats(0, 1),
    feature_norm=st.sampled_from(["none", "l2", "bn"]),
)
trainings = {
    "seed": st.integers(0, SEED_MARK - 1),
    "data": texts,
    "epochs": st.integers(1, 1000),
    "learning_rate": rates,
    "resolution": st.none() | st.integers(4, 1024),
    "architecture": st.sampled_from(sp.ARCHITECTURES),
    "milestones": st.lists(st.floats(0, 1), max_size=3).map(tuple),
    "nesterov": st.booleans(),
}
all_specs = st.one_of(
    st.builds(TeacherSpec, **trainings),
    st.builds(AssistantSpec, horkd=horkds, cross_entropy=rates, **trainings),
    st.builds(StudentSpec, horkd=horkds, init_from_assistant=st.booleans(), **trainings),
    st.builds(EvaluationSpec, data=texts, resolution=st.none() | st.integers(4, 1024), blur=st.floats(0, 16)),
    st.builds(SleepSpec, label=texts, seconds=rates, seed=st.integers(0, SEED_MARK - 1), value=st.floats(-9, 9)),
)


@settings(max_examples=120, deadline=None, derandomize=True, database=None)
@given(all_specs)
def test_a_spec_survives_its_plain_form_and_json(spec: StageSpec) -> None:
    plain = json.loads(json.dumps(to_plain(spec)))
    again = spec_from(spec.kind, plain)
    assert again == spec
    assert stage_key(again, {}) == stage_key(spec, {})


@settings(max_examples=120, deadline=None, derandomize=True, database=None)
@given(all_specs, st.integers(0, SEED_MARK - 1), st.sampled_from([(), ("teacher",), ("network",), ("b", "a")]))
def test_a_key_template_gives_what_stage_key_gives(spec: StageSpec, seed: int, roles: tuple[str, ...]) -> None:
    parents = {role: f"{index:016x}" for index, role in enumerate(roles)}
    seeded = dataclasses.replace(spec, **{"seed": seed}) if hasattr(spec, "seed") else spec
    assert KeyTemplate(spec, roles).key(seed, parents) == stage_key(seeded, parents)


def test_a_key_template_is_not_fooled_by_a_field_that_reads_like_a_mark() -> None:
    for label in ("@teacher@", '"@teacher@"', f'"seed":{SEED_MARK}', f'x","seed":{SEED_MARK},"y":"'):
        spec = SleepSpec(label=label, seed=4)
        assert KeyTemplate(spec, ("teacher",)).key(4, {"teacher": PARENT}) == stage_key(spec, {"teacher": PARENT})


def test_dotted_names_are_those_of_the_parameters() -> None:
    flat = flatten(StudentSpec())
    assert flat["horkd.alpha"] == 0.02
    assert set(flat) == set(field_paths(StudentSpec))


# Keys.

GOLDEN: dict[str, tuple[StageSpec, Mapping[str, str], str]] = {
    "teacher": (TeacherSpec(data=DATA), {}, "d3104f84bb4e0bad"),
    "assistant": (AssistantSpec(data=DATA, seed=3), {"teacher": PARENT}, "c28c3941be53912c"),
    "student": (
        StudentSpec(data=DATA, resolution=16, horkd=HorkdSpec(orders="1+C", alpha=12.5)),
        {"assistant": PARENT},
        "762c78234dd8df9d",
    ),
    "evaluation": (EvaluationSpec(data=DATA, resolution=16), {"network": PARENT}, "a1f5acc28b461300"),
    "sleep": (SleepSpec(label="ö", seed=1), {}, "a1ee7e10db1e80f1"),
    "untrained": (UntrainedSpec(data=DATA, architecture="resnet_thin", task="retrieval"), {}, "49415cc3cb5b3f92"),
    "untrained pixels": (UntrainedSpec(data=DATA, task="identification"), {}, "553f0e105c99fad5"),
    "teacher from a file": (
        sp.PretrainedSpec(data=DATA, weights="0123456789abcdef", family="iresnet", architecture="iresnet50"),
        {},
        "5ef9b3f77b9cf9b9",
    ),
    "teacher of faces": (
        TeacherSpec(data=DATA, task="verification", triplet=TripletSpec(weight=1)),
        {},
        "b413e942b9f5603b",
    ),
    "student by every loss": (
        StudentSpec(data=DATA, method="+".join(registry.names("loss"))),
        {"guide": PARENT},
        "d33635b38c3be494",
    ),
    "student on labels": (StudentSpec(data=DATA, method="none"), {}, "74db49f82702cc82"),
    "evaluation of faces": (
        EvaluationSpec(data=DATA, protocol="verification"),
        {"network": PARENT},
        "887a4eda6f66a4d7",
    ),
    "evaluation of people": (
        EvaluationSpec(data=DATA, protocol="identification"),
        {"network": PARENT},
        "71b5a573404cd7e8",
    ),
    "base of kept outputs": (OutputsSpec(data=DATA), {"guide": PARENT}, "557ba86ae6a7a20f"),
    "kept outputs of views": (
        OutputsSpec(data=DATA, part="views", stop=9, augment="crop_flip"),
        {"guide": PARENT, "base": PARENT},
        "35b3af7a3e754423",
    ),
    "kept outputs of epochs": (
        OutputsSpec(data=DATA, part="epochs", start=1, stop=10, task="verification"),
        {"guide": PARENT, "base": PARENT},
        "1bcc13abab9993f9",
    ),
    "student by kept outputs": (
        StudentSpec(data=DATA, teacher_outputs="cached"),
        {"guide": PARENT},
        "ad89b3cf8bdfa2a8",
    ),
    "evaluation by neighbours": (EvaluationSpec(data=DATA, reader="nearest"), {"network": PARENT}, "a41d7a523aac3902"),
}


def test_every_kind_has_a_golden_key() -> None:
    assert {spec.kind for spec, *_ in GOLDEN.values()} == set(SPECS)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_keys_stay(name: str) -> None:
    # A changed key orphans every artifact in every store: a new field takes `later`, an existing default stays.
    spec, parents, key = GOLDEN[name]
    assert stage_key(spec, parents) == key


@pytest.mark.parametrize("name", GOLDEN)
def test_every_field_moves_the_key(name: str) -> None:
    spec, parents, _ = GOLDEN[name]
    seen = {stage_key(spec, parents)}
    for path, (declared, _) in field_paths(type(spec)).items():
        head, _, tail = path.rpartition(".")
        group = getattr(spec, head) if head else spec
        for changed in _other_values(group, tail or path, declared):
            inner = dataclasses.replace(group, **{tail or path: changed})
            whole: Any = dataclasses.replace(spec, **{head: inner}) if head else inner
            key = stage_key(whole, parents)
            if head in whole.unused() or (tail or path) in inner.unused():
                assert key == stage_key(spec, parents), path
                continue
            assert key not in seen, path
            seen.add(key)


def test_a_variant_is_what_replace_gives_and_checks_alike() -> None:
    base = AssistantSpec(data=DATA)
    changes = {"learning_rate": 1, "epochs": "7", "horkd": {"orders": "C+3", "alpha": 2}, "resolution": 16, "ema": -0.0}
    made = sp.variant(base, changes)
    assert made == dataclasses.replace(base, **changes) and made != base
    assert stage_key(made, {}) == stage_key(dataclasses.replace(base, **changes), {})
    for name, value in (("epochs", 0), ("learning_rate", float("nan")), ("filter", "cubic"), ("horkd", {"alhpa": 1})):
        with pytest.raises(UsageError):
            sp.variant(base, {name: value})


def test_weights_of_orders_that_are_off_make_no_second_training() -> None:
    def key(**weights: Any) -> str:
        return stage_key(AssistantSpec(data=DATA, horkd=HorkdSpec(**weights)), {"teacher": PARENT})

    assert key(orders="none", alpha=1, beta=1, gamma=1, centers="batch") == key(orders="none")
    assert key(orders="1", alpha=1) == key(orders="1") != key(orders="1", w_1st=2)
    assert key(orders="2+C", beta=1) == key(orders="2+C") != key(orders="2+C", alpha=1)
    assert key(orders="C", pair_distance="huber") != key(orders="C")


def _other_values(group: Any, name: str, declared: Any) -> list[Any]:
    value = getattr(group, name)
    metadata = next(f.metadata for f in dataclasses.fields(group) if f.name == name)
    if name == "orders":
        return ["none", "1", "2+3"]
    if name == "images_per_class":
        return [4]  # 1 would be no group.
    if name == "method":
        return [method for method in ("none", "horkd", "kd", "at+mkd") if method != value]
    if options := options_of(metadata):
        return [option for option in options if option != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, tuple):
        return [(*value, 9 if declared == tuple[int, ...] else 0.9)]
    if isinstance(value, str):
        return [value + "x"]
    if value is None:
        return [8]
    low, high = metadata.get("low"), metadata.get("high")
    step = 1 if isinstance(value, int) else 0.001
    return [
        value + step if high is None or value + step <= high else (value - step if value - step >= (low or 0) else low)
    ]


def test_parents_and_their_roles_are_part_of_the_key() -> None:
    spec = AssistantSpec()
    keys = [stage_key(spec, p) for p in ({}, {"teacher": PARENT}, {"teacher": OTHER}, {"assistant": PARENT})]
    assert len(set(keys)) == 4
    assert stage_key(spec, {"a": PARENT, "b": OTHER}) == stage_key(spec, {"b": OTHER, "a": PARENT})


def test_the_kind_is_part_of_the_key() -> None:
    assert stage_key(AssistantSpec(), {}) != stage_key(TeacherSpec(), {})


def test_the_version_of_a_spec_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stage_key(TeacherSpec(), {})
    monkeypatch.setattr(TeacherSpec, "version", 2)
    assert stage_key(TeacherSpec(), {}) != before


@pytest.mark.parametrize("component", sorted(built_in()))
def test_a_raised_component_changes_the_keys_that_rest_on_it_and_no_other(
    component: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [
        TeacherSpec(),
        TeacherSpec(architecture="vgg11"),
        AssistantSpec(horkd=HorkdSpec(orders="none")),
        AssistantSpec(horkd=HorkdSpec(orders="2")),
        StudentSpec(architecture="resnet_thin"),
        *(TeacherSpec(architecture=name) for name in sp.ARCHITECTURES),
        UntrainedSpec(),
        *(sp.PretrainedSpec(family=family, architecture=names[0]) for family, names in OF_FAMILIES.items()),
        *(TeacherSpec(task=task) for task in sp.TASKS),
        TeacherSpec(triplet=TripletSpec(weight=1)),
        *(StudentSpec(method=method) for method in registry.names("loss")),
        *(EvaluationSpec(protocol=task) for task in sp.TASKS),
        OutputsSpec(part="epochs", stop=2),
        OutputsSpec(part="epochs", stop=2, images_per_class=4),
        TeacherSpec(images_per_class=4),
        SleepSpec(),
    ]
    before = [stage_key(spec, {}) for spec in every]
    table = COMPONENTS if component in COMPONENTS else registry._versions
    monkeypatch.setitem(table, component, version_of(component) + 1)  # type: ignore[operator]
    for spec, key in zip(every, before, strict=True):
        assert (stage_key(spec, {}) != key) == (component in spec.components()), spec
    assert any(component in spec.components() for spec in every)


def test_losses_that_are_off_make_no_second_training() -> None:
    def key(method: str, **more: Any) -> str:
        return stage_key(StudentSpec(data=DATA, method=method, **more), {"guide": PARENT})

    assert key("kd", at=AtSpec(weight=5), horkd=HorkdSpec(alpha=7)) == key("kd") != key("kd", kd=KdSpec(weight=2))
    assert key("none", distillation=3.0, kd=KdSpec(weight=2)) == key("none") != key("kd")
    assert key("at+mkd") == key("MKD+at") != key("mkd")
    assert key("horkd", distillation=2.0) != key("horkd") == stage_key(StudentSpec(data=DATA), {"guide": PARENT})
    with pytest.raises(UsageError, match=r"'kdd' is not a distillation loss. Did you mean 'kd'"):
        StudentSpec(method="kdd")


def test_groups_of_one_class_enter_the_keys_of_what_is_trained_on_them_and_no_other() -> None:
    grouped = {"images_per_class": 4, "data": DATA}
    assert stage_key(TeacherSpec(data=DATA, images_per_class=0), {}) == stage_key(TeacherSpec(data=DATA), {})
    assert stage_key(TeacherSpec(**grouped), {}) != stage_key(TeacherSpec(data=DATA), {})
    assert stage_key(UntrainedSpec(**grouped), {}) == stage_key(UntrainedSpec(data=DATA), {})
    kept = {"guide": PARENT}
    for part, enters in (("base", False), ("views", False), ("epochs", True)):
        one, two = (OutputsSpec(part=part, stop=2, data=DATA, images_per_class=k) for k in (0, 4))
        assert (stage_key(one, kept) != stage_key(two, kept)) == enters, part
    assert "batches.balanced" not in TeacherSpec(data=DATA).components()


@pytest.mark.parametrize("wanted", [1, 33, 64])
def test_groups_of_which_no_two_fit_into_a_batch_are_refused(wanted: int) -> None:
    with pytest.raises(UsageError, match=f"from 2 to half of batch_size, which is 64, got {wanted}"):
        StudentSpec(batch_size=64, images_per_class=wanted)


def test_pixels_have_no_seed() -> None:
    assert stage_key(UntrainedSpec(data=DATA, seed=1), {}) == stage_key(UntrainedSpec(data=DATA, seed=2), {})
    drawn = [stage_key(UntrainedSpec(data=DATA, seed=s, architecture="resnet18"), {}) for s in (1, 2)]
    assert drawn[0] != drawn[1]


def test_an_order_that_is_off_does_not_enter_the_components() -> None:
    assert "loss.angle" not in AssistantSpec(horkd=HorkdSpec(orders="1+2+C")).components()
    assert "loss.angle" in AssistantSpec(horkd=HorkdSpec(orders="3")).components()


def test_a_later_field_at_its_neutral_default_leaves_the_key_alone() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Grown(TeacherSpec):
        mixup: float = later(0.0, low=0.0, high=1.0)

    assert stage_key(Grown(), {}) == stage_key(TeacherSpec(), {})
    assert stage_key(Grown(mixup=-0.0), {}) == stage_key(TeacherSpec(), {})
    assert stage_key(Grown(mixup=0.1), {}) != stage_key(TeacherSpec(), {})
    assert "mixup" not in to_plain(Grown())
    with pytest.raises(UsageError, match="mixup"):
        Grown(mixup=2)


def test_a_key_does_not_depend_on_the_order_of_fields() -> None:
    plain = to_plain(StudentSpec(epochs=7))
    turned = dict(reversed(list(plain.items()))) | {"horkd": dict(reversed(list(plain["horkd"].items())))}
    assert stage_key(spec_from("student", turned), {}) == stage_key(StudentSpec(epochs=7), {})


def test_a_key_does_not_depend_on_locale_hash_seed_or_process() -> None:
    code = (
        "import locale, sys; locale.setlocale(locale.LC_ALL, '')\n"
        "from trainables.spec import SleepSpec, TeacherSpec, stage_key\n"
        "print(stage_key(SleepSpec(label='\\u00f6', seed=1), {}), stage_key(TeacherSpec(learning_rate='0.1'), {}))"
    )
    answers = set()
    for language, seed in (("C", "1"), ("C.UTF-8", "2"), ("POSIX", "77")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": ":".join(sys.path), "LC_ALL": language, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        answers.add(done.stdout.strip())
    expected = f"{stage_key(SleepSpec(label='ö', seed=1), {})} {stage_key(TeacherSpec(learning_rate=0.1), {})}"
    assert answers == {expected}


def test_canonical_json_refuses_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


WHOLE = ["99999999999999999999", "9" * 5000, "1e400", str(2**31), "-1e30", "nan"]
FLOATS = ["9" * 5000, "1e400", "-1e400", "1e300", "nan", "-inf"]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        *((name, word) for name in ("train_images", "crd.negatives", "folds", "outputs_per_shard") for word in WHOLE),
        *((name, word) for name in ("horkd.alpha", "learning_rate", "milestones", "clip_norm") for word in FLOATS),
    ],
)
def test_a_number_beyond_what_a_key_or_a_tensor_holds_is_refused_in_words(name: str, word: str) -> None:
    from trainables.recipes.distillation import DISTILLATION

    with pytest.raises(UsageError, match=f"{name} must be"):
        DISTILLATION.coerce(name, word)

"""The epoch loop on real digits: bits that continue, a guide that stays as it is, a test split that stays shut."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.attempts.attempt import attempt, runner
from trainables.data.batches import epoch_batches, normalise, statistics, to_float
from trainables.data.packed import TEST, TRAIN, open_packed
from trainables.data.splits import split_indices
from trainables.errors import ArtifactError, MachineError, NonFiniteError, UsageError
from trainables.spec import (
    ARCHITECTURES,
    AssistantSpec,
    EvaluationSpec,
    HorkdSpec,
    StageSpec,
    StudentSpec,
    TeacherSpec,
    TrainingSpec,
    TripletSpec,
    stage_key,
    to_plain,
)
from trainables.stages.base import Context
from trainables.store.artifacts import Artifact, Store
from trainables.training import inputs, loop
from trainables.training.assembly import trainer_of
from trainables.training.frozen import FrozenNetwork
from trainables.training.inputs import MappedImages, Splits
from trainables.training.loop import Trainer
from trainables.training.networks import load_network, make_network
from trainables.training.numerics import prepare
from trainables.training.objective import DistillationObjective
from trainables.training.optimizer import learning_rate

TINY: dict[str, Any] = {
    "architecture": "resnet_thin",
    "width": 0.25,
    "train_images": 100,
    "batch_size": 32,
    "epochs": 4,
    "augment": "crop_flip",
    "pad": 1,
    "warmup_epochs": 1.0,
}
ALL = HorkdSpec(orders="1+2+3+C", alpha=1.0, beta=1.0, gamma=1.0)

pytestmark = pytest.mark.usefixtures("torch_as_it_was")


@pytest.fixture(scope="session")
def data(packed_digits: Any) -> str:
    return str(packed_digits.fingerprint)


@pytest.fixture(scope="session")
def teacher(packed_digits: Any, data: str, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A teacher of one epoch, wider than what it guides."""
    store = Store(tmp_path_factory.mktemp("teacher"))
    store.prepare()
    (store.root / "data").symlink_to(packed_digits.path.parent)
    return run(store, TeacherSpec(data=data, **TINY | {"epochs": 1, "width": 0.5}))


@pytest.fixture
def place(packed_digits: Any, teacher: Artifact, tmp_path: Path) -> Callable[[], Store]:
    """Stores of their own, each with the digits and the teacher."""
    made = iter(range(100))

    def make() -> Store:
        store = Store(tmp_path / f"store {next(made)}")
        store.prepare()
        (store.root / "data").symlink_to(packed_digits.path.parent)
        shutil.copytree(teacher.path, store.path(teacher.key))
        return store

    return make


def run(store: Store, spec: StageSpec, *, stop_after: tuple[int, ...] = (), **parents: Artifact) -> Artifact:
    """A stage to its artifact, its process leaving after each epoch of `stop_after`."""
    keys = {role: parent.key for role, parent in parents.items()}
    key = stage_key(spec, keys)
    for last in (*stop_after, None):
        context = Context(store=store, key=key, log_file=store.root / "log")
        trying = attempt(spec.kind, to_plain(spec), keys, context)
        for said in trying:
            assert said.get("outcome", "done") == "done", said
            if last is not None and said.get("epoch") == last:
                trying.close()
                assert not store.has(key)
    return store.get(key)


def weights(artifact: Artifact) -> dict[str, Tensor]:
    return load_file(artifact.file("weights.safetensors"))


def history(artifact: Artifact) -> dict[str, list[Any]]:
    with pa.memory_map(str(artifact.file("history.arrow"))) as source:
        return dict(pa.ipc.open_file(source).read_all().to_pydict())


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# Continuing.

CONTINUED: dict[str, dict[str, Any]] = {
    "all orders, running centres": {"horkd": ALL},
    "batch centres": {"horkd": dataclasses.replace(ALL, centers="batch")},
    "averaged weights": {"horkd": ALL, "ema": 0.9},
    "adamw": {"horkd": ALL, "optimizer": "adamw", "learning_rate": 0.003},
    "best on validation": {"horkd": ALL, "select": "best", "learning_rate": 0.2},
    "best of averaged": {"select": "best", "ema": 0.8},
    "steps, nesterov, clipped, smoothed": {
        "schedule": "steps",
        "milestones": (0.3, 0.6),
        "nesterov": True,
        "clip_norm": 0.5,
        "label_smoothing": 0.1,
    },
    "bfloat16": {"horkd": ALL, "precision": "bfloat16", "epochs": 3},
    "no validation": {"horkd": ALL, "validation_fraction": 0.0},
    "groups of one class": {"horkd": ALL, "images_per_class": 3, "triplet": TripletSpec(weight=1.0)},
}


@pytest.mark.parametrize("name", CONTINUED)
def test_a_training_continued_from_checkpoints_gives_the_bits_of_one_never_stopped(
    name: str, place: Callable[[], Store], teacher: Artifact, data: str
) -> None:
    spec = AssistantSpec(data=data, seed=3, **TINY | CONTINUED[name])
    whole = run(place(), spec, teacher=teacher)
    every = tuple(range(1, spec.epochs))
    for stops in ((2,), every) if name.startswith("all") else (every,):
        store = place()
        continued = run(store, spec, stop_after=stops, teacher=teacher)
        assert (store.root / "log").read_text().count("continues after epoch") == len(stops)
        assert same(weights(continued), weights(whole))
        assert history(continued) == history(whole)
        assert continued.digest == whole.digest
        assert continued.metrics == whole.metrics


def test_a_torn_checkpoint_costs_an_epoch_and_no_bits(place: Callable[[], Store], teacher: Artifact, data: str) -> None:
    spec = AssistantSpec(data=data, horkd=ALL, **TINY)
    whole = run(place(), spec, teacher=teacher)
    store = place()
    key = stage_key(spec, {"teacher": teacher.key})
    trying = attempt("assistant", to_plain(spec), {"teacher": teacher.key}, Context(store=store, key=key))
    while next(trying).get("epoch") != 3:
        pass
    trying.close()
    newest = next(store.checkpoints(key))[2]
    newest.write_bytes(newest.read_bytes()[:-1000])
    assert run(store, spec, teacher=teacher).digest == whole.digest
    assert "continues after epoch 2" in (store.root / "log").read_text()


def test_a_checkpoint_of_other_numerics_is_not_continued(
    place: Callable[[], Store], data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = TeacherSpec(data=data, **TINY | {"epochs": 2})
    store = place()
    monkeypatch.setattr(loop, "numerics_of", lambda device: "another processor")
    key = stage_key(spec, {})
    trying = attempt("teacher", to_plain(spec), {}, Context(store=store, key=key))
    while next(trying).get("epoch") != 1:
        pass
    trying.close()
    monkeypatch.undo()
    assert run(store, spec).digest == run(place(), spec).digest
    assert "continues" not in (store.root / "log").read_text()


def test_nothing_random_is_taken_from_the_process(place: Callable[[], Store], teacher: Artifact, data: str) -> None:
    spec = AssistantSpec(data=data, horkd=ALL, **TINY | {"epochs": 1})
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state()
    first = run(place(), spec, teacher=teacher)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    np.random.seed(2)
    assert run(place(), spec, teacher=teacher).digest == first.digest


# Seeds and cells.


def test_the_cells_of_a_seed_begin_with_the_same_weights(place: Callable[[], Store], data: str) -> None:
    info = open_packed(place().root / "data" / f"{data}.arrow").info
    cells: list[TrainingSpec] = [
        TeacherSpec(**TINY),
        AssistantSpec(horkd=ALL, **TINY),
        AssistantSpec(horkd=HorkdSpec(orders="none"), **TINY | {"learning_rate": 0.5, "epochs": 9, "batch_size": 7}),
        StudentSpec(resolution=4, optimizer="adamw", **TINY),
    ]
    begun = [dict(make_network(spec, info, 10).state_dict()) for spec in cells]
    assert all(same(begun[0], other) for other in begun[1:])
    for changed in ({"seed": 1}, {"width": 0.5}, {"embedding": 8}):
        other = dict(make_network(TeacherSpec(**TINY | changed), info, 10).state_dict())
        assert not same(begun[0], other)


def test_a_trainer_begins_with_them_whatever_it_distils(
    place: Callable[[], Store], teacher: Artifact, data: str
) -> None:
    store = place()
    guided = trainer(store, AssistantSpec(data=data, horkd=ALL, **TINY), teacher)
    alone = trainer(store, TeacherSpec(data=data, **TINY), None)
    assert same(dict(guided.network.state_dict()), dict(alone.network.state_dict()))


def test_cells_of_a_seed_see_the_same_batches_and_other_seeds_others(place: Callable[[], Store], data: str) -> None:
    store = place()
    seen: list[list[Tensor]] = []
    for spec in (
        TeacherSpec(data=data, **TINY),
        AssistantSpec(data=data, horkd=HorkdSpec(orders="none"), **TINY | {"learning_rate": 1e-4}),
        TeacherSpec(data=data, seed=1, **TINY),
    ):
        one = trainer(store, spec, None)
        source, batches = one.source, []
        usual = source.transform
        source.transform = lambda images, usual=usual, batches=batches: (batches.append(images.clone()), usual(images))[
            1
        ]  # type: ignore[method-assign]
        one.validate = lambda: {}  # type: ignore[method-assign]
        one.train_epoch()
        seen.append(batches)
    assert len(seen[0]) == 3  # 100 images in batches of 32; the rest is dropped.
    assert all(torch.equal(a, b) for a, b in zip(seen[0], seen[1], strict=True))
    assert not torch.equal(seen[0][0], seen[2][0])


# The guide.


def trainer(store: Store, spec: TrainingSpec, guide: Artifact | None) -> Trainer:
    context = Context(store=store, key="0" * 16)
    device = prepare(spec, context)
    splits = Splits.open(spec, context, device)
    teacher = FrozenNetwork(guide, splits, device, spec.task) if guide is not None else None
    made = trainer_of(spec, splits, device, teacher)
    made.begin()
    return made


def test_the_guide_is_bit_for_bit_itself_after_an_epoch_of_distillation(
    place: Callable[[], Store], teacher: Artifact, data: str
) -> None:
    one = trainer(place(), AssistantSpec(data=data, horkd=ALL, **TINY), teacher)
    assert isinstance(one.teacher, FrozenNetwork)
    guide, student = one.teacher.network, one.network
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    started = {name: value.clone() for name, value in student.state_dict().items()}
    one.train_epoch()
    assert same(dict(guide.state_dict()), before)
    assert same(before, weights(teacher))
    assert not guide.training
    assert all(p.grad is None and not p.requires_grad for p in guide.parameters())
    assert all(not torch.equal(value, started[name]) for name, value in student.state_dict().items())


@pytest.mark.parametrize("student", [{"train_images": 40}, {"validation_fraction": 0.4}, {"train_images": 0}])
def test_the_guide_sees_images_as_its_own_training_normalised_them(
    student: dict[str, Any], place: Callable[[], Store], teacher: Artifact, data: str
) -> None:
    one = trainer(place(), AssistantSpec(data=data, horkd=ALL, **TINY | student), teacher)
    assert isinstance(one.teacher, FrozenNetwork)
    splits, transform = one.source.splits, one.source.transform  # type: ignore[attr-defined]
    packed = splits.packed
    own = split_indices(packed, "train", validation_fraction=0.1, split_seed=0, train_images=100)
    mean, std = statistics(packed, own)
    assert one.teacher.transform.mean.tolist() == mean.float().tolist() != transform.mean.tolist()
    assert one.teacher.transform.std.tolist() == std.float().tolist()
    images = splits.train_images[:20]
    network = load_network(teacher, packed)[0].eval()
    with torch.no_grad():
        expected = network(normalise(to_float(images), mean.float(), std.float())).embedding
    torch.testing.assert_close(one.teacher(images).embedding, expected)


def test_running_centres_are_those_of_the_guide_over_the_training_split(
    place: Callable[[], Store], teacher: Artifact, data: str
) -> None:
    one = trainer(place(), AssistantSpec(data=data, horkd=ALL, **TINY), teacher)
    assert isinstance(one.teacher, FrozenNetwork)
    distilled = one.objective.of(DistillationObjective)
    assert distilled is not None
    assert distilled.distiller.horkd is not None
    features = one.teacher(one.source.splits.train_images[:]).embedding.double()  # type: ignore[attr-defined]
    for label in range(10):
        expected = features[one.source.labels == label].mean(0).float()
        torch.testing.assert_close(distilled.distiller.horkd.teacher_centers[label], expected)


def test_with_orders_none_the_guide_is_never_run(
    place: Callable[[], Store], teacher: Artifact, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FrozenNetwork, "__call__", lambda *_: pytest.fail("the guide was run"))
    run(place(), AssistantSpec(data=data, horkd=HorkdSpec(orders="none"), **TINY | {"epochs": 1}), teacher=teacher)


def test_orders_none_is_training_on_labels_to_the_bit(place: Callable[[], Store], teacher: Artifact, data: str) -> None:
    guided = run(place(), AssistantSpec(data=data, horkd=HorkdSpec(orders="none"), **TINY), teacher=teacher)
    assert guided.digest == run(place(), TeacherSpec(data=data, **TINY)).digest


def test_training_on_labels_is_the_plain_loop(place: Callable[[], Store], data: str) -> None:
    spec = TeacherSpec(data=data, seed=5, **TINY | {"augment": "none", "epochs": 2})
    store = place()
    packed = open_packed(store.root / "data" / f"{data}.arrow")
    train = split_indices(packed, "train", validation_fraction=0.1, split_seed=0, train_images=100)
    mean, std = statistics(packed, train)
    images = normalise(to_float(torch.from_numpy(packed.images[train])), mean.float(), std.float())
    labels = torch.from_numpy(packed.labels[train].astype(np.int64))
    torch.set_num_threads(1)
    network = make_network(spec, packed.info, 10)
    step = 0
    for epoch in (1, 2):
        for batch in epoch_batches(100, 32, seed=5, epoch=epoch, drop_last=True):
            rate = 0.05 * 0.5 * (1 + np.cos(np.pi * step / 6)) * min(1.0, (step + 1) / 3)
            step += 1
            if step == 1:
                optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            network.train()
            F.cross_entropy(network(images[batch]).logits, labels[batch]).backward()
            optimizer.step()
    ours = weights(run(store, spec))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)


def test_a_student_may_begin_with_the_weights_of_its_assistant(place: Callable[[], Store], data: str) -> None:
    store = place()
    assistant = run(store, TeacherSpec(data=data, **TINY | {"epochs": 1}))
    tiny = TINY | {"epochs": 1, "learning_rate": 0.0, "weight_decay": 0.0}
    kept = run(store, StudentSpec(data=data, init_from_assistant=True, horkd=ALL, **tiny), guide=assistant)
    fresh = run(store, StudentSpec(data=data, horkd=ALL, **tiny), guide=assistant)
    for name, value in weights(assistant).items():
        if "running" not in name and "tracked" not in name:
            assert torch.equal(weights(kept)[name], value)
    assert not same(weights(kept), weights(fresh))


def test_a_live_guide_is_asked_without_its_normalisations_also_where_it_lends_its_weights(
    place: Callable[[], Store], data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place()
    assistant = run(store, TeacherSpec(data=data, **TINY | {"epochs": 1}))
    asked: list[FrozenNetwork] = []
    usual = FrozenNetwork.__call__

    def spied(self: FrozenNetwork, images: Tensor, maps: bool = False) -> Any:
        asked.append(self)
        return usual(self, images, maps)

    monkeypatch.setattr(FrozenNetwork, "__call__", spied)
    made = run(store, StudentSpec(data=data, init_from_assistant=True, horkd=ALL, **TINY), guide=assistant)
    assert asked
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for guide in asked for m in guide.network.modules())
    assert weights(made).keys() == weights(assistant).keys()


@pytest.mark.parametrize(
    ("assistant", "differs"),
    [
        ({"width": 0.5}, "width 0.5 instead of 0.25"),
        ({"architecture": "vgg11", "width": 0.06}, "architecture vgg11 instead of resnet_thin, width 0.06 instead of"),
        ({"embedding": 8}, "embedding 8 instead of 0"),
        ({"task": "retrieval", "held_out": 0.6}, "classes 2 instead of 3"),
    ],
)
def test_a_guide_of_another_structure_gives_no_weights_to_begin_with(
    assistant: dict[str, Any], differs: str, place: Callable[[], Store], data: str
) -> None:
    store = place()
    tiny = TINY | {"epochs": 1, "train_images": 40}
    task = {"task": assistant.get("task", "classification")}
    made = run(store, TeacherSpec(data=data, **tiny | assistant))
    spec = StudentSpec(data=data, init_from_assistant=True, horkd=ALL, **tiny | task)
    with pytest.raises(UsageError, match=f"the guide has {differs}.*set init_from_assistant=false"):
        list(runner("student")(spec, {"guide": made}, Context(store=store, key="0" * 16)))


@pytest.mark.parametrize("damage", ["garbage", "empty", "cut", "other names", "other shapes"])
def test_altered_weights_are_never_used(damage: str, place: Callable[[], Store], teacher: Artifact, data: str) -> None:
    store = place()
    path = store.path(teacher.key) / "weights.safetensors"
    kept = weights(teacher)
    if damage == "other names":
        save_file({f"x.{name}": value for name, value in kept.items()}, path)
    elif damage == "other shapes":
        save_file({name: value.repeat(2) if value.ndim == 1 else value for name, value in kept.items()}, path)
    else:
        path.write_bytes({"garbage": b"garbage", "empty": b"", "cut": path.read_bytes()[:-100]}[damage])
    packed = open_packed(store.root / "data" / f"{data}.arrow")
    with pytest.raises(ArtifactError, match=f"artifact {teacher.key} is not what was published"):
        load_network(store.get(teacher.key), packed)
    with pytest.raises(ArtifactError, match="has no network"):
        load_network(dataclasses.replace(teacher, manifest={"kind": "sleep", "spec": {}}), packed)


# Splits too large for memory.


MAPPED: dict[str, dict[str, Any]] = {
    "running centres": {"horkd": ALL},
    "epoch centres, a memory bank": {"horkd": dataclasses.replace(ALL, centers="epoch"), "method": "horkd+crd"},
    "no augmentation": {"horkd": ALL, "augment": "none", "batch_size": 4096},
    **{task: {"task": task, "horkd": ALL} for task in ("verification", "identification", "retrieval")},
}


@pytest.mark.parametrize("name", MAPPED)
def test_a_split_that_stays_in_the_map_gives_the_bits_of_one_in_memory(
    name: str, place: Callable[[], Store], data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = TINY | {"epochs": 2} | MAPPED[name]
    store = place()
    labels = {key: value for key, value in fields.items() if key not in ("horkd", "method")}
    guide = run(store, TeacherSpec(data=data, **labels | {"width": 0.5, "epochs": 1}))
    spec = AssistantSpec(data=data, select="best", **fields)
    resident = run(store, spec, teacher=guide)
    monkeypatch.setattr(inputs, "RESIDENT_BYTES", 0)
    asked: list[int] = []
    load = inputs.load
    monkeypatch.setattr(inputs, "load", lambda packed, items: (asked.append(len(items)), load(packed, items))[1])
    other = place()
    shutil.copytree(guide.path, other.path(guide.key), dirs_exist_ok=True)
    mapped = run(other, spec, teacher=guide)
    assert same(weights(mapped), weights(resident))
    assert history(mapped) == history(resident)
    assert mapped.digest == resident.digest
    assert max(asked) <= max(256, min(spec.batch_size, 100))


def test_a_split_stays_in_the_map_only_where_it_is_larger_than_the_bound(
    place: Callable[[], Store], data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, spec, device = place(), TeacherSpec(data=data, **TINY), torch.device("cpu")
    resident = Splits.open(spec, Context(store=store, key="0" * 16), device)
    monkeypatch.setattr(inputs, "RESIDENT_BYTES", 100 * 64)  # The training split to the byte; validation has more.
    splits = Splits.open(spec, Context(store=store, key="0" * 16), device)
    assert isinstance(splits.train_images, Tensor)
    assert isinstance(splits.validation_images, MappedImages)
    for where in (slice(3, 9), slice(None), torch.tensor([7, 2, 2])):
        assert torch.equal(splits.validation_images[where], resident.validation_images[where])
    assert torch.equal(splits.validation_labels, resident.validation_labels)
    monkeypatch.setattr(inputs, "RESIDENT_BYTES", 100 * 64 - 1)
    assert isinstance(Splits.open(spec, Context(store=store, key="0" * 16), device).train_images, MappedImages)


# The test split.


@pytest.mark.parametrize("bound", [0, 1 << 30])
def test_training_never_opens_the_test_split(
    bound: int, place: Callable[[], Store], teacher: Artifact, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "RESIDENT_BYTES", bound)
    loaded: list[np.ndarray] = []
    load = inputs.load
    monkeypatch.setattr(
        inputs, "load", lambda packed, indices: (loaded.append(packed.split[indices]), load(packed, indices))[1]
    )
    for split in ("last", "best"):
        spec = AssistantSpec(data=data, horkd=ALL, select=split, **TINY | {"epochs": 1})
        run(place(), spec, teacher=teacher)
    assert len(loaded) == 4 if bound else len(loaded) > 4
    assert all((where == TRAIN).all() for where in loaded)


def test_evaluation_opens_the_test_split_once_and_measures_what_it_says(
    place: Callable[[], Store], teacher: Artifact, data: str
) -> None:
    store = place()
    evaluated = run(store, EvaluationSpec(data=data, batch_size=100), network=teacher)
    packed = open_packed(store.root / "data" / f"{data}.arrow")
    train = split_indices(packed, "train", validation_fraction=0.1, split_seed=0, train_images=100)
    mean, std = statistics(packed, train)
    network, _, _ = load_network(teacher, packed)
    test = packed.split == TEST
    with torch.no_grad():
        images = normalise(to_float(torch.from_numpy(packed.images[test])), mean.float(), std.float())
        logits = network.eval()(images).logits
    labels = packed.labels[test]
    with pa.memory_map(str(evaluated.file("outputs.arrow"))) as source:
        rows = pa.ipc.open_file(source).read_all().to_pydict()
    assert rows["label"] == labels.tolist()
    assert rows["prediction"] == logits.argmax(1).tolist()
    right = logits.argmax(1).numpy() == labels
    assert rows["correct"] == right.tolist()
    metrics = evaluated.metrics
    assert (metrics["items"], metrics["correct"]) == (len(labels), int(right.sum()))
    assert metrics["top1"] == right.mean()
    five = logits.topk(5).indices.numpy()
    assert metrics["top5"] == pytest.approx(np.mean([y in row for y, row in zip(labels, five, strict=True)]))
    truth = torch.from_numpy(labels.astype(np.int64))
    assert metrics["loss"] == pytest.approx(float(F.cross_entropy(logits, truth)), rel=1e-5)


def test_evaluation_reads_at_the_resolution_the_network_was_trained_for(place: Callable[[], Store], data: str) -> None:
    store = place()
    student = run(store, TeacherSpec(data=data, resolution=4, filter="area", **TINY | {"epochs": 1}))
    low = run(store, EvaluationSpec(data=data, resolution=4, filter="area"), network=student)
    native = run(store, EvaluationSpec(data=data), network=student)
    assert low.digest != native.digest


# Losses that are no numbers.


def test_a_loss_that_is_no_number_is_an_error_naming_the_learning_rate(place: Callable[[], Store], data: str) -> None:
    store = place()
    spec = TeacherSpec(data=data, **TINY | {"learning_rate": 1e30, "warmup_epochs": 0.0})
    context = Context(store=store, key=stage_key(spec, {}))
    with pytest.raises(NonFiniteError, match=r"became (nan|inf) in epoch \d.* Lower learning_rate \(it is 1e\+30\)"):
        list(runner("teacher")(spec, {}, context))
    said = list(attempt("teacher", to_plain(spec), {}, Context(store=store, key=context.key)))
    assert said[-1]["outcome"] == "failed"
    assert not store.has(context.key)
    (failure,) = store.failures(context.key)
    assert failure["hopeless"] is True
    assert failure["type"] == "NonFiniteError"


def test_weights_that_are_no_numbers_are_not_published(place: Callable[[], Store], data: str) -> None:
    one = trainer(place(), TeacherSpec(data=data, **TINY), None)
    with torch.no_grad():
        next(one.network.parameters()).view(-1)[0] = float("inf")
    with pytest.raises(NonFiniteError, match="is not finite after training. Lower learning_rate"):
        one.finish()


def test_half_precision_and_a_missing_gpu_are_refused_on_a_cpu(place: Callable[[], Store], data: str) -> None:
    store = place()
    with pytest.raises(MachineError, match="float16 needs a GPU"):
        prepare(TeacherSpec(precision="float16"), Context(store=store, key="0" * 16))
    if not torch.cuda.is_available():
        with pytest.raises(MachineError, match="torch finds none"):
            prepare(TeacherSpec(), Context(store=store, key="0" * 16, device="cuda"))


# What is kept and said.


def test_the_history_has_a_row_per_epoch_and_each_term_plain_and_weighted(
    place: Callable[[], Store], teacher: Artifact, data: str
) -> None:
    horkd = dataclasses.replace(ALL, alpha=2.0, center_warmup=0.5)
    made = run(place(), AssistantSpec(data=data, horkd=horkd, **TINY), teacher=teacher)
    rows = history(made)
    assert rows["epoch"] == [1, 2, 3, 4]
    terms = ("point", "pair", "angle", "center")
    assert {f"train/{t}{w}" for t in terms for w in ("", "_weighted")} <= set(rows)
    for epoch in range(4):
        parts = [rows[f"train/{term}_weighted"][epoch] for term in terms]
        assert rows["train/loss"][epoch] == pytest.approx(rows["train/cross_entropy"][epoch] + sum(parts), rel=1e-5)
        assert rows["train/pair_weighted"][epoch] == pytest.approx(2 * rows["train/pair"][epoch], rel=1e-6)
        assert 0 <= rows["validation/top1"][epoch] <= 1
    assert made.metrics["validation_top1"] == made.metrics["validation_score"] == rows["validation/top1"][-1]
    assert made.metrics["best_validation_score"] == max(rows["validation/top1"])


def test_the_best_epoch_on_validation_is_kept_where_it_was_asked_for(place: Callable[[], Store], data: str) -> None:
    store = place()
    spec = TeacherSpec(data=data, select="best", **TINY | {"learning_rate": 0.5, "schedule": "constant"})
    best = run(store, spec)
    values = history(best)["validation/top1"]
    epoch = best.metrics["epoch"]
    assert epoch == values.index(max(values)) + 1
    assert best.metrics["validation_top1"] == max(values)
    last = run(store, dataclasses.replace(spec, select="last"))
    assert last.metrics["epoch"] == 4
    assert same(weights(best), weights(last)) == (epoch == 4)


def test_averaged_weights_are_what_is_kept_and_validated(place: Callable[[], Store], data: str) -> None:
    one = trainer(place(), TeacherSpec(data=data, ema=0.9, **TINY), None)
    one.train_epoch()
    own = {name: value.clone() for name, value in one.network.state_dict().items()}
    measured = one.validate()
    assert same(dict(one.network.state_dict()), own)  # Validation gives the network its own weights back.
    kept = one.finish()
    assert not same(kept, own)
    one.network.load_state_dict(kept)
    one.average.kept = None
    assert one.validate() == measured


@pytest.mark.parametrize(
    ("fields", "points"),
    [
        ({"schedule": "constant"}, [(0.0, 1.0), (0.5, 1.0), (0.999, 1.0)]),
        ({"schedule": "cosine"}, [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0), (1 / 3, 0.75)]),
        (
            {"schedule": "steps", "milestones": (0.5, 0.75), "decay": 0.1},
            [(0.0, 1.0), (0.4999, 1.0), (0.5, 0.1), (0.7499, 0.1), (0.75, 0.01), (1.0, 0.01)],
        ),
        ({"schedule": "steps", "milestones": ()}, [(0.0, 1.0), (1.0, 1.0)]),
    ],
)
def test_the_rate_follows_its_schedule(fields: dict[str, Any], points: list[tuple[float, float]]) -> None:
    spec = TeacherSpec(learning_rate=2.0, **fields)
    for progress, share in points:
        assert learning_rate(spec, progress, 50.0) == pytest.approx(2 * share, abs=1e-12)


def test_warmup_rises_linearly_and_then_leaves_the_schedule_alone() -> None:
    spec = TeacherSpec(learning_rate=1.0, schedule="constant", warmup_epochs=2.0)
    assert [learning_rate(spec, 0.0, epoch) for epoch in (0.1, 1.0, 2.0, 9.0)] == pytest.approx([0.05, 0.5, 1.0, 1.0])


# One tiny run for each part: two runs agree to the bit, and the part matters.

PARTS: dict[str, dict[str, Any]] = {
    **{f"order {order}": {"horkd": dataclasses.replace(ALL, orders=order)} for order in "123C"},
    **{name: {"horkd": dataclasses.replace(ALL, reduction=name)} for name in ("sum_over_anchors_mean", "reference")},
    **{f"points {d}": {"horkd": dataclasses.replace(ALL, point_distance=d)} for d in ("cosine", "l2", "smooth_l1")},
    **{f"norm {n}": {"horkd": dataclasses.replace(ALL, feature_norm=n)} for n in ("none", "l2")},
    "huber": {"horkd": dataclasses.replace(ALL, pair_distance="huber")},
    **{f"augment {kind}": {"augment": kind} for kind in ("none", "flip", "crop")},
    **{f"filter {f}": {"filter": f, "resolution": 4} for f in ("bicubic", "area", "bilinear")},
    "blur": {"blur": 1.0},
    "embedding": {"embedding": 12},
    **{name: {"architecture": name, "width": 0.06} for name in ARCHITECTURES},
    "batches larger than the data": {"batch_size": 4096},
}


@pytest.mark.parametrize("part", PARTS)
def test_two_runs_of_a_part_agree_to_the_bit(
    part: str, place: Callable[[], Store], teacher: Artifact, data: str
) -> None:
    tiny = TINY | {"epochs": 1, "train_images": 40, "batch_size": 20, "horkd": ALL} | PARTS[part]
    kind = StudentSpec if "resolution" in tiny else AssistantSpec
    role = "guide" if kind is StudentSpec else "teacher"
    made = [run(place(), kind(data=data, **tiny), **{role: teacher}) for _ in range(2)]
    assert made[0].digest == made[1].digest
    assert all(torch.isfinite(value).all() for value in weights(made[0]).values())


def test_a_student_that_sees_fewer_pixels_learns_from_the_same_views(
    place: Callable[[], Store], teacher: Artifact, data: str
) -> None:
    spec = StudentSpec(data=data, resolution=4, horkd=ALL, **TINY)
    one = trainer(place(), spec, teacher)
    seen: dict[str, list[torch.Size]] = {"student": [], "guide": []}
    assert isinstance(one.teacher, FrozenNetwork)
    for name, owner in (("student", one.source), ("guide", one.teacher)):
        usual = owner.transform  # type: ignore[attr-defined]
        owner.transform = lambda images, usual=usual, name=name: (out := usual(images), seen[name].append(out.shape))[0]  # type: ignore[attr-defined]
    one.train_epoch()
    assert {shape[-2:] for shape in seen["student"]} == {(4, 4)}
    assert {shape[-2:] for shape in seen["guide"]} == {(8, 8)}
    assert one.history[-1]["train/loss"] > 0

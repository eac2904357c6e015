"""What other papers ask of a training, as toys: margins, cached features, a part of a network, a loss without labels."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from trainables.data.batches import batches_of
from trainables.errors import UsageError
from trainables.models.network import Outputs
from trainables.spec import AssistantSpec, HorkdSpec, TeacherSpec
from trainables.stages.base import Context
from trainables.store.artifacts import Artifact, Store
from trainables.store.files import sha256_of
from trainables.training.assembly import trainer_of
from trainables.training.cached_outputs import BASE_FILE, PARTS, CachedOutputs, Shard
from trainables.training.frozen import (
    CachedTeacher,
    ComposedTeacher,
    EnsembleTeacher,
    FrozenNetwork,
    FrozenTeacher,
    class_sums_of,
)
from trainables.training.inputs import CachedSource, ImageSource, InputTransform, Splits
from trainables.training.loop import Trainer, fit
from trainables.training.networks import make_network
from trainables.training.objective import Batch, LabelObjective, Objectives, Part, Reads, cross_entropy
from trainables.training.optimizer import copied

CPU = torch.device("cpu")
TINY: dict[str, Any] = {
    "architecture": "resnet_thin",
    "width": 0.25,
    "train_images": 96,
    "batch_size": 32,
    "epochs": 3,
    "augment": "flip",
}


@pytest.fixture
def splits(digits_store: Store) -> Splits:
    return Splits.open(spec_of(digits_store), Context(store=digits_store, key="0" * 16), CPU)


def spec_of(store: Store, **fields: Any) -> TeacherSpec:
    return TeacherSpec(**TINY | {"data": next((store.root / "data").glob("*.arrow")).stem} | fields)


def network_of(splits: Splits, seed: int = 0, **fields: Any) -> Any:
    return make_network(TeacherSpec(**TINY | {"seed": seed} | fields), splits.packed.info, 10)


def frozen(splits: Splits, seed: int, **fields: Any) -> FrozenNetwork:
    spec = TeacherSpec(**TINY | fields)
    transform = InputTransform(spec, splits.packed.info, splits.mean, splits.std)
    return FrozenNetwork.of(network_of(splits, seed, **fields), spec, transform, splits.cut.classes)


def changed(before: Mapping[str, Tensor], network: nn.Module) -> set[str]:
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


# Margin losses.


class CosFace(nn.Module):
    """Cosines to learned class weights, the own class's less a margin (Wang et al. 2018), times a scale."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, width, generator=torch.Generator().manual_seed(1)))

    def forward(self, outputs: Outputs, labels: Tensor) -> Tensor:
        cosines = F.normalize(outputs.embedding.float()) @ F.normalize(self.weight).T
        return F.cross_entropy(16 * (cosines - 0.35 * F.one_hot(labels, len(self.weight))), labels)


def margin_trainer(splits: Splits, **fields: Any) -> tuple[Trainer, CosFace]:
    network = network_of(splits)
    loss = CosFace(network.embedding_width, 10)
    objective = Objectives([LabelObjective(loss, "cosface", 2.0, Reads(labels=True))])
    spec = TeacherSpec(**TINY | fields)
    return Trainer(spec, ImageSource(spec, splits), network, objective, validation=lambda _: {}), loss


def test_a_margin_loss_trains_weights_of_its_own_beside_the_network(splits: Splits) -> None:
    still, _ = margin_trainer(splits, learning_rate=0.0, augment="none", epochs=1)
    still.train_epoch()
    row = still.history[0]
    assert set(row) == {"epoch", "train/loss", "train/cosface", "train/spread", "learning_rate"}
    assert row["train/loss"] == pytest.approx(2 * row["train/cosface"])
    # From the equation: no weight moved, so every batch can be looked at afterwards, in training mode as it was seen.
    network, loss = network_of(splits), CosFace(16, 10)
    source = still.source
    expected = []
    for rows in batches_of(still.spec, still.labels, 1):
        out = network.train()(source.transform(splits.train_images[rows])).embedding
        of_batch = 0.0
        for x, label in zip(out.detach(), splits.train_labels[rows].tolist(), strict=True):
            z = [16 * float(x.dot(w) / x.norm() / w.norm()) for w in loss.weight.detach()]
            z[label] -= 16 * 0.35
            of_batch += float(torch.tensor(z).logsumexp(0)) - z[label]
        expected.append(of_batch / len(rows))
    assert row["train/cosface"] == pytest.approx(sum(expected) / len(expected), rel=1e-4)

    trainer, loss = margin_trainer(splits)
    begun = loss.weight.detach().clone()
    for _ in range(3):
        trainer.train_epoch()
    losses = [row["train/cosface"] for row in trainer.history]
    assert losses[2] < losses[1] < losses[0]
    assert not torch.equal(loss.weight, begun)


def test_what_a_loss_trains_along_continues_from_a_checkpoint(splits: Splits) -> None:
    whole, loss = margin_trainer(splits)
    whole.train_epoch()
    saved = whole.state()
    assert set(torch.load(io.BytesIO(saved), weights_only=True)["loss"]) == {"labels.weight"}
    whole.train_epoch()
    again, other = margin_trainer(splits)
    assert again.restore(saved)
    again.train_epoch()
    assert torch.equal(other.weight, loss.weight)
    assert changed(copied(whole.network), again.network) == set() and again.history == whole.history
    plain = trainer_of(TeacherSpec(**TINY), splits, CPU)
    assert not plain.restore(saved)  # Of another objective: begun anew.


def test_a_checkpoint_of_before_objectives_had_names_is_continued(splits: Splits) -> None:
    trainer = trainer_of(TeacherSpec(**TINY), splits, CPU)
    trainer.train_epoch()
    payload = torch.load(io.BytesIO(trainer.state()), weights_only=True)
    assert set(payload) == {
        *("epoch", "network", "average", "loss", "optimizer", "scaler", "best", "history", "numerics"),
    }
    buffer = io.BytesIO()
    torch.save(payload | {"loss": None}, buffer)
    again = trainer_of(TeacherSpec(**TINY), splits, CPU)
    assert again.restore(buffer.getvalue()) and again.epoch == 1


# Cached features in place of images.


class Mlp(nn.Module):
    """Two layers on features; the hidden one is the embedding."""

    map_widths: tuple[int, ...] = ()

    def __init__(self, width: int, hidden: int, classes: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.hidden, self.classifier = nn.Linear(width, hidden), nn.Linear(hidden, classes)
        self.embedding_width = hidden

    def forward(self, features: Tensor, maps: bool = False) -> Outputs:
        embedding = self.hidden(features).relu()
        return Outputs(embedding, self.classifier(embedding))


def cache(folder: Path, embedding: Tensor, logits: Tensor) -> CachedOutputs:
    """A cache [N, views, D] as the product writes and reads it."""
    base = {"embedding": embedding.mean((0, 1)), "logits": logits.mean((0, 1))}
    sums = {"class_sums": torch.zeros(1, embedding.shape[2]), "class_counts": torch.zeros(1, dtype=torch.int64)}
    folder.mkdir()
    save_file({name: value.contiguous() for name, value in (base | sums).items()}, folder / BASE_FILE)
    images, views = embedding.shape[:2]
    shard = Shard(folder / "shard", "0", images, views, base)
    for view in range(views):
        shard.put(torch.arange(images), view, Outputs(embedding[:, view], logits[:, view]))
    shard.move(folder / "shard")
    about: dict[str, Any] = {"spec": {"part": "views", "start": 0, "stop": views}}
    about["files"] = {f"{part}.npy": {"sha256": sha256_of(folder / "shard" / f"{part}.npy")} for part in PARTS}
    files = {BASE_FILE: {"sha256": sha256_of(folder / BASE_FILE)}}
    return CachedOutputs(Artifact("base", folder, {"files": files}), [Artifact("0", folder / "shard", about)], CPU)


def features(count: int = 120, views: int = 1) -> tuple[Tensor, Tensor]:
    """Clouds around four corners, float32 [count, views, 6], and their classes [count]."""
    draws = torch.Generator().manual_seed(3)
    labels = torch.arange(count) % 4
    corners = 4 * torch.randn(4, 6, generator=draws)
    return corners[labels][:, None] + 0.5 * torch.randn(count, views, 6, generator=draws), labels


class Softened(Part):
    """Cross-entropy to a frozen teacher's logits."""

    name = "softened"
    reads = Reads(logits=True, teacher=True, teacher_logits=True)

    def weights(self, progress: float) -> dict[str, float]:
        return {"softened": 0.5}

    def __call__(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        assert batch.teacher is not None
        value = F.cross_entropy(batch.outputs.logits, batch.teacher.logits.softmax(1))
        return 0.5 * value, {"softened": value}


def test_a_small_network_on_cached_features_trains_without_an_image(tmp_path: Path) -> None:
    """The adaptation of Bridge: labels of its own data and softened outputs of a probe on the frozen features."""
    given, labels = features()
    cached = cache(tmp_path / "cache", given[:96], torch.zeros(96, 1, 0))
    classes = ("a", "b", "c", "d")
    source = CachedSource(cached, labels[:96], classes, given[96:, 0], labels[96:])
    probe = Mlp(6, 5, 4, seed=9)
    idle: Any = frozen_stub(6)
    teacher = ComposedTeacher(CachedTeacher(idle, cached), probe, 5, classes)
    spec = TeacherSpec(batch_size=32, epochs=6, augment="none", learning_rate=0.05, weight_decay=0.0)
    network = Mlp(6, 8, 4)
    objective = Objectives([LabelObjective(cross_entropy, "cross_entropy"), Softened()])
    trainer = Trainer(spec, source, network, objective, teacher)
    assert trainer.macs == 6 * 8 + 8 * 4
    before = copied(probe)
    for _ in range(6):
        trainer.train_epoch()
    assert changed(before, probe) == set()
    row = trainer.history[-1]
    assert row["validation/top1"] == 1.0
    assert row["train/loss"] == pytest.approx(row["train/cross_entropy"] + row["train/softened_weighted"], rel=1e-5)

    # The same as the loop anybody would write on the tensors; halves keep the features within a thousandth.
    ours = Mlp(6, 8, 4)
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.05, momentum=0.9)
    step = 0
    for epoch in range(1, 7):
        for rows in batches_of(spec, labels[:96], epoch):
            optimizer.param_groups[0]["lr"] = 0.05 * 0.5 * (1 + torch.tensor(torch.pi * step / 18).cos().item())
            x = given[rows, 0]
            logits = ours(x).logits
            target = probe(x).logits.softmax(1).detach()
            optimizer.zero_grad()
            (F.cross_entropy(logits, labels[rows]) + 0.5 * F.cross_entropy(logits, target)).backward()
            optimizer.step()
            step += 1
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(trainer.finish()[name], value, rtol=1e-2, atol=1e-2)


def frozen_stub(width: int) -> Any:
    class Idle:
        classes: tuple[str, ...] = ()
        map_widths: tuple[int, ...] = ()

        def __init__(self) -> None:
            self.width = width

        def outputs(self, *_: Any, **__: Any) -> Outputs:
            raise AssertionError("the frozen network was asked, though its outputs are cached")

    return Idle()


def test_cached_views_are_drawn_as_an_augmentation_draws_them(tmp_path: Path) -> None:
    given, labels = features(96, views=2)
    cached = cache(tmp_path / "cache", given, torch.zeros(96, 2, 0))
    source = CachedSource(cached, labels, ("a", "b", "c", "d"))
    seen: list[Tensor] = []
    source.read = lambda rows, views, epoch: (seen.append(views), CachedSource.read(source, rows, views, epoch))[1]  # type: ignore[method-assign]
    spec = TeacherSpec(batch_size=32, epochs=1, augment="flip")
    trainer = Trainer(spec, source, Mlp(6, 8, 4), Objectives([LabelObjective(cross_entropy, "cross_entropy")]))
    trainer.train_epoch()
    drawn = torch.cat(seen)
    assert len(drawn) == 96 and 20 < int(drawn.sum()) < 76
    assert "validation/top1" not in trainer.history[0]
    with pytest.raises(UsageError, match="the images as they are"):
        next(source.train_blocks())


def test_a_stage_on_cached_features_ends_like_any_other(tmp_path: Path, store: Store) -> None:
    given, labels = features()
    source = CachedSource(cache(tmp_path / "cache", given, torch.zeros(120, 1, 0)), labels, ("a", "b", "c", "d"))
    spec = TeacherSpec(batch_size=40, epochs=2, augment="none")
    trainer = Trainer(spec, source, Mlp(6, 8, 4), Objectives([LabelObjective(cross_entropy, "cross_entropy")]))
    training = fit(trainer, Context(store=store, key="0" * 16))
    assert [next(training).epoch for _ in range(2)] == [1, 2]
    with pytest.raises(StopIteration) as ended:
        next(training)
    result = ended.value.value
    assert result.metrics["macs"] == 80 and result.more["train_images"] == 120 and len(result.history) == 2
    result.write(tmp_path)
    assert (tmp_path / "weights.safetensors").exists()


# A part of a network.


@pytest.mark.parametrize("fields", [{}, {"ema": 0.9}, {"precision": "bfloat16"}], ids=str)
def test_only_the_trained_part_moves_and_the_rest_stays_in_evaluation_mode(
    fields: dict[str, Any], splits: Splits
) -> None:
    spec = TeacherSpec(**TINY | {"embedding": 6} | fields)
    network = network_of(splits, embedding=6)
    with torch.no_grad():
        network.train()(ImageSource(spec, splits).transform(splits.train_images[:32]))  # Statistics of some images.
    before = copied(network)
    objective = Objectives([LabelObjective(cross_entropy, "cross_entropy")])
    trainer = Trainer(spec, ImageSource(spec, splits), network, objective, trained=("embedding", "classifier"))
    modes: set[bool] = set()
    normalisations = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for module in normalisations:
        module.register_forward_pre_hook(lambda module, _: modes.add(module.training))
    for _ in range(3):
        trainer.train_epoch()
    assert normalisations and modes == {False}
    parts = {f"{part}.{kind}" for part in ("embedding", "classifier") for kind in ("weight", "bias")}
    assert changed(before, network) == parts
    assert {name for name, value in trainer.finish().items() if not torch.equal(value, before[name])} == parts
    assert all(value.grad is None for name, value in network.named_parameters() if name not in parts)
    assert len(trainer.stepper.optimizer.param_groups[0]["params"]) == 4
    assert trainer.history[2]["train/loss"] < trainer.history[0]["train/loss"]


def test_normalisations_of_the_trained_part_are_trained(splits: Splits) -> None:
    spec = TeacherSpec(**TINY)
    network = network_of(splits)
    last = f"trunk.{len(network.trunk) - 1}"
    before = copied(network)
    objective = Objectives([LabelObjective(cross_entropy, "cross_entropy")])
    Trainer(spec, ImageSource(spec, splits), network, objective, trained=(last, "classifier")).train_epoch()
    moved = changed(before, network)
    assert any("running_mean" in name for name in moved)
    assert all(name.startswith((f"{last}.", "classifier.")) for name in moved)


def test_a_part_that_does_not_exist_is_refused(splits: Splits) -> None:
    spec = TeacherSpec(**TINY)
    objective = Objectives([LabelObjective(cross_entropy, "cross_entropy")])
    with pytest.raises(UsageError, match="it has no head"):
        Trainer(spec, ImageSource(spec, splits), network_of(splits), objective, trained=("head",))


# No labels.


class Regression(Part):
    """Mean squared distance of all elements to the teacher's embedding (R of Bridge, L_gen of GDRD without maps)."""

    name = "regression"
    reads = Reads(teacher=True)

    def weights(self, progress: float) -> dict[str, float]:
        return {"regression": 3.0}

    def __call__(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        assert batch.teacher is not None
        value = F.mse_loss(batch.outputs.embedding.float(), batch.teacher.embedding.float())
        return 3.0 * value, {"regression": value}


def regress(splits: Splits, teacher: FrozenTeacher, **fields: Any) -> Trainer:
    spec = TeacherSpec(**TINY | {"embedding": teacher.width} | fields)
    network = network_of(splits, embedding=teacher.width)
    return Trainer(
        spec, ImageSource(spec, splits), network, Objectives([Regression()]), teacher, validation=lambda _: {}
    )


def test_a_loss_that_needs_no_labels_reads_none(splits: Splits) -> None:
    teacher = frozen(splits, seed=4)
    before = copied(teacher.network)
    trainer = regress(splits, teacher)
    for _ in range(3):
        trainer.train_epoch()
    columns = {"epoch", "train/loss", "train/spread", "train/regression", "train/regression_weighted", "learning_rate"}
    assert all(set(row) == columns for row in trainer.history)
    values = [row["train/regression"] for row in trainer.history]
    assert values[2] < values[0]
    assert (
        trainer.history[0]["train/loss"]
        == pytest.approx(3 * values[0])
        == (pytest.approx(trainer.history[0]["train/regression_weighted"]))
    )
    assert changed(before, teacher.network) == set()

    other = Splits(**vars(splits) | {"train_labels": splits.train_labels.flip(0)})
    shuffled = regress(other, teacher)
    for _ in range(3):
        shuffled.train_epoch()
    assert shuffled.history == trainer.history
    assert changed(copied(trainer.network), shuffled.network) == set()


def test_its_value_is_the_mean_squared_distance(splits: Splits) -> None:
    teacher = frozen(splits, seed=4)
    trainer = regress(splits, teacher, learning_rate=0.0, augment="none", batch_size=96, epochs=1)
    trainer.train_epoch()
    with torch.no_grad():
        rows = batches_of(trainer.spec, trainer.labels, 1)[0]
        images = splits.train_images[rows]
        ours = network_of(splits, embedding=teacher.width).train()(trainer.source.transform(images)).embedding
        expected = (ours - teacher(images).embedding).double().square().mean()
    assert trainer.history[0]["train/regression"] == pytest.approx(float(expected), rel=1e-5)


# Frozen teachers of several parts.


def rows_of(count: int) -> tuple[Tensor, Tensor]:
    return torch.arange(count), torch.zeros(count, dtype=torch.int64)


def test_an_ensemble_joins_embeddings_of_length_one(splits: Splits) -> None:
    members = frozen(splits, 1), frozen(splits, 2, embedding=5)
    joined = EnsembleTeacher(members)
    assert joined.width == 16 + 5 and joined.classes == () and joined.place is None
    images = splits.train_images[:7]
    found = joined.outputs(images, *rows_of(7), 1)
    for row, parts in enumerate(zip(*(member(images).embedding for member in members), strict=True)):
        expected = torch.cat([part / part.norm() for part in parts])
        torch.testing.assert_close(found.embedding[row], expected)
    assert found.logits.shape == (7, 0)
    trainer = regress(splits, joined)
    trainer.train_epoch()
    trainer.train_epoch()
    assert trainer.history[1]["train/regression"] < trainer.history[0]["train/regression"]


def test_a_composition_asks_its_network_about_the_embedding(splits: Splits) -> None:
    first, head = frozen(splits, 1), Mlp(16, 3, 4)
    composed = ComposedTeacher(first, head, 3, ("a", "b", "c", "d"))
    images = splits.train_images[:7]
    found = composed.outputs(images, *rows_of(7), 1, maps=True)
    expected = head(first(images).embedding)
    assert torch.equal(found.embedding, expected.embedding) and torch.equal(found.logits, expected.logits)
    assert not found.embedding.requires_grad and len(found.maps) == len(composed.map_widths) > 0
    total, count = class_sums_of(composed, ImageSource(TeacherSpec(**TINY), splits))
    everything = head(first(splits.train_images[:]).embedding).embedding.detach()
    for label in range(10):
        chosen = splits.train_labels == label
        torch.testing.assert_close(total[label], everything[chosen].sum(0), rtol=1e-4, atol=1e-4)
        assert int(count[label]) == int(chosen.sum())


def test_outputs_of_any_of_them_can_be_cached(tmp_path: Path, splits: Splits) -> None:
    composed = ComposedTeacher(
        EnsembleTeacher([frozen(splits, 1), frozen(splits, 2)]), Mlp(32, 3, 10), 3, splits.cut.classes
    )
    said = composed.outputs(splits.train_images[:], *rows_of(96), 1)
    cached = CachedTeacher(composed, cache(tmp_path / "cache", said.embedding[:, None], said.logits[:, None]))
    rows = torch.tensor([5, 0, 90, 5])
    read = cached.outputs(torch.zeros(4), rows, torch.zeros(4, dtype=torch.int64), 1)
    torch.testing.assert_close(read.embedding, said.embedding[rows], rtol=2e-3, atol=2e-3)
    assert (cached.width, cached.classes, cached.place) == (3, splits.cut.classes, CPU)


def test_what_the_methods_distil_may_be_any_frozen_teacher(splits: Splits) -> None:
    """The losses of a spec's methods, HORKD's centres included, from a teacher that is two networks."""
    teacher = EnsembleTeacher([frozen(splits, 1), frozen(splits, 2)])
    spec = AssistantSpec(horkd=HorkdSpec(orders="1+2+C", alpha=1.0, gamma=1.0), **TINY)
    trainer = trainer_of(spec, splits, CPU, teacher)
    trainer.begin()
    trainer.train_epoch()
    assert {"train/point", "train/pair", "train/center", "train/top1"} <= set(trainer.history[0])
    with pytest.raises(UsageError, match="it has 0 and the student 10"):
        trainer_of(AssistantSpec(method="kd", **TINY), splits, CPU, teacher)


def test_objectives_of_one_name_are_refused_where_their_states_would_mix() -> None:
    parts: Sequence[Any] = [LabelObjective(CosFace(2, 2), name) for name in ("one", "two")]
    with pytest.raises(UsageError, match="different names"):
        Objectives(parts)

"""Kept outputs: what a frozen network would say live, whoever asks; what is damaged is filled again, never read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.attempts.attempt import attempt
from trainables.data.augment import view
from trainables.errors import ArtifactError, NonFiniteError
from trainables.models.network import Outputs
from trainables.spec import (
    HorkdSpec,
    OutputsSpec,
    StageSpec,
    StudentSpec,
    TeacherSpec,
    stage_key,
    to_plain,
)
from trainables.stages.base import Context
from trainables.stages.outputs import outputs_specs
from trainables.store.artifacts import Artifact, Store
from trainables.store.files import sha256_of
from trainables.training.cached_outputs import CachedOutputs, Shard, copied, node_folder
from trainables.training.filling import cached_outputs
from trainables.training.frozen import FrozenNetwork
from trainables.training.inputs import Splits

TINY: dict[str, Any] = {
    "architecture": "resnet_thin",
    "width": 0.25,
    "train_images": 100,
    "batch_size": 32,
    "epochs": 3,
    "augment": "crop_flip",
    "pad": 1,
}
ALL = HorkdSpec(orders="1+2+3+C", alpha=1.0, beta=1.0, gamma=1.0)

pytestmark = pytest.mark.usefixtures("torch_as_it_was")


def run(store: Store, spec: StageSpec, parents: Mapping[str, Artifact]) -> Artifact:
    keys = {role: parent.key for role, parent in parents.items()}
    key = stage_key(spec, keys)
    *_, last = attempt(spec.kind, to_plain(spec), keys, Context(store=store, key=key, core_locks=False))
    assert last["outcome"] == "done", last
    return store.get(key)


@pytest.fixture(scope="module")
def taught(packed_digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a teacher of digits."""
    store = Store(tmp_path_factory.mktemp("taught"))
    store.prepare()
    (store.root / "data").mkdir()
    shutil.copy(packed_digits.path, store.root / "data")
    run(store, TeacherSpec(**TINY, data=packed_digits.fingerprint), {})
    return store


@pytest.fixture
def store(taught: Store, tmp_path: Path) -> Store:
    shutil.copytree(taught.root, tmp_path / "store")
    return Store(tmp_path / "store")


def student(store: Store, **fields: Any) -> StudentSpec:
    fingerprint = next((store.root / "data").glob("*.arrow")).stem
    return StudentSpec(**{**TINY, "data": fingerprint, "resolution": 4, "horkd": ALL, **fields})


def teacher(store: Store) -> Artifact:
    return next(found for key in sorted(store.keys()) if (found := store.get(key)).kind == "teacher")


def filled(store: Store, spec: StudentSpec) -> dict[str, Artifact]:
    """The parents of a student whose guide's outputs are kept."""
    guide = teacher(store)
    base, *shards = outputs_specs(spec)
    parents = {"guide": guide, "outputs-0": run(store, base, {"guide": guide})}
    for number, shard in enumerate(shards, 1):
        parents[f"outputs-{number}"] = run(store, shard, {"guide": guide, "base": parents["outputs-0"]})
    return parents


def context(store: Store) -> Context:
    return Context(store=store, key="0" * 16, core_locks=False)


def live(store: Store, spec: StudentSpec) -> tuple[FrozenNetwork, Splits]:
    splits = Splits.open(spec, context(store), torch.device("cpu"))
    return FrozenNetwork(teacher(store), splits, torch.device("cpu"), spec.task), splits


def close(one: Tensor, two: Tensor) -> bool:
    # Halves keep 11 bits of the distance from the mean, which is at most a few times the largest value.
    return bool((one - two).abs().max() <= 2e-3 * two.abs().max())


@pytest.mark.parametrize("fields", [{}, {"augment": "flip"}, {"augment": "none"}, {"outputs_per_shard": 5}], ids=str)
def test_every_view_of_every_image_is_kept_as_the_network_says_it(fields: dict[str, Any], store: Store) -> None:
    spec = student(store, teacher_outputs="cached", **fields)
    found = cached_outputs(filled(store, spec), context(store))
    assert found is not None
    guide, splits = live(store, spec)
    assert found.part == "views"
    for number in range(found.stop):
        rows = torch.randperm(len(splits.train_labels), generator=torch.Generator().manual_seed(number))
        said = guide(view(splits.train_images[rows], spec.augment, spec.pad, number))
        read = found(rows, torch.full_like(rows, number))
        assert close(read.embedding, said.embedding)
        assert close(read.logits, said.logits)


@pytest.mark.parametrize("groups", [0, 4])
@pytest.mark.parametrize("way", ["cached", "cached_epochs"])
def test_a_student_taught_by_kept_outputs_learns_what_one_taught_live_does(way: str, groups: int, store: Store) -> None:
    guide = {"guide": teacher(store)}
    asked = run(store, student(store, images_per_class=groups), guide)
    spec = student(store, teacher_outputs=way, outputs_per_shard=2, images_per_class=groups)
    read = run(store, spec, filled(store, spec))
    histories = [_history(found) for found in (asked, read)]
    for name, values in histories[0].items():
        assert histories[1][name] == pytest.approx(values, rel=0.02, abs=0.02), name
    read_rows = read.metrics["outputs_read"]
    # Whole groups do not always fill a batch of 32 of the 100 images, and nearly none is left out.
    assert read_rows == 3 * 96 if groups == 0 else 3 * 80 < read_rows <= 3 * 100
    assert read.key != asked.key


def _history(found: Artifact) -> dict[str, list[float]]:
    import pyarrow as pa

    with pa.memory_map(str(found.file("history.arrow"))) as source:
        return dict(pa.ipc.open_file(source).read_all().to_pydict())


def test_class_centres_are_those_of_a_live_guide(store: Store) -> None:
    spec = student(store, teacher_outputs="cached")
    found = cached_outputs(filled(store, spec), context(store))
    assert found is not None
    guide, splits = live(store, spec)
    total = torch.zeros(len(splits.cut.classes), guide.width, dtype=torch.float64)
    features = guide(splits.train_images).embedding.double()
    for label, feature in zip(splits.train_labels.tolist(), features, strict=True):
        total[label] += feature
    assert torch.allclose(found.class_sums[0], total.float(), rtol=1e-5)
    assert found.class_sums[1].tolist() == torch.bincount(splits.train_labels, minlength=len(total)).tolist()


def _cut(path: Path) -> None:
    with open(path, "r+b") as handle:
        handle.truncate(path.stat().st_size // 2)


def _alter(path: Path) -> None:
    with open(path, "r+b") as handle:
        handle.seek(-3, 2)
        handle.write(b"\x7f")


@pytest.mark.parametrize("harm", [_cut, _alter, Path.unlink], ids=["cut", "altered", "gone"])
@pytest.mark.parametrize("role, name", [("outputs-1", "embedding.npy"), ("outputs-0", "base.safetensors")])
def test_damaged_outputs_are_filled_again_and_never_read(
    harm: Callable[[Path], None], role: str, name: str, store: Store, tmp_path: Path
) -> None:
    spec = student(store, teacher_outputs="cached")
    parents = filled(store, spec)
    before = {parent: found.digest for parent, found in parents.items()}
    whole = run(Store(shutil.copytree(store.root, tmp_path / "whole")), spec, parents)
    harm(parents[role].path / name)
    result = run(store, spec, parents)
    assert result.digest == whole.digest
    assert {parent: store.get(found.key).digest for parent, found in parents.items()} == before
    assert all(store.verify(found.key) is None for found in parents.values())


def test_outputs_that_rest_on_another_base_are_filled_again(store: Store) -> None:
    spec = student(store, teacher_outputs="cached")
    parents = filled(store, spec)
    base = parents["outputs-0"]
    store.discard(base.key)
    again = run(store, outputs_specs(spec)[0], {"guide": parents["guide"]})
    manifest = dict(parents["outputs-1"].manifest)
    manifest["parent_digests"] = {**manifest["parent_digests"], "base": "another"}
    stale = replace(parents["outputs-1"], manifest=manifest)
    found = cached_outputs({**parents, "outputs-0": again, "outputs-1": stale}, context(store))
    assert found is not None
    assert store.get(stale.key).manifest["parent_digests"]["base"] == again.digest


def test_rows_and_views_may_come_in_any_order_from_several_shards_and_from_the_device(store: Store) -> None:
    spec = student(store, teacher_outputs="cached", outputs_per_shard=4)
    found = cached_outputs(filled(store, spec), context(store))
    assert found is not None
    draws = np.random.default_rng(0)
    rows, columns = torch.from_numpy(draws.integers(0, 100, 64)), torch.from_numpy(draws.integers(0, 18, 64))
    together = found(rows, columns)
    for place in range(64):
        alone = found(rows[place : place + 1], columns[place : place + 1])
        assert torch.equal(alone.embedding[0], together.embedding[place])
    found.make_resident()
    again = found(rows, columns)
    assert torch.equal(again.embedding, together.embedding) and torch.equal(again.logits, together.logits)


def test_shards_with_a_gap_between_them_are_refused(store: Store) -> None:
    parents = filled(store, student(store, teacher_outputs="cached", outputs_per_shard=4))
    del parents["outputs-2"]
    with pytest.raises(ArtifactError, match="without gaps"):
        cached_outputs(parents, context(store))


def test_values_that_halves_cannot_hold_are_refused(tmp_path: Path) -> None:
    base = {"embedding": torch.zeros(2), "logits": torch.zeros(3)}
    shard = Shard(tmp_path, "1", 4, 1, base)
    said = Outputs(torch.tensor([[0.0, 1e6]]), torch.zeros(1, 3))
    with pytest.raises(NonFiniteError, match="teacher_outputs=live"):
        shard.put(torch.tensor([0]), 0, said)


def test_features_far_from_the_origin_keep_their_digits(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    features = 100 + torch.randn(50, 8, generator=generator)
    base = {"embedding": features.mean(0), "logits": torch.zeros(1)}
    shard = Shard(tmp_path, "1", 50, 1, base)
    shard.put(torch.arange(50), 0, Outputs(features, torch.zeros(50, 1)))
    back = torch.from_numpy(np.array(shard.arrays["embedding"][:, 0])).float() + base["embedding"]
    assert (back - features).abs().max() < 3e-3
    assert (features.half().float() - features).abs().max() > 1e-2


def test_a_node_keeps_its_own_copy_where_it_is_told_to(store: Store, tmp_path: Path, monkeypatch: Any) -> None:
    parents = filled(store, student(store, teacher_outputs="cached"))
    monkeypatch.setenv("SWEEPS_NODE_CACHE", str(tmp_path / "node"))
    found = cached_outputs(parents, context(store))
    assert found is not None
    copies = sorted(path.name for path in (tmp_path / "node").iterdir())
    entries = [
        entry for role, parent in parents.items() if role not in ("guide", "outputs-0") for entry in _files(parent)
    ]
    assert copies == sorted(f"{entry}.npy" for entry in entries)
    monkeypatch.setenv("SWEEPS_NODE_CACHE", "")
    assert node_folder(store.root) is None


def _files(found: Artifact) -> list[str]:
    return [entry["sha256"] for entry in found.manifest["files"].values()]


def test_a_copy_that_differs_from_what_was_published_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "embedding.npy"
    source.write_bytes(b"something")
    with pytest.raises(ArtifactError, match="checksum"):
        copied(source, tmp_path / "node", "0" * 64)
    assert list((tmp_path / "node").iterdir()) == []


def test_a_node_s_copy_that_was_altered_in_place_is_made_again(tmp_path: Path) -> None:
    source = tmp_path / "embedding.npy"
    source.write_bytes(b"something")
    wanted = sha256_of(source)
    own = copied(source, tmp_path / "node", wanted)
    assert own.parent == tmp_path / "node"
    own.write_bytes(b"somethinG")
    assert copied(source, tmp_path / "node", wanted) == own
    assert own.read_bytes() == b"something"


def test_a_node_without_room_reads_in_place(tmp_path: Path) -> None:
    source = tmp_path / "embedding.npy"
    source.write_bytes(b"something")
    (tmp_path / "node").write_text("a file in the way")
    assert copied(source, tmp_path / "node", "0" * 64) == source


def test_views_of_a_seed_rest_on_no_seed_and_epochs_do() -> None:
    one, two = (outputs_specs(StudentSpec(**TINY, seed=seed, teacher_outputs="cached"))[1] for seed in (1, 2))
    assert stage_key(one, {}) == stage_key(two, {})
    one, two = (outputs_specs(StudentSpec(**TINY, seed=seed, teacher_outputs="cached_epochs"))[1] for seed in (1, 2))
    assert stage_key(one, {}) != stage_key(two, {})


def test_an_augmentation_with_very_many_views_is_kept_by_epochs() -> None:
    spec = StudentSpec(**{**TINY, "pad": 16, "teacher_outputs": "cached"})
    assert {shard.part for shard in outputs_specs(spec)[1:]} == {"epochs"}
    assert [(shard.start, shard.stop) for shard in outputs_specs(spec)[1:]] == [(1, 4)]


def test_methods_on_feature_maps_and_labels_alone_keep_nothing() -> None:
    for method in ("fitnet", "at", "horkd+sp", "none"):
        assert outputs_specs(StudentSpec(**TINY, method=method, teacher_outputs="cached")) == ()
    assert isinstance(outputs_specs(StudentSpec(**TINY, teacher_outputs="cached"))[0], OutputsSpec)


def test_reading_asks_the_network_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = student(store, teacher_outputs="cached")
    parents = filled(store, spec)

    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("the frozen network was run")

    monkeypatch.setattr(FrozenNetwork, "__call__", asked)
    run(store, spec, parents)
    assert isinstance(cached_outputs(parents, context(store)), CachedOutputs)

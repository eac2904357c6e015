"""Evaluations of networks as drawn, on the digits: every number against a dull computation of its own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers import trained
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.attempts.attempt import runner
from trainables.data.batches import statistics
from trainables.data.draws import draw_pairs, split_gallery
from trainables.data.packed import Packed, item_names, open_packed
from trainables.data.protocols import Cut, cut_for
from trainables.errors import NonFiniteError, UsageError
from trainables.metrics.verification import best_threshold, over_folds, tpr_at_fpr, wilson
from trainables.spec import (
    TASKS,
    EvaluationSpec,
    TrainingSpec,
    UntrainedSpec,
    spec_from,
)
from trainables.stages.base import Context
from trainables.store.artifacts import Artifact, Store
from trainables.tasks import retrieval
from trainables.training.inputs import InputTransform
from trainables.training.networks import load_network

DRAWN: dict[str, Any] = {"architecture": "resnet_thin", "width": 0.25, "train_images": 60, "embedding": 6}
CLASS_DISJOINT = [task for task in TASKS if task != "classification"]

pytestmark = pytest.mark.usefixtures("torch_as_it_was")


@pytest.fixture
def network(digits_store: Store, packed_digits: Any) -> Callable[..., Artifact]:
    """An untrained network for a task."""

    def make(task: str, **more: Any) -> Artifact:
        return trained(digits_store, UntrainedSpec(data=packed_digits.fingerprint, task=task, **DRAWN | more))

    return make


@pytest.fixture
def evaluate(digits_store: Store, packed_digits: Any) -> Callable[..., Artifact]:
    def make(artifact: Artifact, **fields: Any) -> Artifact:
        protocol = fields.pop("protocol", artifact.manifest["spec"].get("task", "classification"))
        spec = EvaluationSpec(data=packed_digits.fingerprint, protocol=protocol, **fields)
        return trained(digits_store, spec, network=artifact)

    return make


def rows(artifact: Artifact) -> dict[str, list[Any]]:
    with pa.memory_map(str(artifact.file("outputs.arrow"))) as source:
        return dict(pa.ipc.open_file(source).read_all().to_pydict())


def opened(info: Any, artifact: Artifact) -> tuple[Packed, Cut, Callable[..., Tensor]]:
    """(data, cut, embed): embeddings of items, one image after another."""
    packed = open_packed(info.path)
    spec = spec_from(artifact.kind, artifact.manifest["spec"])
    assert isinstance(spec, TrainingSpec)
    cut = cut_for(packed, spec)
    trained = load_network(artifact, packed)[0].eval()
    mean, std = statistics(packed, cut.train)

    def embed(items: np.ndarray, **fields: Any) -> Tensor:
        view = InputTransform(EvaluationSpec(**fields), packed.info, mean.float(), std.float())
        with torch.no_grad():
            return torch.cat([trained(view(torch.from_numpy(packed.images[[i]]))).embedding for i in items])

    return packed, cut, embed


# Every protocol.


@pytest.mark.parametrize("task", TASKS)
def test_an_evaluation_says_its_metric_its_score_and_what_guessing_gets(
    task: str, network: Callable[..., Artifact], evaluate: Callable[..., Artifact]
) -> None:
    found = evaluate(network(task)).metrics
    name = {"classification": "top1", "identification": "top1", "retrieval": "recall_at_1"}.get(
        task, "verification_accuracy"
    )
    assert found["metric"] == name
    assert found["score"] == found[name] == pytest.approx(found["correct"] / found["items"])
    classes = {"classification": 10, "identification": 5, "retrieval": 5, "verification": 2}[task]
    assert found["chance"] == pytest.approx(1 / classes, abs=0.002)
    assert all(np.isfinite(value) for value in found.values() if not isinstance(value, str))
    assert all(isinstance(value, (str, int, float)) for value in found.values())


@pytest.mark.parametrize("task", TASKS)
def test_two_evaluations_agree_to_the_bit(
    task: str, network: Callable[..., Artifact], packed_digits: Any, tmp_path: Any
) -> None:
    artifact = network(task)
    digests = []
    for number in range(2):
        torch.manual_seed(number)
        np.random.seed(number)
        store = Store(tmp_path / f"store {number}")
        store.prepare()
        (store.root / "data").symlink_to(packed_digits.path.parent)
        (store.root / artifact.key).symlink_to(artifact.path)
        spec = EvaluationSpec(data=packed_digits.fingerprint, protocol=task)
        digests.append(trained(store, spec, network=artifact).digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize("task", CLASS_DISJOINT)
def test_only_held_out_classes_are_measured(
    task: str, network: Callable[..., Artifact], evaluate: Callable[..., Artifact], packed_digits: Any
) -> None:
    artifact = network(task)
    packed, cut, _ = opened(packed_digits, artifact)
    found = rows(evaluate(artifact))
    named = [found[name] for name in ("item", "neighbour", "first", "second") if name in found]
    seen = {item for column in named for item in column}
    assert seen
    assert seen <= set(cut.test.tolist())
    assert {packed.info.classes[packed.labels[item]] for item in seen} <= set(cut.tested)
    assert not set(cut.tested) & set(cut.classes)


@pytest.mark.parametrize(("task", "asked"), list(itertools.permutations(TASKS, 2)))
def test_a_network_is_tested_on_the_task_it_was_trained_for(
    task: str, asked: str, network: Callable[..., Artifact], digits_store: Store, packed_digits: Any
) -> None:
    artifact = network(task)
    spec = EvaluationSpec(data=packed_digits.fingerprint, protocol=asked)
    with pytest.raises(UsageError, match=f"trained for, {task}, but got {asked}.*Train it with that task"):
        list(runner("evaluation")(spec, {"network": artifact}, Context(store=digits_store, key="0" * 16)))


@pytest.mark.parametrize("task", CLASS_DISJOINT)
def test_embeddings_that_are_no_numbers_are_an_error(
    task: str, network: Callable[..., Artifact], digits_store: Store, packed_digits: Any
) -> None:
    artifact = network(task, seed=9)
    weights = load_file(artifact.path / "weights.safetensors")
    weights["embedding.bias"][0] = float("nan")
    broken = digits_store.root / "broken"
    broken.mkdir()
    save_file(weights, broken / "weights.safetensors")
    (broken / "manifest.json").write_text(json.dumps(artifact.manifest))

    class Broken:
        key, kind, manifest = artifact.key, artifact.kind, artifact.manifest

        def file(self, name: str, *, verify: bool = False) -> Any:
            return broken / name

    spec = EvaluationSpec(data=packed_digits.fingerprint, protocol=task)
    with pytest.raises(NonFiniteError, match="Embeddings must be finite.*lower learning_rate"):
        list(runner("evaluation")(spec, {"network": Broken()}, Context(store=digits_store, key="0" * 16)))


@pytest.mark.parametrize("task", TASKS)
def test_images_reduced_before_they_are_read_give_other_numbers(
    task: str, network: Callable[..., Artifact], evaluate: Callable[..., Artifact]
) -> None:
    artifact = network(task)
    plain, reduced = evaluate(artifact), evaluate(artifact, test_resolution=3)
    assert plain.metrics != reduced.metrics


# Classification.


def test_the_nearest_training_image_gives_the_class(
    network: Callable[..., Artifact], evaluate: Callable[..., Artifact], packed_digits: Any
) -> None:
    artifact = network("classification")
    packed, cut, embed = opened(packed_digits, artifact)
    unit = torch.nn.functional.normalize(embed(np.concatenate([cut.train, cut.test])).double(), dim=1)
    known, asked = unit[: len(cut.train)], unit[len(cut.train) :]
    expected = packed.labels[cut.train][(asked @ known.T).argmax(1).numpy()]
    made = evaluate(artifact, reader="nearest")
    found = rows(made)
    assert found["label"] == packed.labels[cut.test].tolist()
    assert np.mean(np.array(found["prediction"]) == expected) > 0.99  # One by one, bits differ from those of batches.
    assert made.metrics["top1"] == np.mean(np.array(found["prediction"]) == np.array(found["label"]))
    assert "top5" not in made.metrics and "loss" not in made.metrics


def test_pixels_read_by_the_nearest_image_beat_guessing_by_far(
    network: Callable[..., Artifact], evaluate: Callable[..., Artifact]
) -> None:
    pixels = network("classification", architecture="pixels", train_images=400)
    assert evaluate(pixels, reader="nearest", similarity="euclidean").metrics["score"] > 0.9
    assert evaluate(pixels).metrics["score"] == pytest.approx(0.1, abs=0.02)  # Its logits are all zero.


# Verification.


def test_verification_is_what_its_rows_say(
    network: Callable[..., Artifact], evaluate: Callable[..., Artifact], packed_digits: Any
) -> None:
    artifact = network("verification")
    packed, cut, embed = opened(packed_digits, artifact)
    made = evaluate(artifact)
    found, measured = rows(made), made.metrics
    assert cut.pairs is not None
    assert [list(row) for row in zip(*(found[n] for n in ("fold", "first", "second", "same")), strict=True)] == [
        [fold, first, second, bool(same)] for fold, first, second, same in cut.pairs.tolist()
    ]
    assert measured["items"] == len(cut.pairs) == 6000
    for row in range(0, 6000, 500):
        one, two = embed(cut.pairs[row, 1:3]).double()
        assert found["similarity"][row] == pytest.approx(float(one.dot(two) / one.norm() / two.norm()), abs=1e-5)
    similarity, same, fold = (np.array(found[name]) for name in ("similarity", "same", "fold"))
    expected = over_folds(similarity, same, fold)
    assert found["correct"] == expected.correct.tolist()
    assert measured["accuracy_std"] == expected.std
    assert measured["accuracy_se"] == expected.standard_error
    assert (measured["accuracy_low"], measured["accuracy_high"]) == expected.interval()
    assert (measured["wilson_low"], measured["wilson_high"]) == wilson(int(expected.correct.sum()), 6000)
    assert measured["folds"] == 10
    assert measured["best_threshold_accuracy"] == best_threshold(similarity, same)[1]
    assert measured["tpr_at_fpr_0.1"] == tpr_at_fpr(similarity, same, 0.1)
    assert measured["tpr_at_fpr_0.1"] >= measured["tpr_at_fpr_0.01"] >= measured["tpr_at_fpr_0.001"]
    assert 0 < measured["eer"] < 0.5 < measured["auc"] < 1


def test_a_single_fold_is_read_at_the_threshold_of_validation_pairs(
    network: Callable[..., Artifact], evaluate: Callable[..., Artifact], packed_digits: Any
) -> None:
    artifact = network("verification", folds=(4,))
    packed, cut, embed = opened(packed_digits, artifact)
    made = evaluate(artifact)
    labels = packed.labels[cut.validation]
    pairs = draw_pairs(labels, seed=0, folds=1, per_fold=3000)
    unit = torch.nn.functional.normalize(embed(cut.validation), dim=1)
    threshold, _ = best_threshold((unit[pairs[:, 1]] * unit[pairs[:, 2]]).sum(1).numpy(), pairs[:, 3] == 1)
    assert made.metrics["threshold"] == pytest.approx(threshold, abs=1e-3)
    found = rows(made)
    right = (np.array(found["similarity"]) > made.metrics["threshold"]) == np.array(found["same"])
    assert found["correct"] == right.tolist()
    assert made.metrics["folds"] == 1
    assert made.metrics["accuracy_low"] < made.metrics["score"] < made.metrics["accuracy_high"]


def test_mirrored_images_are_added_where_it_was_asked_for(
    network: Callable[..., Artifact], evaluate: Callable[..., Artifact], packed_digits: Any
) -> None:
    artifact = network("verification")
    _, cut, embed = opened(packed_digits, artifact)
    plain, flipped = (rows(evaluate(artifact, flip=flip))["similarity"] for flip in (False, True))
    assert plain != flipped
    assert cut.pairs is not None
    packed = open_packed(packed_digits.path)
    trained = load_network(artifact, packed)[0].eval()
    mean, std = statistics(packed, cut.train)
    view = InputTransform(EvaluationSpec(), packed.info, mean.float(), std.float())
    images = torch.from_numpy(packed.images[cut.pairs[0, 1:3]])
    with torch.no_grad():
        both = trained(view(images)).embedding + trained(view(images.flip(3))).embedding
    assert flipped[0] == pytest.approx(float(torch.cosine_similarity(both[0], both[1], dim=0)), abs=1e-5)


# Retrieval.


def test_retrieval_is_what_its_rows_say(
    network: Callable[..., Artifact], evaluate: Callable[..., Artifact], packed_digits: Any
) -> None:
    artifact = network("retrieval")
    packed, cut, embed = opened(packed_digits, artifact)
    made = evaluate(artifact, similarity="euclidean")
    found, measured = rows(made), made.metrics
    assert found["item"] == cut.test.tolist()
    assert found["label"] == packed.labels[cut.test].tolist()
    neighbours = np.array(found["neighbour"])
    assert (neighbours != cut.test).all()
    assert found["correct"] == (packed.labels[neighbours] == packed.labels[cut.test]).tolist()
    distances = torch.cdist(embed(cut.test), embed(cut.test))
    distances.fill_diagonal_(float("inf"))
    order = distances.argsort(1)
    labels = torch.from_numpy(packed.labels[cut.test])
    for k in (1, 2, 4, 8):
        expected = (labels[order[:, :k]] == labels[:, None]).any(1).double().mean()
        assert measured[f"recall_at_{k}"] == pytest.approx(float(expected), abs=0.003)
    assert measured["lone"] == 0
    assert measured["tested_classes"] == 5
    assert "recall_at_10" not in measured


def test_many_images_are_asked_for_more_answers(
    network: Callable[..., Artifact], evaluate: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "MANY", 100)
    found = evaluate(network("retrieval")).metrics
    recalls = [found[f"recall_at_{k}"] for k in (1, 2, 4, 8, 10, 100, 1000)]
    assert recalls == sorted(recalls)


# Identification.


@pytest.mark.parametrize("head", ["softmax", "nearest"])
@pytest.mark.parametrize("gallery", [0, 3])
def test_identification_is_what_its_rows_and_its_lists_say(
    head: str, gallery: int, network: Callable[..., Artifact], evaluate: Callable[..., Artifact], packed_digits: Any
) -> None:
    artifact = network("identification", split_seed=2)
    packed, cut, _ = opened(packed_digits, artifact)
    made = evaluate(artifact, head=head, gallery=gallery)
    found, measured = rows(made), made.metrics
    known, probes = split_gallery(packed.labels[cut.test] - 5, gallery=gallery, seed=2)
    assert found["item"] == cut.test[probes].tolist()
    assert found["label"] == packed.labels[cut.test[probes]].tolist()
    assert found["correct"] == [a == b for a, b in zip(found["label"], found["prediction"], strict=True)]
    assert set(found["prediction"]) <= {5, 6, 7, 8, 9}
    assert measured["subjects"] == 5
    assert measured["gallery_images"] == len(known)
    assert measured["top1"] <= measured["top5"] == 1.0
    assert measured["top1"] > 0.25  # Five people.
    names = item_names(packed_digits.path)
    lists = json.loads(made.file("split.json").read_text(encoding="utf-8"))
    assert lists == {
        "gallery": [names[item] for item in cut.test[known]],
        "probes": [names[item] for item in cut.test[probes]],
        "subjects": list(cut.tested),
    }
    assert not set(lists["gallery"]) & set(lists["probes"])


def test_only_protocols_that_draw_a_split_keep_one(
    network: Callable[..., Artifact], evaluate: Callable[..., Artifact]
) -> None:
    assert not (evaluate(network("retrieval")).path / "split.json").exists()

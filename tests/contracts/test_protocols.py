"""Nothing that is tested is ever trained on: every task, on every data set at hand, by items, people and names.

Real data is read from the folder that SWEEPS_TEST_DATA names, with lfw_a_112/, orl/, cifar100/ and cub200_50/ in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import trained
from safetensors.torch import load_file

from trainables.data import catalog
from trainables.data.packed import TEST, TRAIN, Items, Packed, PackedInfo, item_names, open_packed
from trainables.data.packing import write_packed
from trainables.data.protocols import Cut, cut, cut_for
from trainables.errors import UsageError
from trainables.spec import TASKS, EvaluationSpec, TeacherSpec, spec_from
from trainables.store.artifacts import Artifact, Store
from trainables.training.networks import load_network

# Name -> (folder, side to pack at).
REAL = {"lfw": ("lfw_a_112", 16), "orl": ("orl", 16), "cifar100": ("cifar100", None), "cub200": ("cub200_50", 16)}

CUTS: dict[str, dict[str, Any]] = {
    "usual": {},
    "no validation": {"validation_fraction": 0.0},
    "another draw": {"split_seed": 11},
    "few held out": {"held_out": 0.2},
    "most held out": {"held_out": 0.75},
    "classes of five and more": {"min_images": 5},
    "three subjects": {"subjects": 3},
    "one fold": {"folds": (3,)},
    "two folds": {"folds": (1, 8), "validation_fraction": 0.3},
}

pytestmark = pytest.mark.usefixtures("torch_as_it_was")


def people(kind: str) -> Items:
    """Small made-up data: twelve people of two to thirteen images, some of one, by the ways data may be split."""
    sizes = [*range(2, 14), 1, 1, 1]
    labels = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    images = np.random.RandomState(0).randint(0, 256, (len(labels), 1, 8, 8)).astype(np.uint8)
    split = np.full(len(labels), TRAIN, dtype=np.uint8)
    pairs = None
    if kind == "split by image":
        starts = np.cumsum(sizes) - sizes
        split[(np.arange(len(labels)) - starts[labels]) % 3 == 1] = TEST  # Single images are trained on.
    elif kind == "split by class":
        split[np.isin(labels, [1, 4, 8, 9, 10, 13])] = TEST
    elif kind == "pairs":
        starts = np.cumsum(sizes) - sizes
        rows = []
        for fold in range(1, 9):  # The people of a fold and the next one overlap, which pairs.txt does not rule out.
            one, two = starts[fold - 1], starts[fold]
            rows += [(fold, one, one + 1, 1), (fold, one, two, 0)]
        pairs = np.array(rows, dtype=np.int32)
    return Items(
        images=images,
        labels=labels,
        split=split,
        names=[f"person {label}/{index}" for index, label in enumerate(labels)],
        classes=tuple(f"person {index}" for index in range(len(sizes))),
        pairs=pairs,
    )


KINDS = ("all for training", "split by image", "split by class", "pairs")


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory, packed_digits: Any) -> Callable[[str], PackedInfo]:
    """Packed data sets by name, packed once."""
    folder = tmp_path_factory.mktemp("shelf")
    packed: dict[str, PackedInfo] = {"digits": packed_digits}

    def get(name: str) -> PackedInfo:
        if name in REAL and name not in packed:
            root = os.environ.get("SWEEPS_TEST_DATA")
            part, side = REAL[name]
            if not root or not (Path(root) / part).is_dir():
                pytest.skip(f"SWEEPS_TEST_DATA names no folder with {part} in it")
            packed[name] = catalog.pack(catalog.locate(name, data_root=Path(root) / part, size=side), folder)
        if name not in packed:
            packed[name] = write_packed(folder, name, people(name))
        return packed[name]

    return get


def make(packed: Packed, task: str, fields: dict[str, Any]) -> Cut | None:
    """The cut, or None where the data cannot give it and says so."""
    usual = {"validation_fraction": 0.1, "split_seed": 0, "train_images": 0}
    try:
        return cut(packed, task=task, **usual | fields)
    except UsageError:
        return None


@pytest.mark.parametrize("name", ["digits", *KINDS, *REAL])
@pytest.mark.parametrize("task", TASKS)
def test_no_tested_image_or_person_is_trained_on(task: str, name: str, shelf: Callable[[str], PackedInfo]) -> None:
    packed = open_packed(shelf(name).path)
    names, classes = item_names(packed.info.path), packed.info.classes
    cuts = [found for fields in CUTS.values() if (found := make(packed, task, fields)) is not None]
    if task == "classification" and name in ("all for training", "split by class", "pairs", "lfw"):
        assert not cuts  # There are no test images, or none of what was learned.
        return
    assert len(cuts) >= len(CUTS) - 1  # Of a fifth of the small data no pairs or subjects can be drawn.
    for found in cuts:
        # Loops on purpose: this must not rest on what it checks.
        tested = set(found.test.tolist())
        if found.pairs is not None:
            tested |= {item for row in found.pairs.tolist() for item in row[1:3]}
        assert tested
        parts = {"train": set(found.train.tolist()), "validation": set(found.validation.tolist()), "test": tested}
        persons = {part: {classes[packed.labels[item]] for item in items} for part, items in parts.items()}
        files = {part: {names[item] for item in items} for part, items in parts.items()}
        for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
            assert not parts[one] & parts[other]
            if len(set(names)) == len(names):
                assert not files[one] & files[other]
            if task != "classification":
                assert not persons[one] & persons[other]
        assert persons["train"] <= set(found.classes)
        assert persons["test"] <= set(found.tested)
        if task != "classification":
            assert not set(found.classes) & set(found.tested)
            assert persons["train"] == set(found.classes)  # No logit without an image.
        assert [found.label_of[classes.index(name)] for name in found.classes] == list(range(len(found.classes)))
        assert (found.label_of >= 0).sum() == len(found.classes)


@pytest.mark.parametrize("name", REAL)
def test_no_tested_picture_of_real_data_is_trained_on(name: str, shelf: Callable[[str], PackedInfo]) -> None:
    """By pixels: a copy under another name would be a leak as well."""
    packed = open_packed(shelf(name).path)
    digests = [image.tobytes() for image in packed.images]
    for task in TASKS:
        found = make(packed, task, {})
        if found is None:
            continue
        trained = {digests[item] for item in np.concatenate([found.train, found.validation])}
        copies = sum(digests[item] in trained for item in found.test)
        # CIFAR's own test split repeats a few training images (Barz and Denzler 2020); held-out classes repeat none.
        assert copies <= (len(found.test) // 1000 if task == "classification" else 0), (task, copies)


# The pixels of what is tested do not reach the weights.


TINY: dict[str, Any] = {"architecture": "resnet_thin", "width": 0.2, "batch_size": 16, "augment": "crop_flip", "pad": 1}


def trained_on(store: Store, items: Items, task: str) -> Artifact:
    data = store.root / "data"
    data.mkdir(exist_ok=True)
    info = write_packed(data, "made", items)
    return trained(store, TeacherSpec(data=info.fingerprint, task=task, epochs=2, select="best", **TINY))


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("classification", "split by image"),
        ("retrieval", "split by image"),
        ("retrieval", "split by class"),
        ("verification", "all for training"),
        ("verification", "pairs"),
        ("identification", "split by image"),
    ],
)
def test_other_pixels_in_the_test_leave_the_weights_as_they_are(task: str, kind: str, store: Store) -> None:
    items = people(kind)
    first = trained_on(store, items, task)
    spec = spec_from(first.kind, first.manifest["spec"])
    assert isinstance(spec, TeacherSpec)
    packed = open_packed(store.root / "data" / f"{spec.data}.arrow")
    found = cut_for(packed, spec)

    def changed(where: np.ndarray) -> dict[str, torch.Tensor]:
        images = items.images.copy()
        images[where] = 255 - images[where]
        other = Items(**{**items.__dict__, "images": images})
        return load_file(trained_on(store, other, task).file("weights.safetensors"))

    weights = load_file(first.file("weights.safetensors"))
    same = changed(found.test)
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    # All other images of the tested people, too, as long as there are classes of their own.
    if task != "classification":
        held = np.isin(packed.labels, [packed.info.classes.index(name) for name in found.tested])
        same = changed(np.flatnonzero(held))
        assert all(torch.equal(weights[name], same[name]) for name in weights)
    other = changed(found.train[:1])
    assert any(not torch.equal(weights[name], other[name]) for name in weights)


@pytest.mark.parametrize("task", TASKS)
def test_an_evaluation_reads_the_very_cut_of_its_network(task: str, store: Store) -> None:
    made = trained_on(store, people("split by image"), task)
    fingerprint = made.manifest["spec"]["data"]
    packed = open_packed(store.root / "data" / f"{fingerprint}.arrow")
    network, spec, found = load_network(made, packed)
    expected = cut_for(packed, spec)
    np.testing.assert_array_equal(found.test, expected.test)
    assert network.classifier.out_features == len(expected.classes)  # type: ignore[union-attr]
    evaluated = trained(store, EvaluationSpec(data=fingerprint, protocol=task), network=made)
    assert evaluated.metrics["items"] <= max(len(expected.test), 0 if expected.pairs is None else len(expected.pairs))


def checksum(items: np.ndarray) -> int:
    return int((items * np.arange(1, len(items) + 1)).sum())


@pytest.mark.parametrize("task", TASKS)
def test_the_cuts_of_the_digits_stay_what_they_are(task: str, packed_digits: PackedInfo) -> None:
    """Raise the version of the protocol in `trainables.spec.COMPONENTS` when these must change."""
    subjects = 3 if task == "identification" else 0
    found = make(open_packed(packed_digits.path), task, {"train_images": 200, "subjects": subjects})
    assert found is not None
    pairs = 0 if found.pairs is None else checksum(found.pairs.ravel())
    assert (checksum(found.train), checksum(found.validation), checksum(found.test), pairs) == DIGITS[task]


# Task -> sums of position times item, of training, validation, test and pairs.
DIGITS = {
    "classification": (23620592, 9608999, 175375428, 0),
    "verification": (24302315, 79896984, 481567888, 130408079335),
    "identification": (24446071, 75192494, 176420050, 0),
    "retrieval": (24302315, 79896984, 481567888, 0),
}

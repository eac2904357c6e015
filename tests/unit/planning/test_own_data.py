"""The preset `own`: settings from the data's side, number, classes and task, whatever the data are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import search_spaces
from search_spaces import own_data, ranges
from search_spaces.study import OWN, DataFacts
from sweeps.planning.request import Request
from sweeps.planning.resolve import resolve
from sweeps.runs.execute import run_folder
from sweeps.runs.folder import Place
from sweeps.runs.prepare import Prepared, prepare
from sweeps.runs.run_content import describe
from trainables.errors import SweepsError, UsageError
from trainables.spec import TrainingSpec

STUDIES = search_spaces.names()


def facts(**known: Any) -> DataFacts:
    words: dict[str, Any] = {
        "name": "folder:pictures",
        "side": 64,
        "channels": 3,
        "classes": 40,
        "train_images": 1280,
        "test_images": 320,
        "trained_images": 1152,
        "trained_classes": 40,
    }
    return DataFacts(**words | known)


def folder(root: Path, *, classes: int, each: int, side: int | tuple[int, int], grey: bool = False) -> str:
    """Images of noise around a brightness of each class."""
    random = np.random.RandomState(0)
    height, width = (side, side) if isinstance(side, int) else side
    for label in range(classes):
        (root / f"class {label:03d}").mkdir(parents=True)
        for number in range(each):
            shape = (height, width) if grey else (height, width, 3)
            pixels = random.randint(0, 60, shape) + 180 * label // classes
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"class {label:03d}" / f"{number}.png")
    return f"folder:{root}"


def prepared(study: str, place: Path, **words: Any) -> tuple[Prepared, list[str]]:
    said: list[str] = []
    request = Request(study=study, **{"preset": OWN} | words)
    return prepare(request, Place.of(str(place / "out"), str(place / "store")), said.append), said


def trained(ready: Prepared) -> list[TrainingSpec]:
    found = [spec for cell in ready.plan.examples() for spec in ready.planner.specs(cell).values()]
    return [spec for spec in found if isinstance(spec, TrainingSpec)]


# What is chosen for which data.


@pytest.mark.parametrize(
    ("side", "teacher", "students"),
    [
        (64, 64, (32, 16)),
        (28, 28, (14, 7)),
        (16, 16, (8, 4)),
        (8, 8, (4,)),
        (4, 4, (4,)),
        (7, 7, (4,)),
        (224, 64, (32, 16)),
        (33, 33, (16, 8)),
    ],
)
def test_students_read_a_half_and_a_quarter_of_a_teacher_that_two_cores_bear(
    side: int, teacher: int, students: tuple[int, ...]
) -> None:
    chosen = own_data.fit(facts(side=side))
    assert (chosen.side, chosen.students) == (teacher, students)


def test_images_that_no_network_accepts_are_refused_with_what_must_hold() -> None:
    with pytest.raises(UsageError, match=r"at least 4 pixels a side .* folder:pictures have 3"):
        own_data.fit(facts(side=3))


def test_epochs_fall_with_the_number_of_images_and_large_sets_are_used_in_part() -> None:
    counts = (3, 50, 1_000, 5_000, 45_000, 1_000_000)
    chosen = [own_data.fit(facts(side=32, trained_images=count)) for count in counts]
    epochs = [found.epochs for found in chosen]
    assert epochs == sorted(epochs, reverse=True) and (epochs[0], epochs[-1]) == own_data.EPOCHS[::-1]
    assert [found.train_images for found in chosen[:4]] == [0, 0, 0, 0]  # All.
    assert chosen[-1].train_images == chosen[-2].train_images == chosen[-1].images == 3 * 45_000 // 10
    assert all(found.images * found.epochs <= 3 * 45_000 for found in chosen)
    batches = [found.batch for found in chosen]
    assert batches == sorted(batches) and batches[0] == 8 and batches[-1] == 64


def test_a_part_of_the_data_keeps_images_of_every_class() -> None:
    chosen = own_data.fit(facts(side=64, trained_images=300_000, trained_classes=8_000))
    assert chosen.train_images == 8 * 8_000
    assert own_data.fit(facts(side=64, trained_images=56_000, trained_classes=11_000)).train_images == 0


@pytest.mark.parametrize(("channels", "augment"), [(1, "crop"), (3, "crop_flip")])
def test_grey_images_are_not_mirrored(channels: int, augment: str) -> None:
    study = search_spaces.load("horkd_classification")
    assert study.own is not None
    assert study.own(facts(channels=channels)).parameters["augment"] == augment


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_makes_its_own_preset_with_weights_that_were_tuned_on_nothing(name: str) -> None:
    study = search_spaces.load(name)
    assert study.own is not None
    preset = study.own(facts())
    resolved = resolve(study, preset=OWN, fitted=preset)
    assert resolved.preset_name == OWN and len(resolved.seeds) >= (2 if study.sampled else 3)
    if not study.sampled:
        assert {k: resolved.parameters[k] for k in ranges.NEUTRAL_WEIGHTS} == ranges.NEUTRAL_WEIGHTS
        assert preset.departures
    assert not any("distillation" in key for more in preset.arms.values() for key in more)  # Nothing was tuned.
    for word in (
        "folder:pictures",
        "64x64",
        "1,600 images of 40 classes",
        "1,152",
        f"batches of {own_data.fit(facts()).batch}",
    ):
        assert word in preset.note


# Which preset a data set means.


@pytest.mark.parametrize("name", STUDIES)
def test_data_without_a_preset_of_their_own_mean_own_and_the_digits_the_demo(name: str) -> None:
    study = search_spaces.load(name)
    assert study.preset_for(None) == study.preset_for("digits") == "demo"
    for data in ("folder:pictures", "cifar10", "umdfaces", "uccs"):
        assert study.preset_for(data) == OWN
    small = study.presets.get("small")
    if small is not None:
        assert study.preset_for(small.data) == "small"
    assert OWN in study.preset_names
    words = Request(name, preset=OWN, data="folder:pictures").command().split()
    assert "--preset" not in words
    assert Request(name, preset="demo", data="folder:pictures").command().split()[5:7] == ["--preset", "demo"]


def test_an_unknown_preset_is_told_that_there_is_own() -> None:
    with pytest.raises(UsageError, match="Did you mean 'own'"):
        resolve(search_spaces.load("horkd_classification"), preset="owm")


# With data on the disk.


def test_what_was_chosen_is_said_with_its_reasons_and_its_cost(tmp_path: Path) -> None:
    data = folder(tmp_path / "pictures", classes=5, each=8, side=20)
    ready, said = prepared("horkd_classification", tmp_path, data=data)
    assert ready.data["height"] == 20  # Packed at their own size, not enlarged to the folder's usual one.
    assert {spec.resolution for spec in trained(ready)} == {20, 10, 5}
    words = " ".join(said)
    for part in (
        "own",
        "20x20",
        "40 images of 5 classes",
        "batches of 8",
        "60 epochs",
        "10 and 5",
        "core minutes",
        "cores",
    ):
        assert part in words
    assert "handwritten" not in words + ready.resolved.preset.note
    again, _ = prepared("horkd_classification", tmp_path, data=data)
    assert again.run_id == ready.run_id


@pytest.mark.parametrize(
    ("shape", "side"),
    [
        ({"classes": 2, "each": 3, "side": 64}, 64),
        ({"classes": 4, "each": 6, "side": 28, "grey": True}, 28),
        ({"classes": 4, "each": 6, "side": 16}, 16),
        ({"classes": 60, "each": 4, "side": 12}, 12),
        ({"classes": 3, "each": 4, "side": (224, 300)}, 64),
        ({"classes": 3, "each": 4, "side": 5}, 8),
    ],
    ids=str,
)
def test_own_fits_folders_of_strange_shapes(shape: dict[str, Any], side: int, tmp_path: Path) -> None:
    ready, _ = prepared("horkd_classification", tmp_path, data=folder(tmp_path / "x", **shape))
    assert max(spec.resolution or 0 for spec in trained(ready)) == side
    assert all(spec.train_images == 0 for spec in trained(ready))


@pytest.mark.parametrize(
    "study", ["horkd_face_verification", "horkd_face_identification", "horkd_metric_learning", "horkd_order_ablation"]
)
def test_own_counts_what_the_task_leaves_to_train_on(study: str, tmp_path: Path) -> None:
    ready, said = prepared(study, tmp_path, data=folder(tmp_path / "x", classes=12, each=6, side=16))
    # Half of the classes are tested, two of the others select; or a fifth of the images is tested, a tenth selects.
    expected = 54 if study == "horkd_order_ablation" else 4 * 6
    assert f"trained on all {expected} images" in said[-2]
    groups = {spec.images_per_class for spec in trained(ready)}
    assert groups == ({4} if study == "horkd_metric_learning" else {0})


def test_too_little_to_hold_classes_out_is_refused_with_what_must_hold(tmp_path: Path) -> None:
    data = folder(tmp_path / "x", classes=2, each=3, side=16)
    for study in ("horkd_face_verification", "horkd_face_identification", "horkd_metric_learning"):
        with pytest.raises(SweepsError, match="At least 2 classes must be tested"):
            prepared(study, tmp_path, data=data)


def test_a_side_that_was_asked_for_is_packed_and_the_teacher_still_bears_it(tmp_path: Path) -> None:
    data = folder(tmp_path / "x", classes=3, each=4, side=100)
    ready, said = prepared("horkd_classification", tmp_path, data=data, data_size=80)
    assert ready.data["height"] == 80
    assert max(spec.resolution or 0 for spec in trained(ready)) == 64
    assert "--set teacher.resolution" in said[-2]
    ready, _ = prepared("horkd_classification", tmp_path, data=data, data_size=80, settings=["teacher.resolution=80"])
    assert max(spec.resolution or 0 for spec in trained(ready)) == 80


@pytest.mark.parametrize("preset", ["demo", "tiny"])
def test_settings_of_the_digits_on_other_data_are_told_loudly_everywhere(preset: str, tmp_path: Path) -> None:
    data = folder(tmp_path / "x", classes=3, each=100, side=16)
    ready, said = prepared("horkd_classification", tmp_path, data=data, preset=preset)
    warning = next(line for line in said if line.startswith("Warning"))
    assert preset in warning and "digits" in warning and data in warning and "--preset own" in warning
    assert ready.resolved.preset.note.startswith(f"made for digits, used on {data}")
    assert any(data in departure for departure in ready.resolved.preset.departures)
    _, said = prepared("horkd_classification", tmp_path, preset=preset)
    assert not any("Warning" in line for line in said)


def test_a_look_needs_no_packing_and_counts_classes(tmp_path: Path) -> None:
    data = folder(tmp_path / "x", classes=7, each=5, side=28, grey=True)
    said: list[str] = []
    place = Place.of(str(tmp_path / "out"), str(tmp_path / "store"))
    ready = prepare(Request("horkd_classification", preset=OWN, data=data), place, said.append, pack=False)
    assert ready.info is None and not (tmp_path / "store").exists()
    assert "28x28" in ready.resolved.preset.note and "7 classes" in ready.resolved.preset.note
    assert "estimates" in ready.resolved.preset.note


def test_departures_are_in_the_run_file(tmp_path: Path) -> None:
    ready, _ = prepared("horkd_classification", tmp_path, data=folder(tmp_path / "x", classes=3, each=4, side=16))
    run = run_folder(ready, Place.of(str(tmp_path / "out"), str(tmp_path / "store")), None)
    content = json.loads(json.dumps(describe(ready, run, {}, "")))
    assert content["preset"] == OWN and content["preset_note"] == ready.resolved.preset.note
    assert content["departures"] == list(ready.resolved.preset.departures) and len(content["departures"]) == 1

"""Networks trained on one data set and tested on another, as the paper's faces are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sweeps.planning.planner import build_graph
from sweeps.planning.request import Request
from sweeps.runs.execute import execute
from sweeps.runs.folder import Place
from sweeps.runs.prepare import Prepared, prepare
from trainables.attempts.attempt import attempt
from trainables.data.packed import Items, Packed, open_packed
from trainables.data.packing import write_packed
from trainables.data.protocols import cut, whole
from trainables.errors import UsageError
from trainables.spec import to_plain
from trainables.stages.base import Context
from trainables.store.artifacts import Store


def pack(folder: Path, *, people: int = 6, each: int = 5, pairs: bool = False, split: bool = False) -> Packed:
    """Noise: `people` classes of `each` images."""
    random = np.random.RandomState(people)
    labels = np.repeat(np.arange(people), each).astype(np.int32)
    rows = [(fold, 2 * fold, 2 * fold + same, same) for fold in (1, 2, 3) for same in (1, 0)]
    rows = [(fold, a, (a + 1 if same else a + each), same) for fold, a, _, same in rows]
    info = write_packed(
        folder,
        "noise",
        Items(
            images=random.randint(0, 255, (len(labels), 1, 8, 8)).astype(np.uint8),
            labels=labels,
            split=((labels >= people // 2) & split).astype(np.uint8),
            names=[f"{n}" for n in range(len(labels))],
            classes=tuple(f"person {n}" for n in range(people)),
            pairs=np.asarray(rows, dtype=np.int32) if pairs else None,
        ),
    )
    return open_packed(info.path)


@pytest.mark.parametrize("task", ["verification", "identification", "retrieval"])
@pytest.mark.parametrize("pairs", [False, True])
def test_with_nothing_held_out_all_classes_are_trained_on_or_validate(tmp_path: Path, task: str, pairs: bool) -> None:
    made = cut(
        pack(tmp_path, pairs=pairs), task=task, validation_fraction=0.1, split_seed=0, train_images=0, held_out=0.0
    )
    assert len(made.test) == 0 and made.tested == () and made.pairs is None
    assert len(made.classes) == 4 and len(made.train) == 20 and len(made.validation) == 10


def test_the_whole_of_a_data_set_is_its_pairs_its_people_or_its_test_classes(tmp_path: Path) -> None:
    of_pairs = whole(pack(tmp_path, pairs=True), task="verification", split_seed=0)
    assert of_pairs.pairs is not None and sorted(set(of_pairs.pairs[:, 0])) == [1, 2, 3]
    assert set(of_pairs.test) == set(of_pairs.pairs[:, 1:3].ravel())
    drawn = whole(pack(tmp_path), task="verification", split_seed=0)
    assert drawn.pairs is not None and len(np.unique(drawn.pairs[:, 0])) == 10
    two = whole(pack(tmp_path, pairs=True), task="verification", split_seed=0, folds=(1, 3))
    assert two.pairs is not None and sorted(set(two.pairs[:, 0])) == [1, 3]
    assert len(whole(pack(tmp_path), task="identification", split_seed=0, subjects=4).tested) == 4
    assert whole(pack(tmp_path), task="retrieval", split_seed=0).test.tolist() == list(range(30))
    kept = whole(pack(tmp_path, split=True), task="retrieval", split_seed=0)
    assert kept.tested == ("person 3", "person 4", "person 5")
    for made in (of_pairs, drawn, kept):
        assert len(made.train) == len(made.validation) == 0 and made.classes == ()


def test_what_has_no_meaning_on_other_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be tested on other data"):
        whole(pack(tmp_path), task="classification", split_seed=0)
    with pytest.raises(UsageError, match="test 2 `folds`"):
        whole(pack(tmp_path, pairs=True), task="verification", split_seed=0, folds=(2,))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """Two sets of people; one person is in both."""
    random = np.random.RandomState(0)
    for name, people in (("one", range(8)), ("two", range(7, 12))):
        for person in people:
            folder = tmp_path / name / f"person_{person}"
            folder.mkdir(parents=True)
            for number in range(6):
                Image.fromarray(random.randint(0, 255, (10, 10)).astype(np.uint8)).save(folder / f"{number}.png")
    return f"folder:{tmp_path / 'one'}", f"folder:{tmp_path / 'two'}"


def request(folders: tuple[str, str], **more: Any) -> Request:
    words: dict[str, Any] = {"study": "horkd_face_verification", "preset": "tiny", "data_size": 8, "seeds": "1"}
    settings = ["train_images=0", "arm=ce,horkd,pixels", *more.pop("settings", ())]
    return Request(**words, data=folders[0], test_data=folders[1], settings=settings, **more)


def test_a_study_trains_on_one_set_and_tests_all_of_another(folders: tuple[str, str], tmp_path: Path) -> None:
    place = Place(runs=tmp_path / "runs", store=tmp_path / "store")
    asked = request(folders)
    ready = prepare(asked, place, lambda line: None)
    assert ready.test_data is not None and ready.test_data["fingerprint"] != ready.data["fingerprint"]
    graph, trials, _ = build_graph(ready.plan, ready.store)
    for node in graph.nodes.values():
        expected = ready.test_data if node.role == "evaluation" else ready.data
        assert node.spec.data == expected["fingerprint"]
        context = Context(store=Store(place.store), key=node.key, core_locks=False)
        said = list(attempt(node.spec.kind, to_plain(node.spec), node.parents, context))
        assert said[-1]["outcome"] == "done", said[-1]
    outcome = execute(asked, place, lambda line: None, quiet=True, train=False)
    assert outcome.code == 0 and outcome.summary is not None
    for trial in trials:
        found = ready.store.get(trial.stages["evaluation"]).metrics
        # Person 7 is in both, which is told; that she only validates makes no difference.
        assert found["classes_also_trained_on"] == 1
        assert found["folds"] == 10 and found["items"] == len(whole_pairs(ready, place))
    other = prepare(Request(**{**vars(asked), "test_data": None}), place, lambda line: None)
    assert other.run_id != ready.run_id
    assert "--test-data" in asked.command()


def whole_pairs(ready: Prepared, place: Place) -> np.ndarray:
    assert ready.test_data is not None
    packed = open_packed(place.store / "data" / f"{ready.test_data['fingerprint']}.arrow")
    pairs = whole(packed, task="verification", split_seed=0).pairs
    assert pairs is not None
    return pairs


@pytest.mark.parametrize(
    ("study", "settings", "message"),
    [
        ("horkd_classification", (), "--test-data is for tasks that compare images"),
        ("horkd_face_verification", ("held_out=0.3",), "held_out means nothing with --test-data"),
        ("horkd_face_verification", ("folds=1",), "test 2 `folds`"),
    ],
)
def test_wrong_words_are_refused_before_anything_starts(
    study: str, settings: tuple[str, ...], message: str, folders: tuple[str, str], tmp_path: Path
) -> None:
    asked = dataclasses.replace(request(folders, settings=settings), study=study)
    with pytest.raises(UsageError, match=message):
        prepare(asked, Place(runs=tmp_path / "runs", store=tmp_path / "store"), lambda line: None)

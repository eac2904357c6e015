"""From `--set teacher.weights=PATH` to a student: planned, checked on the data, distilled from, refused where wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

import search_spaces
from sweeps.planning import weight_files
from sweeps.planning.checks import check_against_data
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Planner
from sweeps.planning.request import Request
from sweeps.planning.resolve import Resolved, resolve
from sweeps.runs.folder import Place
from sweeps.runs.prepare import Prepared, prepare
from trainables import plugins
from trainables.attempts.attempt import attempt
from trainables.data.batches import remembered_statistics, to_float
from trainables.data.packed import Items, open_packed
from trainables.data.packing import write_packed
from trainables.data.protocols import cut_for
from trainables.errors import ArtifactError, UsageError
from trainables.models import build
from trainables.pretrained import shelf
from trainables.pretrained.families import identify
from trainables.pretrained.start import begin
from trainables.spec import EvaluationSpec, PretrainedSpec, StageSpec, StudentSpec, TeacherSpec, stage_key, to_plain
from trainables.stages.base import Context
from trainables.store.artifacts import Artifact, Store
from trainables.training.frozen import FrozenNetwork
from trainables.training.inputs import Splits
from trainables.training.networks import load_network

STUDY = "horkd_classification"
CLASSES = ("red", "green", "blue")


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Ninety images of 16 pixels, each of one colour with noise; gives the `PackedInfo`."""
    random = np.random.RandomState(0)
    labels = np.arange(90, dtype=np.int32) % 3
    images = random.randint(0, 90, (90, 3, 16, 16))
    images[np.arange(90), labels] += 150
    split = (np.arange(90) >= 60).astype(np.uint8)
    names = [str(number) for number in range(90)]
    items = Items(images=images.astype(np.uint8), labels=labels, split=split, names=names, classes=CLASSES)
    return write_packed(tmp_path_factory.mktemp("packed colours"), "colours", items)


@pytest.fixture
def place(colours: Any, nasty_path: Path) -> Store:
    """A store with the colours in it."""
    made = Store(nasty_path / "store")
    made.prepare()
    (made.root / "data").symlink_to(colours.path.parent)
    return made


def linear_resnet(order: tuple[int, ...] = (0, 1, 2), classes: int = 3) -> torch.nn.Module:
    """A thin network of ours whose classifier reads the colours: every class has the logit of its own channel."""
    torch.manual_seed(0)
    network = build("resnet_thin", channels=3, classes=classes, width=0.5)
    with torch.no_grad():
        # Channel c of every map is the brightness of colour c, and all else is nothing.
        for name, value in network.state_dict().items():
            if value.is_floating_point() and value.ndim != 1:
                value.zero_()
            if name.endswith(".weight") and value.ndim == 4 and (name == "trunk.0.weight" or "shortcut" in name):
                for channel in range(3):
                    value[channel, channel, value.shape[2] // 2, value.shape[3] // 2] = 1.0
        for number in range(min(3, classes)):
            network.classifier.weight[number, order[number]] = 1.0
        network.classifier.bias.zero_()
    return network


def saved(network: torch.nn.Module, path: Path) -> Path:
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return path


def admitted(path: Path, store: Store, data: str, **asked: Any) -> PretrainedSpec:
    """The spec of a teacher from a file, as planning makes it."""
    found = shelf.admit(str(path), store.root, PretrainedSpec(**asked))
    more = {"data": data, "validation_fraction": 0.5, **layouts.fields_of(found.found), **asked}
    return PretrainedSpec(weights=found.digits, **more)


def run(store: Store, spec: StageSpec, **parents: Artifact) -> dict[str, Any]:
    """The last word of an attempt at a stage."""
    keys = {role: parent.key for role, parent in parents.items()}
    context = Context(store=store, key=stage_key(spec, keys), core_locks=False)
    *_, last = attempt(spec.kind, to_plain(spec), keys, context)
    return last


def published(store: Store, spec: StageSpec, **parents: Artifact) -> Artifact:
    last = run(store, spec, **parents)
    assert last["outcome"] == "done", last
    return store.get(stage_key(spec, {role: parent.key for role, parent in parents.items()}))


def test_a_teacher_from_a_file_is_checked_on_the_data_and_distilled_from(
    place: Store, colours: Any, tmp_path: Path
) -> None:
    spec = admitted(saved(linear_resnet(), tmp_path / "teacher.safetensors"), place, colours.fingerprint, head="keep")
    artifact = published(place, spec)
    metrics = artifact.metrics
    assert metrics["validation_top1"] == 1.0 and metrics["validation_images"] == 30
    assert metrics["embedding_width"] == 32 and metrics["embedding_spread"] > 0.1 and metrics["macs"] > 0
    about = json.loads(artifact.file("teacher.json").read_text())
    assert about["file"] == "teacher.safetensors" and about["preprocessing"]["order"] == "rgb"
    assert str(tmp_path) not in json.dumps(artifact.manifest) + json.dumps(about)
    small = {"architecture": "resnet_thin", "width": 0.25, "epochs": 1, "batch_size": 15, "validation_fraction": 0.5}
    student = StudentSpec(data=colours.fingerprint, resolution=8, method="kd", **small)
    assert published(place, student, guide=artifact).metrics["train_top1"] >= 0


def test_one_teacher_serves_all_seeds(place: Store, colours: Any, tmp_path: Path) -> None:
    spec = admitted(saved(linear_resnet(), tmp_path / "teacher.safetensors"), place, colours.fingerprint)
    again = PretrainedSpec(**to_plain(spec) | {"seed": 7, "epochs": 3, "learning_rate": 1.0})
    assert stage_key(spec, {}) == stage_key(again, {})
    for change in ({"weights": "f" * 16}, {"head": "keep"}, {"order": "bgr"}, {"side": 32}):
        assert stage_key(PretrainedSpec(**to_plain(spec) | change), {}) != stage_key(spec, {})


def test_a_teacher_without_logits_is_verified_by_its_embeddings(packed_digits: Any, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.prepare()
    (store.root / "data").symlink_to(packed_digits.path.parent)
    path = saved(linear_resnet(), tmp_path / "teacher.safetensors")
    spec = admitted(path, store, packed_digits.fingerprint, task="verification", held_out=0.4)
    seen = EvaluationSpec(data=packed_digits.fingerprint, protocol="verification")
    # It knows how bright a digit is, which tells some digits apart.
    assert published(store, seen, network=published(store, spec)).metrics["verification_accuracy"] > 0.5


def test_the_guide_sees_images_as_its_family_wants_them(
    iresnet_file: Path, iresnet_state: layouts.State, place: Store, colours: Any
) -> None:
    spec = admitted(iresnet_file, place, colours.fingerprint, validation_fraction=0.1)
    artifact = published(place, spec)
    splits = Splits.open(spec, Context(store=place, key="0" * 16), torch.device("cpu"))
    guide = FrozenNetwork(artifact, splits, torch.device("cpu"), spec.task)
    assert guide.width == 512 and guide.classes == () and guide.transform.side == 112
    images = splits.train_images[:2]
    outputs = guide(images)
    seen = torch.nn.functional.interpolate(images / 255, size=(112, 112), mode="bicubic", align_corners=False)
    expected = layouts.iresnet_forward(iresnet_state, (seen.clamp(0, 1) - 0.5) / 0.5)
    torch.testing.assert_close(outputs.embedding, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert outputs.logits.shape == (2, 0)


def test_grey_images_are_repeated_and_larger_ones_reduced() -> None:
    from trainables.data.degrade import degrade
    from trainables.pretrained.families import PREPROCESSING

    grey, none = torch.rand(2, 1, 300, 300), torch.zeros(0)
    seen = PREPROCESSING["vggface2"](grey, none, none)
    small = degrade(grey, 256)[..., 16:240, 16:240] * 255
    for channel, mean in enumerate((91.4953, 103.8827, 131.0912)):
        torch.testing.assert_close(seen[:, channel], small[:, 0] - mean)
    colour = torch.rand(1, 3, 160, 160)
    bgr = PREPROCESSING["iresnet"].swapped()
    torch.testing.assert_close(bgr(colour, none, none), PREPROCESSING["iresnet"](colour.flip(1), none, none))


def test_a_network_of_ours_is_normalised_by_the_training_split(place: Store, colours: Any, tmp_path: Path) -> None:
    made = linear_resnet().eval()
    spec = admitted(saved(made, tmp_path / "teacher.safetensors"), place, colours.fingerprint)
    packed = open_packed(colours.path)
    network, _, cut = load_network(published(place, spec), packed)
    assert np.array_equal(cut.train, cut_for(packed, spec).train)
    mean, std = (value.float().view(3, 1, 1) for value in remembered_statistics(packed, cut.train))
    splits = Splits.open(spec, Context(store=place, key="0" * 16), torch.device("cpu"))
    guide = FrozenNetwork(place.get(stage_key(spec, {})), splits, torch.device("cpu"), spec.task)
    with torch.no_grad():
        expected = made((to_float(splits.train_images[:4]) - mean) / std).embedding
    torch.testing.assert_close(guide(splits.train_images[:4]).embedding, expected)
    assert not network.training


def load_history(artifact: Artifact) -> dict[str, float]:
    """The last epoch."""
    with pa.memory_map(str(artifact.file("history.arrow"))) as source:
        return dict(pa.ipc.open_file(source).read_all().to_pylist()[-1])


# What the stage refuses.


def failed(store: Store, spec: PretrainedSpec) -> str:
    last = run(store, spec)
    assert last["outcome"] == "failed" and not store.has(stage_key(spec, {}))
    assert store.failures(stage_key(spec, {}))[0]["hopeless"]
    return str(last["message"])


def test_a_classifier_whose_classes_are_in_another_order_is_refused(place: Store, colours: Any, tmp_path: Path) -> None:
    path = saved(linear_resnet(order=(1, 2, 0)), tmp_path / "teacher.safetensors")
    said = failed(place, admitted(path, place, colours.fingerprint, head="keep"))
    assert "gets 0 of 30 images of colours right, where guessing gets 10.0" in said and "teacher.head=none" in said


def test_red_for_blue_is_noticed_where_a_classifier_is_kept(place: Store, colours: Any, tmp_path: Path) -> None:
    path = saved(linear_resnet(order=(2, 1, 0)), tmp_path / "teacher.safetensors")
    said = failed(place, admitted(path, place, colours.fingerprint, head="keep"))
    assert "gets 30 of 30 images right when red and blue are exchanged, but 10 as RGB. Set teacher.order=bgr" in said
    right = admitted(path, place, colours.fingerprint, head="keep", order="bgr")
    assert published(place, right).metrics["validation_top1"] == 1.0


def test_a_classifier_of_another_number_of_classes_is_refused(place: Store, colours: Any, tmp_path: Path) -> None:
    path = saved(linear_resnet(classes=5), tmp_path / "teacher.safetensors")
    said = failed(place, admitted(path, place, colours.fingerprint, head="keep"))
    assert "the file's has 5 and colours gives 3" in said


def test_a_network_that_sees_no_difference_is_refused(place: Store, colours: Any, tmp_path: Path) -> None:
    network = linear_resnet()
    with torch.no_grad():
        network.trunk[0].weight.zero_()
    spec = admitted(saved(network, tmp_path / "teacher.safetensors"), place, colours.fingerprint)
    assert "gives 30 images of colours one and the same embedding" in failed(place, spec)


# What the files' shelf refuses, and what it keeps.


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a missing key": (
        {"layer3.1.bn2.weight": None},
        {},
        r"does not fit iresnet18: 1 name is missing \(layer3.1.bn2.weight\)",
    ),
    "an unexpected key": ({"surplus.weight": torch.zeros(2)}, {}, r"1 names are unknown to it \(surplus.weight\)"),
    "another architecture": ({}, {"architecture": "iresnet34"}, r"does not fit iresnet34: \d+ names are missing"),
    "another size": (
        {"fc.weight": torch.empty(512, 512 * 14 * 14, device="meta")},
        {},
        r"fc.weight is \[512, 100352\] instead of \[512, 25088\], which says images of 224 x 224 where iresnet18 reads 112",
    ),
    "another family": ({}, {"family": "facenet"}, r"teacher.family=facenet does not fit .*: it looks like iresnet"),
    "an architecture of another family": (
        {},
        {"family": "iresnet", "architecture": "vggface2_resnet50"},
        r"teacher.family=iresnet has the architectures iresnet18, .* but got vggface2_resnet50",
    ),
    "another order of channels": (
        {},
        {"order": "bgr"},
        r"teacher.order=bgr contradicts the family iresnet, whose networks read RGB from 0 to 1",
    ),
    "another side": ({}, {"side": 160}, r"teacher.side=160 contradicts the family iresnet"),
    "a classifier that is not there": ({}, {"head": "keep"}, r"teacher.head=keep needs a classifier, but .* has none"),
    "AdaFace": (
        {"conv1.weight": None, "prelu.weight": None, "input_layer.0.weight": torch.zeros(2, 2)},
        {},
        r"is of no family that is known here: it looks like an IR network as AdaFace .* Its first names are bn1.weight",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_wrong_file_is_refused_with_what_was_found(what: str, iresnet_state: layouts.State) -> None:
    changes, asked, said = REFUSALS[what]
    shapes = {name: tuple(value.shape) for name, value in (iresnet_state | changes).items() if value is not None}
    with pytest.raises(UsageError, match=said):
        identify(shapes, PretrainedSpec(**asked), name="backbone.pth")


def test_nothing_is_kept_of_a_file_that_does_not_fit(tmp_path: Path) -> None:
    state = linear_resnet().state_dict()
    del state["trunk.3.body.0.weight"]
    torch.save(state, tmp_path / "teacher.pth")
    with pytest.raises(UsageError, match=r"1 name is missing \(trunk.3.body.0.weight\)"):
        shelf.admit(str(tmp_path / "teacher.pth"), tmp_path / "store", PretrainedSpec(architecture="resnet_thin"))
    assert os.listdir(tmp_path) == ["teacher.pth"]


def test_a_file_is_kept_once_whoever_brings_it_and_however_often(tmp_path: Path) -> None:
    path, root = saved(linear_resnet(), tmp_path / "teacher.safetensors"), tmp_path / "store"
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(shelf.admit(str(path), root, PretrainedSpec()).digits))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1
    assert sorted(os.listdir(root / "weights")) == [f"{found[0]}.json", f"{found[0]}.safetensors"]
    before = os.stat(root / "weights" / f"{found[0]}.safetensors").st_mtime_ns
    shutil.move(path, tmp_path / "elsewhere")
    assert shelf.admit(str(tmp_path / "elsewhere"), root, PretrainedSpec()).digits == found[0]
    assert shelf.admit(found[0], root, PretrainedSpec()).found.architecture == "resnet_thin"
    assert os.stat(root / "weights" / f"{found[0]}.safetensors").st_mtime_ns == before
    assert [row["digits"] for row in shelf.known(root)] == found[:1]


def test_weights_that_were_altered_in_the_store_are_noticed_and_read_again(
    place: Store, colours: Any, tmp_path: Path
) -> None:
    path = saved(linear_resnet(), tmp_path / "teacher.safetensors")
    spec = admitted(path, place, colours.fingerprint)
    kept = shelf.paths_of(place.root, spec.weights)[0]
    whole = kept.read_bytes()
    for broken in (whole[:-4] + b"\0\0\0\1", whole[: len(whole) // 2]):
        kept.write_bytes(broken)
        with pytest.raises(ArtifactError, match=r"were altered since they were read from teacher.safetensors"):
            shelf.admit(spec.weights, place.root, PretrainedSpec())
        assert "were altered" in failed(place, spec)
        place.forget_failures(stage_key(spec, {}))
    assert shelf.admit(str(path), place.root, PretrainedSpec()).digits == spec.weights
    assert kept.read_bytes() == whole


def test_a_damaged_description_in_the_store_is_written_anew_from_the_file(tmp_path: Path) -> None:
    path, root = saved(linear_resnet(), tmp_path / "teacher.safetensors"), tmp_path / "store"
    digits = shelf.admit(str(path), root, PretrainedSpec()).digits
    beside = shelf.paths_of(root, digits)[1]
    whole = beside.read_text()
    for broken in ("{", "[]", "{}", ""):
        beside.write_text(broken)
        assert shelf.admit(str(path), root, PretrainedSpec()).digits == digits
        assert json.loads(beside.read_text()) == json.loads(whole)


WITHOUT_ROOM = """
import resource, signal, sys
from pathlib import Path
from trainables.errors import DiskFullError
from trainables.pretrained import shelf
from trainables.spec import PretrainedSpec
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    shelf.admit(sys.argv[1], Path(sys.argv[2]), PretrainedSpec())
except DiskFullError as error:
    sys.exit(0 if "No room to write" in str(error) else str(error))
sys.exit("it was written")
"""


def test_a_full_disk_is_told_and_keeps_nothing_of_the_weights(tmp_path: Path) -> None:
    path, root = saved(linear_resnet(), tmp_path / "teacher.safetensors"), tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", WITHOUT_ROOM, str(path), str(root)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert os.listdir(root / "weights") == []


def test_a_poisoned_file_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    import pickle

    class Poison:
        def __reduce__(self) -> Any:
            return os.system, (f"touch '{tmp_path / 'touched'}'",)

    (tmp_path / "senet50_ft_weight.pkl").write_bytes(pickle.dumps({"conv1.weight": Poison()}, protocol=2))
    with pytest.raises(UsageError, match=r"wants to use posix.system. Weights need arrays only"):
        shelf.admit(str(tmp_path / "senet50_ft_weight.pkl"), tmp_path / "store", PretrainedSpec())
    assert os.listdir(tmp_path) == ["senet50_ft_weight.pkl"]


# Planning.


@pytest.fixture
def prepared(packed_digits: Any, tmp_path: Path) -> Callable[..., Prepared]:
    """Prepares a study on the digits in one place."""
    at = Place.of(str(tmp_path / "out"), None)
    at.prepare()
    (at.store / "data").symlink_to(packed_digits.path.parent)

    def make(*settings: str, study: str = STUDY, pack: bool = True, preset: str = "tiny") -> Prepared:
        words = [text for setting in settings for text in ("--set", setting)][1::2]
        request = Request(study=study, preset=preset, settings=words)
        return prepare(request, at, lambda line: None, pack=pack)

    return make


@pytest.fixture
def thin(tmp_path: Path) -> Path:
    """A thin network for the ten digits."""
    torch.manual_seed(0)
    return saved(build("resnet_thin", channels=1, classes=10, width=0.5), tmp_path / "thin.safetensors")


def test_a_plan_names_weights_by_their_digits_and_needs_the_path_once(
    prepared: Callable[..., Prepared], thin: Path
) -> None:
    ready = prepared(f"teacher.weights={thin}", "arm=horkd")
    digits = ready.resolved.parameters["teacher.weights"]
    assert shelf.DIGITS.fullmatch(digits) and ready.request.settings == [f"teacher.weights={digits}", "arm=horkd"]
    assert str(thin) not in ready.request.command()
    made = ready.planner.specs(next(ready.plan.examples()))
    assert made["teacher"].kind == "pretrained"
    assert (made["teacher"].architecture, made["teacher"].width) == ("resnet_thin", 0.5)  # type: ignore[attr-defined]
    thin.unlink()
    again = prepared(*ready.request.settings)
    assert again.run_id == ready.run_id
    assert again.survey.distinct["teacher"] == 1
    # Whatever stage of the study had been trained before has the keys it had.
    assert prepared("arm=horkd").survey.distinct["teacher"] == len(again.resolved.seeds)


def test_a_teacher_from_a_file_joins_settings_that_are_made_from_the_data(
    prepared: Callable[..., Prepared], thin: Path
) -> None:
    ready = prepared(f"teacher.weights={thin}", "arm=horkd", preset="own")
    made = ready.planner.specs(next(ready.plan.examples()))
    assert (made["teacher"].kind, made["teacher"].width) == ("pretrained", 0.5)  # type: ignore[attr-defined]
    assert (made["assistant"].width, made["student"].resolution) == (1.0, 4)  # type: ignore[attr-defined]
    again = prepared(*ready.request.settings, preset="own")
    assert again.run_id == ready.run_id


def test_teachers_from_several_files_are_an_axis(prepared: Callable[..., Prepared], thin: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = saved(build("resnet18", channels=1, classes=10, width=0.125), tmp_path / "other.safetensors")
    ready = prepared(f"teacher.weights={thin},{other}", "arm=horkd")
    cells = ready.plan.cells()
    planner = ready.planner
    found = {planner.specs(cell)["teacher"].architecture for cell in cells}  # type: ignore[attr-defined]
    assert found == {"resnet_thin", "resnet18"} and ready.survey.distinct["teacher"] == 2


def test_a_look_keeps_nothing(prepared: Callable[..., Prepared], thin: Path, tmp_path: Path) -> None:
    ready = prepared(f"teacher.weights={thin}", "arm=horkd", pack=False)
    assert ready.survey.distinct["teacher"] == 1
    assert not (tmp_path / "out" / "store" / "weights").exists()


WRONG_WORDS: dict[str, tuple[tuple[str, ...], str]] = {
    "no such file": (("teacher.weights=/nowhere/x.pth",), r"/nowhere/x.pth must be a file of weights"),
    "digits the store does not know": (("teacher.weights=0123456789abcdef",), r"has no weights 0123456789abcdef"),
    "head without weights": (("teacher.head=keep",), r"teacher.head is of a teacher from a file"),
    "training a trained one": (
        ("teacher.weights={thin}", "teacher.epochs=3"),
        r"teacher.epochs is of a teacher in training",
    ),
    "logits without a head": (("teacher.weights={thin}", "arm=kd"), r"method=kd reads the teacher's logits"),
    "an unknown family": (
        ("teacher.weights={thin}", "teacher.family=insight"),
        r"teacher.family must be one of auto, iresnet",
    ),
    "two architectures": (
        ("teacher.weights={thin}", "teacher.architecture=resnet18,resnet34"),
        r"teacher.architecture takes one value",
    ),
    "logits in a later cell": (("teacher.weights={thin}", "arm=horkd,kd"), r"method=kd reads the teacher's logits"),
    "an embedding layer": (
        ("teacher.weights={thin}", "teacher.embedding=256"),
        r"teacher.embedding is what the file of teacher.weights says. Leave it out",
    ),
    "a stem": (
        ("teacher.weights={thin}", "teacher.stem=large"),
        r"teacher.stem is what the file of teacher.weights says",
    ),
    "the teacher alone in a later cell": (
        ("teacher.weights={thin}", "arm=horkd,teacher"),
        r"The teacher alone is classified by its logits",
    ),
    "the teacher alone": (("teacher.weights={thin}", "arm=teacher"), r"The teacher alone is classified by its logits"),
}


@pytest.mark.parametrize("what", WRONG_WORDS)
def test_words_that_cannot_be_meant_are_refused_before_anything_starts(
    what: str, prepared: Callable[..., Prepared], thin: Path
) -> None:
    settings, said = WRONG_WORDS[what]
    with pytest.raises(UsageError, match=said):
        prepared(*(text.format(thin=thin) for text in settings))


def test_a_head_of_other_classes_is_refused_with_both_numbers(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    path = saved(build("resnet_thin", channels=1, classes=7), tmp_path / "seven.safetensors")
    with pytest.raises(UsageError, match=r"the file's has 7 and digits gives 10"):
        prepared(f"teacher.weights={path}", "teacher.head=keep", "arm=kd")


FACES = {
    **{"name": "lfw", "fingerprint": "f" * 16, "classes": 20, "channels": 3, "height": 64, "width": 64},
    **{"train_images": 13_233, "test_images": 0},
}


def planned(study: str, root: Path, *settings: str, preset: str = "tiny") -> Resolved:
    """A study on faces that nobody has here, as far as it can be refused without them."""
    resolved = resolve(search_spaces.load(study), preset=preset, settings=settings)
    words = (resolved.parameters, resolved.axes, settings)
    admitted = weight_files.admit(*words, root, lambda line: None, write=True)
    resolved = dataclasses.replace(resolved, parameters=admitted.parameters, axes=admitted.axes)
    check_against_data(Planner(Plan(resolved, FACES, weights=admitted.weights)))
    return resolved


def test_a_teacher_from_a_file_verifies_faces_by_its_embeddings_as_the_manual_has_it(tmp_path: Path) -> None:
    thin = saved(linear_resnet(), tmp_path / "thin.safetensors")
    preset = search_spaces.load("horkd_face_verification").preset_for("lfw")
    resolved = planned("horkd_face_verification", tmp_path, f"teacher.weights={thin}", preset=preset)
    assert "teacher" in resolved.axes["arm"] and "kd" not in resolved.axes["arm"]
    with pytest.raises(UsageError, match=r"method=kd reads the teacher's logits"):
        planned("horkd_face_verification", tmp_path, f"teacher.weights={thin}", "arm=horkd,kd")


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[None]:
    """A file with two losses and two networks."""
    path = tmp_path / "mine.py"
    path.write_text(
        """
from torch import nn
from trainables import plugins
from trainables.models.network import Outputs

@plugins.loss("by_logits", logits=True)
def by_logits(student, teacher, labels):
    return (student.logits - teacher.logits).square().mean()

@plugins.loss("by_maps", maps=True)
def by_maps(student, teacher, labels):
    return student.maps[0].mean()

class Small(nn.Module):
    def __init__(self, channels, classes, head):
        super().__init__()
        self.embedding_width, self.map_widths, self.head = 8, (), head
        self.layer = nn.Conv2d(channels, 8, 3)
        setattr(self, head, nn.Linear(8, classes))

    def forward(self, images, maps=False):
        embedding = self.layer(images).mean((2, 3))
        return Outputs(embedding, getattr(self, self.head)(embedding))

@plugins.network("usual")
def usual(*, channels, classes):
    return Small(channels, classes, "classifier")

@plugins.network("unusual")
def unusual(*, channels, classes):
    return Small(channels, classes, "last")
"""
    )
    plugins.load(str(path))
    yield
    plugins.forget()


@pytest.mark.usefixtures("mine")
def test_a_plugins_loss_on_logits_or_maps_needs_a_teacher_that_has_them(tmp_path: Path) -> None:
    thin = f"teacher.weights={saved(linear_resnet(), tmp_path / 'thin.safetensors')}"
    with pytest.raises(UsageError, match=r"method=by_logits reads the teacher's logits, but teacher.head=none"):
        planned("horkd_order_ablation", tmp_path, thin, "method=by_logits")
    planned("horkd_order_ablation", tmp_path, thin, "method=by_maps")
    torchvision = pytest.importorskip("torchvision")
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), tmp_path / "squeezenet.pth")
    flat = (f"teacher.weights={tmp_path / 'squeezenet.pth'}", "teacher.architecture=torchvision:squeezenet1_1")
    with pytest.raises(
        UsageError, match=r"method=by_maps needs feature maps, but torchvision:squeezenet1_1 gives none"
    ):
        planned("horkd_order_ablation", tmp_path, *flat, "method=by_maps")


@pytest.mark.usefixtures("mine")
def test_a_plugins_network_begins_with_the_weights_of_a_file_if_its_classifier_is_known(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = saved(build("usual", channels=3, classes=7), tmp_path / "usual.safetensors")
    digits = shelf.admit(str(path), tmp_path, None).digits
    begun = build("usual", channels=3, classes=4)
    begin(begun, tmp_path, digits)
    assert torch.equal(begun.state_dict()["layer.weight"], load_file(path)["layer.weight"])
    start = f"start_weights={path}"
    planned("horkd_order_ablation", tmp_path, start, "architecture=usual", "width=1")
    with pytest.raises(UsageError, match=r"calls its classifier `classifier`, .* but a Small has no such layer"):
        planned("horkd_order_ablation", tmp_path, start, "architecture=unusual", "width=1")
    # Its `layer` is no embedding layer, which might be drawn where it does not fit.
    with pytest.raises(UsageError, match=r"cannot begin the training of this network"):
        begin(build("usual", channels=5, classes=4), tmp_path, digits)


def test_untrained_networks_refuse_no_study_that_begins_with_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    thin = saved(build("resnet_thin", channels=3, classes=10, width=0.5), tmp_path / "thin.safetensors")
    network = ("architecture=resnet_thin", "width=0.5")
    planned(STUDY, tmp_path, f"start_weights={thin}", *network, "arm=horkd,pixels")
    planned(STUDY, tmp_path, f"start_weights={thin}", *network, "arm=horkd,pixels,random", "untrained.width=1")
    with pytest.raises(UsageError, match=r"cannot begin the training of this network"):
        planned(STUDY, tmp_path, f"start_weights={thin}", "architecture=resnet_thin", "width=1", "arm=horkd,pixels")


def test_studies_without_files_never_look_at_torch() -> None:
    code = f"""
import sys, search_spaces
from sweeps.planning import weight_files
from sweeps.planning.checks import check_against_data
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Planner
from sweeps.planning.resolve import resolve
planner = Planner(Plan(resolve(search_spaces.load({STUDY!r}), preset="tiny"), {FACES!r}))
check_against_data(planner)
resolved = planner.plan.resolved
assert not weight_files.named((*resolved.parameters, *resolved.axes)) and not planner.plan.weights.teachers
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_outputs_of_a_teacher_without_logits_are_kept_and_read(place: Store, colours: Any, tmp_path: Path) -> None:
    from trainables.recipes.step import outputs_role
    from trainables.stages.outputs import outputs_specs

    spec = admitted(saved(linear_resnet(), tmp_path / "teacher.safetensors"), place, colours.fingerprint)
    teacher = published(place, spec)
    small = {"architecture": "resnet_thin", "width": 0.25, "epochs": 1, "batch_size": 15, "validation_fraction": 0.5}
    live = StudentSpec(data=colours.fingerprint, resolution=8, augment="flip", **small)
    kept = StudentSpec(**to_plain(live) | {"teacher_outputs": "cached"})
    base, *shards = outputs_specs(kept)
    first = published(place, base, guide=teacher)
    parents = {"guide": teacher, outputs_role("student", 0): first}
    for number, shard in enumerate(shards, start=1):
        parents[outputs_role("student", number)] = published(place, shard, guide=teacher, base=first)
    assert np.load(parents[outputs_role("student", 1)].file("logits.npy")).shape == (30, 2, 0)
    found = [published(place, live, guide=teacher), published(place, kept, **parents)]
    losses = [load_history(artifact)["train/point"] for artifact in found]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and losses[0] > 0


# Trainings that begin with the weights of a file.


def test_a_training_begins_with_the_weights_of_a_file_but_for_its_classifier(
    place: Store, colours: Any, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    other = build("resnet_thin", channels=3, classes=8, width=0.5)
    digits = shelf.admit(str(saved(other, tmp_path / "other.safetensors")), place.root, None).digits
    tiny = {"architecture": "resnet_thin", "width": 0.5, "epochs": 1, "batch_size": 15, "validation_fraction": 0.5}
    # With a rate of nothing what is trained stays as it began.
    spec = TeacherSpec(data=colours.fingerprint, learning_rate=0.0, start_weights=digits, **tiny)
    weights = load_file(published(place, spec).file("weights.safetensors"))
    drawn = load_file(
        published(place, TeacherSpec(**to_plain(spec) | {"start_weights": ""})).file("weights.safetensors")
    )
    for name, value in other.state_dict().items():
        if not name.startswith("classifier.") and "running" not in name and "num_batches" not in name:
            assert torch.equal(weights[name], value), name
    assert torch.equal(weights["classifier.weight"], drawn["classifier.weight"])
    assert not torch.equal(weights["trunk.0.weight"], drawn["trunk.0.weight"])


def test_a_first_convolution_for_colours_is_summed_for_grey_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    colour, grey = (build("resnet_thin", channels=channels, classes=2, width=0.5).eval() for channels in (3, 1))
    digits = shelf.admit(str(saved(colour, tmp_path / "colour.safetensors")), tmp_path, None).digits
    begin(grey, tmp_path, digits)  # type: ignore[arg-type]
    images = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        expected = colour(images.expand(-1, 3, -1, -1)).embedding
    torch.testing.assert_close(grey(images).embedding.detach(), expected)


def test_weights_of_torchvision_begin_a_training_of_its_network(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    made = torchvision.models.mobilenet_v3_small(weights=None)
    torch.save(made.state_dict(), tmp_path / "mobilenet.pth")
    digits = shelf.admit(str(tmp_path / "mobilenet.pth"), tmp_path, None).digits
    network = build("torchvision:mobilenet_v3_small", channels=3, classes=5, embedding=16)
    begin(network, tmp_path, digits)  # type: ignore[arg-type]
    body = network.body.state_dict()  # type: ignore[union-attr, operator]
    assert len(body) == len(made.state_dict()) - 2
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in body.items())


def test_a_plan_refuses_a_start_that_does_not_fit_and_keeps_digits(
    prepared: Callable[..., Prepared], thin: Path
) -> None:
    with pytest.raises(UsageError, match=r"thin.safetensors cannot begin the training .* \(for the student\)"):
        prepared(f"student.start_weights={thin}", "student.architecture=vgg11", "arm=horkd")
    fitting = ("student.architecture=resnet_thin", "student.width=0.5", "arm=horkd")
    ready = prepared(f"student.start_weights={thin}", *fitting)
    made = ready.planner.specs(next(ready.plan.examples()))
    assert shelf.DIGITS.fullmatch(made["student"].start_weights)  # type: ignore[attr-defined]
    assert made["student"].components()["pretrained"] == 1 and not made["teacher"].start_weights  # type: ignore[attr-defined]
    assert ready.request.settings[0] == f"student.start_weights={made['student'].start_weights}"  # type: ignore[attr-defined]

"""Names that others rest on: imports of plug-ins, the purposes that seed generators, weights in files."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeps.runs.folder import Place
from trainables import plugins
from trainables.data.batches import generator
from trainables.data.draws import seeded_random
from trainables.losses.distiller import Distiller
from trainables.models import build
from trainables.models.caffe_resnet import CaffeResNet
from trainables.models.inception_resnet import InceptionResnetV1
from trainables.models.iresnet import DEPTHS, IResNet
from trainables.spec import ARCHITECTURES, DistillationSpec

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PURPOSE = re.compile(r"[ -~]*/[ -~]*")
METHODS = ("horkd", "kd", "fitnet", "at", "rkd", "pkt", "sp", "darkrank", "mkd", "crd")

# What plug-ins import.


def imports() -> list[str]:
    """Every line that imports in the blocks of docs/plugins.md, once."""
    blocks = BLOCK.findall((ROOT / "docs" / "plugins.md").read_text(encoding="utf-8"))
    nodes = (node for block in blocks for node in ast.parse(block).body)
    found = [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return list(dict.fromkeys(found))


def test_the_documentation_imports_what_it_did(pin: Any) -> None:
    pin("names", "imports", sorted(imports()))


def test_every_import_of_the_documentation_works(pin: Any) -> None:
    for line in {*imports(), *pin.parts("names")["imports"]}:
        exec(line, {})


def test_the_names_that_plugins_offer(pin: Any) -> None:
    used = set()
    for block in BLOCK.findall((ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")):
        used |= {node.attr for node in ast.walk(ast.parse(block)) if _of_plugins(node)}  # type: ignore[attr-defined]
    used |= set(re.findall(r"\bplugins\.(\w+)\(", (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")))
    pin("names", "of plugins", sorted(used))
    assert all(callable(getattr(plugins, name)) for name in pin.parts("names")["of plugins"])


def _of_plugins(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "plugins"


# What generators are seeded with.


@contextlib.contextmanager
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Every text from which a seed is made, whoever makes it."""
    heard: set[str] = set()
    original: Callable[..., Any] = hashlib.blake2b

    def blake2b(data: bytes = b"", **more: Any) -> Any:
        text = bytes(data).decode("ascii", errors="replace")
        if more.get("digest_size") in (4, 8) and PURPOSE.fullmatch(text):
            heard.add(text)
        return original(data, **more)

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "blake2b", blake2b)
        yield heard


TRAINED: dict[str, tuple[str, ...]] = {
    "everything that is drawn": (
        "horkd_order_ablation",
        *("orders=1+2+3+C", f"assistant.method={'+'.join(METHODS)}", "teacher.width=0.5", "width=0.25", "epochs=2"),
        *("train_images=60", "augment=crop_flip", "images_per_class=4", "crd.negatives=8", "feature_norm=none"),
        *("centers=epoch", "triplet.weight=0.1"),
    ),
    "kept outputs": (
        "horkd_order_ablation",
        *("orders=1", "assistant.method=kd+horkd", "teacher_outputs=cached_epochs", "augment=crop", "epochs=1"),
        *("train_images=60", "split_seed=3"),
    ),
    "people": ("horkd_face_identification", "arm=ce,pixels", "epochs=1", "subjects=3"),
    "pairs": ("horkd_face_verification", "arm=ce,pixels", "epochs=1"),
}


@pytest.mark.parametrize("title", TRAINED)
def test_the_purposes_that_seed_what_is_drawn(
    title: str, pin: Any, finished: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study, *settings = TRAINED[title]
    place = finished.args[0]
    with listening(monkeypatch) as heard:
        finished.func(Place(tmp_path / "runs", _beside(place.store, tmp_path)), study, *settings, seeds="1")
    assert heard
    pin("purposes", title, sorted(heard))


def _beside(store: Path, folder: Path) -> Path:
    """A store of its own, so that nothing is found there, with the packed data of another."""
    own = folder / "store"
    own.mkdir()
    (store / "data").mkdir(parents=True, exist_ok=True)
    (own / "data").symlink_to(store / "data")
    return own


def test_the_first_number_of_every_purpose(pin: Any) -> None:
    told: dict[str, Any] = {}
    for text in sorted({text for title in TRAINED for text in pin.parts("purposes")[title]}):
        seed, _, rest = text.partition("/")
        epoch, slash, purpose = rest.partition("/")
        if slash:
            made = generator(int(seed), int(epoch), purpose)
            told[text] = int(torch.randint(2**31, (1,), generator=made))
        else:
            told[text] = int(seeded_random(text).randint(2**31))
    pin("names", "first numbers", told)


# What weights are called in files.


def names_of(module: torch.nn.Module) -> list[str]:
    return [f"{name} {list(value.shape)}" for name, value in module.state_dict().items()]


@pytest.mark.parametrize("name", [*ARCHITECTURES, "pixels"])
def test_the_weights_of_a_network(name: str, pin: Any, digest: Any) -> None:
    with torch.device("meta"):
        made = {
            f"embedding {embedding}": names_of(build(name, channels=3, classes=4, embedding=embedding))
            for embedding in (0, 7)
        }
        if name in ("resnet18", "resnet34", "resnet50"):
            made["large stem"] = names_of(build(name, channels=3, classes=4, stem="large"))
    told = {what: f"{len(names)} {digest(sorted(names))} in order {digest(names)}" for what, names in made.items()}
    pin("weights", name, told)
    if name == "resnet_thin":
        pin("weights", "resnet_thin in full", made["embedding 7"])


@pytest.mark.parametrize(
    ("name", "make"),
    [
        *((name, lambda name=name: IResNet(DEPTHS[name])) for name in DEPTHS),
        ("vggface2_resnet50", lambda: CaffeResNet(squeeze=False)),
        ("vggface2_senet50", lambda: CaffeResNet(squeeze=True)),
        ("inception_resnet_v1", InceptionResnetV1),
    ],
)
def test_the_weights_of_a_network_of_others(name: str, make: Callable[[], Any], pin: Any, digest: Any) -> None:
    with torch.device("meta"):
        names = names_of(make())
    pin("weights", name, f"{len(names)} {digest(sorted(names))} in order {digest(names)}")


@pytest.mark.parametrize("method", METHODS)
def test_the_weights_that_a_loss_trains_along(method: str, pin: Any) -> None:
    """They are in checkpoints of stages that were stopped."""
    for title, (student, teacher) in {"other widths": (4, 6), "one width": (5, 5)}.items():
        loss = Distiller(
            DistillationSpec(method=method),
            student_width=student,
            teacher_width=teacher,
            student_maps=(2, 3),
            teacher_maps=(3, 5),
            classes=3,
            item_labels=torch.arange(12) % 3,
            seed_module=lambda purpose: contextlib.nullcontext(),
        )
        pin("weights", f"loss {method}, {title}", sorted(names_of(loss)))

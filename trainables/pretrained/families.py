"""Which network a file's names and shapes belong to, whether all of them fit, and what images it wants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainables.data.preprocess import Preprocessing
from trainables.errors import UsageError
from trainables.models import build
from trainables.models.caffe_resnet import CaffeResNet
from trainables.models.foreign import NoClassifier
from trainables.models.inception_resnet import InceptionResnetV1
from trainables.models.iresnet import DEPTHS, IResNet
from trainables.models.network import Network, widened
from trainables.models.outside import Outside, first_convolution, is_outside, outside, require_readable
from trainables.spec import ARCHITECTURES, GivenSpec, registry
from trainables.spec.networks import family_of, with_stem

Shapes = Mapping[str, tuple[int, ...]]

# What the authors of each family feed it.
PREPROCESSING = {
    "iresnet": Preprocessing("rgb", 1, (0.5,) * 3, (0.5,) * 3, side=112),
    "vggface2": Preprocessing("bgr", 255, (91.4953, 103.8827, 131.0912), (1.0,) * 3, side=256, crop=224),
    "facenet": Preprocessing("rgb", 255, (127.5,) * 3, (128.0,) * 3, side=160),
}
HEADS = {"iresnet": "", "vggface2": "fc", "facenet": "logits"}  # Name of the classifier in the file.
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # Further classifiers of Inception and GoogLeNet, read in training only.
TORCHVISION: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}
# Beginnings of names that tell what a file is that cannot be read here.
STRANGERS = {
    "input_layer.": "an IR network as AdaFace and face.evoLVe name it",
    "model.input_layer.": "an IR network in a checkpoint of AdaFace's training",
    "conv_sep.": "insightface's MobileFaceNet",
    "input_blocks.": "a diffusion network",
    "optimizer": "a checkpoint of an optimiser",
}


@dataclass(frozen=True)
class Found:
    """What a file of weights turned out to be."""

    family: str
    architecture: str
    width: float
    embedding: int  # Of our own networks: width of their embedding layer, 0 for none.
    stem: str
    embedding_width: int
    classes: int  # Of the classifier in the file, 0 for none.
    preprocessing: Preprocessing
    parameters: int
    left_out: tuple[str, ...]  # Names in the file that are not used.

    def parameters_of_spec(self) -> dict[str, Any]:
        """Fields of `GivenSpec` that say the same."""
        names = ("family", "architecture", "width", "embedding", "stem")
        return {name: getattr(self, name) for name in names}


def identify(shapes: Shapes, asked: GivenSpec, *, name: str, pickled: bool = False) -> Found:
    """What the file is; every name and shape is compared with the network's.

    Args:
        shapes: Of the file, by name.
        asked: Family and architecture where they are not auto, the head, overrides of the preprocessing.
        name: Of the file, for messages.
        pickled: Whether it was a pickle of numpy arrays, as VGGFace2's are.

    Raises:
        UsageError: If it is unknown, or does not fit, with what was found.
    """
    family, architecture = _recognise(shapes, asked, name, pickled)
    guess = (
        _structure(shapes, architecture, asked.width)[0]
        if family == "plain"
        else {"width": 1.0, "embedding": 0, "stem": "small"}
    )
    channels = _channels(shapes, architecture) if family == "plain" else 3
    network, head = _build(architecture, family, shapes, channels=channels, **guess)
    rows = network.classifier.out_features
    left_out = _compare(network, shapes, head=head, keep=asked.head == "keep", name=name, architecture=architecture)
    if asked.head == "keep" and not rows:
        raise UsageError(
            f"teacher.head=keep needs a classifier, but {name} has none ({architecture}"
            f"{', whose classifier comes in a file of its own' if family == 'iresnet' else ''}). Leave head=none."
        )
    if asked.side and isinstance(network, Outside):
        # The libraries' own sides are read by their networks; another one may be too small, or not the one that is fixed.
        require_readable(network.body, architecture, channels=channels, side=asked.side)
    return Found(
        family=family,
        architecture=architecture,
        embedding_width=network.embedding_width,
        classes=rows,
        preprocessing=_preprocessing(family, architecture, network, asked, channels),
        parameters=sum(p.numel() for part, p in network.named_parameters() if not part.startswith("classifier.")),
        left_out=left_out,
        **guess,
    )


def assemble(tensors: Mapping[str, Tensor], found: Found, *, keep_head: bool) -> Network:
    """The network with the weights of a file, in evaluation mode and frozen.

    Raises:
        UsageError: If a name or shape does not fit after all.
    """
    family, architecture, channels = found.family, found.architecture, found.preprocessing.channels
    guess: dict[str, Any] = {"width": found.width, "embedding": found.embedding, "stem": found.stem}
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    network, head = _build(architecture, family, shapes, channels=channels, **guess)
    if not keep_head:
        network.classifier = NoClassifier(network.embedding_width)
    names = _renamed(tensors, network, head)
    wanted = network.state_dict()
    state = {ours: tensors[theirs] for theirs, ours in names.items() if ours in wanted}
    for ours, value in wanted.items():
        if ours.endswith("num_batches_tracked"):
            state.setdefault(ours, torch.zeros((), dtype=torch.int64))
        elif ours not in state or state[ours].shape != value.shape:
            raise UsageError(f"{ours} of {architecture} does not fit the weights. Look at them with `teachers check`.")
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def drawn(spec: GivenSpec, channels: int) -> tuple[Network, int, int]:
    """A network like the one of a spec with weights as they are drawn, and the channels and side of what it reads.

    Side 0 stands for that of the data. It takes the time that the one from the file takes.
    """
    own = PREPROCESSING.get(spec.family)
    if own is None:
        made = build(
            spec.architecture,
            channels=channels,
            classes=1,
            width=spec.width,
            embedding=spec.embedding,
            stem=spec.stem,
        )
        assert isinstance(made, Network)
        wanted = made.normal.side if isinstance(made, Outside) else 0
        return made, channels, spec.side or wanted
    if spec.family == "iresnet":
        return IResNet(DEPTHS[spec.architecture]), own.channels, own.read_side(0)
    if spec.family == "vggface2":
        return CaffeResNet(squeeze=spec.architecture.endswith("senet50")), own.channels, own.read_side(0)
    return InceptionResnetV1(), own.channels, own.read_side(0)


def _recognise(shapes: Shapes, asked: GivenSpec, name: str, pickled: bool) -> tuple[str, str]:
    """Family and architecture, as asked or else by the names."""
    family, architecture = asked.family, asked.architecture
    if family == "auto" and architecture != "auto":
        family = family_of(architecture) or "plain"
    guessed, guess = _guess(shapes, pickled, asked.width)
    if family == "auto":
        if not guessed:
            stranger = next((what for start, what in STRANGERS.items() if any(n.startswith(start) for n in shapes)), "")
            raise UsageError(
                f"{name} is of no family that is known here{f': it looks like {stranger}' if stranger else ''}. "
                f"Its first names are {first(shapes)}. Known are insightface's iresnet, VGGFace2's resnet50 and senet50, "
                "facenet-pytorch, our own networks, and with teacher.architecture=torchvision:NAME or timm:NAME theirs."
            )
        family = guessed
    if architecture == "auto":
        if guessed != family or not guess:
            raise UsageError(
                f"teacher.family={family} does not fit {name}: "
                f"{f'it looks like {guessed} ({guess})' if guessed else 'its first names are ' + first(shapes)}. "
                + ("Name the network with teacher.architecture=NAME." if family == "plain" else "Use another family.")
            )
        architecture = guess
    entry = registry.find("network_family", family)
    known = tuple(entry.facts["sizes"]) if entry is not None else ()
    if (family == "plain") == bool(family_of(architecture)) or (known and architecture not in known):
        what = ", ".join(known) if known else f"{', '.join(ARCHITECTURES)}, torchvision:NAME, timm:NAME"
        raise UsageError(f"teacher.family={family} has the architectures {what}, but got {architecture}.")
    return family, architecture


def _guess(shapes: Shapes, pickled: bool, width: float) -> tuple[str, str]:
    """Family and architecture by the names alone, or two empty words."""
    if {"prelu.weight", "layer1.0.prelu.weight", "features.weight"} <= set(shapes):
        # The third stage tells all published depths apart; a file of none gets the nearest, whose names then differ.
        blocks = _blocks(shapes, 3)
        return "iresnet", min(DEPTHS, key=lambda known: abs(DEPTHS[known][2] - blocks))
    if "conv2d_1a.conv.weight" in shapes and "last_linear.weight" in shapes:
        return "facenet", "inception_resnet_v1"
    if {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"} <= set(shapes):
        if "layer1.0.conv4.weight" in shapes:
            return "vggface2", "vggface2_senet50"
        if pickled or _side(shapes, "fc.weight", 0) == 8631:
            return "vggface2", "vggface2_resnet50"
        depths = tuple(_blocks(shapes, stage) for stage in range(1, 5))
        name = TORCHVISION.get(("layer1.0.conv3.weight" in shapes, depths))
        return ("plain", f"torchvision:{name}") if name else ("", "")
    own = _own(shapes, width) if "trunk.0.weight" in shapes else ""
    return ("plain", own) if own else ("", "")


def _blocks(shapes: Shapes, stage: int) -> int:
    """Blocks of a stage, counted in the names `layerSTAGE.NUMBER.`."""
    return len({name.split(".")[1] for name in shapes if name.startswith(f"layer{stage}.")})


def _side(shapes: Shapes, name: str, axis: int, default: int = 0) -> int:
    """One side of a tensor of the file; `default` where it is not there, or has fewer."""
    shape = shapes.get(name, ())
    return shape[axis] if len(shape) > axis else default


def _own(shapes: Shapes, width: float) -> str:
    """Which of our own networks has these names, and shapes if any has them; or nothing."""
    alike = []
    for name in ARCHITECTURES:
        if _stem(shapes) == "large" and name not in with_stem("large"):
            continue
        _, names, fits = _structure(shapes, name, width)
        if fits:
            return name
        if names:
            alike.append(name)
    return next(iter(alike), "")


def _structure(shapes: Shapes, architecture: str, width: float) -> tuple[dict[str, Any], bool, bool]:
    """Width, embedding layer and stem of our own networks from the shapes, and whether all names and all shapes fit.

    Many widths round to the same first layer, so those are tried that people write. A width other than 1 is as asked.
    """
    first: dict[str, Any] = {"width": 1.0, "embedding": 0, "stem": "small"}
    if is_outside(architecture):
        return first, True, True
    first |= {"embedding": _side(shapes, "embedding.weight", 0), "stem": _stem(shapes)}
    channels = _channels(shapes, architecture)
    layer = _side(shapes, "trunk.0.weight", 0)
    for number, tried in enumerate(_widths(layer, 16 if architecture == "resnet_thin" else 64, width)):
        guess = first | {"width": tried}
        try:
            network, _ = _build(architecture, "plain", shapes, channels=channels, **guess)
        except UsageError:
            return first, False, False
        wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        body = {key for key in wanted if not key.startswith("classifier.")}
        if number == 0:
            first = guess
            if not body <= set(shapes) <= set(wanted):
                return first, False, False
        if all(wanted[key] == tuple(shapes[key]) for key in body):
            return guess, True, True
    return first, True, False


def _stem(shapes: Shapes) -> str:
    return "large" if _side(shapes, "trunk.0.weight", 3) == 7 else "small"


def _widths(layer: int, base: int, width: float) -> Iterator[float]:
    """Widths that make a first layer of `base` channels one of `layer`: the plain ratio, then those of few decimals."""
    if width != 1.0 or not layer:
        yield width
        return
    yield layer / base
    for parts in (10, 100, 1000):
        low, high = math.floor((layer - 0.5) * parts / base), math.ceil((layer + 0.5) * parts / base)
        yield from (k / parts for k in range(max(1, low), high + 1) if widened(base, k / parts) == layer)


def _channels(shapes: Shapes, architecture: str) -> int:
    if not is_outside(architecture):
        return _side(shapes, "trunk.0.weight", 1, 3)
    # Networks of other libraries are made to fit the file. Other layers may read one channel, too.
    read = _side(shapes, first_convolution(architecture), 1, 3)
    return read if read in (1, 3) else 3


def _build(
    architecture: str, family: str, shapes: Shapes, *, channels: int, width: float, embedding: int, stem: str
) -> tuple[Network, str]:
    """The network with a classifier as the file's, if it has one, and the name of that in the file.

    It has no weights yet where that can be had; those of other libraries draw theirs.
    """
    head = HEADS.get(family, "classifier")
    if family == "plain" and is_outside(architecture):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            other = outside(architecture, channels=channels, classes=0)
        if rows := _rows(shapes, other.head_name):
            with torch.device("meta"):
                # MaxViT's last layer has none, and the logits are the file's either way.
                bias = f"{other.head_name}.bias" in shapes
                other.classifier = nn.Linear(other.embedding_width, rows, bias=bias)
        return other, other.head_name
    rows = _rows(shapes, head)
    with torch.device("meta"):
        if family == "iresnet":
            return IResNet(DEPTHS[architecture]), head
        if family == "vggface2":
            return CaffeResNet(squeeze=architecture.endswith("senet50"), classes=rows), head
        if family == "facenet":
            return InceptionResnetV1(classes=rows), head
        made = build(architecture, channels=channels, classes=rows or 1, width=width, embedding=embedding, stem=stem)
    assert isinstance(made, Network)
    if not rows:
        made.classifier = NoClassifier(made.embedding_width)
    return made, head


def _rows(shapes: Shapes, head: str) -> int:
    """Classes of a linear classifier in the file, or 0."""
    shape = shapes.get(f"{head}.weight", ()) if head else ()
    return shape[0] if len(shape) == 2 else 0


def _renamed(shapes: Mapping[str, Any], network: Network, head: str) -> dict[str, str]:
    """The file's names -> the network's."""
    start = "body." if isinstance(network, Outside) else ""
    return {
        name: f"classifier.{name[len(head) + 1 :]}" if head and name.startswith(f"{head}.") else start + name
        for name in shapes
    }


def _compare(
    network: Network, shapes: Shapes, *, head: str, keep: bool, name: str, architecture: str
) -> tuple[str, ...]:
    """Names of the file that are left out.

    Raises:
        UsageError: If a tensor is missing, is too many, or has another shape.
    """
    names = _renamed(shapes, network, head)
    back = {ours: theirs for theirs, ours in names.items()}
    wanted = {ours: tuple(value.shape) for ours, value in network.state_dict().items()}
    missing = [
        ours
        for ours in wanted
        if ours not in back
        and not ours.endswith("num_batches_tracked")
        and (keep or not ours.startswith("classifier."))
    ]
    left_out = [theirs for theirs, ours in names.items() if ours.startswith("classifier.") and not keep]
    extra: list[str] = []
    for theirs, ours in names.items():
        if ours not in wanted and not ours.startswith("classifier."):
            (left_out if theirs.startswith(AUXILIARY) else extra).append(theirs)
    wrong = [
        f"{back[ours]} is {list(shapes[back[ours]])} instead of {list(shape)}{_side_of(back[ours], shapes, architecture)}"
        for ours, shape in wanted.items()
        if ours in back and tuple(shapes[back[ours]]) != shape
    ]
    said = []
    if missing:
        names_are = "name is" if len(missing) == 1 else "names are"
        said.append(f"{len(missing)} {names_are} missing ({first(_their_names(missing, network, head))})")
    if extra:
        said.append(f"{len(extra)} names are unknown to it ({first(extra)})")
    if wrong:
        said.append(f"{len(wrong)} shapes differ ({'; '.join(wrong[:3])})")
    if said:
        raise UsageError(
            f"{name} does not fit {architecture}: {', '.join(said)}. It holds {len(shapes)} tensors, the network has "
            f"{len(wanted)}. Name the right one with teacher.architecture=NAME"
            f"{', its width with teacher.width=NUMBER' if wrong and architecture in ARCHITECTURES else ''}, or use another "
            "file."
        )
    return tuple(sorted(left_out))


def _their_names(names: list[str], network: Network, head: str) -> list[str]:
    start = "body." if isinstance(network, Outside) else ""
    return [
        f"{head}.{name.removeprefix('classifier.')}" if name.startswith("classifier.") else name.removeprefix(start)
        for name in names
    ]


def _side_of(name: str, shapes: Shapes, architecture: str) -> str:
    """What the width of the layer after the last map says about the size of the images."""
    if not architecture.startswith("iresnet") or name != "fc.weight" or len(shapes[name]) != 2:
        return ""
    pixels = math.isqrt(shapes[name][1] // 512)
    if pixels * pixels * 512 != shapes[name][1]:
        return ""
    return f", which says images of {16 * pixels} x {16 * pixels} where {architecture} reads 112 x 112"


def _preprocessing(family: str, architecture: str, network: Network, asked: GivenSpec, channels: int) -> Preprocessing:
    given = {n: getattr(asked, n) for n in ("order", "mean", "std", "side") if getattr(asked, n) not in ("auto", (), 0)}
    if family != "plain":
        own = PREPROCESSING[family]
        other = {n: v for n, v in given.items() if v != (own.crop if n == "side" and own.crop else getattr(own, n))}
        if other:
            what, value = next(iter(other.items()))
            raise UsageError(
                f"teacher.{what}={value} contradicts the family {family}, whose networks read {own.sentence()}. "
                "Leave it out; if the file is of another kind, name its family."
            )
        return own
    normal = network.normal if isinstance(network, Outside) else None
    order = given.get("order", "rgb")
    # Those of a library are of red, green and blue; each stays with its colour.
    turn = -1 if order == "bgr" else 1
    return Preprocessing(
        order=order,
        mean=tuple(given.get("mean", normal.mean[:channels][::turn] if normal is not None else ())),
        std=tuple(given.get("std", normal.std[:channels][::turn] if normal is not None else ())),
        side=given.get("side", normal.side if normal is not None else 0),
        channels=channels,
    )


def first(names: Any, most: int = 4) -> str:
    """The first few names, for messages."""
    shown = list(names)
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")

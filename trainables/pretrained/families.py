"""Which network a file's names and shapes belong to, whether all of them fit, and what images it wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainables.data.preprocess import Preprocessing
from trainables.errors import UsageError
from trainables.models import build
from trainables.models.caffe_resnet import CaffeResNet
from trainables.models.foreign import NoClassifier
from trainables.models.inception_resnet import InceptionResnetV1
from trainables.models.iresnet import DEPTHS, IResNet
from trainables.models.network import Network
from trainables.models.outside import Outside, require_readable
from trainables.pretrained.fitting import Shapes, built, channels_of, compare, first, renamed
from trainables.pretrained.recognition import guess_of, structure_of
from trainables.spec import ARCHITECTURES, GivenSpec, registry
from trainables.spec.networks import family_of

# What the authors of each family feed it.
PREPROCESSING = {
    "iresnet": Preprocessing("rgb", 1, (0.5,) * 3, (0.5,) * 3, side=112),
    "vggface2": Preprocessing("bgr", 255, (91.4953, 103.8827, 131.0912), (1.0,) * 3, side=256, crop=224),
    "facenet": Preprocessing("rgb", 255, (127.5,) * 3, (128.0,) * 3, side=160),
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
        structure_of(shapes, architecture, asked.width)[0]
        if family == "plain"
        else {"width": 1.0, "embedding": 0, "stem": "small"}
    )
    channels = channels_of(shapes, architecture) if family == "plain" else 3
    network, head = built(architecture, family, shapes, channels=channels, **guess)
    rows = network.classifier.out_features
    left_out = compare(network, shapes, head=head, keep=asked.head == "keep", name=name, architecture=architecture)
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
    network, head = built(architecture, family, shapes, channels=channels, **guess)
    if not keep_head:
        network.classifier = NoClassifier(network.embedding_width)
    names = renamed(tensors, network, head)
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
    guessed, guess = guess_of(shapes, pickled, asked.width)
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

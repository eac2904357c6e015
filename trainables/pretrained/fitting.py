"""Whether the names and shapes of a file are those of a network, and what differs where they are not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from trainables.errors import UsageError
from trainables.models import build
from trainables.models.caffe_resnet import CaffeResNet
from trainables.models.foreign import NoClassifier
from trainables.models.inception_resnet import InceptionResnetV1
from trainables.models.iresnet import DEPTHS, IResNet
from trainables.models.network import Network
from trainables.models.outside import Outside, first_convolution, is_outside, outside
from trainables.spec import ARCHITECTURES

Shapes = Mapping[str, tuple[int, ...]]

HEADS = {"iresnet": "", "vggface2": "fc", "facenet": "logits"}  # Name of the classifier in the file.
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # Further classifiers of Inception and GoogLeNet, read in training only.


def built(
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
        if rows := rows_of(shapes, other.head_name):
            with torch.device("meta"):
                # MaxViT's last layer has none, and the logits are the file's either way.
                bias = f"{other.head_name}.bias" in shapes
                other.classifier = nn.Linear(other.embedding_width, rows, bias=bias)
        return other, other.head_name
    rows = rows_of(shapes, head)
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


def rows_of(shapes: Shapes, head: str) -> int:
    """Classes of a linear classifier in the file, or 0."""
    shape = shapes.get(f"{head}.weight", ()) if head else ()
    return shape[0] if len(shape) == 2 else 0


def renamed(shapes: Mapping[str, Any], network: Network, head: str) -> dict[str, str]:
    """The file's names -> the network's."""
    start = "body." if isinstance(network, Outside) else ""
    return {
        name: f"classifier.{name[len(head) + 1 :]}" if head and name.startswith(f"{head}.") else start + name
        for name in shapes
    }


def compare(
    network: Network, shapes: Shapes, *, head: str, keep: bool, name: str, architecture: str
) -> tuple[str, ...]:
    """Names of the file that are left out.

    Raises:
        UsageError: If a tensor is missing, is too many, or has another shape.
    """
    names = renamed(shapes, network, head)
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


def channels_of(shapes: Shapes, architecture: str) -> int:
    if not is_outside(architecture):
        return side_of(shapes, "trunk.0.weight", 1, 3)
    # Networks of other libraries are made to fit the file. Other layers may read one channel, too.
    read = side_of(shapes, first_convolution(architecture), 1, 3)
    return read if read in (1, 3) else 3


def side_of(shapes: Shapes, name: str, axis: int, default: int = 0) -> int:
    """One side of a tensor of the file; `default` where it is not there, or has fewer."""
    shape = shapes.get(name, ())
    return shape[axis] if len(shape) > axis else default


def first(names: Any, most: int = 4) -> str:
    """The first few names, for messages."""
    shown = list(names)
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")

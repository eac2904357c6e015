"""Training that begins with the weights of a file instead of drawn ones: everything but the classifier."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from trainables.errors import UsageError
from trainables.models.outside import Outside
from trainables.pretrained.fitting import AUXILIARY, Shapes, first
from trainables.pretrained.shelf import require, verified


def matched(network: nn.Module, shapes: Shapes, name: str) -> dict[str, str]:
    """The network's names -> the file's, of what training begins with.

    A classifier is always drawn, an embedding layer where the file has none of its size. A first convolution for
    colours fits grey images: its weights are summed over the colours, as if the grey image were repeated.

    Raises:
        UsageError: If anything else is missing, too many or of another shape, or it is not known what the classifier is.
    """
    if not isinstance(getattr(network, "classifier", None), nn.Module):
        raise UsageError(
            f"{name} can begin the training of a network only if that calls its classifier `classifier`, because that "
            f"stays drawn, but a {type(network).__name__} has no such layer. Leave start_weights out, or call it so."
        )
    start = "body." if isinstance(network, Outside) else ""
    head = f"{network.head_name}." if isinstance(network, Outside) else "classifier."
    # Classifiers always, embedding layers where the file's do not fit.
    drawn = ("classifier.", "layer." if isinstance(network, Outside) else "embedding.")
    wanted = {ours: tuple(value.shape) for ours, value in network.state_dict().items()}
    found: dict[str, str] = {}
    extra = []
    for theirs, shape in shapes.items():
        ours = start + theirs
        if theirs.startswith((head, *AUXILIARY)):
            continue
        if ours not in wanted:
            if start or not ours.startswith(drawn):
                extra.append(theirs)
        elif tuple(shape) == wanted[ours] or _summed(tuple(shape), wanted[ours]):
            found[ours] = theirs
        elif not ours.startswith(drawn):
            extra.append(f"{theirs} {list(shape)} instead of {list(wanted[ours])}")
    missing = [
        ours
        for ours in wanted
        if ours not in found and not ours.startswith(drawn) and not ours.endswith("num_batches_tracked")
    ]
    if missing or extra:
        raise UsageError(
            f"{name} cannot begin the training of this network: of {len(wanted)} tensors {len(missing)} are missing or "
            f"do not fit ({first(missing) or 'none'}), and {len(extra)} of the file's are not the network's "
            f"({first(extra) or 'none'}). Give both the same architecture, width and stem."
        )
    return found


def _summed(theirs: tuple[int, ...], ours: tuple[int, ...]) -> bool:
    return len(theirs) == 4 and theirs[1] == 3 and ours == (theirs[0], 1, *theirs[2:])


def begin(network: nn.Module, root: Path, digits: str) -> None:
    """Put the weights of the store into a network that is about to be trained.

    Raises:
        UsageError: If the store has none of these digits, or they do not fit.
        ArtifactError: If they were altered.
    """
    path, about = verified(root, digits), require(root, digits)
    tensors = load_file(path)
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    own = network.state_dict()
    with torch.no_grad():
        for ours, theirs in matched(network, shapes, str(about.get("file"))).items():
            value = tensors[theirs]
            own[ours].copy_(value.sum(1, keepdim=True) if value.shape != own[ours].shape else value)

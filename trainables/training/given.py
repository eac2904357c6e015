"""A network from a file, tried on the data before anything is distilled from it: the heavy half of kind `pretrained`."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import numpy as np
import torch

from trainables import metrics
from trainables.data.batches import load, remembered_statistics
from trainables.data.packed import Packed, open_packed
from trainables.data.protocols import Cut, cut_for
from trainables.errors import NonFiniteError, UsageError
from trainables.models.macs import count_macs
from trainables.models.network import Network
from trainables.pretrained.frozen import open_from_store, write_artifact
from trainables.spec.given import PROBED, PROBED_WITH_HEAD, GivenSpec, classes_differ
from trainables.spec.training import task_of
from trainables.stages.base import Context, Progress, Result
from trainables.training.inputs import InputTransform
from trainables.training.numerics import prepare

BATCH = 32
LEAST_SPREAD = 1e-6  # Of embeddings over images, relative to their size.
SURE = 3.0  # Standard errors above chance, or above the other order of channels.


def try_on_data(spec: GivenSpec, context: Context) -> Generator[Progress, None, Result]:
    """Reads some images: outputs must be finite and differ, a kept classifier must know the classes.

    Gives `embedding_width`, `embedding_spread` (mean standard deviation over images, relative to the mean length of a
    component), `parameters_count` without a classifier, `macs`, and with a kept one `validation_top1` over
    `validation_images`. Reads no test image.

    Raises:
        NonFiniteError: If outputs are not finite.
        UsageError: If all images give one embedding, or the classifier is of other classes.
    """
    device = prepare(spec, context)
    packed = open_packed(context.packed_folder / f"{spec.data}.arrow")
    cut = cut_for(packed, spec)
    network, found, weights, about = open_from_store(context.store.root, spec)
    keep = spec.head == "keep"
    if keep and found.classes != len(cut.classes):
        raise UsageError(classes_differ(found.classes, len(cut.classes), packed.info.name))
    network = network.to(device)
    mean, std = (value.float().to(device) for value in remembered_statistics(packed, cut.train))
    view = InputTransform(spec, packed.info, mean, std, network)
    items = _items(spec, cut, PROBED_WITH_HEAD if keep else PROBED)
    embeddings, right = _read(network, view, packed, cut, items, device)
    if not metrics.finite(embeddings):
        raise NonFiniteError(f"The teacher {about['file']} gives outputs that are not finite on {packed.info.name}.")
    size = float(embeddings.double().square().mean().sqrt())
    spread = float(embeddings.double().std(0).mean()) / max(size, 1e-30)
    if len(items) > 1 and not spread > LEAST_SPREAD:
        raise UsageError(
            f"The teacher {about['file']} gives {len(items)} images of {packed.info.name} one and the same embedding "
            f"(spread {spread:.1e}). It reads {found.preprocessing.sentence()}: is that what it was trained on?"
        )
    measured: dict[str, Any] = {
        "embedding_width": network.embedding_width,
        "embedding_spread": spread,
        "probed_images": len(items),
        "parameters_count": sum(value.numel() for value in network.parameters()),
        "macs": count_macs(network, channels=found.preprocessing.channels, side=view.side),
    }
    if keep:
        measured |= _judge(spec, network, view, packed, cut, items, right, device)
    yield Progress(1, 1, measured.get("validation_score"))
    return Result(metrics=measured, write=lambda folder: write_artifact(folder, weights, about))


def _items(spec: GivenSpec, cut: Cut, most: int) -> np.ndarray:
    """Some images, evenly over the validation split; over the training split where that has none of the logits' classes."""
    some = cut.validation if task_of(spec.task).known_classes and len(cut.validation) else cut.train
    return some[np.linspace(0, len(some) - 1, min(most, len(some))).astype(np.int64)]


def _read(
    network: Network, view: InputTransform, packed: Packed, cut: Cut, items: np.ndarray, device: torch.device
) -> tuple[torch.Tensor, int]:
    """Embeddings [n, D] on the CPU, and how many images the classifier got right."""
    rows, right = [], 0
    with torch.inference_mode():
        for start in range(0, len(items), BATCH):
            images, labels = load(packed, items[start : start + BATCH])
            outputs = network(view(images.to(device)))
            rows.append(outputs.embedding.float().cpu())
            if outputs.logits.shape[1]:
                right += int((outputs.logits.argmax(1).cpu().numpy() == cut.label_of[labels.numpy()]).sum())
    return torch.cat(rows), right


def _judge(
    spec: GivenSpec,
    network: Network,
    view: InputTransform,
    packed: Packed,
    cut: Cut,
    items: np.ndarray,
    right: int,
    device: torch.device,
) -> dict[str, Any]:
    """Scores of a kept classifier.

    Raises:
        UsageError: If it guesses, or gets more right with red and blue exchanged.
    """
    count, chance = len(items), 1 / len(cut.classes)
    guessing = count * (chance + SURE * math.sqrt(chance * (1 - chance) / count))
    assert view.preprocessing is not None
    told = view.preprocessing.order.upper()
    if view.preprocessing.channels == 3 and packed.info.channels == 3:
        given = view.preprocessing
        view.preprocessing = given.swapped()
        swapped = _read(network, view, packed, cut, items, device)[1]
        view.preprocessing = given
        error = math.sqrt(max(right + swapped, 1))
        if swapped > guessing and swapped - right > SURE * error:
            raise UsageError(
                f"The teacher gets {swapped} of {count} images right when red and blue are exchanged, but {right} as "
                f"{told}. Set teacher.order={'rgb' if told == 'BGR' else 'bgr'}."
            )
    if right <= guessing:
        raise UsageError(
            f"The teacher's classifier gets {right} of {count} images of {packed.info.name} right, where guessing gets "
            f"{chance * count:.1f}: its classes are others, or in another order than {', '.join(cut.classes[:3])}, ... "
            "Leave teacher.head=none."
        )
    top1 = right / count
    if not task_of(spec.task).known_classes:
        return {"train_top1": top1}
    return {"validation_top1": top1, "validation_score": top1, "validation_images": count}

"""Evaluation: the one reading of the test split, by a finished network."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from trainables import metrics
from trainables.artifacts import Artifact
from trainables.data.batches import load, statistics
from trainables.data.packed import open_packed, split_indices
from trainables.spec import EvaluationSpec
from trainables.stages.base import Context, Progress, Result
from trainables.training import View, load_network, predict, prepare


def run(spec: EvaluationSpec, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """Top-1, top-5 and cross-entropy on the test split, and one correctness bit per test item (`outputs.arrow`)."""
    device = prepare(spec, context)
    packed = open_packed(context.packed_folder / f"{spec.data}.arrow")
    network, trained = load_network(parents["network"], packed.info)
    cut: dict[str, Any] = {
        "validation_fraction": trained.validation_fraction,
        "split_seed": trained.split_seed,
        "train_images": trained.train_images,
    }
    # Pixels are normalised as in training.
    mean, std = statistics(packed, split_indices(packed, "train", **cut))
    view = View(spec, packed.info, mean.float().to(device), std.float().to(device))
    test = split_indices(packed, "test", **cut)
    images, labels = load(packed, test)
    predictions, top5, loss = [], 0, 0.0
    for logits, batch_labels in predict(network.to(device), view, images, labels.to(device), spec.batch_size):
        predictions.append(logits.argmax(1).cpu())
        top5 += int(metrics.correct(logits, batch_labels, 5).sum())
        loss += float(F.cross_entropy(logits.double(), batch_labels, reduction="sum"))
    predicted = torch.cat(predictions).numpy().astype(np.int32)
    truth = labels.numpy().astype(np.int32)
    right = predicted == truth
    items = len(truth)

    def write(folder: Path) -> None:
        table = pa.table({"label": truth, "prediction": predicted, "correct": pa.array(right)})
        with pa.OSFile(str(folder / "outputs.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    yield Progress(1, 1)
    return Result(
        metrics={
            "top1": float(right.mean()),
            "top5": top5 / items,
            "correct": int(right.sum()),
            "items": items,
            "loss": loss / items,
        },
        write=write,
    )

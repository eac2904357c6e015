"""Filling and reading of cached teacher outputs: the heavy half of the stage kind `outputs`, and of who reads it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.attempts.attempt import attempt
from trainables.data.augment import augment, view
from trainables.data.batches import batches_of, generator
from trainables.data.packed import Packed
from trainables.data.protocols import cut_for
from trainables.errors import ArtifactError, DrainedError
from trainables.models.network import fold
from trainables.pretrained.families import drawn
from trainables.spec.given import is_given
from trainables.spec.training import OUTPUTS, TrainingSpec
from trainables.stages.base import Context, Progress, Result
from trainables.store.artifacts import Artifact
from trainables.training.cached_outputs import BASE_FILE, PARTS, CachedOutputs, Shard, blocks, damaged
from trainables.training.frozen import FrozenNetwork, class_sums
from trainables.training.inputs import Splits
from trainables.training.networks import make_network
from trainables.training.numerics import autocast, prepare

STEPS = 20  # How often a shard says how far it is.


def fill(spec: Any, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """For an `OutputsSpec`, one shard of `parents["guide"]`'s outputs, as residuals from `parents["base"]`; or that base.

    Raises:
        DrainedError: If a stop was asked; a shard is begun anew then.
    """
    device = prepare(spec, context)
    splits = Splits.open(spec, context, device)
    guide = FrozenNetwork(parents["guide"], splits, device, spec.task)
    fold(guide.network)
    if spec.part == "base":
        return (yield from _base(guide, splits, device))
    base = load_file(parents["base"].file(BASE_FILE, verify=True))
    images, depth = len(splits.train_labels), spec.stop - spec.start
    mark = str(context.lease.number if context.lease is not None else 0)
    shard = Shard(context.store.work_folder(context.key), mark, images, depth, base)
    asked = _views(spec, splits) if spec.part == "views" else _epochs(spec, splits)
    seen, told, total = 0, 0, images * depth
    for rows, column, pictures in asked:
        if context.stop_asked():
            raise DrainedError("a shard of kept outputs is begun anew")
        with autocast(spec, device):
            outputs = guide(pictures.to(device))
        shard.put(rows, column - spec.start, outputs)
        seen += len(rows)
        if seen * STEPS >= (told + 1) * total:
            told = seen * STEPS // total
            yield Progress(told, STEPS)
    return Result(
        metrics={"images": images, "views": depth, "forward_images": seen, "width": guide.width},
        write=shard.move,
    )


def _views(spec: Any, splits: Splits) -> Generator[tuple[Tensor, int, Tensor], None, None]:
    for block in blocks(len(splits.train_labels)):
        images = splits.train_images[block]
        for number in range(spec.start, spec.stop):
            yield torch.arange(block.start, block.stop), number, view(images, spec.augment, spec.pad, number)


def _epochs(spec: Any, splits: Splits) -> Generator[tuple[Tensor, int, Tensor], None, None]:
    """The batches of training, image by image and view by view."""
    labels = splits.train_labels.cpu()
    for epoch in range(spec.start, spec.stop):
        draws = generator(spec.seed, epoch, "augment")
        for rows in batches_of(spec, labels, epoch):
            images = splits.train_images[rows.to(splits.train_images.device)]
            yield rows, epoch, augment(images, spec.augment, pad=spec.pad, generator=draws)[0]


def _base(guide: FrozenNetwork, splits: Splits, device: torch.device) -> Generator[Progress, None, Result]:
    """Means over the training images as they are, and the class sums that centre losses would else compute again."""
    sums: dict[str, Tensor] = {}

    def embeddings() -> Iterator[tuple[Tensor, Tensor]]:
        for pictures, labels in splits.train_blocks():
            outputs = guide(pictures)
            for part in PARTS:
                total = getattr(outputs, part).double().sum(0)
                sums[part] = sums[part] + total if part in sums else total
            yield outputs.embedding, labels

    total, count = class_sums(embeddings(), len(splits.cut.classes), guide.width, device)
    images = len(splits.train_labels)
    kept = {part: (sums[part] / images).float().cpu() for part in PARTS}
    kept |= {"class_sums": total.cpu(), "class_counts": count.cpu()}
    yield Progress(1, 1)
    return Result(
        metrics={"images": images, "views": 0, "forward_images": images, "width": guide.width},
        write=lambda folder: save_file(kept, folder / BASE_FILE),
    )


def cached_outputs(parents: Mapping[str, Artifact], context: Context) -> CachedOutputs | None:
    """The cached outputs among a stage's parents, or None where its guide runs live.

    What is cut or altered is never read: it is thrown away and filled again, here, under its own lease.
    """
    mine = {int(role.rpartition("-")[2]): found for role, found in parents.items() if role.startswith(f"{OUTPUTS}-")}
    if not mine:
        return None
    base = _whole(mine.pop(0), context, None)
    shards = [_whole(shard, context, base) for _, shard in sorted(mine.items())]
    return CachedOutputs(base, shards, torch.device(context.device))


def _whole(found: Artifact, context: Context, base: Artifact | None) -> Artifact:
    """The artifact if every byte is as published and it rests on `base`; else one filled anew."""
    while damaged(found) or (base is not None and found.manifest["parent_digests"].get("base") != base.digest):
        context.log(f"kept outputs {found.key} are damaged: they are thrown away and filled again")
        _refill(found, context)
        found = context.store.get(found.key, patience=context.patience)
    return found


def _refill(found: Artifact, context: Context) -> None:
    store = context.store
    store.discard(found.key)
    own = replace(context, key=found.key, lease=None, core_locks=False, dead_lease=0)
    while not store.has(found.key):
        *_, last = attempt(found.kind, found.manifest["spec"], found.manifest["parents"], own)
        if last["outcome"] == "stopped" or context.stop_asked():
            raise DrainedError("kept outputs were being filled again")
        if last["outcome"] not in ("done", "elsewhere"):
            raise ArtifactError(
                f"Kept outputs {found.key} were damaged and could not be filled again: {last.get('message')}. "
                "Use teacher_outputs=live, or run again."
            )
        time.sleep(0.0 if store.has(found.key) else 0.5)


def forward_seconds(packed: Packed, spec: TrainingSpec, side: int, batch: int, least: float = 3.0) -> float:
    """CPU seconds that one image costs a frozen network of `spec` on one thread, measured for about `least` seconds."""
    torch.set_num_threads(1)
    channels, seen = packed.info.channels, spec.upsample_to or spec.resolution or side
    if is_given(spec):
        given, channels, wanted = drawn(spec, channels)
        network: torch.nn.Module = given.eval()
        seen = wanted or seen
    else:
        network = make_network(spec, packed.info, len(cut_for(packed, spec).classes)).eval()
    fold(network)
    images = torch.zeros(batch, channels, seen, seen).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(images)
        began, runs = time.process_time(), 0
        while runs < 3 or time.process_time() - began < least:
            network(images)
            runs += 1
    return (time.process_time() - began) / (runs * batch)

"""Augmenting a batch with tensor operations against Pillow, image by image (goal G6).

    python -m benchmarks.augmentation [--batch 64] [--quick] [--json FILE]

Crop from zero padding, flip, normalise, at 32 pixels; and the same with a second copy reduced to 16 pixels, as a student
and its teacher need them. Both sides start from decoded bytes and end with normalised float batches. Both take the
same views: their values differ by Pillow's rounding to whole grey levels alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import direct_images, measure
from benchmarks.measure import Row
from trainables.data.augment import augment, view
from trainables.spec import StudentSpec
from trainables.training.inputs import InputTransform

SIDE, PAD = 32, 4
MEAN, STD = torch.tensor([0.507, 0.487, 0.441]), torch.tensor([0.268, 0.257, 0.276])
WANTED = {(32,): 5.0, (32, 16): 6.0}


def photographs(count: int) -> np.ndarray:
    """Images uint8 [count, 3, 32, 32] with smooth content and some noise, which Pillow's speed does not depend on."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 3, 4, 4)).repeat(8, 2).repeat(8, 3)
    return np.clip(coarse + random.integers(-20, 21, coarse.shape), 0, 255).astype(np.uint8)


def views_of(sides: tuple[int, ...]) -> list[InputTransform]:
    """What makes batches of these sides, as training does."""
    info: Any = SimpleNamespace(height=SIDE, width=SIDE, channels=3)
    return [InputTransform(StudentSpec(resolution=side), info, MEAN, STD) for side in sides]


def ours(images: Tensor, readers: Sequence[InputTransform], generator: torch.Generator) -> list[Tensor]:
    """One drawn view of each image at each side."""
    drawn, _ = augment(images, "crop_flip", pad=PAD, generator=generator)
    return [reader(drawn) for reader in readers]


def both(images: np.ndarray, index: Tensor, sides: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """The same views from both sides, for holding them against each other."""
    seen = view(torch.from_numpy(images), "crop_flip", PAD, index)
    decoded = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    theirs = direct_images.augmented(decoded, index.numpy(), PAD, MEAN, STD, sides)
    return [reader(seen) for reader in views_of(sides)], theirs


def row(sides: tuple[int, ...], batch: int, rounds: int, repeats: int = 5) -> Row:
    """A batch from bytes to what the networks read; each round of ours is the mean of `repeats`."""
    images = photographs(batch)
    tensors, decoded = torch.from_numpy(images), np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    readers, generator = views_of(sides), torch.Generator().manual_seed(0)
    draws = np.random.default_rng(1)
    views = 2 * (2 * PAD + 1) ** 2

    def pillow() -> None:
        direct_images.augmented(decoded, draws.integers(0, views, batch), PAD, MEAN, STD, sides)

    def batched() -> None:
        for _ in range(repeats):
            ours(tensors, readers, generator)

    with measure.as_stages_run():
        seconds = measure.by_turns({"pillow": pillow, "ours": batched}, rounds)
    return measure.row(
        "G6",
        "augmentation against Pillow",
        f"B={batch}, {' + '.join(map(str, sides))} px",
        seconds["pillow"],
        [value / repeats for value in seconds["ours"]],
        wanted=WANTED.get(sides),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = measure.parser(__doc__)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args(arguments)
    found = measure.facts()
    rows = [row(sides, options.batch, 5 if options.quick else 25) for sides in WANTED]
    measure.finish(rows, options, found)


if __name__ == "__main__":
    main()

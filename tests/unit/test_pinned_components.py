"""One tiny run of each component, pinned: numbers that move without a raised version fail here.

Whole numbers are pinned exactly. Floats are pinned to four digits, because their last bits differ between processors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trainables.data.augment import augment
from trainables.data.batches import epoch_batches, generator
from trainables.data.degrade import degrade
from trainables.data.packed import open_packed, split_indices
from trainables.losses.horkd import HorkdLoss
from trainables.models import build
from trainables.spec import ARCHITECTURES, AUGMENTATIONS, COMPONENTS, FILTERS, HorkdSpec
from trainables.training import learning_rate


def numbers(*shape: int, purpose: str = "pin") -> torch.Tensor:
    return torch.rand(*shape, generator=generator(1, 2, purpose))


def weigh(value: torch.Tensor) -> float:
    """A sum that notices order and sign."""
    flat = value.detach().double().flatten()
    return float((flat * torch.cos(torch.arange(len(flat), dtype=torch.float64))).sum())


def images() -> torch.Tensor:
    return (numbers(6, 3, 16, 16) * 255).to(torch.uint8)


def of_degrade() -> list[float]:
    low = [degrade(images() / 255, 6, filter=name) for name in FILTERS]
    return [weigh(x) for x in [*low, degrade(images() / 255, 8, blur=1.2)]]


def of_augment() -> list[float]:
    return [weigh(augment(images(), kind, pad=3, generator=generator(4, 5, kind))[0]) for kind in AUGMENTATIONS]


def of_batches() -> list[float]:
    return [weigh(torch.cat(epoch_batches(37, 8, seed=3, epoch=e, drop_last=True))) for e in (1, 2)]


def of_loss(orders: str) -> Callable[[], list[float]]:
    def run() -> list[float]:
        found = []
        labels = torch.tensor([0, 1, 0, 2, 1, 2, 0, 1])
        for centers in ("batch", "running"):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                loss = HorkdLoss(HorkdSpec(orders=orders, centers=centers), student_width=4, teacher_width=6, classes=3)
            if loss.uses_running_centers:
                loss.set_teacher_centers(numbers(3, 6, purpose="centres"), torch.ones(3, dtype=torch.int64))
            student = numbers(8, 4, purpose="student").requires_grad_()
            for _ in range(2):
                total, terms = loss(student, numbers(8, 6, purpose="teacher"), labels, progress=0.5)
            (gradient,) = torch.autograd.grad(total, student)
            found += [total.item(), *(term.item() for term in terms.values()), weigh(gradient) * 100]
        return found

    return run


def of_network(name: str) -> Callable[[], list[float]]:
    def run() -> list[float]:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            network = build(name, channels=3, classes=7, width=0.25, embedding=5)
        out = network.double()((images() / 255).double())  # Wide, so that depth amplifies no rounding.
        return [weigh(out.embedding), weigh(out.logits)]

    return run


def of_cross_entropy() -> list[float]:
    return [float(F.cross_entropy(numbers(9, 5), torch.arange(9) % 5, label_smoothing=s)) for s in (0.0, 0.1)]


def of_loop() -> list[float]:
    from trainables.spec import TeacherSpec

    return [
        learning_rate(TeacherSpec(schedule=schedule, warmup_epochs=2.0), progress, 20 * progress)
        for schedule in ("cosine", "steps", "constant")
        for progress in (0.05, 0.3, 0.7, 0.95)
    ]


RUNS: dict[str, Callable[[], list[float]]] = {
    "degrade": of_degrade,
    "augment": of_augment,
    "batches": of_batches,
    "loop": of_loop,
    "loss.cross_entropy": of_cross_entropy,
    "loss.point": of_loss("1"),
    "loss.pair": of_loss("2"),
    "loss.angle": of_loss("3"),
    "loss.center": of_loss("C"),
    **{f"network.{name}": of_network(name) for name in ARCHITECTURES},
}

# Component -> (version, values). Raise the version in `trainables.spec.COMPONENTS` when these must change.
PINNED: dict[str, tuple[int, list[float]]] = {
    "degrade": (1, [-0.8891634, -0.07924264, -0.9513178, 2.855484]),
    "augment": (1, [-3415.924, -5264.097, -6000.309, -2478.732]),
    "batches": (1, [10.80192, 106.2736]),
    "loop": (1, [0.0248461, 0.03969463, 0.01030537, 0.0003077915, 0.025, 0.05, 0.005, 5e-05, 0.025, 0.05, 0.05, 0.05]),
    "loss.cross_entropy": (1, [1.568306, 1.576209]),
    "loss.point": (1, [1.454783, 1.454783, 23.51902, 1.454783, 1.454783, 23.51902]),
    "loss.pair": (1, [0.004654832, 0.2327416, 0.9937236, 0.004654832, 0.2327416, 0.9937236]),
    "loss.angle": (1, [0.001926608, 0.1926608, 0.1781081, 0.001926608, 0.1926608, 0.1781081]),
    "loss.center": (1, [0.2796463, 0.2796463, 26.61946, 0.2393431, 0.2393431, 3.74917]),
    "network.resnet18": (1, [0.7496827, -1.149051]),
    "network.resnet34": (1, [-1.98801, -2.154526]),
    "network.resnet50": (1, [0.2119911, 2.760719]),
    "network.resnet34_thin": (1, [-2.799005, -1.479781]),
    "network.resnet_thin": (1, [-0.3789867, 0.905814]),
    "network.vgg11": (1, [-1.213396, 1.279995]),
}


def test_every_component_is_pinned_at_its_version() -> None:
    # The classification protocol is pinned by the digits' splits below.
    assert set(PINNED) == set(COMPONENTS) - {"protocol.classification"}
    assert {name: version for name, (version, _) in PINNED.items()} == {n: COMPONENTS[n] for n in PINNED}


@pytest.mark.parametrize("name", RUNS)
def test_a_component_gives_the_numbers_of_its_version(name: str) -> None:
    expected = PINNED[name][1]
    assert RUNS[name]() == pytest.approx(expected, rel=2e-4, abs=2e-5)


def test_the_splits_of_the_digits_stay(packed_digits: Any) -> None:
    packed = open_packed(packed_digits.path)
    found = {}
    for split in SPLITS:
        chosen = split_indices(packed, split, validation_fraction=0.1, split_seed=0, train_images=200)
        found[split] = int((chosen * np.arange(1, len(chosen) + 1)).sum())
    assert found == SPLITS


# Split -> sum of position times index: the items of the classification protocol, and their order.
SPLITS: dict[str, int] = {"train": 23620592, "validation": 9608999, "test": 175375428}

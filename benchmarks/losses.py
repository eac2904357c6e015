"""All four terms of HORKD against their formulas, and their share of a step (goal G3).

    python -m benchmarks.losses [--batch 64] [--teacher-width 2048 --teacher-width 512] [--quick] [--json FILE]

Forward and backward of KL (on logits), pairs, angles and centres, as the product computes them (`Distiller`) and as the
formulas read: differences [B, B, D] for pairs and angles, [B, C, D] for centres, the centres moved class by class. A row
without a goal has the point term on embeddings in place of KL: it is one matrix product on both sides, so it takes
the ratio towards 1. The share is that of the terms in a step which trains a ResNet-18 at 16 pixels on outputs that
are there already.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import direct, measure
from benchmarks.measure import Row
from trainables.losses.distiller import Distiller
from trainables.losses.horkd_loss import HorkdLoss
from trainables.models import Outputs, build
from trainables.spec import HorkdSpec, StudentSpec
from trainables.training.optimizer import make_optimizer

CLASSES = 100
STUDENT_WIDTH = 512
WANTED = {2048: 20.0}
SHARE_WANTED = 0.02
ORDERS = {"KL, pairs, angles, centres": ("kd+horkd", "2+3+C"), "points, pairs, angles, centres": ("horkd", "1+2+3+C")}


class Case(NamedTuple):
    """One batch, both losses, and how to call each."""

    student: Outputs
    teacher: Outputs
    labels: Tensor
    distiller: Distiller
    formulas: direct.Losses

    def ours(self) -> Tensor:
        """The product's weighted sum []."""
        total, _ = self.distiller(self.student, self.teacher, self.labels, self.labels, progress=1.0)
        return total

    def direct(self) -> Tensor:
        """The formulas' weighted sum []."""
        total, _ = self.formulas(*self.student[:2], *self.teacher[:2], self.labels)
        return total


def case(method: str, orders: str, batch: int, teacher_width: int, classes: int = CLASSES) -> Case:
    """Random outputs and centres, and both sides with the same weights, projector and centres."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    student = Outputs(draw(batch, STUDENT_WIDTH).requires_grad_(), draw(batch, classes).requires_grad_())
    teacher = Outputs(draw(batch, teacher_width), draw(batch, classes))
    labels = torch.randint(classes, (batch,), generator=generator)
    spec = StudentSpec(method=method, horkd=HorkdSpec(orders=orders))
    distiller = Distiller(
        spec,
        student_width=STUDENT_WIDTH,
        teacher_width=teacher_width,
        student_maps=(),
        teacher_maps=(),
        classes=classes,
        item_labels=labels,
        seed_module=lambda purpose: contextlib.nullcontext(),
    ).train()
    horkd = distiller.get_submodule("horkd")
    assert isinstance(horkd, HorkdLoss)
    counts = torch.full((classes,), 5)
    distiller.set_teacher_centers(5 * draw(classes, teacher_width), counts)
    horkd.student_centers.copy_(draw(classes, STUDENT_WIDTH))
    horkd.student_seen.fill_(True)
    formulas = direct.Losses(
        distiller.weights(1.0),
        horkd.student_centers,
        horkd.teacher_centers,
        temperature=spec.options_of("kd").temperature,
        momentum=spec.horkd.center_momentum,
        projector=horkd.projector,
    )
    return Case(student, teacher, labels, distiller, formulas)


def _repeated(call: Callable[[], Tensor], leaves: Sequence[Tensor], times: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(times):
            for leaf in leaves:
                leaf.grad = None
            call().backward()

    return run


def row(name: str, batch: int, teacher_width: int, rounds: int, repeats: int = 5) -> Row:
    """Forward and backward of all terms; each round of ours is the mean of `repeats`."""
    made = case(*ORDERS[name], batch, teacher_width)
    leaves = [*made.student[:2], *made.distiller.parameters()]
    with measure.as_stages_run():
        sides = {"direct": _repeated(made.direct, leaves, 1), "ours": _repeated(made.ours, leaves, repeats)}
        seconds = measure.by_turns(sides, rounds)
    return measure.row(
        "G3",
        f"losses: {name}",
        f"B={batch}, D={STUDENT_WIDTH}/{teacher_width}, C={CLASSES}",
        seconds["direct"],
        [value / repeats for value in seconds["ours"]],
        wanted=WANTED.get(teacher_width) if "KL" in name else None,
    )


def share_row(batch: int, teacher_width: int, width: float, side: int, rounds: int) -> Row:
    """The terms' share of a student's step, both measured by turns in one process."""
    made = case("kd+horkd", "2+3+C", batch, teacher_width)
    spec = StudentSpec(architecture="resnet18", width=width)
    network = build("resnet18", channels=3, classes=CLASSES, width=width).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(
        spec, [parameter for parameter in network.parameters() if isinstance(parameter, nn.Parameter)]
    )
    images = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
    leaves = [*made.student[:2], *made.distiller.parameters()]

    def student() -> None:
        loss = F.cross_entropy(network(images).logits, made.labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    with measure.as_stages_run():
        seconds = measure.by_turns({"student": student, "losses": _repeated(made.ours, leaves, 1)}, rounds)
    whole = [a + b for a, b in zip(seconds["student"], seconds["losses"], strict=True)]
    return measure.row(
        "G3",
        "losses: share of a student's step",
        f"ResNet-18 x {width:g} at {side} px, B={batch}, D_t={teacher_width}",
        whole,
        seconds["losses"],
        wanted=SHARE_WANTED,
        at_most=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = measure.parser(__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--teacher-width", type=int, action="append", help="width of its embedding (2048 and 512)")
    parser.add_argument("--width", type=float, default=1.0, help="of the ResNet-18 of the share (1)")
    options = parser.parse_args(arguments)
    found = measure.facts()
    rounds = 3 if options.quick else 15
    widths = options.teacher_width or [2048, 512]
    rows = [row(name, options.batch, teacher_width, rounds) for name in ORDERS for teacher_width in widths]
    rows.append(share_row(options.batch, widths[0], options.width, 16, 3 if options.quick else 9))
    measure.finish(rows, options, found)


if __name__ == "__main__":
    main()

"""What every loss must do. A new loss joins `LOSSES` with one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import permutations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import UsageError
from trainables.losses import HorkdLoss, angle_loss, center_loss, class_centers, pair_loss, point_loss
from trainables.spec import HorkdSpec

CLASSES = 4
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return sum(((x - y) ** 2 for x, y in zip(a, b, strict=True)), torch.zeros((), dtype=a.dtype)).sqrt()


def _point_oracle(student: Tensor, teacher: Tensor, labels: Tensor, *, distance: str) -> float:
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        gap = s - t
        total += {
            "mse": lambda gap=gap: gap.dot(gap) / len(gap),
            "squared_l2": lambda gap=gap: gap.dot(gap),
            "l2": lambda gap=gap: gap.dot(gap).sqrt(),
            "cosine": lambda s=s, t=t: 1 - s.dot(t) / (s.dot(s) * t.dot(t)).sqrt(),
            "smooth_l1": lambda gap=gap: (
                sum(g * g / 2 if abs(g) < 1 else abs(g) - 0.5 for g in gap) / len(gap)
            ),
        }[distance]()
    return float(total / len(student))


def _pair_oracle(student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    pairs = list(permutations(range(len(student)), 2))

    def relations(x: Tensor) -> list[Tensor]:
        distances = [_distance(x[i], x[j]) for i, j in pairs]
        return [distance / (sum(distances) / len(pairs)) for distance in distances]

    gaps = [(t - s) ** 2 for s, t in zip(relations(student), relations(teacher), strict=True)]
    return float(sum(gaps) / len(pairs))


def _angle_oracle(student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    triplets = list(permutations(range(len(student)), 3))
    total = torch.zeros((), dtype=student.dtype)
    for i, j, k in triplets:
        cosines = []
        for x in (student, teacher):
            first, second = x[i] - x[j], x[k] - x[j]
            cosines.append((first / first.norm()).dot(second / second.norm()))
        gap = (cosines[0] - cosines[1]).abs()
        total += gap**2 / 2 if gap <= 1 else gap - 0.5
    return float(total / len(triplets))


def _center_oracle(student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    def relations(x: Tensor) -> list[Tensor]:
        rows: dict[int, list[Tensor]] = {}
        for row, label in zip(x, labels.tolist(), strict=True):
            rows.setdefault(label, []).append(row)
        centers = [sum(rows[k]) / len(rows[k]) for k in sorted(rows)]
        distances = [_distance(row, center) for row in x for center in centers]
        return [distance / (sum(distances) / len(distances)) for distance in distances]

    gaps = [(t - s) ** 2 for s, t in zip(relations(student), relations(teacher), strict=True)]
    return float(sum(gaps) / len(gaps))


def _batch_centers(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    ours, counts = class_centers(student, labels, CLASSES)
    theirs, _ = class_centers(teacher, labels, CLASSES)
    return center_loss(student, teacher, ours, theirs, counts > 0)


def _whole(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    torch.manual_seed(0)
    spec = HorkdSpec(centers="batch", alpha=1.0, beta=1.0)
    loss = HorkdLoss(spec, student_width=student.shape[1], teacher_width=teacher.shape[1], classes=CLASSES)
    return loss(student, teacher, labels, progress=1.0)[0]


@dataclass(frozen=True)
class Case:
    """A loss of (student, teacher, labels) and what is expected of it."""

    loss: Loss
    oracle: Callable[[Tensor, Tensor, Tensor], float] | None = None
    relational: bool = False  # Blind to scale, rotation and shift of the student; the widths may differ.


LOSSES = {
    **{
        f"point_{distance}": Case(
            lambda s, t, y, distance=distance: point_loss(s, t, distance=distance),
            partial(_point_oracle, distance=distance),
        )
        for distance in ("mse", "squared_l2", "l2", "cosine", "smooth_l1")
    },
    "point_bn": Case(lambda s, t, y: point_loss(s, t, feature_norm="bn")),
    "point_l2": Case(lambda s, t, y: point_loss(s, t, feature_norm="l2")),
    "pair": Case(lambda s, t, y: pair_loss(s, t), _pair_oracle, relational=True),
    "pair_huber": Case(lambda s, t, y: pair_loss(s, t, distance="huber"), relational=True),
    "angle": Case(lambda s, t, y: angle_loss(s, t), _angle_oracle, relational=True),
    "center": Case(_batch_centers, _center_oracle, relational=True),
    "horkd": Case(_whole),
}


def _draw(
    batch: int = 7, width: int = 6, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, batch, width, generator=generator, dtype=torch.float64).to(dtype)
    return student.requires_grad_(), teacher, torch.arange(batch) % 3


DEGENERATE = {
    "one_row": lambda s: s[:1],
    "two_rows": lambda s: s[:2],
    "three_rows": lambda s: s[:3],
    "duplicates": lambda s: s[[0, 0, 1, 1, 1, 2, 3]],
    "near_duplicates": lambda s: torch.cat([s, s + 1e-7]),
    "all_equal": lambda s: s[:1].expand(5, -1),
    "all_equal_far_away": lambda s: 1000 + s[:1].expand(5, -1),
    "zeros": lambda s: 0 * s,
    "half_zeros": lambda s: torch.cat([s[:3], 0 * s[3:]]),
    "huge": lambda s: 1e15 * s,
    "tiny": lambda s: 1e-15 * s,
}


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    def test_it_is_zero_when_student_and_teacher_agree(self, name: str) -> None:
        _, teacher, labels = _draw()
        assert LOSSES[name].loss(teacher, teacher, labels).item() == pytest.approx(0, abs=1e-14)

    def test_the_order_of_the_batch_does_not_matter(self, name: str) -> None:
        student, teacher, labels = _draw()
        order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
        there, back = (LOSSES[name].loss(student[o], teacher[o], labels[o]) for o in (order, torch.arange(7)))
        torch.testing.assert_close(there, back)

    def test_its_gradient_is_the_slope_of_its_value(self, name: str) -> None:
        student, teacher, labels = _draw(batch=5, width=3)
        assert torch.autograd.gradcheck(lambda s: LOSSES[name].loss(s, teacher, labels), student)

    def test_the_teacher_gets_no_gradient(self, name: str) -> None:
        student, teacher, labels = _draw()
        teacher.requires_grad_()
        LOSSES[name].loss(student, teacher, labels).backward()
        assert teacher.grad is None
        assert student.grad is not None

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("batch", DEGENERATE)
    def test_value_and_gradient_stay_finite(self, name: str, batch: str, dtype: torch.dtype) -> None:
        student, teacher, _ = _draw(dtype=dtype)
        made = DEGENERATE[batch](student)
        teacher = teacher.repeat(2, 1)[: len(made)]
        for labels in (torch.arange(len(made)) % 3, torch.zeros(len(made), dtype=torch.int64)):
            student.grad = None
            value = LOSSES[name].loss(made, teacher, labels)
            value.backward(retain_graph=True)
            assert torch.isfinite(value)
            assert torch.isfinite(student.grad).all()

    def test_autocast_changes_nothing_after_the_network(self, name: str) -> None:
        student, teacher, labels = _draw(dtype=torch.float32)
        student, teacher = student.detach().bfloat16().requires_grad_(), teacher.bfloat16()
        expected = LOSSES[name].loss(student.float(), teacher.float(), labels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = LOSSES[name].loss(student, teacher, labels)
        value.backward()
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected)
        assert student.grad is not None
        assert torch.isfinite(student.grad).all()

    def test_float32_stays_close_to_float64_far_from_the_origin(self, name: str) -> None:
        student, teacher, labels = _draw()
        student = (student.detach() + 100).float()
        expected = LOSSES[name].loss(student.double(), teacher, labels)
        value = LOSSES[name].loss(student, teacher.float(), labels)
        torch.testing.assert_close(value, expected.float(), rtol=1e-5, atol=1e-6)

    def test_batches_of_different_size_are_refused(self, name: str) -> None:
        student, teacher, labels = _draw()
        with pytest.raises(UsageError, match="same"):
            LOSSES[name].loss(student, teacher[:5], labels)


@pytest.mark.parametrize("name", [name for name, case in LOSSES.items() if case.oracle])
def test_it_equals_the_loop_written_from_the_equation(name: str) -> None:
    case = LOSSES[name]
    assert case.oracle is not None
    student, teacher, labels = _draw()
    expected = case.oracle(student.detach(), teacher, labels)
    assert case.loss(student, teacher, labels).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", [name for name, case in LOSSES.items() if case.relational])
class TestEveryRelation:
    def test_it_ignores_scale_rotation_and_shift(self, name: str) -> None:
        student, teacher, labels = _draw()
        rotation = torch.linalg.qr(
            torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        )[0]
        moved = 30 * student @ rotation + 100
        loss = LOSSES[name].loss
        torch.testing.assert_close(loss(moved, teacher, labels), loss(student, teacher, labels))

    def test_it_takes_a_teacher_of_another_width(self, name: str) -> None:
        student, teacher, labels = _draw()
        wide = torch.cat([teacher, torch.zeros(7, 5, dtype=teacher.dtype)], 1)
        loss = LOSSES[name].loss
        torch.testing.assert_close(loss(student, wide, labels), loss(student, teacher, labels))

    @pytest.mark.parametrize("rows", [1, 2])
    def test_without_a_valid_tuple_it_is_a_zero_that_keeps_the_graph(self, name: str, rows: int) -> None:
        student, teacher, _ = _draw(batch=rows)
        value = LOSSES[name].loss(student, teacher, torch.zeros(rows, dtype=torch.int64))
        value.backward()
        assert value.item() == 0
        assert torch.equal(student.grad, torch.zeros_like(student))


class TestPublicValues:
    """Values for B=5 from an independent numpy implementation, checked against public distillation code."""

    rows = torch.arange(5, dtype=torch.float64)[:, None]
    teacher = torch.sin(0.7 * rows + 1.3 * torch.arange(3, dtype=torch.float64))
    student = torch.cos(0.9 * rows - 0.4 * torch.arange(2, dtype=torch.float64))
    labels = torch.tensor([0, 1, 0, 2, 1])

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, 0.067011559486552),
            ({"distance": "huber"}, 0.033505779743276),
            ({"distance": "huber", "reduction": "reference"}, 0.026804623794621),
            ({"reduction": "sum_over_anchors_mean"}, 1.340231189731040 / 5),
        ],
    )
    def test_pairs(self, options: dict[str, str], expected: float) -> None:
        assert pair_loss(self.student, self.teacher, **options).item() == pytest.approx(expected, abs=1e-10)

    @pytest.mark.parametrize(
        ("reduction", "expected"),
        [
            ("mean", 0.049587733817944),
            ("reference", 0.023802112232613),
            ("sum_over_anchors_mean", 0.049587733817944 * 60 / 5),
        ],
    )
    def test_angles(self, reduction: str, expected: float) -> None:
        assert angle_loss(self.student, self.teacher, reduction=reduction).item() == pytest.approx(
            expected, abs=1e-10
        )

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, 0.066054271681327),
            ({"reduction": "reference"}, 0.066054271681327),
            ({"reduction": "sum_over_anchors_mean"}, 0.066054271681327 * 3),
            ({"normalise": False}, 0.116934340006262),
        ],
    )
    def test_centers(self, options: dict, expected: float) -> None:
        ours, theirs = (class_centers(x, self.labels, 3)[0] for x in (self.student, self.teacher))
        value = center_loss(self.student, self.teacher, ours, theirs, **options)
        assert value.item() == pytest.approx(expected, abs=1e-10)


def test_the_fused_angle_loss_equals_plain_autograd_over_the_difference_tensor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from trainables.losses import horkd

    def direct(student: Tensor) -> Tensor:
        ours, theirs = (F.normalize(x[:, None] - x[None], dim=2) for x in (student, teacher))
        cosines = [torch.einsum("jid,jkd->jik", edges, edges) for edges in (ours, theirs)]
        return F.huber_loss(*cosines, reduction="sum") / (9 * 8 * 7)

    student, teacher, labels = _draw(batch=9)
    # One anchor at a time, blocks that do not divide the batch, and all at once.
    for elements in (1, 300, 2**18):
        monkeypatch.setattr(horkd, "CPU_ELEMENTS", elements)
        value, expected = angle_loss(student, teacher), direct(student)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
        gradients = [torch.autograd.grad(loss, student)[0] for loss in (value, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)

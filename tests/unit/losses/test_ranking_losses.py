"""Orders of neighbours, raw distances, triplets of labels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainables.errors import UsageError
from trainables.losses.ranking import darkrank_loss, mkd_absolute_loss, mkd_relative_loss, triplet_loss


def _rows(batch: int, width: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_row_is_not_its_own_neighbour_where_the_teacher_has_duplicates() -> None:
    teacher = torch.tensor([[0.0], [0.0], [0.0], [5.0]], dtype=torch.float64)
    student = torch.tensor([[0.0], [1.0], [3.0], [9.0]], dtype=torch.float64)
    # With one neighbour in the list its probability is 1; the list of two holds the two other duplicates.
    assert darkrank_loss(student, teacher, length=1).item() == 0
    expected = 0.0
    lists = [(0, (1, 2)), (1, (0, 2)), (2, (0, 1)), (3, (0, 1))]
    for row, order in lists:
        scores = [-((student[row] - student[other]).abs().item()) for other in order]
        expected -= scores[0] - math.log(sum(math.exp(score) for score in scores))
    value = darkrank_loss(student, teacher, scale=1.0, power=1.0, length=2)
    assert value.item() == pytest.approx(expected / 4, abs=1e-12)


def test_the_list_is_no_longer_than_the_batch_has_neighbours() -> None:
    student, teacher = _rows(3), _rows(3, seed=1)
    for kind in ("hard", "soft"):
        wanted = darkrank_loss(student, teacher, kind=kind, length=2)
        assert torch.equal(darkrank_loss(student, teacher, kind=kind, length=5), wanted)


def test_the_soft_form_with_a_scale_of_zero_finds_all_orders_alike() -> None:
    student, teacher = _rows(6), _rows(6, seed=1)
    assert darkrank_loss(student, teacher, kind="soft", scale=0.0).item() == pytest.approx(0, abs=1e-14)
    # Each of the 4! orders of the list is as likely.
    assert darkrank_loss(student, teacher, scale=0.0).item() == pytest.approx(math.log(24), abs=1e-12)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_duplicates_of_the_student_have_finite_slopes(kind: str, power: float) -> None:
    student = _rows(5)[[0, 0, 1, 2, 3]].requires_grad_()
    value = darkrank_loss(student, _rows(5, seed=1), kind=kind, power=power)
    value.backward()
    assert torch.isfinite(value)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_learning_the_order_puts_the_students_neighbours_as_the_teacher_has_them() -> None:
    teacher = _rows(6)
    student = _rows(6, seed=1).requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        darkrank_loss(student, teacher, scale=1.0, power=1.0, length=5).backward()
        optimizer.step()
    for row in range(6):
        order = [(x[row] - x).norm(dim=1).argsort().tolist() for x in (student.detach(), teacher)]
        assert order[0] == order[1]


def test_raw_distances_notice_scale() -> None:
    teacher = _rows(5)
    assert mkd_relative_loss(teacher, teacher).item() == 0
    distances = (teacher[:, None] - teacher[None]).norm(dim=2).sum() / 20
    torch.testing.assert_close(mkd_relative_loss(2 * teacher, teacher), distances)


def test_the_absolute_distance_is_not_squared() -> None:
    student, teacher = _rows(5), _rows(5, seed=1)
    torch.testing.assert_close(mkd_absolute_loss(student, teacher), (student - teacher).norm(dim=1).mean())


LABELS = torch.tensor([0, 0, 1, 1, 2])
CORNERS = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize("mining", ["hard", "all"])
def test_classes_far_enough_apart_leave_nothing_to_learn(mining: str) -> None:
    assert triplet_loss(CORNERS, LABELS, margin=1.4, mining=mining).item() == 0
    assert triplet_loss(CORNERS, LABELS, margin=1.5, mining=mining).item() > 0


@pytest.mark.parametrize("mining", ["hard", "all"])
def test_a_collapsed_network_pays_the_margin_and_gets_no_gradient(mining: str) -> None:
    rows = torch.ones(5, 3, requires_grad=True)
    value = triplet_loss(rows, LABELS, margin=0.3, mining=mining)
    value.backward()
    assert value.item() == pytest.approx(0.3)
    assert torch.equal(rows.grad, torch.zeros(5, 3))


def test_triplets_ignore_the_length_of_embeddings() -> None:
    rows = _rows(5)
    lengths = torch.tensor([0.1, 1.0, 10.0, 3.0, 1e6], dtype=torch.float64)[:, None]
    torch.testing.assert_close(triplet_loss(lengths * rows, LABELS), triplet_loss(rows, LABELS))


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])
@pytest.mark.parametrize("mining", ["hard", "all"])
def test_one_class_or_only_single_rows_make_no_triplet(mining: str, labels: list[int]) -> None:
    rows = _rows(4).requires_grad_()
    value = triplet_loss(rows, torch.tensor(labels), mining=mining)
    value.backward()
    assert value.item() == 0
    assert torch.equal(rows.grad, torch.zeros_like(rows))


def test_the_hardest_triplets_cost_no_less_than_all() -> None:
    rows = _rows(12)
    labels = torch.arange(12) % 3
    assert triplet_loss(rows, labels, mining="hard") > triplet_loss(rows, labels, mining="all")


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(UsageError, match="hard, soft"):
        darkrank_loss(_rows(3), _rows(3), kind="medium")
    with pytest.raises(UsageError, match="mean, reference"):
        mkd_relative_loss(_rows(3), _rows(3), form="median")
    with pytest.raises(UsageError, match="hard, all"):
        triplet_loss(_rows(5), LABELS, mining="semi-hard")

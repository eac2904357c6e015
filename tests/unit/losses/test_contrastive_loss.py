"""The memory banks of CRD: what is drawn, what is remembered, and the value against a loop."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainables.errors import UsageError
from trainables.losses import contrastive
from trainables.losses.contrastive import CrdLoss
from trainables.spec import CrdSpec

ITEMS = 12
CLASSES = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 3, 0])


def _loss(classes: Tensor = CLASSES, seed: int = 0, **choices: object) -> CrdLoss:
    torch.manual_seed(seed)
    spec = CrdSpec(**{"width": 4, "negatives": 7, "temperature": 0.5} | choices)  # type: ignore[arg-type]
    loss = CrdLoss(spec, student_width=5, teacher_width=6, items=len(classes), classes_of_items=classes)
    loss.begin_epoch(torch.Generator().manual_seed(3))
    return loss


def _draw(batch: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randperm(ITEMS, generator=generator)[:batch]
    student = torch.randn(batch, 5, generator=generator).requires_grad_()
    return student, torch.randn(batch, 6, generator=generator), CLASSES[indices], indices


def _negatives(loss: CrdLoss, indices: Tensor) -> Tensor:
    assert loss._seed is not None
    return loss._draw(indices, loss._seed)[0]


def test_it_equals_the_loop_written_from_the_probabilities() -> None:
    loss = _loss().double()
    student, teacher, labels, indices = _draw()
    student, teacher = student.detach().double(), teacher.double()
    negatives = _negatives(loss, indices)
    total = 0.0
    for head, x, bank in (
        (loss.student_head, student, loss.teacher_bank.clone()),
        (loss.teacher_head, teacher, loss.student_bank.clone()),
    ):
        rows = [(head(row) / head(row).norm()).detach() for row in x]
        weights = [
            [math.exp(float(row.dot(bank[item])) / 0.5) for item in (own, *others)]
            for row, own, others in zip(rows, indices.tolist(), negatives.tolist(), strict=True)
        ]
        z = sum(sum(row) for row in weights) / (4 * 8) * ITEMS
        for row in weights:
            shares = [weight / z / (weight / z + 7 / ITEMS) for weight in row]
            total -= math.log(shares[0]) + sum(math.log(1 - share) for share in shares[1:])
    assert loss(student, teacher, labels, indices).item() == pytest.approx(total / 4, rel=1e-12)


def test_z_is_made_in_the_first_batch_and_constant_afterwards() -> None:
    loss = _loss()
    loss(*_draw())
    first = loss.log_z.clone()
    loss(*_draw(seed=1))
    assert torch.equal(loss.log_z, first)
    assert (first != 0).all()


def test_banks_follow_the_embeddings_of_the_images_at_hand_alone() -> None:
    loss = _loss(momentum=0.75)
    before = loss.student_bank.clone()
    student, teacher, labels, indices = _draw()
    loss(student, teacher, labels, indices)
    for row, item in enumerate(indices.tolist()):
        embedding = loss.student_head(student[row])
        moved = 0.75 * before[item] + 0.25 * embedding / embedding.norm()
        torch.testing.assert_close(loss.student_bank[item], moved / moved.norm())
    others = torch.tensor([item for item in range(ITEMS) if item not in indices])
    assert torch.equal(loss.student_bank[others], before[others])
    torch.testing.assert_close(loss.teacher_bank.norm(dim=1), torch.ones(ITEMS))


def test_banks_and_z_rest_in_evaluation_mode() -> None:
    loss = _loss().eval()
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    loss(*_draw())
    for name, value in loss.state_dict().items():
        assert torch.equal(value, before[name])


def test_banks_move_before_the_backward_pass_without_harm() -> None:
    student, teacher, labels, indices = _draw()
    gradients = []
    for training in (True, False):
        loss = _loss().train(training)
        gradients.append(torch.autograd.grad(loss(student, teacher, labels, indices), student)[0])
    torch.testing.assert_close(*gradients)


def test_a_training_continued_from_its_state_goes_on_as_if_never_stopped() -> None:
    first, second = _loss(), _loss(seed=9)
    first(*_draw())
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(*_draw(seed=1)), second(*_draw(seed=1)))
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value)


def test_products_with_the_whole_bank_and_with_copied_rows_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher, labels, indices = _draw()
    found = []
    for whole in (16, 0):
        monkeypatch.setattr(contrastive, "WHOLE_BANK", whole)
        value = _loss()(student, teacher, labels, indices)
        found.append((value, torch.autograd.grad(value, student)[0]))
    torch.testing.assert_close(*found)


def test_negatives_are_of_other_classes_and_all_of_them_alike() -> None:
    loss = _loss(negatives=11)
    counts = torch.zeros(ITEMS, ITEMS)
    for epoch in range(400):
        loss.begin_epoch(torch.Generator().manual_seed(epoch))
        drawn = _negatives(loss, torch.arange(ITEMS))
        counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=counts.dtype))
    other = CLASSES[:, None] != CLASSES[None, :]
    assert torch.equal(counts > 0, other)
    expected = (400 * 11 / other.sum(1, keepdim=True)).expand_as(counts)
    # Counts scatter by about the root of what is expected, here 20 to 24.
    assert ((counts - expected)[other].abs() < 5 * expected[other].sqrt()).all()


def test_negatives_of_all_classes_leave_out_the_image_alone() -> None:
    loss = _loss(negatives=11, negatives_from="all")
    met = torch.zeros(ITEMS, ITEMS, dtype=torch.bool)
    for epoch in range(100):
        loss.begin_epoch(torch.Generator().manual_seed(epoch))
        met.scatter_(1, _negatives(loss, torch.arange(ITEMS)), True)
    assert torch.equal(met, ~torch.eye(ITEMS, dtype=torch.bool))


def test_negatives_change_with_the_epoch_and_not_with_the_batch() -> None:
    loss = _loss()
    indices = torch.tensor([4, 0, 7])
    drawn = _negatives(loss, indices)
    assert torch.equal(_negatives(loss, indices.flip(0)), drawn.flip(0))
    assert torch.equal(_negatives(loss, indices[1:2]), drawn[1:2])
    loss.begin_epoch(torch.Generator().manual_seed(4))
    assert not torch.equal(_negatives(loss, indices), drawn)
    loss.begin_epoch(torch.Generator().manual_seed(3))
    assert torch.equal(_negatives(loss, indices), drawn)


def test_there_are_no_more_negatives_than_other_images() -> None:
    assert _loss(negatives=4096).negatives == ITEMS - 1


def test_the_bits_are_those_of_splitmix64() -> None:
    def expected(counter: int, seed: int) -> int:
        x = (counter * 0x9E3779B97F4A7C15 + seed) % 2**64
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
        return (x ^ (x >> 31)) >> 33

    counters = [0, 1, 2, 1000, 2**31, 2**40 + 3]
    for seed in (0, 1, 2**62 - 1):
        bits = contrastive._random_bits(torch.tensor(counters), seed)
        assert bits.tolist() == [expected(counter, seed) for counter in counters]
    # The first output of the published generator for seed 0.
    assert contrastive._random_bits(torch.tensor([1]), 0).item() == 0xE220A8397B1DCDAF >> 33


def test_with_a_single_class_there_are_positives_only() -> None:
    loss = _loss(classes=torch.zeros(ITEMS, dtype=torch.int64))
    student, teacher, labels, indices = _draw()
    value = loss(student, teacher, labels, indices)
    value.backward()
    # Z is N times the mean of the batch's positives, so that a share of a positive is about 1 / (1 + K).
    assert 0 < value.item() < 2 * 2 * math.log(1 + 7)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_images_at_hand_become_what_the_teacher_sees_in_them() -> None:
    loss = _loss(negatives_from="all", temperature=0.2)
    student, teacher = torch.randn(ITEMS, 5, requires_grad=True), torch.randn(ITEMS, 6)
    everything = torch.arange(ITEMS)
    optimizer = torch.optim.Adam([student, *loss.parameters()], lr=0.02)
    for step in range(150):
        loss.begin_epoch(torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss(student, teacher, CLASSES, everything).backward()
        optimizer.step()
    nearest = (loss.student_bank @ loss.teacher_bank.T).argmax(1)
    assert torch.equal(nearest, everything)


def test_an_unseeded_epoch_is_refused() -> None:
    torch.manual_seed(0)
    loss = CrdLoss(CrdSpec(), student_width=5, teacher_width=6, items=ITEMS, classes_of_items=CLASSES)
    with pytest.raises(UsageError, match="begin_epoch"):
        loss(*_draw())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, t, y, i: (s, t[:2], y, i), "same B images"),
        (lambda s, t, y, i: (s, t, y[:2], i), "`labels`"),
        (lambda s, t, y, i: (s, t, y, i[:2]), "`indices`"),
    ],
)
def test_batches_that_do_not_fit_are_refused(change: Callable[..., tuple[Tensor, ...]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _loss()(*change(*_draw()))


def test_a_class_for_each_of_at_least_two_images_is_asked_for() -> None:
    for items, classes in ((1, torch.zeros(1, dtype=torch.int64)), (12, CLASSES[:5])):
        with pytest.raises(UsageError, match=f"for {items} images"):
            CrdLoss(CrdSpec(), student_width=5, teacher_width=6, items=items, classes_of_items=classes)


def test_an_empty_batch_is_a_zero_that_keeps_the_graph() -> None:
    student = torch.zeros(0, 5, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    value = _loss()(student, torch.zeros(0, 6), none, none)
    assert value.item() == 0
    assert value.requires_grad

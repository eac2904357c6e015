"""The weighting layer: which terms, which weights, and the running centres."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from trainables.errors import UsageError
from trainables.losses.horkd import center_loss, class_centers, pair_loss
from trainables.losses.horkd_loss import HorkdLoss
from trainables.spec import HorkdSpec


def _draw(batch: int = 12, classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(batch, 5, generator=generator).requires_grad_()
    return student, torch.randn(batch, 8, generator=generator), torch.arange(batch) % classes


def _loss(classes: int = 3, student_width: int = 5, teacher_width: int = 8, **choices: object) -> HorkdLoss:
    spec = HorkdSpec(**choices)  # type: ignore[arg-type]
    loss = HorkdLoss(spec, student_width=student_width, teacher_width=teacher_width, classes=classes)
    if loss.uses_teacher_centers:
        sums = torch.randn(classes, teacher_width, generator=torch.Generator().manual_seed(1))
        loss.set_teacher_centers(sums, torch.ones(classes))
    return loss


def test_only_the_terms_switched_on_are_reported() -> None:
    for orders, names in {"none": (), "1": ("point",), "2+C": ("pair", "center"), "1+2+3+C": None}.items():
        _, terms = _loss(orders=orders)(*_draw(), progress=0.5)
        assert tuple(terms) == (("point", "pair", "angle", "center") if names is None else names)


def test_terms_are_reported_unweighted_and_the_total_is_their_weighted_sum() -> None:
    loss = _loss(w_1st=2.0, alpha=3.0, beta=5.0, gamma=7.0, center_warmup=0.5)
    student, teacher, labels = _draw()
    loss(student, teacher, labels, progress=0.0)
    total, terms = loss(student, teacher, labels, progress=0.25)
    assert loss.weights(0.25) == {"point": 2.0, "pair": 3.0, "angle": 5.0, "center": 3.5}
    torch.testing.assert_close(terms["pair"], pair_loss(student, teacher))
    torch.testing.assert_close(total, sum(loss.weights(0.25)[name] * terms[name] for name in terms))
    assert terms["center"].item() > 0


def test_gamma_rises_linearly_and_stays() -> None:
    loss = _loss(orders="C", gamma=2.0, center_warmup=0.4)
    assert [loss.weights(p)["center"] for p in (0.0, 0.1, 0.2, 0.4, 1.0)] == pytest.approx([0, 0.5, 1, 2, 2])
    assert _loss(orders="C", gamma=2.0, center_warmup=0.0).weights(0.0) == {"center": 2.0}


def test_no_distillation_is_a_zero_with_a_gradient() -> None:
    student, teacher, labels = _draw()
    total, terms = _loss(orders="none")(student, teacher, labels, progress=0.0)
    total.backward()
    assert total.item() == 0
    assert terms == {}
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_a_projector_is_made_only_where_the_point_term_meets_another_width() -> None:
    assert _loss(orders="2+3").projector is None
    assert _loss(orders="1", student_width=8).projector is None
    projector = _loss(orders="1").projector
    assert projector is not None
    assert projector.bias is None
    assert tuple(projector.weight.shape) == (8, 5)


def test_the_projector_is_trained_along_under_autocast_in_full_precision() -> None:
    loss = _loss(orders="1")
    student, teacher, labels = _draw()
    expected, _ = loss(student, teacher, labels, progress=0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = loss(student, teacher, labels, progress=0.0)
    total.backward()
    assert torch.equal(total, expected)
    assert loss.projector is not None
    assert loss.projector.weight.grad is not None


def test_student_centres_start_as_a_copy_and_then_follow() -> None:
    loss = _loss(orders="C", center_momentum=0.75)
    student, teacher, labels = _draw(classes=2)
    loss(student, teacher, labels, progress=0.0)
    means = torch.stack([student[labels == k].mean(0) for k in range(2)]).detach()
    torch.testing.assert_close(loss.student_centers[:2], means)
    assert loss.student_seen.tolist() == [True, True, False]
    loss(student + 4, teacher, labels, progress=0.0)
    torch.testing.assert_close(loss.student_centers[:2], means + 1)
    assert torch.equal(loss.student_centers[2], torch.zeros(5))


def test_student_centres_rest_in_evaluation_mode() -> None:
    loss = _loss(orders="C").eval()
    loss(*_draw(), progress=0.0)
    assert not loss.student_seen.any()


def test_running_centres_are_constant_in_the_gradient_and_may_be_updated_before_it() -> None:
    loss = _loss(orders="C").double()
    student, teacher, labels = (x.double() if x.is_floating_point() else x for x in _draw())
    student = student.detach().requires_grad_()
    loss(student, teacher, labels, progress=1.0)
    total, _ = loss(student, teacher, labels, progress=1.0)
    total.backward()
    assert torch.isfinite(student.grad).all()
    assert not loss.student_centers.requires_grad


def test_classes_unseen_by_either_side_do_not_count() -> None:
    student, teacher, labels = _draw()
    values = []
    for classes in (3, 9):
        loss = HorkdLoss(HorkdSpec(orders="C"), student_width=5, teacher_width=8, classes=classes)
        sums = torch.zeros(classes, 8)
        sums[:3] = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
        loss.set_teacher_centers(sums, torch.arange(classes) < 3)
        loss(student, teacher, labels, progress=1.0)
        values.append(loss(student, teacher, labels, progress=1.0)[0])
    assert values[0].item() > 0
    torch.testing.assert_close(*values)


def test_running_centres_without_the_teachers_are_refused() -> None:
    loss = HorkdLoss(HorkdSpec(orders="C"), student_width=5, teacher_width=8, classes=3)
    with pytest.raises(UsageError, match="set_teacher_centers"):
        loss(*_draw(), progress=0.0)


def test_centres_travel_with_the_state() -> None:
    first = _loss(orders="1+C")
    first(*_draw(), progress=0.0)
    second = HorkdLoss(first.spec, student_width=5, teacher_width=8, classes=3)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(first(*_draw(), progress=1.0)[0], second(*_draw(), progress=1.0)[0])


def test_a_single_row_of_a_class_is_not_its_own_centre() -> None:
    student, teacher, labels = _draw(batch=3)
    loss = _loss(orders="C", centers="batch")
    # Each row relates to the two centres of the others: the same three distances as pairs have, each twice.
    total, _ = loss(student, teacher, labels, progress=1.0)
    torch.testing.assert_close(total, pair_loss(student, teacher))


def test_centres_of_an_epoch_are_what_was_set_and_rest_until_the_next() -> None:
    loss = _loss(orders="C", centers="epoch", center_warmup=0.0)
    student, teacher, labels = _draw()
    assert loss.uses_epoch_centers
    assert loss.uses_teacher_centers
    sums = torch.stack([student[labels == k].sum(0) for k in range(3)]).detach()
    loss.set_student_centers(sums, torch.bincount(labels))
    total, _ = loss(student, teacher, labels, progress=0.5)
    centers, _ = class_centers(student.detach(), labels, 3)
    torch.testing.assert_close(total, center_loss(student, teacher, centers, loss.teacher_centers))
    total.backward()
    assert torch.equal(loss.student_centers, sums / 4)
    loss.set_student_centers(2 * sums, torch.bincount(labels))
    assert torch.equal(loss.student_centers, sums / 2)


def test_a_class_without_images_is_no_centre_of_an_epoch() -> None:
    student, teacher, labels = _draw()
    values = []
    for classes in (3, 9):
        loss = HorkdLoss(HorkdSpec(orders="C", centers="epoch"), student_width=5, teacher_width=8, classes=classes)
        seen = torch.arange(classes) < 3
        sums = torch.randn(classes, 13, generator=torch.Generator().manual_seed(1))
        sums[:3] = torch.randn(3, 13, generator=torch.Generator().manual_seed(2))
        loss.set_teacher_centers(sums[:, :8], seen)
        loss.set_student_centers(sums[:, 8:], seen)
        values.append(loss(student, teacher, labels, progress=1.0)[0])
    assert values[0].item() > 0
    torch.testing.assert_close(*values)


def test_centres_of_an_epoch_without_the_students_are_refused_until_set_or_loaded() -> None:
    first, second = (_loss(orders="C", centers="epoch") for _ in range(2))
    with pytest.raises(UsageError, match="set_student_centers"):
        first(*_draw(), progress=0.0)
    first.set_student_centers(torch.randn(3, 5), torch.ones(3))
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second(*_draw(), progress=1.0)[0], first(*_draw(), progress=1.0)[0])


def test_centres_nobody_uses_cannot_be_set() -> None:
    with pytest.raises(UsageError, match="centers 'running'"):
        _loss(orders="C").set_student_centers(torch.zeros(3, 5), torch.ones(3))
    with pytest.raises(UsageError, match="orders '1'"):
        _loss(orders="1", centers="epoch").set_student_centers(torch.zeros(3, 5), torch.ones(3))
    with pytest.raises(UsageError, match="centers 'batch'"):
        _loss(orders="C", centers="batch").set_teacher_centers(torch.zeros(3, 8), torch.ones(3))


def test_centres_of_other_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"\(3, 5\).*\(3, 8\).*\n.*student's"):
        _loss(orders="C", centers="epoch").set_student_centers(torch.zeros(3, 8), torch.ones(3))


def test_a_wrong_choice_is_refused_with_the_right_one() -> None:
    student, teacher, _ = _draw()
    with pytest.raises(UsageError, match="Did you mean 'reference'"):
        pair_loss(student, teacher, reduction="referense")


@pytest.mark.parametrize("centers", ["running", "batch", "epoch"])
def test_a_step_reads_nothing_back_to_the_host(centers: str) -> None:
    # Fake tensors have no values: reading one, or a shape that depends on one, raises.
    with FakeTensorMode():
        loss = _loss(orders="1+2+3+C", centers=centers)
        if loss.uses_epoch_centers:
            loss.set_student_centers(torch.randn(3, 5), torch.ones(3))
        student = torch.randn(12, 5, requires_grad=True)
        total, _ = loss(student, torch.randn(12, 8), torch.zeros(12, dtype=torch.int64), progress=0.5)
        total.backward()


@pytest.mark.parametrize("seed", range(2))
def test_training_goes_through_the_warm_up_of_running_centres_and_learns(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    classes, epochs = 10, 15
    labels = torch.arange(320) % classes
    images = torch.randn(classes, 16, generator=generator)[labels] + 0.7 * torch.randn(320, 16, generator=generator)
    teacher = torch.relu(images @ torch.randn(16, 24, generator=generator))
    body = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 12), nn.ReLU())
    head = nn.Linear(12, classes)
    loss = _loss(
        orders="1+2+3+C",
        gamma=12.5,
        alpha=12.5,
        beta=50.0,
        student_width=12,
        teacher_width=24,
        classes=classes,
    )
    sums = torch.zeros(classes, 24).index_add_(0, labels, teacher)
    loss.set_teacher_centers(sums, torch.bincount(labels, minlength=classes))
    parameters = [*body.parameters(), *head.parameters(), *loss.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    centers = []
    for epoch in range(epochs):
        for rows in torch.randperm(320, generator=generator).split(64):
            embedding = body(images[rows])
            total, terms = loss(embedding, teacher[rows], labels[rows], progress=epoch / epochs)
            optimizer.zero_grad()
            (total + F.cross_entropy(head(embedding), labels[rows])).backward()
            optimizer.step()
            assert torch.isfinite(total)
        centers.append(terms["center"].item())
    assert float((head(body(images)).argmax(1) == labels).float().mean()) > 0.9
    assert centers[-1] < centers[0]


def test_listing_the_losses_does_not_import_torch() -> None:
    code = "import sys, trainables.losses, trainables.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

"""Hints, attention, probabilities and similarities: alignment of maps, stages, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import UsageError
from trainables.losses.classic import kd_loss, pkt_loss, rkd_angle_loss, rkd_distance_loss
from trainables.losses.feature_maps import at_loss, fitnet_loss, sp_loss


def _map(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("small", "large"), [((3, 3), (6, 6)), ((3, 4), (5, 7)), ((1, 1), (4, 4)), ((2, 5), (6, 5))])
def test_the_larger_map_is_averaged_over_equal_bins_whoever_has_it(
    small: tuple[int, int], large: tuple[int, int]
) -> None:
    few, many = _map(2, 3, *small), _map(2, 3, *large, seed=1)
    pooled = F.adaptive_avg_pool2d(many, small)
    expected = (few - pooled).square().mean()
    torch.testing.assert_close(fitnet_loss(few, many), expected)
    torch.testing.assert_close(fitnet_loss(many, few), expected)
    torch.testing.assert_close(at_loss([many], [few]), at_loss([pooled], [few]))


def test_maps_of_which_each_is_larger_along_one_side_meet_at_the_smaller_sides() -> None:
    wide, tall = _map(2, 3, 2, 6), _map(2, 3, 4, 3, seed=1)
    expected = (F.adaptive_avg_pool2d(wide, (2, 3)) - F.adaptive_avg_pool2d(tall, (2, 3))).square().mean()
    torch.testing.assert_close(fitnet_loss(wide, tall), expected)


@pytest.mark.parametrize(("small", "large"), [((2, 2), (4, 4)), ((3, 4), (5, 7)), ((1, 1), (3, 3))])
def test_the_smaller_map_is_enlarged_bilinearly_where_that_is_asked(
    small: tuple[int, int], large: tuple[int, int]
) -> None:
    few, many = _map(2, 3, *small), _map(2, 3, *large, seed=1)
    enlarged = F.interpolate(few, large, mode="bilinear", align_corners=False)
    expected = (enlarged - many).square().mean()
    torch.testing.assert_close(fitnet_loss(few, many, align="upsample"), expected)
    torch.testing.assert_close(fitnet_loss(many, few, align="upsample"), expected)


@pytest.mark.parametrize("align", ["pool", "upsample"])
def test_the_gradient_goes_through_the_alignment(align: str) -> None:
    teacher = _map(2, 3, 4, 4)
    for sides in ((2, 3), (6, 5)):
        student = _map(2, 3, *sides, seed=1).requires_grad_()
        assert torch.autograd.gradcheck(lambda s: fitnet_loss(s, teacher, align=align), student)


def test_attention_adds_its_stages() -> None:
    ours = [_map(2, 3, 8, 8), _map(2, 5, 4, 4, seed=1)]
    theirs = [_map(2, 4, 8, 8, seed=2), _map(2, 6, 4, 4, seed=3)]
    each = [at_loss([s], [t]) for s, t in zip(ours, theirs, strict=True)]
    torch.testing.assert_close(at_loss(ours, theirs), each[0] + each[1])


def test_stages_are_paired_from_the_deepest_and_shallow_ones_left_over_do_not_count() -> None:
    maps = [_map(2, 3, side, side, seed=side) for side in (8, 4, 2)]
    other = [_map(2, 3, side, side, seed=side + 9) for side in (4, 2)]
    torch.testing.assert_close(at_loss(maps, other), at_loss(maps[1:], other))
    torch.testing.assert_close(at_loss(other, maps), at_loss(other, maps[1:]))


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 4.0])
def test_attention_to_pixels_that_are_off_has_a_finite_slope(power: float) -> None:
    student = F.relu(_map(3, 2, 4, 4))
    student[0] = 0
    student.requires_grad_()
    value = at_loss([student], [_map(3, 2, 4, 4, seed=1)], power=power)
    value.backward()
    assert torch.isfinite(value)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_attention_ignores_the_scale_of_each_image() -> None:
    student, teacher = _map(3, 2, 4, 4), _map(3, 2, 4, 4, seed=1)
    scales = torch.tensor([1e-30, 1.0, 1e30], dtype=torch.float64).view(3, 1, 1, 1)
    torch.testing.assert_close(at_loss([student * scales], [teacher]), at_loss([student], [teacher]))


def test_similarities_of_maps_are_those_of_their_pixels_and_need_no_common_size() -> None:
    student, teacher = _map(4, 2, 3, 3), _map(4, 5, 6, 6, seed=1)
    torch.testing.assert_close(sp_loss(student, teacher), sp_loss(student.flatten(1), teacher.flatten(1)))


@pytest.mark.parametrize("loss", [pkt_loss, sp_loss, kd_loss])
def test_a_row_of_zeros_among_others_takes_no_steep_gradient(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    student = _map(4, 3)
    student[1] = 0
    student.requires_grad_()
    loss(student, _map(4, 3, seed=1)).backward()
    assert student.grad is not None
    assert student.grad.abs().max() < 10


def test_probabilities_soften_with_the_temperature_and_keep_the_gradients_size() -> None:
    teacher = _map(5, 4)
    sizes = []
    for temperature in (10.0, 1000.0):
        student = _map(5, 4, seed=1).requires_grad_()
        kd_loss(student, teacher, temperature=temperature).backward()
        assert student.grad is not None
        sizes.append(student.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kd_loss(_map(3, 4), _map(3, 5)), r"same B images and C classes.*\(3, 4\) and \(3, 5\)"),
        (lambda: kd_loss(_map(3, 4), _map(3, 4), temperature=0.0), "must be positive, but got 0"),
        (lambda: fitnet_loss(_map(3, 4, 2, 2), _map(3, 5, 2, 2)), "got 4 and 5 channels"),
        (lambda: fitnet_loss(_map(3, 4), _map(3, 4)), "Ask the network for its maps"),
        (lambda: fitnet_loss(_map(3, 4, 2, 2), _map(3, 4, 2, 2), align="pol"), "Did you mean 'pool'"),
        (lambda: at_loss([], [_map(3, 4, 2, 2)]), "got 0 of the student and 1 of the teacher"),
        (lambda: at_loss([_map(3, 4, 2, 2)], [_map(2, 4, 2, 2)]), "same B images"),
        (lambda: sp_loss(_map(3, 4, 2), _map(3, 4, 2)), r"\(3, 4, 2\)"),
        (lambda: rkd_distance_loss(_map(3, 4), _map(3, 4), form="sum_over_anchors_mean"), "mean, reference"),
        (lambda: rkd_angle_loss(_map(3, 4), _map(3, 4), form="reference "), "Did you mean 'reference'"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_an_empty_batch_is_a_zero_that_keeps_the_graph() -> None:
    for loss, shape in (
        (kd_loss, (0, 4)),
        (pkt_loss, (0, 4)),
        (sp_loss, (0, 4)),
        (fitnet_loss, (0, 4, 2, 2)),
        (lambda s, t: at_loss([s], [t]), (0, 4, 2, 2)),
    ):
        student = torch.zeros(shape, requires_grad=True)
        value = loss(student, torch.zeros(shape))
        assert value.item() == 0
        assert value.requires_grad


@pytest.mark.parametrize(("student", "teacher"), [(False, False), (True, False), (False, True), (True, True)])
def test_the_reference_form_of_the_angles_is_public_code_less_the_angle_of_a_pair_with_itself(
    student: bool, teacher: bool
) -> None:
    def cosines(x: Tensor) -> Tensor:
        # As public code of RKD has it: all j and k for each i, j = k among them.
        directions = F.normalize(x[None] - x[:, None], dim=2)
        return torch.bmm(directions, directions.transpose(1, 2))

    s, t = _map(8, 5), _map(8, 6, seed=1)
    for x, twice in ((s, student), (t, teacher)):
        if twice:
            x[3] = x[1]
    public = F.smooth_l1_loss(cosines(s), cosines(t))
    with_itself = F.smooth_l1_loss((torch.cdist(s, s) > 0).double(), (torch.cdist(t, t) > 0).double(), reduction="sum")
    torch.testing.assert_close(rkd_angle_loss(s, t, form="reference") + with_itself / 8**3, public)
    assert float(with_itself) == (1.0 if student is not teacher else 0.0)  # Two ordered pairs, Huber's 0.5 each.

"""Distances that keep their gradient finite."""

from __future__ import annotations

import torch

from trainables.losses import geometry


def test_distances_equal_the_norms_of_differences() -> None:
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 50
    expected = (x[:, None] - x[None]).norm(dim=2)
    torch.testing.assert_close(geometry.pairwise_distances(x), expected)
    torch.testing.assert_close(geometry.Rows(x).distances_to(x[:3]), expected[:, :3], rtol=1e-7, atol=1e-6)


def test_identical_rows_far_from_the_origin_are_at_distance_zero() -> None:
    x = torch.full((5, 512), 22.3).requires_grad_()
    distances = geometry.pairwise_distances(x)
    distances.sum().backward()
    assert torch.equal(distances, torch.zeros(5, 5, dtype=torch.float64))
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_a_quotient_by_zero_is_zero_with_gradient_zero() -> None:
    numerator = torch.tensor([1.0, 2.0], requires_grad=True)
    denominator = torch.tensor([0.0, 4.0], requires_grad=True)
    quotient = geometry.safe_divide(numerator, denominator)
    quotient.sum().backward()
    assert quotient.tolist() == [0.0, 0.5]
    assert numerator.grad.tolist() == [0.0, 0.25]
    assert denominator.grad.tolist() == [0.0, -0.125]


def test_a_square_root_at_the_threshold_is_zero_with_gradient_zero() -> None:
    squared = torch.tensor([0.0, 1.0, 4.0], requires_grad=True)
    roots = geometry.safe_sqrt(squared, torch.tensor(1.0))
    roots.sum().backward()
    assert roots.tolist() == [0.0, 0.0, 2.0]
    assert squared.grad.tolist() == [0.0, 0.0, 0.25]


def test_narrow_types_are_widened_and_wide_ones_kept() -> None:
    for dtype, wide in (
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float64, torch.float64),
    ):
        assert geometry.at_least_float32(torch.zeros(1, dtype=dtype)).dtype == wide

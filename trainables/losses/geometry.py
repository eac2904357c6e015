"""Distances between embeddings, and the precision they need.

What losses share: Gram matrices, distances whose gradient stays finite at distance zero, masks of valid tuples,
the type of a result. No loss is defined here. Everything stays on the device: nothing is read back to the host.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager

import torch
from torch import Tensor

IDENTICAL = 1e-4  # Two embeddings closer than this share of the batch's spread count as one point.


def full_precision(x: Tensor) -> AbstractContextManager[None]:
    """Switches autocast off for the device of `x`; relations lose two digits when computed in bfloat16."""
    return torch.autocast(device_type=x.device.type, enabled=False)


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or unchanged when it is float32 or float64 already."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def widen(x: Tensor) -> Tensor:
    """`x` in float64, in which a squared distance may be taken from a Gram matrix without cancelling."""
    # Apple's GPUs have no float64; there the centring alone has to do.
    return at_least_float32(x) if x.device.type == "mps" else x.double()


def center(x: Tensor) -> tuple[Tensor, Tensor]:
    """`x` [B, D] in float64 with its mean moved to the origin, and that mean [D].

    Distances and angles do not change under a shift, so no gradient flows through the mean.
    """
    wide = widen(x)
    origin = wide.detach().mean(0)
    return _moved(wide, origin, ours=wide is not x), origin


def _moved(x: Tensor, origin: Tensor, *, ours: bool) -> Tensor:
    """`x` [B, D] less `origin` [D]; in place where `x` is `ours`, which saves memory that must first be mapped."""
    return x.sub_(origin) if ours else x - origin


def squared_lengths(x: Tensor) -> Tensor:
    """Squared lengths [B] of the rows of `x` [B, D], without a second `x`."""
    return torch.linalg.vector_norm(x, dim=1).square()


def gram(x: Tensor) -> Tensor:
    """Inner products [B, B] of the rows of `x` [B, D]."""
    return x @ x.T


def off_diagonal(size: int, device: torch.device) -> Tensor:
    """Mask [size, size] of the valid pairs, those of two different rows."""
    return ~torch.eye(size, dtype=torch.bool, device=device)


def identity_threshold(lengths: Tensor, origin: Tensor, dtype: torch.dtype) -> Tensor:
    """Squared distance [] at and below which two rows count as identical.

    The larger of `IDENTICAL` squared times the batch's mean squared spread, and what rounding alone does to
    rows so far from zero. Without the second a collapsed batch would be normalised to pure rounding noise.

    Args:
        lengths: Squared lengths [B] of the centred rows.
        origin: Their mean [D].
        dtype: In which the rows were given.
    """
    spread = lengths.detach().mean()
    rounding = 4 * torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    return torch.maximum(IDENTICAL**2 * spread, rounding**2 * (spread + origin.dot(origin)))


def safe_sqrt(squared: Tensor, threshold: Tensor) -> Tensor:
    """Square root that is zero, with gradient zero, at and below `threshold`."""
    # The inner `where` keeps infinite slopes out of the backward pass: 0 * inf would be NaN.
    apart = squared > threshold
    return torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)


class Rows:
    """Embeddings [B, D] of which several losses ask the same: each answer is computed once, when it is asked for.

    Ask outside autocast, as with `full_precision`.
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x

    @functools.cached_property
    def centered(self) -> tuple[Tensor, Tensor]:
        """The embeddings in float64 less their mean, and that mean [D]."""
        return center(self.x)

    @functools.cached_property
    def squared(self) -> Tensor:
        """Squared distances [B, B] between the rows, never negative, zero on the diagonal."""
        products = gram(self.centered[0])
        lengths = products.diagonal()
        squared = (lengths[:, None] + lengths[None, :] - 2 * products).clamp(min=0)
        return squared.masked_fill(torch.eye(len(squared), dtype=torch.bool, device=squared.device), 0.0)

    @functools.cached_property
    def lengths(self) -> Tensor:
        """Squared lengths [B]."""
        return squared_lengths(self.centered[0])

    @functools.cached_property
    def identical(self) -> Tensor:
        """Squared distance [] at and below which two rows count as identical."""
        return identity_threshold(self.lengths, self.centered[1], self.x.dtype)

    @functools.cached_property
    def distances(self) -> Tensor:
        """Distances [B, B] between the rows, zero without gradient where identical."""
        return safe_sqrt(self.squared, self.identical)

    def distances_to(self, others: Tensor) -> Tensor:
        """Distances [B, C] from the rows to the rows of `others` [C, D]."""
        points, origin = self.centered
        wide = widen(others)
        others = _moved(wide, origin, ours=wide is not others)
        lengths = self.lengths[:, None] + squared_lengths(others)[None, :]
        return safe_sqrt(torch.addmm(lengths, points, others.T, alpha=-2).clamp(min=0), self.identical)


def pairwise_distances(x: Tensor) -> Tensor:
    """Distances [B, B] between the rows of `x` [B, D] in float64, zero without gradient where identical."""
    return Rows(x).distances


def safe_divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient that is zero, with gradient zero, where the denominator is zero."""
    defined = denominator != 0
    return torch.where(defined, numerator / torch.where(defined, denominator, 1.0), 0.0)


def unit(x: Tensor) -> Tensor:
    """Rows of `x` [B, D] scaled to length 1; zero rows stay zero, with gradient zero."""
    return safe_divide(x, safe_sqrt(x.square().sum(1, keepdim=True), x.new_zeros(())))


def nothing(student: Tensor) -> Tensor:
    """A zero that keeps the student's graph, so that a backward pass (and DDP) still finds it."""
    return 0 * at_least_float32(student).sum()


def narrow(value: Tensor, like: Tensor) -> Tensor:
    """`value` in the type of `like`, but never narrower than float32."""
    return value.to(torch.promote_types(like.dtype, torch.float32))

"""Distillation losses that read feature maps: hints, attention, similarities of the last maps.

One function per term, without its weight, and the loss's `Term`. As in `classic`, gradients flow into the student alone, and
work is done in float32 or wider. Teacher and student may have seen images of different sides: maps are aligned here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.errors import UsageError
from trainables.losses import checks, geometry
from trainables.losses.terms import Batch, Known, Term, check_maps
from trainables.spec.losses import FitnetSpec

ALIGNMENTS = checks.options(FitnetSpec, "align")


def fitnet_loss(student_map: Tensor, teacher_map: Tensor, *, align: str = "pool") -> Tensor:
    """Mean square difference of two feature maps (FitNets, Romero et al. 2015, Eq. 3).

    Args:
        student_map: [B, F, h, w], after the regressor that gives it the teacher's channels.
        teacher_map: [B, F, H, W], constant.
        align: "pool" averages the larger map down to the smaller, "upsample" enlarges the smaller bilinearly.

    Returns:
        Scalar [], the mean over all elements; it hardly changes with batch or map size.

    Raises:
        UsageError: If batch or channels differ, or `align` is unknown.

    Departs from the paper: maps of different sides are aligned by averages or interpolation; a regressor with
    larger kernels did that there.
    """
    checks.one_of("align", align, ALIGNMENTS)
    checks.maps(student_map, teacher_map, same_channels=True)
    if len(student_map) == 0:
        return geometry.nothing(student_map)
    with geometry.full_precision(student_map):
        student = geometry.at_least_float32(student_map)
        teacher = teacher_map.detach().to(student.dtype)
        if align == "pool":
            student, teacher = _to_the_smaller(student, teacher)
        else:
            sides = [max(pair) for pair in zip(student.shape[2:], teacher.shape[2:], strict=True)]
            student, teacher = (_resized(x, sides, _bilinear_weights) for x in (student, teacher))
        return (student - teacher).square().mean()


class Regressor(nn.Module):
    """Takes the student's map of one stage to the channels of the teacher's (FitNets, Romero et al. 2015)."""

    def __init__(self, spec: FitnetSpec, student_maps: Sequence[int], teacher_maps: Sequence[int]) -> None:
        """Args: the choices, and the channels of both networks' maps; the last stage stands in for missing ones."""
        super().__init__()
        self.student_stage = min(spec.layer, len(student_maps)) - 1
        self.teacher_stage = min(spec.layer, len(teacher_maps)) - 1
        channels = teacher_maps[self.teacher_stage]
        normalised = spec.regressor == "conv_bn"
        self.convolution = nn.Conv2d(student_maps[self.student_stage], channels, 1, bias=not normalised)
        self.norm = nn.BatchNorm2d(channels) if normalised else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, F of the teacher, h, w] in full precision from the student's [B, F, h, w]."""
        with geometry.full_precision(x):
            mapped: Tensor = self.norm(self.convolution(x.to(self.convolution.weight.dtype)))
            return mapped


class FitnetTerm(Term):
    """The hint of FitNets: its regressor, and the difference of the maps of one stage."""

    options: FitnetSpec

    def build(self, known: Known) -> None:
        self.regressor = Regressor(self.options, known.student_maps, known.teacher_maps)
        self.modules = {"regressor": self.regressor}

    def value(self, name: str, batch: Batch) -> Tensor:
        check_maps(batch)
        ours = batch.student.maps[self.regressor.student_stage]
        theirs = batch.teacher.maps[self.regressor.teacher_stage]
        if ours.numel() <= ours.shape[1]:
            return geometry.nothing(ours)  # One pixel of one image cannot be normalised.
        return fitnet_loss(self.regressor(ours), theirs, align=self.options.align)


def at_loss(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], *, power: float = 2.0) -> Tensor:
    """Difference of the attention maps of all stages (Zagoruyko and Komodakis 2017, Eq. 1 and 2).

    A stage's attention is the mean over channels of |map|^power, flattened and scaled to length 1.

    Args:
        student_maps: One [B, F, h, w] per stage, shallow to deep.
        teacher_maps: The same of the teacher, constant; F, h and w may differ. With another number of stages
            they are paired from the deepest on, and the shallow ones left over do not count.
        power: 2 in the paper.

    Returns:
        Scalar [], the sum over stages of the mean over B and pixels of squared differences.

    Raises:
        UsageError: If there is no map, or batches differ.

    Departs from the paper: it has the length of the difference; the mean square is what public code has (and its
    weight of 1000). The larger map itself is pooled, before the power.
    """
    if not student_maps or not teacher_maps:
        raise UsageError(
            f"Attention transfer needs the maps of at least one stage, but got {len(student_maps)} of the student "
            f"and {len(teacher_maps)} of the teacher.\nAsk the networks for their maps."
        )
    total = geometry.nothing(student_maps[-1])
    for ours, theirs in zip(reversed(student_maps), reversed(teacher_maps), strict=False):
        checks.maps(ours, theirs)
        if len(ours) == 0:
            continue
        with geometry.full_precision(ours):
            ours = geometry.at_least_float32(ours)
            ours, theirs = _to_the_smaller(ours, theirs.detach().to(ours.dtype))
            total = total + (_attention(ours, power) - _attention(theirs, power)).square().mean()
    return total


def _attention(x: Tensor, power: float) -> Tensor:
    """Rows [B, h * w] of length 1 (zero for a map of zeros) from maps [B, F, h, w]."""
    x = _harmless(x, (1, 2, 3))  # The scale of an image's map does not matter.
    if power == 2:
        raised = x.square()
    else:
        # Powers below 1 have an infinite slope at zero.
        size = x.abs()
        raised = torch.where(size > 0, torch.where(size > 0, size, 1.0) ** power, 0.0)
    return geometry.unit(raised.mean(1).flatten(1))


class AtTerm(Term):
    """Attention maps of all stages."""

    def value(self, name: str, batch: Batch) -> Tensor:
        return at_loss(batch.student.maps, batch.teacher.maps, power=self.options.power)


def sp_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Difference of the batch's row-normalised Gram matrices (similarity preserving, Tung and Mori 2019, Eq. 2 to 4).

    Args:
        student: Embeddings [B, Ds] or feature maps [B, F, h, w], which are flattened.
        teacher: Either, constant; all but B may differ.

    Returns:
        Scalar [], the sum of squared differences divided by B^2; it falls like 1 / B.

    Raises:
        UsageError: If the batches differ.
    """
    if student.ndim not in (2, 4) or teacher.ndim not in (2, 4) or len(student) != len(teacher):
        raise UsageError(
            "`student` and `teacher` must be embeddings [B, D] or feature maps [B, F, h, w] of the same B images, "
            f"but got shapes {tuple(student.shape)} and {tuple(teacher.shape)}."
        )
    if len(student) == 0:
        return geometry.nothing(student)
    with geometry.full_precision(student):
        ours = _similarities(geometry.at_least_float32(student))
        theirs = _similarities(teacher.detach().to(ours.dtype))
        return (ours - theirs).square().mean()


class SpTerm(Term):
    """Similarities of the last maps."""

    def value(self, name: str, batch: Batch) -> Tensor:
        check_maps(batch)
        return sp_loss(batch.student.maps[-1], batch.teacher.maps[-1])


def _similarities(x: Tensor) -> Tensor:
    x = x.flatten(1)
    return geometry.unit(geometry.gram(_harmless(x, (0, 1))))  # The batch's scale cancels in the rows.


def _harmless(x: Tensor, dimensions: tuple[int, ...]) -> Tensor:
    """`x` scaled to a largest size of 1 over some dimensions, where later scaling makes up for it: 1e15 to the fourth
    power overflows. Zeros stay."""
    largest = torch.linalg.vector_norm(x.detach(), torch.inf, dimensions, keepdim=True)
    return x * (1 / largest.clamp(min=torch.finfo(x.dtype).tiny))


def _to_the_smaller(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps at the smaller one's sides, the larger one averaged over equal bins (adaptive average pooling)."""
    sides = [min(pair) for pair in zip(student.shape[2:], teacher.shape[2:], strict=True)]
    return _pooled(student, sides), _pooled(teacher, sides)


def _pooled(x: Tensor, sides: Sequence[int]) -> Tensor:
    height, width = x.shape[2:]
    if height % sides[0] == 0 and width % sides[1] == 0:
        return x if (height, width) == tuple(sides) else F.avg_pool2d(x, (height // sides[0], width // sides[1]))
    return _resized(x, sides, _pool_weights)


def _resized(x: Tensor, sides: Sequence[int], weights: Callable[[int, int, Tensor], Tensor]) -> Tensor:
    """`x` [B, F, h, w] with the given sides."""
    # Products of small matrices: the gradients of torch's own resizing vary from run to run on a GPU.
    if x.shape[2] != sides[0]:
        x = weights(x.shape[2], sides[0], x) @ x
    if x.shape[3] != sides[1]:
        x = x @ weights(x.shape[3], sides[1], x).T
    return x


def _pool_weights(inputs: int, outputs: int, like: Tensor) -> Tensor:
    """Matrix [outputs, inputs] that averages bins, which share a pixel where the sides do not divide."""
    bins = torch.arange(outputs, device=like.device)[:, None]
    pixels = torch.arange(inputs, device=like.device)[None, :]
    member = (pixels >= bins * inputs // outputs) & (pixels < -(-(bins + 1) * inputs // outputs))
    return (member / member.sum(1, keepdim=True)).to(like.dtype)


def _bilinear_weights(inputs: int, outputs: int, like: Tensor) -> Tensor:
    """Matrix [outputs, inputs] that interpolates linearly between pixel centres; the border is held."""
    centres = (torch.arange(outputs, device=like.device, dtype=like.dtype) + 0.5) * (inputs / outputs) - 0.5
    pixels = torch.arange(inputs, device=like.device, dtype=like.dtype)
    return (1 - (centres.clamp(0, inputs - 1)[:, None] - pixels).abs()).clamp(min=0)

"""Distillation losses HORKD is compared with: probabilities, hints, attention, relations, similarities.

One function per term, without its weight; the ones that rank neighbours are in `ranking`, the one with a memory
bank in `contrastive`. What holds for every term:
    - Gradients flow into the student alone. Work is done in float32 or wider whatever autocast says, and the
      value [] is never narrower than float32.
    - Zero rows, equal rows and single rows give finite values and gradients.
    - Teacher and student may have seen images of different sides: maps are aligned here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import UsageError
from trainables.losses import checks, geometry
from trainables.losses.horkd import angle_loss, pair_loss

ALIGNMENTS = ("pool", "upsample")
FORMS = ("mean", "reference")
PKT_EPSILON = 1e-7  # In the authors' code, added to lengths and to probabilities.


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0) -> Tensor:
    """T^2 KL(teacher || student) of the softened class probabilities (Hinton et al. 2015, Sec. 2).

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C], constant.
        temperature: T, which divides both logits; T^2 keeps the gradient's size. 4 in RepDistiller.

    Returns:
        Scalar [], the mean over B.

    Raises:
        UsageError: If the shapes differ or the temperature is not positive.
    """
    checks.logits(student_logits, teacher_logits)
    if not temperature > 0:
        raise UsageError(f"`temperature` must be positive, but got {temperature:g}.\nThe usual one is 4.")
    if len(student_logits) == 0:
        return geometry.nothing(student_logits)
    with geometry.full_precision(student_logits):
        student = geometry.at_least_float32(student_logits)
        teacher = teacher_logits.detach().to(student.dtype)
        ours, theirs = (F.log_softmax(logits / temperature, 1) for logits in (student, teacher))
        return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2


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


def rkd_distance_loss(student: Tensor, teacher: Tensor, *, form: str = "mean") -> Tensor:
    """Huber difference of relative pairwise distances (RKD-D, Park et al. 2019, Eq. 5 to 7).

    Args:
        student: Embeddings [B, Ds].
        teacher: Embeddings [B, Dt], constant.
        form: "mean" over the pairs of two different rows, or "reference", the public code's mean over B^2.
    """
    checks.one_of("form", form, FORMS)
    return pair_loss(student, teacher, reduction=form, distance="huber")


def rkd_angle_loss(student: Tensor, teacher: Tensor, *, form: str = "mean") -> Tensor:
    """Huber difference of the angles of triplets (RKD-A, Park et al. 2019, Eq. 8 and 9); as `rkd_distance_loss`.

    Here "reference" is the mean over B^3.

    Departs from the public code under "reference" where two rows coincide for one side alone (a collapsed student, one
    image twice under different views): that code also takes the angle of a pair with itself, whose cosine is 1 for the
    side that tells the rows apart and 0 for the other, and so adds 0.5 for each such ordered pair before it divides by
    B^3 (2 to 4 % of the value at B=8 with one such pair). Here a triplet has three different rows. Without such rows,
    and where both sides have the same duplicates, the two are equal.
    """
    checks.one_of("form", form, FORMS)
    return angle_loss(student, teacher, reduction=form)


def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Divergence of the rows' conditional similarities (PKT, Passalis and Tefas 2018, Eq. 3 to 7, cosine kernel).

    A row of probabilities is (cosine + 1) / 2 to every row of the batch, itself included, divided by its sum.

    Args:
        student: Embeddings [B, Ds].
        teacher: Embeddings [B, Dt], constant.

    Returns:
        Scalar [], the mean over B^2 as in public code: it falls like 1 / B, hence the published weight of 30,000.

    Raises:
        UsageError: If the batches differ.
    """
    checks.embeddings(student, teacher)
    if len(student) == 0:
        return geometry.nothing(student)
    with geometry.full_precision(student):
        ours, theirs = (_conditional_similarities(x) for x in (student, teacher.detach()))
        terms = theirs * torch.log((theirs + PKT_EPSILON) / (ours + PKT_EPSILON))
        return geometry.narrow(terms.mean(), student)


def _conditional_similarities(x: Tensor) -> Tensor:
    # In float64: the divergence of nearly equal rows is a small difference of large terms.
    x = geometry.widen(x)
    length = geometry.safe_sqrt(x.square().sum(1, keepdim=True), x.new_zeros(()))
    x = geometry.safe_divide(x, torch.where(length > 0, length + PKT_EPSILON, 0.0))
    similarity = (geometry.gram(x) + 1) / 2
    return similarity / similarity.sum(1, keepdim=True)


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

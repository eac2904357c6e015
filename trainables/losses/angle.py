"""The cubic sum of the angle loss, with its gradient made in the same pass.

Used by HORKD's 3-order term and RKD's angle-wise loss; `trainables.losses.horkd.angle_loss` is the door to it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainables.losses import geometry

# Elements in each of the angle loss's four work buffers: near a core's cache, enough to keep a GPU busy.
CPU_ELEMENTS = 2**18
GPU_ELEMENTS = 2**22


class AngleSum(torch.autograd.Function):
    """Sum over ordered triplets of Huber(cosine in the student - cosine in the teacher).

    With q the squared and r the inverse distances, the cosine at vertex j between i and k is
    r_ij r_jk (q_ij + q_jk - q_ik) / 2 (law of cosines), so the embeddings are needed for q alone. Distances
    rather than inner products keep the sum accurate in float32 when the three points lie close together.

    The loop goes over blocks of i. As i and k may be swapped, k starts at the block's first i, and what lies
    beyond the block counts twice. Block tensors are indexed [i, j, k].
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        batch, dtype, device = len(student), student.dtype, student.device
        wants_gradient = ctx.needs_input_grad[0]
        points, scale, half_s, inverse_s = _triangle_sides(student, dtype)
        _, _, half_t, inverse_t = _triangle_sides(teacher, dtype)

        elements = max(batch**2, CPU_ELEMENTS if device.type == "cpu" else GPU_ELEMENTS)
        buffers = torch.empty(4, min(elements, batch**3), dtype=dtype, device=device)
        total = geometry.widen(student.new_zeros(()))
        # d total / d q in three parts: through q at the vertex, through r, through q opposite the vertex.
        near, twist, far = torch.zeros(3, batch, batch, dtype=dtype, device=device)
        start = 0
        while start < batch:
            length = batch - start
            stop = min(batch, start + elements // (batch * length))
            rows, columns = slice(start, stop), slice(start, batch)
            shape = (4, stop - start, batch, length)
            cosine, difference, inverses, pull = buffers[:, : shape[1] * shape[2] * shape[3]].view(shape)
            times = torch.ones(length, dtype=dtype, device=device)
            times[stop - start :] = 2
            # The teacher comes first, in the buffers that are overwritten next.
            _law_of_cosines(half_t, rows, columns, out=difference)
            torch.mul(inverse_t[rows, :, None], inverse_t[None, :, columns], out=pull)
            _law_of_cosines(half_s, rows, columns, out=cosine)
            torch.mul(inverse_s[rows, :, None], inverse_s[None, :, columns], out=inverses)
            cosine.mul_(inverses)
            torch.addcmul(cosine, difference, pull, value=-1, out=difference)
            # i = k is no triplet. A vertex at i or k, and identical points, have r = 0 already.
            difference.diagonal(dim1=0, dim2=2).zero_()
            torch.clamp(difference, -1, 1, out=pull)  # The slope of the Huber function with delta 1.
            if wants_gradient:
                cosine.mul_(pull)
                inverses.mul_(pull)
                near[rows] += inverses @ times
                near[:, columns].addcmul_(inverses.sum(0), times)
                twist[rows] += cosine @ times
                twist[:, columns].addcmul_(cosine.sum(0), times)
                far[rows, columns].addcmul_(inverses.sum(1), times)
            # huber(d) = c (d - c / 2) with c the clamped d.
            total += (pull.mul_(difference.sub_(pull, alpha=0.5)).sum((0, 1)) * times).sum()
            start = stop
        if wants_gradient:
            slope = geometry.widen(near - far - inverse_s.square() * twist)
            slope = (slope + slope.T) / scale
            ctx.save_for_backward((slope.sum(1, keepdim=True) * points - slope @ points).to(dtype))
        return total.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None


def _triangle_sides(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centred points [B, D] and mean squared distance [] in float64; q / 2 and r [B, B] relative to it."""
    points, origin = geometry.center(x)
    squared = geometry.squared_distances(points)
    apart = squared > geometry.identity_threshold(points.square().sum(1), origin, x.dtype)
    # In units of the mean nothing over- or underflows in float32, whatever the scale of the embeddings.
    scale = squared.mean()
    scale = torch.where(scale > 0, scale, 1.0)
    squared = torch.where(apart, squared / scale, 0.0)
    inverse = torch.where(apart, torch.where(apart, squared, 1.0).rsqrt(), 0.0)
    return points, scale, (squared / 2).to(dtype), inverse.to(dtype)


def _law_of_cosines(half: Tensor, rows: slice, columns: slice, out: Tensor) -> None:
    """Fills `out` [i, j, k] with (q_ij + q_jk - q_ik) / 2 for the i of `rows` and the k of `columns`."""
    torch.sub(half[None, :, columns], half[rows, None, columns], out=out)
    out.add_(half[rows, :, None])

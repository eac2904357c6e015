"""The cubic sum of the angle loss, with its gradient made in the same pass.

Used by HORKD's 3-order term and RKD's angle-wise loss; `trainables.losses.horkd.angle_loss` is the door to it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Elements in each of the angle loss's four work buffers: near a core's cache, enough to keep a GPU busy.
CPU_ELEMENTS = 2**17
GPU_ELEMENTS = 2**22
TILE = 32  # Rows of triangles worked on at once: fewer use the symmetry better, more need fewer calls.


class AngleSum(torch.autograd.Function):
    """Sum over ordered triplets of Huber(cosine in the student - cosine in the teacher).

    With q the squared and r the inverse distances, the cosine at vertex j between i and k is
    r_ji r_jk (q_ji + q_jk - q_ik) / 2 (law of cosines), so nothing but q is needed, and the gradient is one for
    the student's q. Distances rather than inner products keep the sum accurate in float32 when the three points
    lie close together.

    As i and k may be swapped, a tile of rows i takes the k from its own first row on, and what lies beyond the
    tile counts twice. Tensors of a block are indexed [j, i, k]. At the batch sizes of distillation calls cost as
    much as arithmetic, so student and teacher go through each step together.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, identical: Tensor, dtype: torch.dtype) -> Tensor:
        """Args: squared distances [B, B] of both, at and below which [2] they are of identical points, in which
        type to sum."""
        batch, device = len(student), student.device
        wants_gradient = ctx.needs_input_grad[0]
        scale, half, inverse = _sides(torch.stack([teacher, student]), identical.flip(0), dtype)

        elements = max(TILE * batch, CPU_ELEMENTS if device.type == "cpu" else GPU_ELEMENTS)
        buffers = torch.empty(4, min(elements, TILE * batch**2), dtype=dtype, device=device)
        total = student.new_zeros(())
        # d total / d q in three parts: through r and through q at the vertex, both [j, i], and opposite it.
        pulls = torch.zeros(2, batch, batch, dtype=dtype, device=device)
        far = torch.zeros(batch, batch, dtype=dtype, device=device)
        for start in range(0, batch, TILE):
            tall, wide = min(TILE, batch - start), batch - start
            rows, columns = slice(start, start + tall), slice(start, batch)
            times = torch.ones(wide, dtype=dtype, device=device)
            times[tall:] = 2
            opposite, sums = half[:, None, rows, columns], torch.zeros_like(times)
            vertices = elements // (tall * wide)
            # Views of all blocks at once, because slicing takes as long as a call.
            parts = (half[:, :, rows, None], half[:, :, None, columns], inverse[:, :, rows, None])
            views = (*parts, inverse[:, :, None, columns], pulls[:, :, columns])
            for half_i, half_k, inverse_i, inverse_k, pulls_j in zip(
                *(x.split(vertices, 1) for x in views), strict=True
            ):
                shape = (4, half_i.shape[1], tall, wide)
                block = buffers[:, : shape[1] * tall * wide].view(shape)
                cosines, inverses, of_student = block[:2], block[2:], block[1:3]
                difference, cosine, product, pull = block
                torch.mul(inverse_i, inverse_k, out=inverses)
                torch.sub(half_k, opposite, out=cosines).add_(half_i)
                cosine.mul_(product)
                torch.addcmul(cosine, difference, pull, value=-1, out=difference)
                # i = k is no triplet. A vertex at i or k, and identical points, have r = 0 already.
                difference.diagonal(dim1=1, dim2=2).zero_()
                torch.clamp(difference, -1, 1, out=pull)  # The slope of the Huber function with delta 1.
                if wants_gradient:
                    of_student.mul_(pull)
                    pulls_j[..., :tall] += of_student.sum(3)
                    if wide > tall:
                        pulls_j[..., tall:] += of_student[..., tall:].sum(2)
                    far[rows, columns].addcmul_(product.sum(0), times)
                # huber(d) = c (d - c / 2) with c the clamped d.
                sums += pull.mul_(difference.sub_(pull, alpha=0.5)).sum((0, 1))
            total += (sums * times).sum()
        if wants_gradient:
            # Each ordered triplet and its mirror image pull at the two sides of the vertex.
            twist, near = pulls
            slope = near - inverse[0].square() * twist - far / 2
            ctx.save_for_backward((slope + slope.T).to(student.dtype) / (2 * scale[1]))
        return total.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None, None


def _sides(squared: Tensor, identical: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Mean squared distances [2, 1, 1] of teacher and student, and relative to them q / 2 [2, B, B] of teacher and
    student and r [2, B, B] of student and teacher, in that order."""
    apart = squared > identical[:, None, None]
    # In units of the mean nothing over- or underflows in float32, whatever the scale of the embeddings.
    scale = squared.mean((1, 2), keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    squared = squared / scale
    inverse = torch.where(apart, squared, torch.inf).rsqrt().to(dtype)
    return scale, (squared.mul_(apart) / 2).to(dtype), inverse.flip(0)

"""Rows of all processes of a training in one tensor, for losses whose relations should span them.

Only `torch.distributed` is used, and only where a process group was made; in a single process every row is here.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def joined(x: Tensor) -> Tensor:
    """The rows [W * B, ...] of all W processes, by rank, from this one's [B, ...]; differentiable.

    Every process must call it at the same place with the same B. Gradients of all processes are summed, so where
    each computes the same loss of the joined rows and the gradients of the weights are averaged (as
    DistributedDataParallel does), the weights get the gradient that one process with all rows would give them.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    joined_rows: Tensor = _Join.apply(x)
    return joined_rows


class _Join(torch.autograd.Function):
    """Gathers forward; backward sums what all processes found and keeps this one's rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.start, ctx.rows = dist.get_rank() * len(x), len(x)
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        # A sum of all rows rather than a scattered one, which gloo lacks.
        total = upstream.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.rows]

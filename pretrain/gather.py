"""Training in several processes: rows are gathered before the loss, gradients averaged after it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pretrain.views import Views


def gather_views(views: Views) -> Views:
    """Put the rows of all processes together, in the order of their ranks, on each of them.

    Every process then computes the loss of the whole batch, and the gradient of a row is the sum over
    processes: with :func:`average_gradients` after it, each parameter gets what one process with the whole
    batch would give it, be it a tower's or a term's own. All processes must hold equally many rows.
    """
    return {name: _Gathered.apply(rows) for name, rows in views.items()}


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over the processes; a parameter has one everywhere or nowhere."""
    for parameter in parameters:
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]

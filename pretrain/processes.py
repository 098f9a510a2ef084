"""Training in several processes: rows are gathered before the loss, gradients averaged after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from crossgap.errors import InputError
from crossgap.processes import Processes
from pretrain.terms.views import Views


def check_shares(batch_size: int, accumulate: int, processes: Processes) -> None:
    """Refuse a batch that cannot be cut into equal parts for all processes.

    Raises:
        InputError: names batch, processes and parts.
    """
    if batch_size % (processes.size * accumulate):
        raise InputError(
            f"batch_size={batch_size}: cannot be cut into equal parts for {processes.size} processes x "
            f"accumulate={accumulate}; --batch-size is that of all processes together"
        )


def gather_views(views: Views) -> Views:
    """Put the rows of all processes together, in the order of their ranks, on each of them.

    Every process then computes the loss of the whole batch, and the gradient of a row is the sum over
    processes: with :func:`average` of the gradients after it, each parameter gets what one process with the
    whole batch would give it, be it a tower's or a term's own. All processes must hold equally many rows.
    """
    return {name: _Gathered.apply(rows) for name, rows in views.items()}


@torch.no_grad()
def average(gradients: Sequence[Tensor]) -> None:
    """Replace each gradient by its mean over the processes, which hold the same list."""
    together = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(together)
    together /= dist.get_world_size()
    parts = together.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


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

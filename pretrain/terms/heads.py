"""Small networks between a tower and a loss, in the proportions of their papers."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def mlp(
    sizes: tuple[int, ...],
    activation: type[nn.Module] = nn.ReLU,
    *,
    norm: bool = False,
    last_bias: bool = True,
) -> nn.Sequential:
    """Build linear layers with an activation between them, after a batch norm if asked for.

    The norm takes its moments from the batch at hand, always: on rows gathered from all processes it is the
    synchronised norm of the papers, and it has no state.
    """
    layers: list[nn.Module] = []
    for index, (size, after) in enumerate(pairwise(sizes)):
        if index:
            if norm:
                layers.append(nn.BatchNorm1d(size, track_running_stats=False))
            layers.append(activation())
        layers.append(nn.Linear(size, after, bias=last_bias or index < len(sizes) - 2))
    return nn.Sequential(*layers)

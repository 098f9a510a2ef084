"""Contrast whose positive is not the item itself but the nearest item seen before."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.terms.term import Setup, TermModule

QUEUE = 1024  # items remembered; eight batches of the demo (DeCLIP: 65,536)


class NearestNeighbours(TermModule):
    """InfoNCE between the nearest remembered item of one view and the other view, both ways.

        L = 1/2 [l(Z, Z') + l(Z', Z)],   l(Z, Z') = 1/B sum_i CE_i( <NN(z_i), z'_k> / tau )

    NN(z) is the most similar row of a queue of earlier first views; there is no gradient through it. While
    nothing is remembered, NN(z) is z itself, without a gradient.

    [0] Dwibedi et al., NNCLR, 2021, arXiv 2104.14548, Eq. 3 (symmetrised; temperature .1).
    [1] Li et al., DeCLIP, 2021, arXiv 2110.05208: weight .2, there between images and texts.
    """

    queue_QD: Tensor
    seen: Tensor

    def __init__(self, setup: Setup, size: int = QUEUE) -> None:
        super().__init__()
        self.register_buffer("queue_QD", torch.zeros(size, setup.embed_dim))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, first_BD: Tensor, second_BD: Tensor, *, temperature: Tensor | float) -> Tensor:
        """Compute the loss of unit rows, in nats."""
        target_B = torch.arange(len(first_BD), device=first_BD.device)
        losses = [
            F.cross_entropy(self.nearest(rows) @ others.T / temperature, target_B)
            for rows, others in ((first_BD, second_BD), (second_BD, first_BD))
        ]
        return (losses[0] + losses[1]) / 2

    def nearest(self, rows_BD: Tensor) -> Tensor:
        """Return the most similar remembered row of each, without a gradient."""
        rows_BD = rows_BD.detach()
        remembered_QD = self.queue_QD[: int(self.seen)].to(rows_BD.dtype)
        if not len(remembered_QD):
            return rows_BD
        return remembered_QD[(rows_BD @ remembered_QD.T).argmax(dim=1)]

    def after_step(self, *views: Tensor) -> None:
        """Remember the first views of this step; the oldest are forgotten."""
        rows_BD = views[0][-len(self.queue_QD) :]
        places = (int(self.seen) + torch.arange(len(rows_BD), device=rows_BD.device)) % len(self.queue_QD)
        self.queue_QD[places] = rows_BD.to(self.queue_QD.dtype)
        self.seen += len(rows_BD)

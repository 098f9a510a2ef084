"""Contrast within one modality: two views of an item attract, the other items of the batch repel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.terms.heads import mlp
from pretrain.terms.term import Setup, TermModule


def nt_xent(first_BD: Tensor, second_BD: Tensor, *, temperature: Tensor | float) -> Tensor:
    """Compute NT-Xent over two views of the same items.

    Of the 2B rows z, each has one positive p(i), the other view of its item; every other row is a negative,
    those of its own view included:

        L = 1/(2B) sum_i -log [ exp(z_i.z_p(i) / tau) / sum_{k != i} exp(z_i.z_k / tau) ]

    [0] Chen et al., 2020, arXiv 2002.05709, Eq. 1.
    [1] Mu et al., 2021, arXiv 2112.12750 (SLIP): the same formula beside the CLIP loss.

    Deviation from [1]: there is no projection head, so the term acts on the embedding that images and texts
    share, as the in-modal loss of CyCLIP does (Goel et al., 2022, arXiv 2205.14459);
    :class:`ProjectedNTXent` has the head.

    Args:
        first_BD: embeddings of one view, unit rows.
        second_BD: embeddings of the other view, unit rows, in the same order.
        temperature: tau > 0.

    Returns:
        0-d tensor, in nats.
    """
    batch = len(first_BD)
    rows_ND = torch.cat([first_BD, second_BD])
    logits_NN = rows_ND @ rows_ND.T / temperature
    itself_NN = torch.eye(2 * batch, dtype=torch.bool, device=rows_ND.device)
    positive_N = torch.arange(2 * batch, device=rows_ND.device).roll(batch)
    return F.cross_entropy(logits_NN.masked_fill(itself_NN, -torch.inf), positive_N)


class ProjectedNTXent(TermModule):
    """NT-Xent between two views behind a projection head: SLIP's form.

    The head takes what the image tower gives before the projection into the embedding, so the term never acts
    on the shared space itself. Three linear layers with batch norm and ReLU between them, 768 -> 4096 -> 4096
    -> 256 in the source; here in these proportions to the width of the tower.

    [0] Mu et al., SLIP, 2021, arXiv 2112.12750, section 3.2; temperature .1, weight 1.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        hidden, out = 16 * setup.width // 3, setup.width // 3
        self.head = mlp((setup.width, hidden, hidden, out), norm=True)

    def forward(self, first_BW: Tensor, second_BW: Tensor, *, temperature: Tensor | float) -> Tensor:
        """Compute NT-Xent of the states of two views of the same items, in nats."""
        first, second = (F.normalize(self.head(states_BW), dim=1) for states_BW in (first_BW, second_BW))
        return nt_xent(first, second, temperature=temperature)

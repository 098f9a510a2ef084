"""Contrast within one modality: two views of an item attract, the other items of the batch repel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(first_BD: Tensor, second_BD: Tensor, *, temperature: Tensor | float) -> Tensor:
    """Compute NT-Xent over two views of the same items.

    Of the 2B rows z, each has one positive p(i), the other view of its item; every other row is a negative,
    those of its own view included:

        L = 1/(2B) sum_i -log [ exp(z_i.z_p(i) / tau) / sum_{k != i} exp(z_i.z_k / tau) ]

    [0] Chen et al., 2020, arXiv 2002.05709, Eq. 1.
    [1] Mu et al., 2021, arXiv 2112.12750 (SLIP): the same formula beside the CLIP loss.

    Deviation from [1]: there is no projection head, so the term acts on the embedding that images and texts
    share, as the in-modal loss of CyCLIP does (Goel et al., 2022, arXiv 2205.14459).

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

"""Supervised contrast: rows of one concept attract, whichever view they come from."""

from __future__ import annotations

import torch
from torch import Tensor


def supervised_contrast(
    first_BD: Tensor, second_BD: Tensor, concept_B: Tensor, *, temperature: Tensor | float
) -> Tensor:
    """Compute the supervised contrastive loss over two views of the same items.

    Of the 2B rows z, those of the concept of row i, itself left out, are its positives P(i):

        L = 1/(2B) sum_i -1/|P(i)| sum_{p in P(i)} log [ exp(z_i.z_p/tau) / sum_{k != i} exp(z_i.z_k/tau) ]

    With all concepts different it is :func:`pretrain.terms.ntxent.nt_xent`.

    [0] Khosla et al., 2020, arXiv 2004.11362, Eq. 2 (the sum outside the logarithm); temperature .1.

    Args:
        first_BD: embeddings of one view, unit rows.
        second_BD: embeddings of the other view, unit rows, in the same order.
        concept_B: number of each item's concept.
        temperature: tau > 0.

    Returns:
        0-d tensor, in nats.
    """
    rows_ND = torch.cat([first_BD, second_BD])
    concept_N = torch.cat([concept_B, concept_B])
    itself_NN = torch.eye(len(rows_ND), dtype=torch.bool, device=rows_ND.device)
    logits_NN = (rows_ND @ rows_ND.T / temperature).masked_fill(itself_NN, -torch.inf)
    positive_NN = (concept_N[:, None] == concept_N) & ~itself_NN
    shares_NN = logits_NN.log_softmax(dim=1).masked_fill(~positive_NN, 0)
    return -(shares_NN.sum(dim=1) / positive_NN.sum(dim=1)).mean()

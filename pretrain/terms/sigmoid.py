"""The host loss of SigLIP: every pair of the batch is judged alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.terms.term import Setup, TermModule


class SigmoidLoss(TermModule):
    """Decide for each image and each text whether they belong together.

        L = -1/B sum_jk log sigmoid( y_jk (<i_j, t_k> / tau + b) ),   y_jk = 1 for j = k, else -1

    The bias b is learned from -10; the temperature is the host's, in the source learned from .1.

    [0] Zhai et al., 2023, arXiv 2303.15343, Eq. 2 and Algorithm 1.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(-10.0))

    def forward(self, image_BD: Tensor, text_BD: Tensor, *, temperature: Tensor | float) -> Tensor:
        """Compute the loss of unit rows, in nats."""
        logits_BB = image_BD @ text_BD.T / temperature + self.bias
        sign_BB = 2 * torch.eye(len(logits_BB), device=logits_BB.device, dtype=logits_BB.dtype) - 1
        return -F.logsigmoid(sign_BB * logits_BB).sum() / len(logits_BB)

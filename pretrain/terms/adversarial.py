"""An adversary that tells the modalities apart, and towers that learn to deceive it."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.terms.heads import mlp
from pretrain.terms.term import Setup, TermModule


class ModalityClassifier(TermModule):
    """Classify the modality of unit rows; the gradient that reaches the towers is reversed.

        L = 1/2 [ BCE(D(i), 1) + BCE(D(t), 0) ],   the towers get -lambda dL,  lambda = 2/(1 + e^(-10 p)) - 1

    with p the progress of the run. D has two hidden layers as wide as the embedding, and learns with the
    towers' optimizer. Chance is ln 2.

    [0] Ganin et al., 2016, arXiv 1505.07818, Eq. 13 to 15 and section 5.2.2 (lambda).
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        dim = setup.embed_dim
        self.classifier = mlp((dim, dim, dim, 1))

    def forward(self, image_BD: Tensor, text_BD: Tensor, *, progress: float) -> Tensor:
        """Compute the classifier's cross-entropy, in nats."""
        rows_ND = torch.cat([image_BD, text_BD])
        strength = 2 / (1 + math.exp(-10 * progress)) - 1
        logits_N = self.classifier(_Reversed.apply(rows_ND, strength)).squeeze(1)
        is_image_N = torch.zeros_like(logits_N)
        is_image_N[: len(image_BD)] = 1
        return F.binary_cross_entropy_with_logits(logits_N, is_image_N)


class _Reversed(torch.autograd.Function):
    """The identity, whose gradient is multiplied by minus a strength."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None

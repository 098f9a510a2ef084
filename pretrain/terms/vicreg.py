"""VICReg: views agree, dimensions keep their spread and do not repeat each other."""

from __future__ import annotations

from torch import Tensor

from pretrain.terms.heads import mlp
from pretrain.terms.term import Setup, TermModule

INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0


def vicreg(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """Compute VICReg between two views; rows are not normalised.

        L = 25 mean |z - z'|^2 + 25/2 [v(Z) + v(Z')] + c(Z) + c(Z')
        v(Z) = mean_d max(0, 1 - sqrt(Var_d + 1e-4)),   c(Z) = 1/D sum_{d != e} Cov_de^2

    with the first mean over all B x D entries, variances and covariances over B - 1.

    [0] Bardes, Ponce and LeCun, 2021, arXiv 2105.04906, Eq. 1 to 6 and the settings of section 4.2, in the
    form of its released `main_vicreg.py`, ``VICReg.forward``, which halves the variance part.

    Deviations from [0]: the paper's own formula and its Algorithm 1 add the variance parts of both sides
    without the half, so that spread counts twice as much there.

    Args:
        first_BD: embeddings of one view, at least two rows.
        second_BD: embeddings of the other view, in the same order.

    Returns:
        0-d tensor, at least 0.
    """

    def spread(rows_BD: Tensor) -> Tensor:
        return (1 - (rows_BD.var(dim=0) + 1e-4).sqrt()).relu().mean()

    def redundancy(rows_BD: Tensor) -> Tensor:
        covariance_DD = rows_BD.T.cov()
        others_DD = covariance_DD - covariance_DD.diag().diag()
        return others_DD.square().sum() / rows_BD.shape[1]

    invariance = (first_BD - second_BD).square().mean()
    variance = (spread(first_BD) + spread(second_BD)) / 2  # as released; the paper's pseudo-code adds
    covariance = redundancy(first_BD) + redundancy(second_BD)
    return INVARIANCE * invariance + VARIANCE * variance + COVARIANCE * covariance


class ExpandedVICReg(TermModule):
    """VICReg behind an expander that takes what a tower gives before the projection into the embedding.

    Three linear layers with batch norm and ReLU between them, the last without a bias, 2048 -> 8192 -> 8192
    -> 8192 in the source; here four times the width of the tower.

    [0] Bardes, Ponce and LeCun, 2021, arXiv 2105.04906, section 4.2, and its released `main_vicreg.py`,
    ``Projector``.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        wide = 4 * setup.width
        self.expander = mlp((setup.width, wide, wide, wide), norm=True, last_bias=False)

    def forward(self, first_BW: Tensor, second_BW: Tensor) -> Tensor:
        """Compute VICReg of the states of two views of the same items."""
        return vicreg(self.expander(first_BW), self.expander(second_BW))

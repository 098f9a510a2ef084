"""Leave out patches while an image tower is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretrain.data.streams import stream


class PatchDropout(nn.Module):
    """Keep a random share of the patches of each image, and the class token.

    It stands in the place of open_clip's own, which draws from the global generator: here what a row keeps
    depends on (seed, step, part, row) alone, so that a resumed run, a batch in parts and several processes
    see the same.

    [0] Li et al., FLIP, 2022, arXiv 2212.00794.

    Args:
        share: of the patches that are left out, in [0, 1); at least one stays.
        seed: of the training.
    """

    def __init__(self, share: float, seed: int) -> None:
        super().__init__()
        self.share = share
        self._seed = seed
        self._moment: tuple[int, str, int] = (0, "", 0)

    def draw_for(self, step: int, part: str, first_row: int) -> None:
        """Say which rows come next: those from ``first_row`` on, of a part of the batch of a step."""
        self._moment = (step, part, first_row)

    def forward(self, states_BLW: Tensor) -> Tensor:
        """Leave out patches in training; in evaluation all stay."""
        if not self.training:
            return states_BLW
        step, part, first = self._moment
        count, patches = states_BLW.shape[0], states_BLW.shape[1] - 1
        generator = stream(self._seed, "patches", step, part)
        draws_BN = torch.rand((first + count, patches), generator=generator)[first:]
        kept_BN = draws_BN.topk(max(1, int(patches * (1 - self.share)))).indices.to(states_BLW.device)
        index_BNW = kept_BN[:, :, None].expand(-1, -1, states_BLW.shape[2])
        return torch.cat([states_BLW[:, :1], states_BLW[:, 1:].gather(1, index_BNW)], dim=1)

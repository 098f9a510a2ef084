"""Self-distillation: small crops should say what an averaged teacher says of the whole image."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.terms.heads import mlp
from pretrain.terms.term import Setup, TermModule

STUDENT_TEMPERATURE, TEACHER_TEMPERATURE, CENTRE_MOMENTUM = 0.1, 0.04, 0.9


class SelfDistillation(TermModule):
    """DINO's cross-entropy between the teacher on the whole image and the student on small crops.

        L = -1/(BK) sum_i sum_k sum_p  P_t(g_i)_p log P_s(l_ik)_p
        P_t = softmax((h_t(g) - c) / .04),   P_s = softmax(h_s(l) / .1)

    over P prototypes. The teacher's tower and head are averages of the student's over the steps, with a fixed
    momentum; the centre c is an average of the teacher's outputs (momentum .9). No gradient reaches either.
    The head is an MLP with GELU, a bottleneck of unit rows, and prototypes of unit length; 2048, 256 and
    65,536 wide in the source, here 8/3, 1/3 and 8 times the width of the tower.

    [0] Caron et al., DINO, 2021, arXiv 2104.14294, Algorithm 1 and section 3.
    [1] Naeem et al., SILC, 2023, arXiv 2310.13355: beside the contrastive loss, with weight 1.
    """

    centre_P: Tensor

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        prototypes = 8 * setup.width
        self.momentum = setup.teacher_momentum
        self.head = _Head(setup.width, prototypes)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        self.register_buffer("centre_P", torch.zeros(prototypes))

    def forward(self, local_BKW: Tensor, teacher_BW: Tensor) -> Tensor:
        """Compute the cross-entropy of states before the projection, in nats."""
        student_BKP = (self.head(local_BKW) / STUDENT_TEMPERATURE).log_softmax(dim=-1)
        with torch.no_grad():
            outputs_BP = self.teacher_head(teacher_BW) - self.centre_P
            teacher_BP = (outputs_BP / TEACHER_TEMPERATURE).softmax(dim=-1)
        return -(teacher_BP[:, None] * student_BKP).sum(dim=-1).mean()

    @torch.no_grad()
    def after_step(self, *views: Tensor) -> None:
        """Move the centre towards this step's outputs, and the teacher's head towards the student's."""
        self.centre_P.lerp_(self.teacher_head(views[1]).mean(dim=0), 1 - CENTRE_MOMENTUM)
        follow(self.teacher_head, self.head, self.momentum)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move each parameter of a teacher to ``momentum`` x its own + (1 - momentum) x the student's."""
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, 1 - momentum)


class _Head(nn.Module):
    def __init__(self, width: int, prototypes: int) -> None:
        super().__init__()
        hidden, bottleneck = 8 * width // 3, width // 3
        self.mlp = mlp((width, hidden, hidden, bottleneck), nn.GELU)
        self.prototypes_PE = nn.Parameter(torch.randn(prototypes, bottleneck) * 0.02)

    def forward(self, states: Tensor) -> Tensor:
        logits: Tensor = F.normalize(self.mlp(states), dim=-1) @ F.normalize(self.prototypes_PE, dim=1).T
        return logits

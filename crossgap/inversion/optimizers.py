"""Optimizers of many small problems side by side: each row has its own state and its own settings.

A row is one item's pseudo-tokens under one setting. No row sees another, and nothing is read back to the
host, so a batch of rows gives each row what it would get alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class AdamW:
    """AdamW [0] with a learning rate and a weight decay per row, equal to torch's with its defaults.

    [0] Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019, arXiv 1711.05101.

    Args:
        start_RKW: pseudo-tokens to begin with.
        learning_rate_R, weight_decay_R: one per row.
    """

    _betas = (0.9, 0.999)
    _eps = 1e-8

    def __init__(self, start_RKW: Tensor, learning_rate_R: Tensor, weight_decay_R: Tensor) -> None:
        self.point = start_RKW
        self._rate = learning_rate_R[:, None, None]
        self._kept = 1 - self._rate * weight_decay_R[:, None, None]
        self._mean = torch.zeros_like(start_RKW)
        self._square = torch.zeros_like(start_RKW)
        self._step = 0

    def judge(self, losses_R: Tensor) -> Tensor:
        """Tell which rows move to the point just evaluated: all of them."""
        return torch.ones_like(losses_R, dtype=torch.bool)

    def step(self, gradient_RKW: Tensor) -> None:
        """Set ``point`` to where the loss is wanted next, given the gradient at the one just judged."""
        first, second = self._betas
        self._step += 1
        self._mean.lerp_(gradient_RKW, 1 - first)
        self._square.mul_(second).addcmul_(gradient_RKW, gradient_RKW, value=1 - second)
        spread = self._square.sqrt().div_(math.sqrt(1 - second**self._step)).add_(self._eps)
        self.point = self.point * self._kept - self._rate / (1 - first**self._step) * self._mean / spread

    def select(self, rows: Tensor) -> None:
        """Keep these rows alone."""
        for name in ("point", "_rate", "_kept", "_mean", "_square"):
            setattr(self, name, getattr(self, name)[rows])


class LBFGS:
    """Limited-memory BFGS [0] per row, with a step that is quartered where the loss did not fall.

    The first move has a root mean square of the learning rate, later ones follow the two-loop recursion over
    the last ten accepted or rejected moves with positive curvature, none with a root mean square above 0.5.
    A row whose loss did not fall stays where it is: losses never rise.

    [0] Liu and Nocedal, On the limited memory BFGS method for large scale optimization, 1989.

    Args:
        start_RKW: pseudo-tokens to begin with.
        learning_rate_R: root mean square of each row's first move.
    """

    _history = 10
    _longest = 0.5

    def __init__(self, start_RKW: Tensor, learning_rate_R: Tensor) -> None:
        self.point = start_RKW
        size = start_RKW[0].numel()
        self._first_length = learning_rate_R[:, None] * math.sqrt(size)
        self._longest_length = self._longest * math.sqrt(size)
        self._base = start_RKW.flatten(1)
        self._base_gradient = torch.zeros_like(self._base)
        self._loss = torch.full_like(learning_rate_R, math.inf)
        self._accepted = torch.ones_like(learning_rate_R, dtype=torch.bool)
        self._share = torch.ones_like(self._first_length)
        self._begun = False
        self._moves: list[tuple[Tensor, Tensor, Tensor]] = []

    def judge(self, losses_R: Tensor) -> Tensor:
        """Tell which rows move to the point just evaluated: those whose loss did not rise."""
        self._accepted = losses_R <= self._loss
        self._loss = torch.where(self._accepted, losses_R, self._loss)
        return self._accepted

    def step(self, gradient_RKW: Tensor) -> None:
        """Set ``point`` to where the loss is wanted next, given the gradient at the one just judged."""
        gradient, point = gradient_RKW.flatten(1), self.point.flatten(1)
        if self._begun:
            self._remember(point - self._base, gradient - self._base_gradient)
        accepted = self._accepted[:, None]
        self._base = torch.where(accepted, point, self._base)
        self._base_gradient = torch.where(accepted, gradient, self._base_gradient)
        self._share = torch.where(accepted, (2 * self._share).clamp(max=1), self._share / 4)
        self._begun = True
        self.point = (self._base + self._share * self._direction()).view_as(gradient_RKW)

    def _remember(self, move: Tensor, change: Tensor) -> None:
        curvature = (move * change).sum(1, keepdim=True)
        usable = curvature > 1e-10 * change.square().sum(1, keepdim=True)
        inverse = torch.where(usable, 1 / curvature, 0)
        # a move without curvature, or into a place without a finite gradient, counts for nothing
        pair = (torch.where(usable, move, 0), torch.where(usable, change, 0), inverse)
        self._moves = [*self._moves[-self._history + 1 :], pair]

    def _direction(self) -> Tensor:
        gradient = self._base_gradient
        first_scale = self._first_length / gradient.norm(dim=1, keepdim=True).clamp_min(1e-30)
        steepest = -gradient * first_scale
        if not self._moves:
            return steepest
        direction = gradient
        weights = []
        for move, change, inverse in reversed(self._moves):
            weights.append(inverse * (move * direction).sum(1, keepdim=True))
            direction = direction - weights[-1] * change
        _, change, inverse = self._moves[-1]
        scale = 1 / (inverse * change.square().sum(1, keepdim=True))
        direction = direction * torch.where(inverse > 0, scale, first_scale)
        for (move, change, inverse), weight in zip(self._moves, reversed(weights), strict=True):
            direction = direction + move * (weight - inverse * (change * direction).sum(1, keepdim=True))
        length = direction.norm(dim=1, keepdim=True)
        direction = -direction * (self._longest_length / length).clamp(max=1)
        downhill = (direction * gradient).sum(1, keepdim=True) < 0
        return torch.where(downhill, direction, steepest)

    def select(self, rows: Tensor) -> None:
        """Keep these rows alone."""
        for name in ("point", "_first_length", "_base", "_base_gradient", "_loss", "_accepted", "_share"):
            setattr(self, name, getattr(self, name)[rows])
        self._moves = [(move[rows], change[rows], inverse[rows]) for move, change, inverse in self._moves]

"""Optimizers of many rows: torch's own AdamW as the witness, descent, and rows that do not touch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from crossgap.inversion.optimizers import LBFGS, AdamW

Loss = Callable[[Tensor], Tensor]


def start(rows: int, size: tuple[int, int] = (2, 6)) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(rows, *size, generator=generator, dtype=torch.float64)


def rates(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def descend(optimizer: AdamW | LBFGS, loss_of: Loss, steps: int) -> tuple[Tensor, Tensor]:
    """Run as the inversion does; return the losses (R, steps + 1) and the points kept."""
    losses, kept = [], optimizer.point
    for _ in range(steps + 1):
        point = optimizer.point.detach().requires_grad_(True)
        loss_R = loss_of(point)
        moved_R = optimizer.judge(loss_R.detach())
        kept = torch.where(moved_R[:, None, None], point.detach(), kept)
        before_R = losses[-1] if losses else loss_R.detach()
        losses.append(torch.where(moved_R, loss_R.detach(), before_R))
        (gradient,) = torch.autograd.grad(loss_R.sum(), point)
        optimizer.step(gradient)
    return torch.stack(losses, dim=1), kept


def bowl(point_RKW: Tensor) -> Tensor:
    """A quadratic of condition number 1,000 with its minimum, 0, at 1."""
    away_RS = (point_RKW - 1).flatten(1)
    return (away_RS.square() * torch.logspace(0, 3, away_RS.shape[1], dtype=point_RKW.dtype)).sum(dim=1)


def valley(point_RKW: Tensor) -> Tensor:
    """Rosenbrock's function over pairs; its minimum, 0, is at 1."""
    x_RS, y_RS = point_RKW.flatten(1).unflatten(1, (-1, 2)).unbind(dim=2)
    return ((1 - x_RS).square() + 100 * (y_RS - x_RS.square()).square()).sum(dim=1)


def wavy(point_RKW: Tensor) -> Tensor:
    return (point_RKW.sin() + 0.1 * point_RKW.square()).flatten(1).sum(dim=1)


def test_adamw_rows_equal_runs_of_torch() -> None:
    rate_R, decay_R = rates(1e-3, 2e-2, 0.5, 0), rates(0.01, 0, 0.3, 0.1)
    optimizer = AdamW(start(4), rate_R, decay_R)
    losses_RS, points = descend(optimizer, valley, 200)
    for row in range(4):
        own = start(4)[[row]].requires_grad_(True)
        theirs = torch.optim.AdamW([own], lr=float(rate_R[row]), weight_decay=float(decay_R[row]))
        for step in range(201):
            theirs.zero_grad()
            loss = valley(own)
            assert losses_RS[row, step].item() == pytest.approx(loss.item(), rel=1e-12, abs=1e-12)
            if step < 200:
                loss.sum().backward()
                theirs.step()
        torch.testing.assert_close(points[[row]], own.detach(), rtol=0, atol=1e-12)


def test_adamw_without_gradient_decays_only() -> None:
    optimizer = AdamW(start(2), rates(0.1, 0.1), rates(0, 0.5))
    optimizer.step(torch.zeros_like(start(2)))
    torch.testing.assert_close(optimizer.point, start(2) * torch.tensor([1, 0.95])[:, None, None].double())


@pytest.mark.parametrize("loss_of", [bowl, valley])
def test_lbfgs_converges(loss_of: Loss) -> None:
    optimizer = LBFGS(start(8), rates(*[0.05] * 8))
    losses_RS, points = descend(optimizer, loss_of, 150)
    assert (losses_RS[:, 0] > 10).all()
    assert losses_RS[:, -1].max() < 1e-8
    torch.testing.assert_close(points, torch.ones_like(points), rtol=0, atol=1e-3)


@pytest.mark.parametrize("loss_of", [bowl, valley, wavy])
@pytest.mark.parametrize("rate", [1e-4, 0.05, 30.0])
def test_lbfgs_losses_never_rise(loss_of: Loss, rate: float) -> None:
    losses_RS, points = descend(LBFGS(start(8), rates(*[rate] * 8)), loss_of, 60)
    assert (losses_RS.diff(dim=1) <= 0).all()
    assert (losses_RS[:, -1] < losses_RS[:, 0]).all()
    torch.testing.assert_close(loss_of(points), losses_RS[:, -1], rtol=1e-12, atol=1e-12)


def test_lbfgs_first_move_has_the_length_asked_for() -> None:
    optimizer = LBFGS(start(3), rates(0.01, 0.1, 0.4))
    descend(optimizer, bowl, 0)
    moved_R = (optimizer.point - start(3)).square().flatten(1).mean(dim=1).sqrt()
    torch.testing.assert_close(moved_R, rates(0.01, 0.1, 0.4))


@pytest.mark.parametrize("kind", [AdamW, LBFGS])
def test_no_row_sees_another(kind: type[AdamW] | type[LBFGS]) -> None:
    together, points = descend(build(kind, start(6), rates(*[0.02] * 6)), valley, 40)
    for row in range(6):
        alone, point = descend(build(kind, start(6)[[row]], rates(0.02)), valley, 40)
        torch.testing.assert_close(alone[0], together[row], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(point[0], points[row], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [AdamW, LBFGS])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("first", [0, 5])
def test_a_row_without_a_finite_loss_harms_no_other(
    kind: type[AdamW] | type[LBFGS], bad: float, first: int
) -> None:
    """Its loss and gradient stop being finite at a step; the others go on as if it were not there."""
    count = -1

    def spoilt(point_RKW: Tensor) -> Tensor:
        nonlocal count
        count += 1
        factor_R = rates(1, bad if count >= first else 1, 1)
        return valley(point_RKW) * factor_R

    losses_RS, points = descend(build(kind, start(3), rates(*[0.02] * 3)), spoilt, 30)
    alone_RS, alone = descend(build(kind, start(3)[[0, 2]], rates(0.02, 0.02)), valley, 30)
    torch.testing.assert_close(losses_RS[[0, 2]], alone_RS, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(points[[0, 2]], alone, rtol=0, atol=1e-12)
    if kind is LBFGS and first:
        assert losses_RS[1].isfinite().all()
        assert points[1].isfinite().all()


def test_lbfgs_comes_back_from_a_place_without_a_finite_loss() -> None:
    """Beyond |x| = 2 there is no loss; the first move of the right-hand row leads there."""

    def fenced(point_RKW: Tensor) -> Tensor:
        outside_R = (point_RKW.abs() > 2).flatten(1).any(dim=1)
        return bowl(point_RKW) * torch.where(outside_R, torch.nan, 1.0)  # nor a gradient

    optimizer = LBFGS(torch.zeros(2, 1, 4, dtype=torch.float64), rates(0.1, 40.0))
    losses_RS, _ = descend(optimizer, fenced, 60)
    assert losses_RS[:, -1].max() < 1e-8


def test_lbfgs_without_gradient_stays() -> None:
    flat = torch.ones(2, 2, 6, dtype=torch.float64)
    flat[1] += 1
    optimizer = LBFGS(flat, rates(0.1, 0.1))
    losses_RS, points = descend(optimizer, bowl, 150)
    assert torch.equal(points[0], flat[0])
    assert (losses_RS[0] == 0).all()
    assert losses_RS[1, -1] < 1e-8


@pytest.mark.parametrize("kind", [AdamW, LBFGS])
def test_selected_rows_go_on_as_before(kind: type[AdamW] | type[LBFGS]) -> None:
    whole, some = (build(kind, start(5), rates(0.01, 0.02, 0.03, 0.04, 0.05)) for _ in range(2))
    for optimizer in (whole, some):
        descend(optimizer, valley, 15)
    chosen = torch.tensor([4, 1, 2])
    some.select(chosen)
    expected = descend(whole, valley, 15)
    for ours, theirs in zip(descend(some, valley, 15), expected, strict=True):
        torch.testing.assert_close(ours, theirs[chosen], rtol=1e-12, atol=1e-12)


def build(kind: type[AdamW] | type[LBFGS], point: Tensor, rate_R: Tensor) -> AdamW | LBFGS:
    return AdamW(point, rate_R, rate_R / 2) if kind is AdamW else LBFGS(point, rate_R)

"""Run a tower with the output of one of its modules replaced: scoped, and failing closed.

open_clip's towers add positions, class tokens and masks after the one module that embeds tokens or
patches. Replacing that module's output, instead of copying the tower's forward pass, keeps every later
step the tower's own. The hooks live inside a ``with`` block and are removed whatever happens in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


class InjectionError(RuntimeError):
    """A hook that must fire exactly once did not: the tower's structure is not what was assumed."""


@contextlib.contextmanager
def replaced_output(module: nn.Module, replace: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Pass the output of ``module`` through ``replace`` inside the block.

    Raises:
        InjectionError: ``module`` did not run exactly once in the block.
    """
    calls = 0

    def hook(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return replace(output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
    _check_fired(module, calls)


@contextlib.contextmanager
def cut_sequence(transformer: nn.Module, length: int) -> Iterator[None]:
    """Let ``transformer`` see only the first ``length`` positions of its input and attention mask.

    In a causal tower that pools at end-of-text the positions after it influence nothing, so cutting them
    is exact. The input is (B, L, W) and the mask (L, L), passed as ``attn_mask``.

    Raises:
        InjectionError: ``transformer`` did not run exactly once in the block.
    """
    calls = 0

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        nonlocal calls
        calls += 1
        (states_BLW,) = args
        mask_LL = kwargs["attn_mask"]
        return (states_BLW[:, :length],), {**kwargs, "attn_mask": mask_LL[:length, :length]}

    handle = transformer.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
    _check_fired(transformer, calls)


def put_at(positions: Tensor, pseudo_BKW: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function that puts K pseudo-tokens at stated positions of embedded tokens (B, L, W)."""

    def replace(embedded_BLW: Tensor) -> Tensor:
        return torch.index_copy(embedded_BLW, 1, positions, pseudo_BKW.to(embedded_BLW.dtype))

    return replace


def _check_fired(module: nn.Module, calls: int) -> None:
    if calls != 1:
        raise InjectionError(f"{type(module).__name__} ran {calls} times where exactly one run was expected")

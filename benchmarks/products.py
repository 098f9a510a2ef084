"""The least a step can take: its matrix products and attentions alone, each timed by itself in its shapes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

ATEN = torch.ops.aten
PRODUCTS = (
    ATEN.mm.default, ATEN.addmm.default, ATEN.bmm.default, ATEN.baddbmm.default, ATEN.convolution.default,
    ATEN.convolution_backward.default, ATEN._scaled_dot_product_flash_attention_for_cpu.default,
    ATEN._scaled_dot_product_flash_attention_for_cpu_backward.default,
)  # fmt: skip


class _Shape:
    """Shape, strides and kind of a tensor, as something to count by."""

    def __init__(self, tensor: Tensor) -> None:
        self.key = (tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shape) and self.key == other.key

    def tensor(self) -> Tensor:
        """Make a tensor of this shape, of small values."""
        shape, strides, dtype = self.key
        made = torch.empty_strided(shape, strides, dtype=dtype)
        return made.fill_(0.01) if dtype.is_floating_point else made.zero_()


class _Recorder(TorchDispatchMode):
    """Counts the calls of products by their shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Any] = Counter()
        self.given: dict[Any, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in PRODUCTS:
            shapes = tree_map(
                lambda one: _Shape(one) if isinstance(one, Tensor) else one, (args, kwargs or {})
            )
            key = (
                function,
                repr([getattr(leaf, "key", leaf) for leaf in torch.utils._pytree.tree_leaves(shapes)]),
            )
            self.calls[key] += 1
            self.given[key] = (function, *shapes)
        return function(*args, **(kwargs or {}))


def products(step: Callable[[], object], *, repeats: int = 20) -> tuple[float, float]:
    """Return the floating-point operations of one step in products, and the seconds that these take alone.

    Each distinct product is repeated in its own shapes and strides, with nothing between, and its least time
    counts: what a step takes beyond the sum is everything that is no product.
    """
    counter = FlopCounterMode(display=False)
    with counter:
        step()
    recorder = _Recorder()
    with recorder:
        step()
    spent = 0.0
    for key, calls in recorder.calls.items():
        function, args, kwargs = recorder.given[key]
        given = tree_map(lambda one: one.tensor() if isinstance(one, _Shape) else one, (args, kwargs))
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            function(*given[0], **given[1])
            times.append(time.perf_counter() - start)
        spent += calls * min(times)
    return float(counter.get_total_flops()), spent

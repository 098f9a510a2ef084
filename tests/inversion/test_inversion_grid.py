"""Settings inverted as one batch: each result is that of its own run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.errors import InputError
from crossgap.inversion.config import InversionConfig
from crossgap.inversion.loop import Inversion, invert, invert_grid
from tests.conftest import tiny_encoder

IDS = [f"item-{number}" for number in range(5)]
# each differs from the others, in an order that is not that of its token counts
SETTINGS: list[dict[str, Any]] = [
    {"num_tokens": 2, "learning_rate": 5e-3, "init_std": 0.1},
    {"num_tokens": 1},
    {"num_tokens": 2, "learning_rate": 5e-3, "seed": 1},
    {"num_tokens": 3, "learning_rate": 2e-3, "init_std": 0.05, "seed": 2},
    {"num_tokens": 1, "learning_rate": 5e-2},
    {"num_tokens": 1, "init_std": 0.0, "seed": 3},
]
ADAMW = [{**changes, "weight_decay": 0.1 * place} for place, changes in enumerate(SETTINGS)]
LBFGS = [{**changes, "method": "lbfgs", "weight_decay": 0} for changes in SETTINGS]


@pytest.fixture(scope="module")
def double() -> OpenClipEncoder:
    return tiny_encoder(dtype=torch.float64)


def targets(encoder: OpenClipEncoder) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(len(IDS), encoder.embed_dim, generator=generator, dtype=torch.float64)


def assert_equal_runs(ours: Inversion, own: Inversion) -> None:
    for name in ("features", "tokens", "losses"):
        torch.testing.assert_close(getattr(ours, name), getattr(own, name), rtol=0, atol=1e-8)
    assert torch.equal(ours.stopped, own.stopped)
    assert list(ours.snapshots) == list(own.snapshots)
    for step, features in own.snapshots.items():
        torch.testing.assert_close(ours.snapshots[step], features, rtol=0, atol=1e-8)


@pytest.mark.parametrize("engine", ["lean", "tower"])
@pytest.mark.parametrize("into", ["text", "image"])
@pytest.mark.parametrize(("changes", "steps"), [(ADAMW, 40), (LBFGS, 20)], ids=["adamw", "lbfgs"])
def test_each_result_is_that_of_its_own_run(
    double, changes: list[dict[str, Any]], steps: int, into: str, engine: str
) -> None:
    configs = [InversionConfig(steps=steps, batch_size=3, **one) for one in changes]
    arguments = {"into": into, "item_ids": IDS, "snapshots": (9, 0, steps), "engine": engine}
    found = invert_grid(double, targets(double), configs=configs, **arguments)
    assert len(found) == len(configs)
    for ours, config in zip(found, configs, strict=True):
        own = invert(double, targets(double), config=config, **arguments)
        assert ours.tokens.shape == (len(IDS), config.num_tokens, own.tokens.shape[2])
        assert_equal_runs(ours, own)
        assert sorted(ours.snapshots) == [0, 9, steps]
    starts = torch.stack([one.features for one in found]).flatten(1)
    assert torch.cdist(starts, starts).fill_diagonal_(1).min() > 1e-3


def test_results_stand_in_the_order_of_the_settings(double) -> None:
    configs = [InversionConfig(steps=10, **changes) for changes in ADAMW]
    arguments = {"into": "text", "item_ids": IDS}
    forth = invert_grid(double, targets(double), configs=configs, **arguments)
    back = invert_grid(double, targets(double), configs=configs[::-1], **arguments)
    for one, other in zip(forth, back[::-1], strict=True):
        assert_equal_runs(one, other)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 9},
        {"template": "an image of {}"},
        {"batch_size": 2},
        {"method": "lbfgs", "weight_decay": 0},
        {"target_cosine": 0.5},
    ],
)
def test_settings_that_differ_in_anything_else_are_refused(double, changes: dict[str, Any]) -> None:
    one = InversionConfig(steps=10)
    configs = [one, replace(one, **changes)]
    with pytest.raises(InputError, match=f"not in {next(iter(changes))}"):
        invert_grid(double, targets(double), into="text", configs=configs, item_ids=IDS)


@pytest.mark.parametrize(("configs", "message"), [([], "not 0"), ([InversionConfig()] * 2, "1 distinct")])
def test_a_grid_needs_distinct_settings(double, configs: list[InversionConfig], message: str) -> None:
    with pytest.raises(InputError, match=message):
        invert_grid(double, targets(double), into="text", configs=configs, item_ids=IDS)


def test_a_setting_that_diverges_is_named(double) -> None:
    configs = [InversionConfig(steps=5), InversionConfig(steps=5, learning_rate=1e308, seed=4)]
    with pytest.raises(
        InputError, match=r"'item-0': the loss is not finite at step 1 with learning_rate 1e\+308"
    ):
        invert_grid(double, targets(double), into="text", configs=configs, item_ids=IDS)


def test_progress_counts_items(double) -> None:
    counts: list[int] = []
    configs = [InversionConfig(steps=1, batch_size=2, seed=seed) for seed in (0, 1)]
    invert_grid(double, targets(double), into="text", configs=configs, item_ids=IDS, progress=counts.append)
    assert counts == [2, 2, 1]

"""Items that stop at a target cosine: the first step that reaches it, whatever their neighbours do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.inversion.config import InversionConfig
from crossgap.inversion.loop import Inversion, invert, invert_grid, stretch
from tests.conftest import tiny_encoder

STEPS = 45
IDS = [f"item-{number}" for number in range(7)]
METHODS: dict[str, dict[str, Any]] = {"adamw": {}, "lbfgs": {"method": "lbfgs", "weight_decay": 0}}


@pytest.fixture(scope="module")
def double() -> OpenClipEncoder:
    return tiny_encoder(dtype=torch.float64)


def targets(encoder: OpenClipEncoder, count: int = len(IDS)) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, encoder.embed_dim, generator=generator, dtype=torch.float64)


def run(encoder: OpenClipEncoder, config: InversionConfig, into: str, **changes: Any) -> Inversion:
    arguments = {"item_ids": IDS, "snapshots": range(config.steps + 1), **changes}
    return invert(
        encoder, targets(encoder, len(arguments["item_ids"])), into=into, config=config, **arguments
    )


def assert_stopped_as_in(whole: Inversion, result: Inversion, target: float) -> None:
    """Compare with a run that goes on: at each item's first step at the target, or at its end."""
    steps = whole.losses.shape[1] - 1
    for item in range(len(whole.losses)):
        reached = (whole.losses[item] <= 1 - target).nonzero().flatten().tolist()
        stop = reached[0] if reached else steps
        assert result.stopped[item] == stop
        close = {"rtol": 0, "atol": 1e-8}
        torch.testing.assert_close(result.features[item], whole.snapshots[stop][item], **close)
        torch.testing.assert_close(result.losses[item, : stop + 1], whole.losses[item, : stop + 1], **close)
        assert (result.losses[item, stop:] == result.losses[item, stop]).all()
        for step, features in result.snapshots.items():
            torch.testing.assert_close(features[item], whole.snapshots[min(step, stop)][item], **close)
            assert step < stop or torch.equal(features[item], result.features[item])


def features_of(encoder: OpenClipEncoder, into: str, config: InversionConfig, tokens: Tensor) -> Tensor:
    if into == "text":
        return encoder.encode_text_with(encoder.prompt(config.template, config.num_tokens), tokens)
    return encoder.encode_image_with(stretch(tokens, encoder.num_patches))


def middle(whole: Inversion, step: int) -> float:
    """A target that about half of the items reach by ``step``, and that no loss touches."""
    best = whole.losses[:, : step + 1].amin(dim=1).sort().values
    return float(1 - best[len(best) // 2 - 1 : len(best) // 2 + 1].mean())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("into", ["text", "image"])
@pytest.mark.parametrize("engine", ["lean", "tower"])
def test_each_item_stops_at_the_first_step_that_reaches_the_target(
    double, into: str, method: str, engine: str
) -> None:
    config = InversionConfig(steps=STEPS, batch_size=4, **METHODS[method])
    whole = run(double, config, into)
    assert (whole.stopped == STEPS).all()
    target = middle(whole, 22)
    stopping = replace(config, target_cosine=target)
    result = run(double, stopping, into, engine=engine)
    assert_stopped_as_in(whole, result, target)
    assert len(set(result.stopped.tolist())) > 2
    torch.testing.assert_close(
        features_of(double, into, stopping, result.tokens), result.features, rtol=0, atol=1e-10
    )


def test_a_loss_that_rises_again_does_not_undo_the_stop(double) -> None:
    """AdamW overshoots at a high learning rate; what counts is the first step at the target."""
    config = InversionConfig(steps=STEPS, learning_rate=0.3)
    whole = run(double, config, "text")
    target = middle(whole, 15)
    later = torch.stack([row[(row <= 1 - target).int().argmax() :].max() for row in whole.losses])
    assert (later > 1 - target + 0.05).sum() >= 2
    result = run(double, replace(config, target_cosine=target), "text")
    assert_stopped_as_in(whole, result, target)


@pytest.mark.parametrize("method", METHODS)
def test_dropping_finished_rows_changes_nothing(double, method: str) -> None:
    """Among 64, whose rows are dropped as they finish, against alone; L-BFGS amplifies rounding sooner."""
    close = {"rtol": 0, "atol": 1e-8 if method == "adamw" else 1e-6}
    ids = [f"item-{number}" for number in range(64)]
    config = InversionConfig(steps=STEPS, **METHODS[method])
    whole = run(double, config, "text", item_ids=ids)
    stopping = replace(config, target_cosine=middle(whole, 30))
    together = run(double, stopping, "text", item_ids=ids)
    assert_stopped_as_in(whole, together, stopping.target_cosine)
    assert (together.stopped < 30).sum() > 10
    assert (together.stopped == STEPS).any()
    for place in (0, 11, 30, 63):
        alone = invert(
            double,
            targets(double, 64)[[place]],
            into="text",
            config=stopping,
            item_ids=[ids[place]],
            snapshots=(20, STEPS),
        )
        assert alone.stopped[0] == together.stopped[place]
        for name in ("features", "tokens", "losses"):
            torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[place], **close)
        for step, features in alone.snapshots.items():
            torch.testing.assert_close(features[0], together.snapshots[step][place], **close)


def count_passes(encoder: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the rows of each pass through the text tower."""
    rows: list[int] = []
    encode = encoder.encode_text_with

    def counted(prompt: Any, pseudo_BKW: Tensor) -> Tensor:
        rows.append(len(pseudo_BKW))
        return encode(prompt, pseudo_BKW)

    monkeypatch.setattr(encoder, "encode_text_with", counted)
    return rows


def test_a_batch_that_is_done_ends_early(double, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = count_passes(double, monkeypatch)
    config = InversionConfig(steps=150, target_cosine=-0.9)
    result = run(double, config, "text", engine="tower", snapshots=(0, 77, 150))
    assert len(rows) <= 10
    assert (result.stopped == 0).all()
    assert (result.losses == result.losses[:, :1]).all()
    assert list(result.snapshots) == [0, 77, 150]
    start = invert(double, targets(double), into="text", config=InversionConfig(steps=0), item_ids=IDS)
    for features in (result.features, *result.snapshots.values()):
        torch.testing.assert_close(features, start.features, rtol=0, atol=1e-12)


def test_finished_rows_are_no_longer_computed(double, monkeypatch: pytest.MonkeyPatch) -> None:
    config = InversionConfig(steps=STEPS)
    target = middle(run(double, config, "text"), 12)
    rows = count_passes(double, monkeypatch)
    result = run(double, replace(config, target_cosine=target), "text", engine="tower")
    assert rows[0] == len(IDS)
    assert rows[-1] == (result.stopped >= 40).sum() < len(IDS)


@pytest.mark.parametrize("method", METHODS)
def test_a_target_that_no_item_reaches_changes_nothing(double, method: str) -> None:
    config = InversionConfig(steps=STEPS, **METHODS[method])
    whole = run(double, config, "image")
    result = run(double, replace(config, target_cosine=1.0), "image")
    assert (result.stopped == STEPS).all()
    for name in ("features", "tokens", "losses"):
        assert torch.equal(getattr(result, name), getattr(whole, name))


@pytest.mark.parametrize("engine", ["lean", "tower"])
@pytest.mark.parametrize("into", ["text", "image"])
@pytest.mark.parametrize("method", METHODS)
def test_a_group_that_is_done_leaves_the_other_alone(double, into: str, method: str, engine: str) -> None:
    """With one pseudo-token no item reaches what three reach at once."""
    one = InversionConfig(steps=STEPS, num_tokens=1, learning_rate=1e-4, **METHODS[method])
    three = replace(one, num_tokens=3, init_std=0.5, learning_rate=0.05)
    wholes = [run(double, config, into) for config in (one, three)]
    best = wholes[1].losses[:, :16].amin(dim=1)
    wanted = [item for item in range(len(IDS)) if best[item] < wholes[0].losses[item].min() - 1e-3]
    assert len(wanted) >= 2
    target = float(1 - best[wanted].max()) - 1e-6
    chosen = [item for item in wanted if wholes[0].losses[item].min() > 1 - target]
    assert chosen
    configs = [replace(config, target_cosine=target) for config in (one, three)]
    found = invert_grid(
        double,
        targets(double)[chosen],
        into=into,
        configs=configs,
        item_ids=[IDS[item] for item in chosen],
        snapshots=range(STEPS + 1),
        engine=engine,
    )
    assert (found[0].stopped == STEPS).all()
    assert (found[1].stopped <= 15).all()
    for config, result in zip((one, three), found, strict=True):
        ids = [IDS[item] for item in chosen]
        whole = invert(
            double,
            targets(double)[chosen],
            into=into,
            config=config,
            item_ids=ids,
            snapshots=range(STEPS + 1),
        )
        assert_stopped_as_in(whole, result, target)

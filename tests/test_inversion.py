"""Inversion against a loop written straight down, and the independence of its items."""

from __future__ import annotations

import pytest
import torch

from crossgap.errors import InputError
from crossgap.inversion import InversionConfig, initial_tokens, invert, stretch
from crossgap.presets import PRESETS, preset
from tests.conftest import tiny_encoder
from tests.reference import plain_inversion

IDS = [f"item-{number}" for number in range(5)]


def targets(encoder, count: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, encoder.embed_dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("into", ["text", "image"])
@pytest.mark.parametrize("num_tokens", [1, 3])
def test_equals_the_plain_loop_in_float64(encoder, into: str, num_tokens: int) -> None:
    config = InversionConfig(steps=25, num_tokens=num_tokens, batch_size=2)
    result = invert(encoder, targets(encoder), into=into, config=config, item_ids=IDS, snapshots=(0, 10))
    expected, expected_losses, expected_at_10 = plain_inversion(
        encoder, targets(encoder), into, config, IDS, 10
    )
    torch.testing.assert_close(result.features, expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(result.losses, expected_losses, rtol=0, atol=1e-8)
    torch.testing.assert_close(result.snapshots[10], expected_at_10, rtol=0, atol=1e-8)


@pytest.mark.parametrize("into", ["text", "image"])
def test_an_item_depends_on_no_neighbour(encoder, into: str) -> None:
    config = InversionConfig(steps=15)
    together = invert(encoder, targets(encoder), into=into, config=config, item_ids=IDS)
    order = [3, 1]
    apart = invert(
        encoder, targets(encoder)[order], into=into, config=config, item_ids=[IDS[index] for index in order]
    )
    torch.testing.assert_close(apart.features, together.features[order], rtol=0, atol=1e-8)


def test_float32_repeats_bit_for_bit_at_the_same_batch_shape() -> None:
    encoder = tiny_encoder()
    config = InversionConfig(steps=20)
    runs = [invert(encoder, targets(encoder), into="text", config=config, item_ids=IDS) for _ in range(2)]
    assert torch.equal(runs[0].features, runs[1].features)


def test_snapshots_hold_every_shorter_run(encoder) -> None:
    config = InversionConfig(steps=12)
    long = invert(encoder, targets(encoder), into="text", config=config, item_ids=IDS, snapshots=(0, 4, 12))
    for steps in (0, 4, 12):
        short = invert(
            encoder, targets(encoder), into="text", config=InversionConfig(steps=steps), item_ids=IDS
        )
        torch.testing.assert_close(long.snapshots[steps], short.features, rtol=0, atol=1e-12)
    assert torch.equal(long.snapshots[12], long.features)


@pytest.mark.parametrize("into", ["text", "image"])
def test_the_loss_falls_and_is_the_cosine_distance_of_the_features(encoder, into: str) -> None:
    config = InversionConfig(steps=60)
    result = invert(encoder, targets(encoder), into=into, config=config, item_ids=IDS)
    assert (result.losses[:, -1] < result.losses[:, 0]).all()
    cosine = torch.nn.functional.cosine_similarity(result.features, targets(encoder))
    torch.testing.assert_close(result.losses[:, -1], 1 - cosine)


def test_noise_is_keyed_by_seed_and_item() -> None:
    config = InversionConfig(num_tokens=2)
    noise = initial_tokens(IDS, config, 4000)
    assert torch.equal(noise[[2]], initial_tokens(IDS[2:3], config, 4000))
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise, initial_tokens(IDS, InversionConfig(num_tokens=2, seed=1), 4000))
    assert noise.std().item() == pytest.approx(0.02, rel=0.02)


def test_stretch_makes_contiguous_raster_bands() -> None:
    tokens = torch.arange(3.0).reshape(1, 3, 1)
    assert stretch(tokens, 9).flatten().tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_presets_hold_the_published_settings() -> None:
    assert {config.steps for config in PRESETS["text"].values()} == {150}
    assert {config.steps for config in PRESETS["image"].values()} == {1000}
    assert [preset(name, "image").num_tokens for name in ("ViT-B-32/openai", "ViT-L-14/openai")] == [1, 4]
    assert preset("ViT-L-14/datacomp_xl_s13b_b90k", "image").num_tokens == 2
    assert preset("somebody's model", "text") == InversionConfig()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item_ids": IDS[:4]}, "one unique id per target"),
        ({"item_ids": ["a"] * 5}, "1 distinct"),
        ({"snapshots": (199,)}, "outside 0..150"),
        ({"into": "audio"}, "unknown modality"),
        ({"into": "image", "config": InversionConfig(num_tokens=17)}, "16 patches"),
        ({"config": InversionConfig(template="a photo")}, "exactly once"),
        ({"config": InversionConfig(num_tokens=12)}, "text tower has 16"),
    ],
)
def test_bad_input_is_refused(encoder, changes: dict[str, object], message: str) -> None:
    arguments = {"into": "text", "config": InversionConfig(), "item_ids": IDS, **changes}
    with pytest.raises(InputError, match=message):
        invert(encoder, targets(encoder), **arguments)


def test_a_target_without_direction_is_named(encoder) -> None:
    values = targets(encoder)
    values[2] = 0
    with pytest.raises(InputError, match="'item-2'"):
        invert(encoder, values, into="text", config=InversionConfig(), item_ids=IDS)


@pytest.mark.parametrize("bad", [{"steps": -1}, {"num_tokens": 0}, {"learning_rate": float("nan")}])
def test_bad_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        InversionConfig(**bad)

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from crossgap.errors import InputError
from pretrain.data.augment import crop_resize, drop_words, jitter_colours, random_view
from pretrain.data.streams import stream
from pretrain.settings import AugmentConfig

WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


def images(batch: int = 3, size: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, size, size, 3), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("size", [8, 10, 24, 40])
def test_whole_image_is_resized_as_torch_does_antialiased(size: int) -> None:
    given = images()
    expected = F.interpolate(
        given.permute(0, 3, 1, 2).float(), (size, size), mode="bilinear", antialias=True, align_corners=False
    )
    assert torch.allclose(crop_resize(given, WHOLE.expand(3, 4), size), expected / 255, atol=1e-5)


def test_a_box_is_resized_as_pillow_does() -> None:
    given = images()
    box = (2.5, 5.25, 20.0, 23.0)  # left, top, right, bottom in pixels
    fractions = torch.tensor([[box[1], box[0], box[3] - box[1], box[2] - box[0]]]) / 24
    result = crop_resize(given, fractions.expand(3, 4), 9)
    for index, pixels in enumerate(given.numpy()):
        pillow = Image.fromarray(pixels).resize((9, 9), Image.Resampling.BILINEAR, box=box)
        expected = torch.from_numpy(np.asarray(pillow).copy()).permute(2, 0, 1) / 255
        # Pillow rounds to 8 bits after either axis
        assert (result[index] - expected).abs().max() < 1.2 / 255


def test_factors_of_1_leave_the_colours() -> None:
    pixels = images().permute(0, 3, 1, 2) / 255
    assert torch.allclose(jitter_colours(pixels, torch.ones(3, 3)), pixels, atol=1e-6)


def test_each_factor_does_what_its_name_says() -> None:
    pixels = images().permute(0, 3, 1, 2) / 255
    factors = torch.ones(3, 3)
    dark = jitter_colours(pixels, factors.index_fill(0, torch.tensor(0), 0.5))
    assert torch.allclose(dark, pixels / 2, atol=1e-6)
    flat = jitter_colours(pixels, factors.index_fill(0, torch.tensor(1), 0.0))
    assert flat.flatten(1).std(1).max() < 1e-6
    grey = jitter_colours(pixels, factors.index_fill(0, torch.tensor(2), 0.0))
    assert torch.allclose(grey[:, 0], grey[:, 2])
    assert grey.flatten(1).std(1).min() > 0.05


def test_views_are_functions_of_their_stream() -> None:
    given, config = images(), AugmentConfig()
    one = random_view(given, 12, config, stream(0, "view", 5, 0))
    assert torch.equal(one, random_view(given, 12, config, stream(0, "view", 5, 0)))
    for other in (stream(1, "view", 5, 0), stream(0, "view", 6, 0), stream(0, "view", 5, 1)):
        assert not torch.equal(one, random_view(given, 12, config, other))
    assert one.shape == (3, 3, 12, 12)
    assert one.min() >= 0
    assert one.max() <= 1


def test_no_strength_is_a_plain_resize() -> None:
    still = AugmentConfig(area=(1, 1), ratio=(1, 1), brightness=0, contrast=0, saturation=0)
    view = random_view(images(), 12, still, stream(0, "view"))
    assert torch.allclose(view, crop_resize(images(), WHOLE.expand(3, 4), 12), atol=1e-6)
    mirrored = random_view(images(), 12, AugmentConfig(**{**vars(still), "flip": 1.0}), stream(0, "view"))
    assert torch.allclose(mirrored, view.flip(3), atol=1e-6)


def test_dropped_words() -> None:
    ids_BL = torch.tensor([[90, 1, 2, 3, 99, 0], [90, 4, 99, 0, 0, 0], [90, 99, 0, 0, 0, 0]])
    lengths_B = torch.tensor([5, 3, 2])
    kept, lengths = drop_words(ids_BL, lengths_B, 0.0, stream(0, "words"))
    assert torch.equal(kept, ids_BL)
    assert torch.equal(lengths, lengths_B)
    kept, lengths = drop_words(ids_BL, lengths_B, 1.0, stream(0, "words"))
    assert lengths.tolist() == [3, 3, 2]  # one word survives; an empty caption stays as it is
    assert kept[0, 1] in (1, 2, 3)
    assert kept[:, 0].tolist() == [90, 90, 90]
    assert kept[torch.arange(3), lengths - 1].tolist() == [99, 99, 99]
    assert kept[0, 3:].tolist() == [0, 0, 0]


def test_words_are_dropped_at_the_rate_asked_for_and_keep_their_order() -> None:
    ids_BL = torch.cat([torch.arange(50), torch.tensor([99])]).expand(400, -1)
    kept, lengths = drop_words(ids_BL, torch.full((400,), 51), 0.3, stream(0, "words"))
    assert (51 - lengths).float().mean().item() / 49 == pytest.approx(0.3, abs=0.02)
    for row, length in zip(kept.tolist(), lengths.tolist(), strict=True):
        assert row[:length] == sorted(set(row[:length]))


@pytest.mark.parametrize(
    "change", [{"area": (0.0, 1.0)}, {"area": (0.9, 0.5)}, {"ratio": (2.0, 1.0)}, {"flip": 1.5}]
)
def test_bad_strengths_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        AugmentConfig(**change)  # type: ignore[arg-type]

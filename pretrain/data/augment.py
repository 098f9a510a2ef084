"""Random views of a batch: crops and colours of images, dropped words of captions.

All draws come from a generator on the CPU, so a view depends on its stream alone, not on the device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pretrain.data.tokens import CLIPS_EDGES, Edges
from pretrain.settings import AugmentConfig


class Place(NamedTuple):
    """Rows that are those from ``first`` on of a batch of ``batch`` rows."""

    first: int
    batch: int


def random_view(
    images_BHWC: Tensor,
    size: int,
    config: AugmentConfig,
    generator: torch.Generator,
    *,
    place: Place | None = None,
) -> Tensor:
    """Crop each image at random to ``size`` pixels and jitter its colours.

    Args:
        images_BHWC: uint8.
        size: side of the result in pixels.
        config: the strengths.
        generator: on the CPU.
        place: where the images stand in a larger batch; they get the views that they have there.

    Returns:
        (B, C, size, size) in [0, 1].
    """
    draws_8B = uniform(8, count=len(images_BHWC), place=place, generator=generator)
    boxes_B4 = _random_boxes(draws_8B[:4], config)
    view = crop_resize(images_BHWC, boxes_B4.to(images_BHWC.device), size)
    strengths = torch.tensor([config.brightness, config.contrast, config.saturation])
    factors_3B = 1 + strengths[:, None] * (2 * draws_8B[4:7] - 1)
    view = jitter_colours(view, factors_3B.to(view.device))
    flipped_B = (draws_8B[7] < config.flip).to(view.device)
    return torch.where(flipped_B[:, None, None, None], view.flip(3), view)


def crop_resize(images_BHWC: Tensor, boxes_B4: Tensor, size: int) -> Tensor:
    """Resample one box of each image to ``size`` x ``size`` pixels, antialiased.

    A separable triangle filter whose support grows with the reduction, as Pillow's bilinear resize of a box;
    output pixel o weighs input pixel i by max(0, 1 - |i + 1/2 - c_o| / max(1, r)), normalised, with
    reduction r = box / size and centre c_o = start + (o + 1/2) r.

    Args:
        images_BHWC: uint8.
        boxes_B4: top, left, height and width as fractions of the image; sub-pixel.
        size: side of the result in pixels.

    Returns:
        (B, C, size, size) in [0, 1].
    """
    _, height, width, _ = images_BHWC.shape
    rows_BSH = _filter(boxes_B4[:, 0] * height, boxes_B4[:, 2] * height, height, size)
    columns_BSW = _filter(boxes_B4[:, 1] * width, boxes_B4[:, 3] * width, width, size)
    pixels_BHN = images_BHWC.to(rows_BSH.dtype).flatten(2)
    shrunk_BSWC = torch.bmm(rows_BSH, pixels_BHN).unflatten(2, (width, -1))
    view = torch.einsum("btw,bswc->bcst", columns_BSW, shrunk_BSWC)
    return view / 255


def jitter_colours(images_BCHW: Tensor, factors_3B: Tensor) -> Tensor:
    """Scale brightness, contrast and saturation by factors, in this order; a factor of 1 changes nothing."""
    brightness, contrast, saturation = factors_3B[:, :, None, None, None].unbind(0)
    luma_C = torch.tensor([0.299, 0.587, 0.114], device=images_BCHW.device)
    images_BCHW = (images_BCHW * brightness).clamp(0, 1)
    grey = torch.einsum("c,bchw->bhw", luma_C, images_BCHW).mean((1, 2))[:, None, None, None]
    images_BCHW = (grey + contrast * (images_BCHW - grey)).clamp(0, 1)
    grey = torch.einsum("c,bchw->bhw", luma_C, images_BCHW)[:, None]
    return (grey + saturation * (images_BCHW - grey)).clamp(0, 1)


def drop_words(
    ids_BL: Tensor,
    lengths_B: Tensor,
    probability: float,
    generator: torch.Generator,
    *,
    place: Place | None = None,
    edges: Edges = CLIPS_EDGES,
) -> tuple[Tensor, Tensor]:
    """Leave out each token between start and end with a probability; at least one stays.

    [0] Wei & Zou, 2019, arXiv 1901.11196 (random deletion), on tokens instead of words.

    Args:
        ids_BL: token ids.
        lengths_B: number of tokens of each row.
        probability: in [0, 1].
        generator: on the CPU.
        edges: how many of a row's first tokens are the start, how many of its last the end, and the padding.

    Returns:
        Ids of the same shape, padding after the end, and the new lengths.
    """
    places_L = torch.arange(ids_BL.shape[1])
    draws_BL = uniform(ids_BL.shape[1], count=len(ids_BL), place=place, generator=generator, by_row=True)
    inner_BL = (places_L >= edges.start) & (places_L < lengths_B[:, None] - edges.end)
    survivor_B1 = draws_BL.masked_fill(~inner_BL, -1).argmax(1, keepdim=True)
    dropped_BL = inner_BL & (draws_BL < probability) & (places_L != survivor_B1)
    kept_BL = (places_L < lengths_B[:, None]) & ~dropped_BL
    order_BL = kept_BL.int().argsort(stable=True, dim=1, descending=True)
    shorter_B = kept_BL.sum(1)
    padded_BL = places_L >= shorter_B[:, None]
    return ids_BL.gather(1, order_BL).masked_fill(padded_BL, edges.padding), shorter_B


def uniform(
    each: int, *, count: int, place: Place | None, generator: torch.Generator, by_row: bool = False
) -> Tensor:
    """Draw ``each`` uniform numbers a row, (each, B) or with ``by_row`` (B, each): the rows at a place."""
    first, batch = place or (0, count)
    shape = (batch, each) if by_row else (each, batch)
    return torch.rand(shape, generator=generator).narrow(0 if by_row else 1, first, count)


def _random_boxes(draws_4B: Tensor, config: AugmentConfig) -> Tensor:
    area_B = config.area[0] + (config.area[1] - config.area[0]) * draws_4B[0]
    low, high = torch.tensor(config.ratio).log()
    ratio_B = (low + (high - low) * draws_4B[1]).exp()
    height_B = (area_B / ratio_B).sqrt().clamp(max=1)
    width_B = (area_B * ratio_B).sqrt().clamp(max=1)
    top_B, left_B = draws_4B[2] * (1 - height_B), draws_4B[3] * (1 - width_B)
    return torch.stack([top_B, left_B, height_B, width_B], dim=1)


def _filter(start_B: Tensor, extent_B: Tensor, pixels: int, size: int) -> Tensor:
    """Weights of ``size`` output pixels over ``pixels`` input pixels, (B, size, pixels), rows sum to 1."""
    device = start_B.device
    reduction_B = extent_B / size
    centres_BS = start_B[:, None] + (torch.arange(size, device=device) + 0.5) * reduction_B[:, None]
    inputs_P = torch.arange(pixels, device=device) + 0.5
    distances = (inputs_P - centres_BS[:, :, None]).abs() / reduction_B.clamp(min=1)[:, None, None]
    weights = (1 - distances).clamp(min=0)
    return weights / weights.sum(2, keepdim=True)

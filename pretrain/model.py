"""The small CLIP that is trained: open_clip's own class, built from a few sizes and a seed."""

from __future__ import annotations

import open_clip
import torch

from pretrain.data.streams import stream_seed
from pretrain.settings import ModelConfig


def build_model(config: ModelConfig, *, seed: int, temperature: float) -> open_clip.CLIP:
    """Build a CLIP with random weights that depend on ``seed`` alone; the global generator is left alone.

    ``temperature`` is the initial tau: ``logit_scale`` holds ln(1/tau).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "initialisation"))
        model = open_clip.CLIP(**config.open_clip)
    if config.shared in ("projection", "towers"):
        model.visual.proj = model.text_projection
    if config.shared == "towers":
        model.visual.transformer.resblocks = model.transformer.resblocks
    with torch.no_grad():
        model.logit_scale.copy_(-torch.log(torch.tensor(temperature)))
    return model

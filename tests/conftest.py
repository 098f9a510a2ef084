"""Fixtures that several test files share: tiny random models, deterministic property tests."""

from __future__ import annotations

import open_clip
import pytest
import torch
from hypothesis import settings

from crossgap.encoders.open_clip import OpenClipEncoder

settings.register_profile("crossgap", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("crossgap")
torch.set_num_threads(1)  # the models here are tiny: a second thread costs more than it brings

CONTEXT = 16


def tiny_model(family: str, *, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """Build a small random model of a family, in evaluation mode and frozen."""
    vision = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32}
    text = {"context_length": CONTEXT, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2}
    classes = {"CLIP": open_clip.CLIP, "CustomTextCLIP": open_clip.CustomTextCLIP}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = classes[family](embed_dim=16, vision_cfg=vision, text_cfg=text)
        with torch.no_grad():
            for parameter in model.parameters():  # random everywhere: zeros and ones would hide a mistake
                parameter.add_(0.05 * torch.randn_like(parameter))
    open_clip.model.set_model_preprocess_cfg(
        model, {**open_clip.transform.PreprocessCfg().__dict__, "size": 32}
    )
    return model.eval().requires_grad_(False).to(dtype)


def tiny_encoder(family: str = "CLIP", *, dtype: torch.dtype = torch.float32) -> OpenClipEncoder:
    """Wrap a tiny random model; ``torch.float64`` for exact comparisons."""
    return OpenClipEncoder(tiny_model(family, dtype=dtype), open_clip.SimpleTokenizer(context_length=CONTEXT))


@pytest.fixture(params=["CLIP", "CustomTextCLIP"])
def encoder(request: pytest.FixtureRequest) -> OpenClipEncoder:
    return tiny_encoder(request.param, dtype=torch.float64)

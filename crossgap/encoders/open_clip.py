"""Encoders: what every part needs of a CLIP-like model, and the adapter for open_clip's models."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from open_clip.transformer import QuickGELU
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from crossgap.compute import default_workers
from crossgap.encoders.image_towers import PatchEmbedding, find_patch_embedding
from crossgap.encoders.inject import cut_sequence, put_at, replaced_output
from crossgap.encoders.long_words import remember_long_words
from crossgap.encoders.pixels import SplitPreprocessing, WholePreprocessing, batches_of, pixels_ahead
from crossgap.encoders.preprocessing import Preprocessing, of_open_clip
from crossgap.encoders.prompts import Prompt, compose, read_frame, read_template
from crossgap.encoders.text_towers import (
    find_text_tower,
    find_token_embedding,
    masked_ids,
    pooled_positions,
    pooling,
    why_not_causal,
)
from crossgap.errors import InputError, check_known
from crossgap.vocabulary import Precision

_DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}
_ITEMS_AT_ONCE = 64  # texts or images that are no tensor yet
_TELLTALE = ["", "A photo of two cats, 1984.", "naïve café 写真"]


class OpenClipEncoder:
    """Wrap a model of open_clip's kinds without setting any attribute on it.

    Text towers may be open_clip's own (``CLIP``, ``CustomTextCLIP``, ``CoCa``) or Hugging Face models in
    open_clip's wrapper; image towers may be any. A tower without one linear embedding per patch (ResNets,
    ConvNeXt, hybrids) encodes images but takes no pseudo-patches: ``why_no_patches`` says why, and what needs
    patches raises. ``text_tower`` is the module that owns ``token_embedding``, ``image_tower`` is
    ``model.visual``.

    Args:
        model: in evaluation mode, on its device and in its dtype.
        tokenizer: (texts, context_length=n) -> int64 (B, n), as open_clip's are, padding on the right.
        precision: ``bf16`` runs the towers under autocast; weights and features stay float32.
        preprocessing: of images; default: what open_clip's model says of itself.

    Raises:
        InputError: the model is in training mode, has no preprocessing, or its text tower or tokenizer is of
            no known kind.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str = "model",
        precision: Precision = "fp32",
        preprocessing: Preprocessing | None = None,
    ) -> None:
        check_known(precision, _DTYPES, "precision")
        if model.training:
            raise InputError(f"encoder {name!r} is in training mode; call model.eval() first")
        self.model = model
        self.name = name
        self.precision = precision
        self.tokenizer = tokenizer
        self.text_tower: Any = find_text_tower(model)
        self.image_tower: Any = model.visual
        self.token_embedding = find_token_embedding(self.text_tower)
        self.device = self.token_embedding.weight.device
        self.dtype = self.token_embedding.weight.dtype
        self.text_width = self.token_embedding.embedding_dim
        self.context_length = int(self.tokenize([""]).shape[1])
        how = pooling(self.text_tower)
        self._frame = read_frame(
            tokenizer, self.context_length, pooled=lambda tokens_BL: pooled_positions(how, tokens_BL)
        )
        self._preprocess_config, self._transform = preprocessing or of_open_clip(model, name)
        self.preprocessing = (
            SplitPreprocessing(self._transform)
            if preprocessing is None
            else WholePreprocessing(self.preprocess)
        )
        self._patches = find_patch_embedding(self.image_tower, self._blank())
        self.why_not_causal = self._why_not_causal()
        with torch.no_grad():
            probe = self.encode_text(self.tokenize([""]))
        self.embed_dim = probe.shape[1]
        self.fingerprint = self._fingerprint()

    @property
    def causal(self) -> bool:
        """Whether positions after end-of-text cannot influence the text feature."""
        return self.why_not_causal is None

    @property
    def why_no_patches(self) -> str | None:
        """The reason, in words, why the image tower takes no pseudo-patches; None if it does."""
        return self._patches if isinstance(self._patches, str) else None

    @property
    def image_width(self) -> int:
        """Width of a patch embedding. Raises InputError if the image tower takes no patches."""
        return self._patch_embedding().width

    @property
    def num_patches(self) -> int:
        """Patches of an image. Raises InputError if the image tower takes no patches."""
        return self._patch_embedding().num_patches

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        """Turn PIL images into pixels_BCHW as the model was trained to see them."""
        return torch.stack([self._transform(image) for image in images])

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Tokenise to int64 (B, L) at full context length; longer texts are truncated by the tokenizer."""
        remember_long_words(self.tokenizer, texts)
        return self.tokenizer(list(texts))

    def encode_image(self, pixels_BCHW: Tensor | Sequence[Image.Image | str | Path]) -> Tensor:
        """Encode pixels, or images (opened, or their paths), to image_BD with unit rows."""
        if not isinstance(pixels_BCHW, Tensor):
            images, workers = pixels_BCHW, default_workers(self.device)
            pixels = pixels_ahead(
                lambda place: _opened(images[place]),
                self._batches(images),
                self.preprocessing,
                device=self.device,
                workers=workers,
            )
            with contextlib.closing(pixels):
                return torch.cat([self.encode_image(batch_BCHW) for batch_BCHW in pixels])
        with self._autocast():
            features_BD = self.model.encode_image(pixels_BCHW.to(self.device, self.dtype))
        return self._unit(features_BD)

    def encode_text(self, tokens_BL: Tensor | Sequence[str]) -> Tensor:
        """Encode token ids, or texts, to text_BD with unit rows; causal towers compute nothing after the end.

        Raises:
            InputError: one text that stands in no list.
        """
        if not isinstance(tokens_BL, Tensor):
            texts = tokens_BL
            parts = [[texts[place] for place in batch] for batch in self._batches(texts)]
            return torch.cat([self.encode_text(self.tokenize(part)) for part in parts])
        tokens_BL = tokens_BL.to(self.device)
        with self._autocast(), self._cut(self._length(tokens_BL)):
            features_BD = self.model.encode_text(tokens_BL)
        return self._unit(features_BD)

    def prompt(self, template: str, num_tokens: int) -> Prompt:
        """Tokenise ``template`` with ``num_tokens`` placeholders where it says ``{}``.

        The sentence around them is tokenised and padded as the tokenizer does it with a word for ``{}``, so
        that positions are known whatever it would make of repeated characters.

        Raises:
            InputError: the template lacks exactly one ``{}``, the tokenizer joins it with its neighbours, the
                prompt exceeds the context length, or the tower does not pool at the end of the prompt.
        """
        length = self.context_length
        special = masked_ids(self.text_tower)
        remember_long_words(self.tokenizer, template.split("{}"))
        parts = read_template(self.tokenizer, self._frame, template, context_length=length, special=special)
        prompt = compose(parts, self._frame, num_tokens=num_tokens, context_length=length, text=template)
        how = pooling(self.text_tower)
        pooled = pooled_positions(how, prompt.tokens_L[None])
        if pooled is not None and int(pooled) != prompt.length - 1:
            raise InputError(
                f"encoder {self.name!r}: its text tower pools position {int(pooled)} of {template!r} "
                f"({how}), which ends at {prompt.length - 1}; tokenizer and tower do not match"
            )
        return replace(
            prompt, tokens_L=prompt.tokens_L.to(self.device), positions=prompt.positions.to(self.device)
        )

    def encode_text_with(self, prompt: Prompt, pseudo_BKW: Tensor) -> Tensor:
        """Encode the prompt with pseudo-token embeddings put at its positions: text_BD, unit rows."""
        tokens_BL = prompt.tokens_L.expand(len(pseudo_BKW), -1)
        inject = replaced_output(self.token_embedding, put_at(prompt.positions, pseudo_BKW))
        with self._autocast(), inject, self._cut(prompt.length):
            features_BD = self.model.encode_text(tokens_BL)
        return self._unit(features_BD)

    def encode_image_with(self, patches_BNW: Tensor) -> Tensor:
        """Encode patch embeddings in raster order instead of an image: image_BD, unit rows.

        The tower adds its class token and positions as usual.

        Raises:
            InputError: the image tower takes no patches.
        """
        embedding = self._patch_embedding()

        def arrange(embedded: Tensor) -> Tensor:
            return embedding.arrange(patches_BNW.to(embedded.dtype))

        with self._autocast(), replaced_output(embedding.module, arrange):
            features_BD = self.model.encode_image(self._blank())
        return self._unit(features_BD)

    def _batches(self, items: Sequence[Any]) -> list[range]:
        if isinstance(items, str) or not len(items):
            raise InputError(f"encoder {self.name!r}: {items!r} is no list of items; give [item, ...]")
        return batches_of(len(items), _ITEMS_AT_ONCE)

    @contextlib.contextmanager
    def _autocast(self) -> Iterator[None]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            yield

    def _unit(self, features: Any) -> Tensor:
        features_BD = features[0] if isinstance(features, tuple) else features  # with output_tokens
        if features_BD.ndim != 2:
            raise InputError(
                f"encoder {self.name!r}: a tower returns features of shape {tuple(features_BD.shape)}; only "
                "towers that pool to one vector per item are supported"
            )
        return F.normalize(features_BD.to(self.dtype), dim=-1)

    def _cut(self, length: int) -> contextlib.AbstractContextManager[None]:
        return cut_sequence(self.text_tower.transformer, length) if self.causal else contextlib.nullcontext()

    def _length(self, tokens_BL: Tensor) -> int:
        """Positions up to the last one of the batch that is pooled."""
        pooled_B = pooled_positions(pooling(self.text_tower), tokens_BL)
        return tokens_BL.shape[1] if pooled_B is None else int(pooled_B.max()) + 1

    def _why_not_causal(self) -> str | None:
        reason = why_not_causal(self.text_tower)
        if reason is not None:
            return reason
        how = pooling(self.text_tower)
        row_L = self.tokenize(["a word"])[0]
        end = len(self._frame.inner(row_L.tolist())) - 1
        if pooled_positions(how, row_L[None]) != end:
            return f"it pools {how}, which is not where its tokenizer ends a text"
        return None

    def _blank(self) -> Tensor:
        size = self._preprocess_config["size"]
        height, width = (size, size) if isinstance(size, int) else size
        return torch.zeros(1, 3, height, width, device=self.device, dtype=self.dtype)

    def _patch_embedding(self) -> PatchEmbedding:
        if isinstance(self._patches, str):
            raise InputError(
                f"encoder {self.name!r} takes no pseudo-patches (OVI): {self._patches}. Invert into text "
                "(OTI), or use a model with a vision transformer"
            )
        return self._patches

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        tokenizer = type(self.tokenizer).__name__
        about: dict[str, Any] = {
            "preprocess": self._preprocess_config,
            "tokenizer": tokenizer,
            "context": self.context_length,
        }
        if tokenizer != "SimpleTokenizer":  # its class does not say which vocabulary it read from which file
            about["tokens"] = self.tokenize(_TELLTALE).tolist()
        if any(isinstance(module, QuickGELU) for module in self.model.modules()):
            about["activation"] = "QuickGELU"  # no weight tells it from GELU
        digest.update(json.dumps({**about, "precision": self.precision}, sort_keys=True).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]


def _opened(image: Image.Image | str | Path) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    try:
        with Image.open(image) as opened:
            return opened.convert("RGB")
    except OSError as error:
        raise InputError(f"{image}: cannot be read as an image ({error})") from error

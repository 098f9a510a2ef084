"""Encoders: what every part needs of a CLIP-like model, and the adapter for open_clip's models."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import open_clip
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from crossgap.errors import InputError, check_known
from crossgap.inject import cut_sequence, put_at, replaced_output
from crossgap.weights import require_obtainable

Precision = Literal["fp32", "bf16", "fp64"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}
CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A tokenised template with room for pseudo-tokens.

    tokens_L holds the ids at full context length, ``positions`` where the pseudo-tokens go, ``length`` how
    many positions count up to and including end-of-text.
    """

    tokens_L: Tensor
    positions: Tensor
    length: int


class Encoder(Protocol):
    """A frozen two-tower model. All features have unit rows.

    ``fingerprint`` hashes weights, preprocessing and tokenisation: equal fingerprints give equal features,
    so it is the key of every cache.
    """

    name: str
    fingerprint: str
    device: torch.device
    dtype: torch.dtype
    embed_dim: int
    text_width: int
    image_width: int
    num_patches: int

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor: ...
    def tokenize(self, texts: Sequence[str]) -> Tensor: ...
    def encode_image(self, pixels_BCHW: Tensor) -> Tensor: ...
    def encode_text(self, tokens_BL: Tensor) -> Tensor: ...
    def prompt(self, template: str, num_tokens: int) -> Prompt: ...
    def encode_text_with(self, prompt: Prompt, pseudo_BKW: Tensor) -> Tensor: ...
    def encode_image_with(self, patches_BNW: Tensor) -> Tensor: ...


class OpenClipEncoder:
    """Wrap an open_clip model (``CLIP`` or ``CustomTextCLIP``) without setting any attribute on it.

    Args:
        model: in evaluation mode, on its device and in its dtype.
        tokenizer: texts -> int64 (B, L) at full context length.
        precision: ``bf16`` runs the towers under autocast; weights and features stay float32.

    Raises:
        InputError: the model is in training mode, or its text tower is not one of open_clip's own.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, name: str = "model", precision: Precision = "fp32"
    ) -> None:
        check_known(precision, _DTYPES, "precision")
        if model.training:
            raise InputError(f"encoder {name!r} is in training mode; call model.eval() first")
        self.model = model
        self.name = name
        self.precision = precision
        self._tokenizer = tokenizer
        self._text = model.text if isinstance(model, open_clip.CustomTextCLIP) else model
        if not hasattr(self._text, "token_embedding"):
            raise InputError(
                f"encoder {name!r}: text tower {type(self._text).__name__} has no token embedding of "
                "open_clip's own kind; Hugging Face text towers are not supported yet"
            )
        embedding: nn.Embedding = self._text.token_embedding
        self.device = embedding.weight.device
        self.dtype = embedding.weight.dtype
        self.text_width = embedding.embedding_dim
        self.context_length: int = self._text.context_length
        self._preprocess_config = open_clip.get_model_preprocess_cfg(model)
        self._transform = open_clip.image_transform(
            self._preprocess_config["size"],
            is_train=False,
            mean=self._preprocess_config["mean"],
            std=self._preprocess_config["std"],
            interpolation=self._preprocess_config["interpolation"],
            resize_mode=self._preprocess_config["resize_mode"],
        )
        self._patch_embedding = self._find_patch_embedding()
        with torch.no_grad():
            probe = self.encode_text(self.tokenize([""]))
        self.embed_dim = probe.shape[1]
        self.fingerprint = self._fingerprint()

    @property
    def causal(self) -> bool:
        """Whether positions after end-of-text cannot influence the text feature."""
        pool = getattr(self._text, "text_pool_type", None) or getattr(self._text, "pool_type", None)
        appended_class = getattr(self._text, "cls_emb", None) is not None
        return self._text.attn_mask is not None and pool in ("argmax", "eos") and not appended_class

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        """Turn PIL images into pixels_BCHW as the model was trained to see them."""
        return torch.stack([self._transform(image) for image in images])

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Tokenise to int64 (B, L) at full context length; longer texts are truncated by the tokenizer."""
        return self._tokenizer(list(texts))

    def encode_image(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode pixels to image_BD with unit rows."""
        with self._autocast():
            features_BD = self.model.encode_image(pixels_BCHW.to(self.device, self.dtype))
        return self._unit(features_BD)

    def encode_text(self, tokens_BL: Tensor) -> Tensor:
        """Encode token ids to text_BD with unit rows; causal towers compute nothing after end-of-text."""
        tokens_BL = tokens_BL.to(self.device)
        with self._autocast(), self._cut(self._length(tokens_BL)):
            features_BD = self.model.encode_text(tokens_BL)
        return self._unit(features_BD)

    def prompt(self, template: str, num_tokens: int) -> Prompt:
        """Tokenise ``template`` with ``num_tokens`` placeholders where it says ``{}``.

        The pieces before and after ``{}`` are tokenised apart and joined around the placeholders, so that
        positions are known whatever the tokenizer would make of repeated characters.

        Raises:
            InputError: the template lacks exactly one ``{}``, or the prompt exceeds the context length.
        """
        if template.count("{}") != 1:
            raise InputError(f"template {template!r} must contain {{}} exactly once, as in 'a photo of {{}}'")
        empty = self._ids("")
        start, end = empty[:1], empty[1:2]
        before, after = (self._ids(part)[1:-1] for part in template.split("{}"))
        filler = start  # any id below end-of-text: its embedding is replaced
        ids = [*start, *before, *(filler * num_tokens), *after, *end]
        if len(ids) > self.context_length:
            raise InputError(
                f"template {template!r} with {num_tokens} pseudo-tokens takes {len(ids)} positions, the text "
                f"tower has {self.context_length}; use fewer tokens or a shorter template"
            )
        tokens_L = torch.zeros(self.context_length, dtype=torch.long)
        tokens_L[: len(ids)] = torch.tensor(ids)
        first = 1 + len(before)
        return Prompt(
            tokens_L=tokens_L.to(self.device),
            positions=torch.arange(first, first + num_tokens, device=self.device),
            length=len(ids),
        )

    def encode_text_with(self, prompt: Prompt, pseudo_BKW: Tensor) -> Tensor:
        """Encode the prompt with pseudo-token embeddings put at its positions: text_BD, unit rows."""
        tokens_BL = prompt.tokens_L.expand(len(pseudo_BKW), -1)
        inject = replaced_output(self._text.token_embedding, put_at(prompt.positions, pseudo_BKW))
        with self._autocast(), inject, self._cut(prompt.length):
            features_BD = self.model.encode_text(tokens_BL)
        return self._unit(features_BD)

    def encode_image_with(self, patches_BNW: Tensor) -> Tensor:
        """Encode patch embeddings in raster order instead of an image: image_BD, unit rows.

        The tower adds its class token and positions as usual.
        """

        def replace(embedded: Tensor) -> Tensor:
            patches = patches_BNW.to(embedded.dtype)
            if embedded.ndim == 4:
                return patches.transpose(1, 2).reshape(len(patches), self.image_width, *embedded.shape[2:])
            return patches

        blank = torch.zeros(1, 3, *self._image_size(), device=self.device, dtype=self.dtype)
        with self._autocast(), replaced_output(self._patch_embedding, replace):
            features_BD = self.model.encode_image(blank)
        return self._unit(features_BD)

    @contextlib.contextmanager
    def _autocast(self) -> Iterator[None]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            yield

    def _unit(self, features_BD: Tensor) -> Tensor:
        return F.normalize(features_BD.to(self.dtype), dim=-1)

    def _cut(self, length: int) -> contextlib.AbstractContextManager[None]:
        return cut_sequence(self._text.transformer, length) if self.causal else contextlib.nullcontext()

    def _length(self, tokens_BL: Tensor) -> int:
        """Positions up to the last end-of-text of the batch, which is the highest id of its row."""
        eos: Any = getattr(self._text, "text_eos_id", None) or getattr(self._text, "eos_id", None)
        pool = getattr(self._text, "text_pool_type", None) or getattr(self._text, "pool_type", None)
        ends_B = torch.eq(tokens_BL, eos).int().argmax(1) if pool == "eos" else tokens_BL.argmax(1)
        return int(ends_B.max()) + 1

    def _ids(self, text: str) -> list[int]:
        """Token ids from start-of-text to end-of-text, without padding."""
        tokens_1L = self.tokenize([text])
        return tokens_1L[0, : self._length(tokens_1L)].tolist()

    def _image_size(self) -> tuple[int, int]:
        size = self._preprocess_config["size"]
        return (size, size) if isinstance(size, int) else tuple(size)

    def _find_patch_embedding(self) -> nn.Module:
        visual = self.model.visual
        if hasattr(visual, "conv1") and hasattr(visual, "positional_embedding"):
            convolution: nn.Conv2d = visual.conv1
            self.image_width = convolution.out_channels
            self.num_patches = visual.grid_size[0] * visual.grid_size[1]
            return convolution
        trunk = getattr(visual, "trunk", None)
        if trunk is not None and hasattr(trunk, "patch_embed"):
            self.image_width = trunk.embed_dim
            self.num_patches = trunk.patch_embed.num_patches
            return trunk.patch_embed
        raise InputError(
            f"encoder {self.name!r}: image tower {type(visual).__name__} has no patch embedding "
            "(conv1 or patch_embed); only vision transformers are supported"
        )

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        tokenizer = type(self._tokenizer).__name__
        about = {
            "preprocess": self._preprocess_config,
            "tokenizer": tokenizer,
            "context": self.context_length,
        }
        digest.update(json.dumps({**about, "precision": self.precision}, sort_keys=True).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]


def resolve_device(device: str) -> torch.device:
    """Return the device of that name; ``auto`` is CUDA, then Apple's MPS, then the CPU.

    Raises:
        InputError: no such device, or CUDA asked for where there is none.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}; use auto, cpu, cuda, cuda:0 or mps") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"device {device!r} was asked for, but this machine has no CUDA device; use cpu or auto"
        )
    return resolved


def load_encoder(
    name: str, pretrained: str | None = None, device: str = "auto", precision: Precision = "fp32"
) -> OpenClipEncoder:
    """Load a frozen encoder.

    Args:
        name: a checkpoint folder in open_clip's format, a run directory (its newest checkpoint), or the
            name of an open_clip model.
        pretrained: with a model name: one of its tags, a weights file, or ``random`` for seeded random
            weights (an untrained control). Not used with folders.
        device: ``auto``, ``cpu``, ``cuda``, ...
        precision: ``fp32``, ``bf16`` (autocast) or ``fp64``.

    Raises:
        InputError: unknown name, tag, device or precision; weights missing or not loadable.
    """
    check_known(precision, _DTYPES, "precision")
    target = resolve_device(device)
    path = Path(name)
    if path.is_dir():
        if pretrained is not None:
            raise InputError(
                f"--pretrained {pretrained!r} has no meaning with the folder {name!r}; leave it out"
            )
        folder = newest_checkpoint(path)
        # a local-dir model is read without any download; a damaged one names its file
        model, tokenizer = _create(f"local-dir:{folder}", None)
    elif path.suffix in (".pt", ".pth", ".bin", ".safetensors"):
        raise InputError(
            f"{name!r} is a weights file: give the architecture too, --encoder ViT-B-32 --pretrained FILE"
        )
    else:
        check_known(name, open_clip.list_models(), "encoder (a model of open_clip, or a folder)")
        tags = open_clip.list_pretrained_tags_by_model(name)
        if pretrained is None:
            raise InputError(
                f"encoder {name!r} needs --pretrained: one of {', '.join(tags) or '(no tags)'}, "
                "a weights file, or 'random'"
            )
        is_file = Path(pretrained).suffix in (".pt", ".pth", ".bin", ".safetensors")
        if is_file and not Path(pretrained).exists():
            raise InputError(f"--pretrained {pretrained!r}: no such file")
        if not is_file and pretrained != "random":
            check_known(pretrained, [*tags, "random"], f"pretrained tag of {name}")
            require_obtainable(name, pretrained)
        model, tokenizer = _create(name, pretrained)
    model = model.eval().requires_grad_(False).to(device=target, dtype=_DTYPES[precision])
    label = name if pretrained is None else f"{name}/{Path(pretrained).name}"
    return OpenClipEncoder(model, tokenizer, name=label, precision=precision)


def newest_checkpoint(path: Path) -> Path:
    """Return ``path`` if it is a checkpoint folder, else the newest ``checkpoints/step-*`` below it.

    Raises:
        InputError: neither is there.
    """
    if (path / CONFIG_FILE).exists():
        return path
    whole = [folder for folder in path.glob("checkpoints/step-*") if (folder / CONFIG_FILE).exists()]
    if not whole:
        raise InputError(
            f"{path}: neither a checkpoint folder ({CONFIG_FILE}) nor a run with checkpoints/step-*"
        )
    return max(whole, key=lambda folder: int(folder.name.removeprefix("step-")))


def _create(name: str, pretrained: str | None) -> tuple[Any, Any]:
    seeded_random = pretrained == "random"
    try:
        with torch.random.fork_rng(devices=[]), _quiet(seeded_random):
            torch.manual_seed(0)
            model = open_clip.create_model(
                name,
                pretrained=None if seeded_random else pretrained,
                require_pretrained=not seeded_random,
                weights_only=True,
            )
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:
        # open_clip, the hub client and torch raise many kinds; each means that these weights did not load
        raise InputError(
            f"weights of {name!r} ({pretrained or 'in the folder'}) could not be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    return model, tokenizer


@contextlib.contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """Keep open_clip from warning that weights are random where they were asked to be."""
    logging.disable(logging.WARNING if wanted else logging.NOTSET)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)

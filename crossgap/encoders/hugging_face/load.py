"""Load a model that ``transformers`` keeps: its towers, its tokenizer, and how it wants its images."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import nn

from crossgap.encoders.hugging_face import tensors, towers
from crossgap.encoders.hugging_face.folder import CONFIG, check_files
from crossgap.encoders.hugging_face.processing import HuggingFaceTokenizer, HuggingFaceTransform
from crossgap.encoders.preprocessing import Preprocessing
from crossgap.errors import InputError, check_known, installed_by

_INSTALL = installed_by("hf")
_NO_SETTINGS = ("auto_map", "processor_class")
_FLEXIBLE = "siglip2"  # the kind of the NaFlex checkpoints alone: those of fixed resolution say siglip


class _Kind(NamedTuple):
    """A kind of model: our towers for a configuration, and what gives them the weights of a folder.

    ``lower_case``: it was trained on texts without capital letters alone.
    """

    build: Callable[[Any], nn.Module]
    fill: Callable[[Any, Path], None]
    lower_case: bool


class HuggingFaceModel(NamedTuple):
    """What :class:`~crossgap.encoders.open_clip.OpenClipEncoder` wraps."""

    model: Any
    tokenizer: HuggingFaceTokenizer
    preprocessing: Preprocessing


def load(folder: Path) -> HuggingFaceModel:
    """Read a folder in the format of ``transformers``; no code of it runs, and nothing is fetched.

    Raises:
        InputError: ``transformers`` is not installed, files are missing or damaged, another kind of model, or
            one that our towers do not compute.
    """
    kind = _kind(folder)
    check_files(folder)
    try:
        import transformers
    except ImportError as error:
        raise InputError(f"encoder {folder} is kept in the format of transformers: {_INSTALL}") from error
    config = _read(folder, "the configuration", transformers.AutoConfig.from_pretrained)
    tokenizer = _read(folder, "the tokenizer", transformers.AutoTokenizer.from_pretrained)
    processor = _read(folder, "the image processor", transformers.AutoImageProcessor.from_pretrained)
    text = config.text_config
    with torch.random.fork_rng(devices=[]):  # the random weights that are replaced
        model = kind.build(config)
    kind.fill(model, folder)
    size = config.vision_config.image_size
    transform = HuggingFaceTransform(processor)
    _check_size(transform, size, folder)
    texts = HuggingFaceTokenizer(tokenizer, text.max_position_embeddings, text.vocab_size)
    if kind.lower_case and not torch.equal(*texts(["A CAT", "a cat"])):
        warnings.warn(
            f"{folder}: its tokenizer ({type(tokenizer).__name__}) keeps capital letters, which "
            f"{config.model_type} was not trained on; give texts in lower case, or take the model by its "
            "name in open_clip",
            stacklevel=2,
        )
    return HuggingFaceModel(
        model,
        texts,
        Preprocessing({"size": [size, size], "processor": _settings(processor)}, transform),
    )


def _kind(folder: Path) -> _Kind:
    try:
        named = json.loads((folder / CONFIG).read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"{folder / CONFIG}: not a configuration ({type(error).__name__}: {error})"
        ) from error
    if named == _FLEXIBLE:
        raise InputError(
            f"{folder / CONFIG}: model_type {named!r} is a NaFlex model, which takes images of any size; "
            "take a checkpoint of fixed resolution, as google/siglip2-base-patch16-224 (model_type siglip)"
        )
    return KINDS[check_known(str(named), KINDS, f"model_type in {folder / CONFIG}")]


def _settings(processor: Any) -> dict[str, Any]:
    """Return what decides the pixels, in plain values: its class too, which says what resizes."""
    settings = {name: value for name, value in processor.to_dict().items() if name not in _NO_SETTINGS}
    plain = json.loads(json.dumps({**settings, "class": type(processor).__name__}, default=str))
    return dict(plain)


def _check_size(transform: HuggingFaceTransform, size: int, folder: Path) -> None:
    shape, wanted = tuple(transform(Image.new("RGB", (size + 8, size))).shape), (3, size, size)
    if shape != wanted:
        raise InputError(
            f"{folder}: its image processor makes pixels of shape {shape}, its image tower takes {wanted}; "
            "are they of one model?"
        )


def _read(folder: Path, what: str, read: Callable[..., Any]) -> Any:
    """Let ``transformers`` read a part of a folder.

    Raises:
        InputError: it cannot; says why.
    """
    try:
        with _quiet():
            return read(folder, trust_remote_code=False, local_files_only=True)
    except ImportError as error:  # of a tokenizer's own library
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}: {what} cannot be read: {reason}; {_INSTALL}") from error
    except Exception as error:  # the library raises many kinds
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"{folder}: {what} cannot be read ({reason}); fetch or save it again") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep ``transformers`` from telling what it reads."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


KINDS: dict[str, _Kind] = {
    "clip": _Kind(towers.clip, tensors.fill_clip, lower_case=False),
    "siglip": _Kind(towers.siglip, tensors.fill_siglip, lower_case=True),
}

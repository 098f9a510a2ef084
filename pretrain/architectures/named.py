"""Architectures by name or from a JSON file, checked before anything is built, with random weights."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import timm
import torch
from open_clip import CLIP, CoCa, CustomTextCLIP, SimpleTokenizer
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import HFTokenizer

from crossgap.encoders.loading import CONFIG_FILE, LOCAL, quiet
from crossgap.encoders.weights import why_no_hub_files
from crossgap.errors import InputError, check_known, naming
from crossgap.files import read_object
from pretrain.data.streams import stream_seed
from pretrain.settings import VOCABULARY

_TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json")
_CLIPS_OWN = ("hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode")  # not with CLIP's tokenizer


class Architecture(NamedTuple):
    """What open_clip builds a model of, its tokenizer, and what is other than its configuration says."""

    name: str
    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]
    tokenizer: Any
    note: str | None = None


def read_architecture(
    name: str, *, image_size: int | None = None, context_length: int | None = None
) -> Architecture:
    """Read the configuration of a model of open_clip, by name or from a file, and check its sizes.

    Its own tokenizer is taken where it can be had; where it is one of the hub that cannot, CLIP's tokenizer
    takes its place, ``note`` says so, and the configuration is that of the model that is then built.

    Args:
        name: of open_clip (``ViT-S-16``), or a JSON file: a model's configuration, or a checkpoint's
            ``open_clip_config.json``.
        image_size: in place of its own.
        context_length: in place of its own.

    Raises:
        InputError: an unknown name, a file that is no such configuration or is of another version of
            open_clip, or sizes that do not fit each other.
    """
    model_cfg, preprocess_cfg = _read(name)
    with naming(f"model {name}"):
        for tower in ("vision_cfg", "text_cfg"):
            if not isinstance(model_cfg.get(tower), dict):
                raise InputError(f"it has no {tower}, so it is no model's configuration of open_clip")
        if image_size is not None:
            model_cfg["vision_cfg"]["image_size"] = image_size
        if context_length is not None:
            model_cfg["text_cfg"]["context_length"] = context_length
        check_architecture(model_cfg)
        return _with_tokenizer(name, model_cfg, preprocess_cfg)


def build_architecture(architecture: Architecture, *, seed: int) -> Any:
    """Build the model with random weights that depend on ``seed`` alone, as open_clip will read it again.

    Raises:
        InputError: open_clip cannot build it.
    """
    with tempfile.TemporaryDirectory() as folder:
        document = {"model_cfg": architecture.model_cfg, "preprocess_cfg": architecture.preprocess_cfg}
        (Path(folder) / CONFIG_FILE).write_text(json.dumps(document), "utf-8")
        try:
            with torch.random.fork_rng(devices=[]), quiet(True):
                torch.manual_seed(stream_seed(seed, "initialisation"))
                return open_clip.create_model(f"{LOCAL}{folder}", load_weights=False, pretrained_text=False)
        except Exception as error:  # open_clip, timm and transformers raise many kinds
            raise InputError(
                f"model {architecture.name} cannot be built: {type(error).__name__}: {error}"
            ) from error


def check_architecture(model_cfg: Mapping[str, Any]) -> None:
    """Check a model's configuration: settings that this version of open_clip knows, sizes that fit.

    Raises:
        InputError: names the setting, its value and the rule.
    """
    vision, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    custom = model_cfg.get("custom_text") or text.get("hf_model_name")
    built = (CoCa if "multimodal_cfg" in model_cfg else CustomTextCLIP) if custom else CLIP
    _check_settings(model_cfg, {*inspect.signature(built.__init__).parameters, "custom_text"}, "")
    _check_settings(vision, {field.name for field in dataclasses.fields(CLIPVisionCfg)}, "vision_cfg.")
    _check_settings(text, {field.name for field in dataclasses.fields(CLIPTextCfg)}, "text_cfg.")
    _positive("embed_dim", model_cfg.get("embed_dim"))
    size = vision.get("image_size", CLIPVisionCfg.image_size)
    if isinstance(size, list | tuple) and len(set(size)) == 1:
        size = size[0]
    _positive("vision_cfg.image_size", size)
    if vision.get("timm_model_name"):
        with naming("vision_cfg.timm_model_name"):
            check_known(vision["timm_model_name"], timm.list_models(), "model of timm")
    elif isinstance(vision.get("layers", CLIPVisionCfg.layers), list | tuple):
        _divides("vision_cfg.image_size", size, "the stride of a ResNet", 32)
        width = 32 * vision.get("width", CLIPVisionCfg.width)
        _divides(
            "32 x vision_cfg.width", width, "head_width", vision.get("head_width", CLIPVisionCfg.head_width)
        )
    else:
        _positive("vision_cfg.layers", vision.get("layers", CLIPVisionCfg.layers))
        _divides(
            "vision_cfg.image_size", size, "patch_size", vision.get("patch_size", CLIPVisionCfg.patch_size)
        )
        width = vision.get("width", CLIPVisionCfg.width)
        _divides("vision_cfg.width", width, "head_width", vision.get("head_width", CLIPVisionCfg.head_width))
    if not text.get("hf_model_name"):
        for setting in ("layers", "vocab_size"):
            _positive(f"text_cfg.{setting}", text.get(setting, getattr(CLIPTextCfg, setting)))
        width = text.get("width", CLIPTextCfg.width)
        _divides("text_cfg.width", width, "heads", text.get("heads", CLIPTextCfg.heads))
    length = text.get("context_length", CLIPTextCfg.context_length)
    if _positive("text_cfg.context_length", length) < 3:
        raise InputError(f"text_cfg.context_length {length}: start, end and a token between need 3")


def _read(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if Path(name).suffix == ".json" or Path(name).is_file():
        document = read_object(Path(name))
        held = document.get("model_cfg", document)
        if not isinstance(held, dict):
            raise InputError(f"{name}: model_cfg is no JSON object")
        return deepcopy(held), dict(document.get("preprocess_cfg", {}))
    model = name.replace("/", "-")  # OpenAI writes ViT-B/32
    check_known(model, open_clip.list_models(), "model (of open_clip, or a JSON file)")
    return deepcopy(open_clip.get_model_config(model)), {}


def _with_tokenizer(name: str, model_cfg: dict[str, Any], preprocess_cfg: dict[str, Any]) -> Architecture:
    text = model_cfg["text_cfg"]
    length = text.get("context_length", CLIPTextCfg.context_length)
    if text.get("hf_model_name"):
        reason = why_no_hub_files(text["hf_model_name"], ("config.json",))
        if reason is not None:
            raise InputError(
                f"its text tower is built of {text['hf_model_name']!r}, {reason}; give a folder in its place"
            )
        text["hf_model_pretrained"] = False
    if model_cfg["vision_cfg"].get("timm_model_name"):
        model_cfg["vision_cfg"]["timm_model_pretrained"] = False
    source = text.get("hf_tokenizer_name")
    if not source:
        options = text.get("tokenizer_kwargs") or {}
        own = SimpleTokenizer(context_length=length, **options)
        return Architecture(name, model_cfg, preprocess_cfg, own)
    beside = Path(name).parent  # a checkpoint has its tokenizer's files beside its configuration
    if Path(name).suffix == ".json" and (beside / _TOKENIZER_FILES[0]).exists():
        source = str(beside)
    reason = why_no_hub_files(source, _TOKENIZER_FILES)
    if reason is None:
        try:
            own = HFTokenizer(
                source,
                context_length=length,
                tokenizer_mode=text.get("tokenizer_mode"),
                **(text.get("tokenizer_kwargs") or {}),
            )
        except Exception as error:  # transformers and the hub's client raise many kinds
            reason = f"which cannot be read ({type(error).__name__}: {error})"
        else:
            return Architecture(name, model_cfg, preprocess_cfg, own)
    if text.get("hf_model_name"):
        raise InputError(f"its tokenizer is {source!r}, {reason}; give a folder in its place")
    for setting in _CLIPS_OWN:
        text.pop(setting, None)
    before = text.get("vocab_size", CLIPTextCfg.vocab_size)
    text["vocab_size"] = VOCABULARY
    note = (
        f"its tokenizer is {source!r}, {reason}: CLIP's tokenizer takes its place, with {VOCABULARY:,} token "
        f"ids instead of {before:,}; the checkpoint says so"
    )
    return Architecture(name, model_cfg, preprocess_cfg, SimpleTokenizer(context_length=length), note)


def _check_settings(given: Mapping[str, Any], known: set[str], path: str) -> None:
    for name in given:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            raise InputError(
                f"{path}{name}: open_clip {open_clip.__version__} knows no such setting"
                + (f" (did you mean {nearest[0]!r}?)" if nearest else "")
                + "; the configuration was written for another version, or misspelt"
            )


def _positive(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} {value!r}: must be a whole number of at least 1")
    return value


def _divides(name: str, value: Any, by: str, divisor: Any) -> None:
    if _positive(name, value) % _positive(by, divisor):
        raise InputError(f"{name} {value} is no multiple of {by} {divisor}")

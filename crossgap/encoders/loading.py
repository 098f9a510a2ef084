"""Load a model: a name of open_clip, a folder, a repository of the hub, or a file of weights."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch

from crossgap.encoders import slip
from crossgap.encoders.devices import resolve_device
from crossgap.encoders.hugging_face import folder as hugging_face
from crossgap.encoders.hugging_face.load import load as load_transformers
from crossgap.encoders.open_clip import _DTYPES, OpenClipEncoder
from crossgap.encoders.preprocessing import Preprocessing
from crossgap.encoders.weight_files import as_open_clip_reads, check_finite
from crossgap.encoders.weights import require_obtainable, require_repository
from crossgap.errors import InputError, check_known
from crossgap.names import readable
from crossgap.vocabulary import Precision

CONFIG_FILE = "open_clip_config.json"


WEIGHTS_FILE = "open_clip_model.safetensors"


LOCAL, HUB = "local-dir:", "hf-hub:"  # as open_clip writes them before a folder and a repository


def load_encoder(
    name: str,
    pretrained: str | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    *,
    tag: str | None = None,
) -> OpenClipEncoder:
    """Load a frozen encoder.

    Args:
        name: a checkpoint folder in open_clip's format, a run directory (its newest checkpoint), or a folder
            in the format of ``transformers``, each perhaps after ``local-dir:``; ``hf-hub:OWNER/NAME`` (the
            hub, open_clip's format) or ``hf:OWNER/NAME`` (the hub, that of ``transformers``); the name of an
            open_clip model, or of one of SLIP's (``slip-vit-b-16``).
        pretrained: with a model name: one of its tags, a weights file (safetensors or of ``torch.save``,
            whatever its suffix), or ``random`` for seeded random weights (an untrained control); with SLIP's
            names the checkpoint file. Not used with folders and repositories.
        device: ``auto``, ``cpu``, ``cuda``, ...
        precision: ``fp32``, ``bf16`` (autocast) or ``fp64``.
        tag: of a weights file, the tag of open_clip whose weights it holds: images are then preprocessed as
            those weights expect. Without it they are preprocessed as by OpenAI's models.

    Raises:
        InputError: unknown name, tag, device or precision; weights missing, not loadable, or not finite.
    """
    check_known(precision, _DTYPES, "precision")
    target = resolve_device(device)
    loaded = _load(name, pretrained, tag)
    check_finite(loaded.model, loaded.where)
    model = loaded.model.eval().requires_grad_(False).to(device=target, dtype=_DTYPES[precision])
    return OpenClipEncoder(
        model,
        loaded.tokenizer,
        name=readable(loaded.label),
        precision=precision,
        preprocessing=loaded.preprocessing,
    )


class _Loaded(NamedTuple):
    """A model with its tokenizer, its name in results, and where its weights are from, in words.

    ``preprocessing`` is None where the model says it itself.
    """

    model: Any
    tokenizer: Any
    label: str
    where: str
    preprocessing: Preprocessing | None = None


def _load(name: str, pretrained: str | None, tag: str | None) -> _Loaded:
    folder = Path(name.removeprefix(LOCAL))
    if name.startswith((LOCAL, HUB, hugging_face.HUB)) or folder.is_dir():
        if pretrained is not None:
            raise InputError(
                f"--pretrained {pretrained!r} has no meaning with {name!r}, which brings its own weights; "
                "leave it out"
            )
        if name.startswith(HUB):
            require_repository(name.removeprefix(HUB))
            return _Loaded(*_create(name, None), name, name)
        if name.startswith(hugging_face.HUB):
            return _transformers(hugging_face.fetched(name.removeprefix(hugging_face.HUB)), name)
        if not folder.is_dir():
            raise InputError(f"encoder {name!r}: no such folder")
        newest = newest_checkpoint(folder)
        if not (newest / CONFIG_FILE).exists():
            return _transformers(newest, name)
        # a local-dir model is read without any download; a damaged one names its file
        return _Loaded(*_create(f"{LOCAL}{newest}", None), name, str(newest))
    if Path(name).is_file():
        raise InputError(
            f"encoder {name!r} is a file: give the architecture of its weights too, as --encoder ViT-B-32 "
            f"--pretrained {name}"
        )
    if name in slip.SIZES:
        if pretrained is None:
            raise InputError(f"encoder {name!r} needs --pretrained FILE, a checkpoint from {slip.SOURCE}")
        # SLIP's presets belong to the model, whatever its file is called
        return _Loaded(*slip.load(name, Path(pretrained)), name, pretrained)
    if "/" in name and Path(name).parent.is_dir():
        raise InputError(f"encoder {name!r}: no such folder")
    name = name.replace("/", "-")  # OpenAI writes ViT-B/32
    models = [*open_clip.list_models(), *slip.SIZES]
    repositories = f"{HUB}OWNER/NAME, {hugging_face.HUB}OWNER/NAME"
    check_known(
        name,
        models,
        f"encoder (a model of open_clip, one of SLIP's, {repositories}, or a folder)",
    )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None:
        raise InputError(
            f"encoder {name!r} needs --pretrained: one of {', '.join(tags) or '(no tags)'}, "
            "a weights file, or 'random'"
        )
    label = f"{name}/{Path(pretrained).name}"
    known_tag = pretrained.lower().replace("-", "_")  # open_clip compares tags so
    if known_tag in ("random", *tags):
        if known_tag != "random":
            require_obtainable(name, known_tag)
        return _Loaded(*_create(name, known_tag), f"{name}/{known_tag}", f"{name}/{known_tag}")
    if Path(pretrained).exists():
        with as_open_clip_reads(Path(pretrained)) as file:
            return _Loaded(*_create(name, file, tag, called=pretrained), label, pretrained)
    if Path(pretrained).suffix or len(Path(pretrained).parts) > 1:
        raise InputError(f"--pretrained {pretrained!r}: no such file, and no tag of {name}")
    check_known(pretrained, [*tags, "random"], f"pretrained tag of {name} (and no such file)")
    raise AssertionError("check_known returns only known names")


def _transformers(folder: Path, name: str) -> _Loaded:
    model, tokenizer, preprocessing = load_transformers(folder)
    return _Loaded(model, tokenizer, name, str(folder), preprocessing)


# what a tag of open_clip knows of the images that its weights expect
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


def newest_checkpoint(path: Path) -> Path:
    """Return ``path`` if it is a checkpoint folder, else the newest ``checkpoints/step-*`` below it.

    A checkpoint folder is in open_clip's format or in that of ``transformers``.

    Raises:
        InputError: neither is there.
    """
    if (path / CONFIG_FILE).exists() or hugging_face.is_transformers_folder(path):
        return path
    whole = [folder for folder in path.glob("checkpoints/step-*") if (folder / CONFIG_FILE).exists()]
    if not whole:
        raise InputError(
            f"{path}: neither a checkpoint folder ({CONFIG_FILE}, or {hugging_face.CONFIG} of transformers) "
            "nor a run with checkpoints/step-*"
        )
    return max(whole, key=lambda folder: int(folder.name.removeprefix("step-")))


def _create(
    name: str, pretrained: str | None, tag: str | None = None, *, called: str | None = None
) -> tuple[Any, Any]:
    """Make a model with its weights, and its tokenizer; ``called`` is the weights' name in messages."""
    about = open_clip.get_pretrained_cfg(name, tag) if tag is not None else {}
    seeded_random = pretrained == "random"
    try:
        with torch.random.fork_rng(devices=[]), quiet(seeded_random):
            torch.manual_seed(0)
            model = open_clip.create_model(
                name,
                pretrained=None if seeded_random else pretrained,
                require_pretrained=not seeded_random,
                pretrained_text=False,  # or a Hugging Face tower of a random model would come trained
                weights_only=True,
                force_preprocess_cfg={key: about[key] for key in _PREPROCESSING if key in about},
            )
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:
        # open_clip, the hub client and torch raise many kinds; each means that these weights did not load
        lacks = "transformers" in str(error) and importlib.util.find_spec("transformers") is None
        which = "; are they of this architecture?" if called else ""
        reason = _mismatch(error) or f"{type(error).__name__}: {error}{which}"
        raise InputError(
            f"weights of {name!r} ({called or pretrained or 'in the folder'}) could not be loaded: {reason}"
            f"{'; pip install transformers (the extra hf)' if lacks else ''}"
        ) from error
    return model, tokenizer


def _mismatch(error: Exception) -> str | None:
    """Shorten what torch says of tensors that do not fit a model, a line for each; None if it is not that."""
    head, *lines = str(error).splitlines()
    if "loading state_dict" not in head or not lines:
        return None
    shown = [re.sub(r"\s+", " ", line.strip()) for line in lines]
    shown = [line if len(line) <= 240 else f"{line[:237]}..." for line in shown[:2]]
    more = f" (and {len(lines) - 2} more such lines)" if len(lines) > 2 else ""
    return f"they do not fit this architecture; is it the one they were trained with? {' '.join(shown)}{more}"


@contextlib.contextmanager
def quiet(wanted: bool) -> Iterator[None]:
    """Keep open_clip from warning that weights are random where they were asked to be."""
    logging.disable(logging.WARNING if wanted else logging.NOTSET)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)

"""A folder in the format of ``transformers``: which files it must hold, and how one is had from the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from crossgap.encoders.weights import ENDPOINT, answers
from crossgap.errors import InputError

HUB = "hf:"  # before the name of a repository
CONFIG = "config.json"
SAFETENSORS, SHARDS, TORCH = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
# each row is a tokenizer's vocabulary; one must be there
VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",), ("tokenizer.model",))
_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_SMALL = (CONFIG, *PROCESSORS, *_BESIDE, *(file for files in VOCABULARIES for file in files))
_WEIGHTS = (SAFETENSORS, SHARDS, "model-*-of-*.safetensors")


def is_transformers_folder(path: Path) -> bool:
    """Tell whether a folder has a ``config.json`` that names a kind of model, as ``transformers`` writes."""
    try:
        held = json.loads((path / CONFIG).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(held, dict) and ("model_type" in held or "architectures" in held)


def check_files(folder: Path) -> None:
    """Check that all parts of a model are in a folder.

    Raises:
        InputError: names what is missing.
    """
    present = {path.name for path in folder.iterdir()}
    missing = []
    if not present & {SAFETENSORS, SHARDS, TORCH}:
        missing.append(f"{SAFETENSORS} (or {SHARDS} with its parts, or {TORCH})")
    if not any(present.issuperset(files) for files in VOCABULARIES):
        missing.append(f"a tokenizer ({', or '.join(' and '.join(files) for files in VOCABULARIES)})")
    if not present & set(PROCESSORS):
        missing.append(" or ".join(PROCESSORS))
    if missing:
        raise InputError(
            f"encoder {folder}: a folder of transformers ({CONFIG}) without {'; without '.join(missing)}; "
            "fetch or save them into it: a processor's and a model's save_pretrained write all of them"
        )


def fetched(repository: str) -> Path:
    """Return the folder of a model of the hub, fetched where this machine does not have it yet.

    Nothing is asked of the hub where all files are here. PyTorch's file is fetched only where there are no
    safetensors.

    Raises:
        InputError: no name of a repository, or its files are neither here nor can be fetched.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise InputError(f"encoder '{HUB}{repository}': expected {HUB}OWNER/NAME, or a folder without {HUB}")
    cached = _cached(repository)
    if cached is not None:
        return cached
    if not answers(ENDPOINT):
        raise InputError(
            f"encoder '{HUB}{repository}' is not on this machine, and {ENDPOINT} does not answer. Fetch "
            f"{CONFIG}, {SAFETENSORS}, the tokenizer's files and {PROCESSORS[0]} of {ENDPOINT}/{repository} "
            "elsewhere into one folder, and give that as --encoder"
        )
    try:
        folder = Path(huggingface_hub.snapshot_download(repository, allow_patterns=[*_SMALL, *_WEIGHTS]))
        if not _has_weights(folder):
            huggingface_hub.snapshot_download(repository, allow_patterns=[TORCH])
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(f"encoder '{HUB}{repository}' cannot be fetched of {ENDPOINT}: {error}") from error
    return folder


def _cached(repository: str) -> Path | None:
    """Return the snapshot of a repository on this machine, if one is whole."""
    try:
        folder = Path(huggingface_hub.snapshot_download(repository, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    try:
        check_files(folder)
    except InputError:
        return None
    return folder if is_transformers_folder(folder) and _has_weights(folder) else None


def _has_weights(folder: Path) -> bool:
    if (folder / SHARDS).exists() and not (folder / SAFETENSORS).exists():
        return all((folder / name).exists() for name in shards(folder))
    return (folder / SAFETENSORS).exists() or (folder / TORCH).exists()


def shards(folder: Path) -> list[str]:
    """Return the names of the files that the weights are divided over.

    Raises:
        InputError: the list of them is damaged, or names a file outside the folder.
    """
    try:
        names = sorted(set(json.loads((folder / SHARDS).read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(
            f"{folder / SHARDS}: not a list of files ({type(error).__name__}: {error})"
        ) from error
    odd = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if odd:
        raise InputError(f"{folder / SHARDS}: {odd[0]!r} is no name of a file in its folder")
    return names

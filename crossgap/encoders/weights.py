"""Where released weights come from, and a quick answer when they cannot be had."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import huggingface_hub
import open_clip
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

from crossgap.encoders.backbones import backbone_of
from crossgap.errors import InputError

_PATIENCE_SECONDS = 3
ENDPOINT = huggingface_hub.constants.ENDPOINT


def require_obtainable(name: str, tag: str) -> None:
    """Check that the weights of an open_clip model are cached on this machine or can be fetched.

    The hub's client would retry for most of a minute before it gives up without a network.

    Raises:
        InputError: neither; names the repository and the file to place here by hand.
    """
    source = PurePosixPath(open_clip.get_pretrained_cfg(name, tag).get("hf_hub", ""))
    if not source.name:
        return
    has_file = "." in source.name and len(source.parts) > 2
    repository = str(source.parent if has_file else source)
    files = (source.name,) if has_file else (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
    if not _is_cached(repository, files) and not answers(ENDPOINT):
        backbone = backbone_of(f"{name}/{tag}")
        # a file does not say which activation and preprocessing its weights were trained with
        how = "--pretrained FILE" if backbone is None else f"--backbone {backbone} --pretrained FILE"
        raise InputError(
            f"weights {tag!r} of {name!r} are not on this machine, and {ENDPOINT} does not answer. Fetch "
            f"{' or '.join(files)} of {ENDPOINT}/{repository} elsewhere, and give its path as {how}"
        )


def require_repository(repository: str) -> None:
    """Check that a model of the hub in open_clip's format is cached on this machine or can be fetched.

    Raises:
        InputError: neither, or no name of a repository; names the files and how to give them by hand.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise InputError(f"encoder 'hf-hub:{repository}': expected hf-hub:OWNER/NAME")
    files = (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
    cached = _is_cached(repository, (HF_CONFIG_NAME,)) and _is_cached(repository, files)
    if not cached and not answers(ENDPOINT):
        raise InputError(
            f"encoder 'hf-hub:{repository}' is not on this machine, and {ENDPOINT} does not answer. Fetch "
            f"{HF_CONFIG_NAME} and {' or '.join(files)} of {ENDPOINT}/{repository} elsewhere into one "
            "folder, and give that as --encoder"
        )


def why_no_hub_files(source: str, files: Sequence[str]) -> str | None:
    """Say in words why none of some files of the hub can be had; None if one can, or it is a folder here."""
    if Path(source).is_dir() or _is_cached(source, files) or answers(ENDPOINT):
        return None
    return f"which is not on this machine, and {ENDPOINT} does not answer"


def _is_cached(repository: str, files: Sequence[str]) -> bool:
    """Tell whether one of the files is."""
    paths = [huggingface_hub.try_to_load_from_cache(repository, file) for file in files]
    return any(isinstance(path, str) for path in paths)


def answers(address: str) -> bool:
    """Tell whether an address answers within a few seconds, the look-up of its name included."""
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")  # noqa: S310  (the hub's own address)
            urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS).close()  # noqa: S310
        except urllib.error.HTTPError:
            answered.set()
        except OSError:
            return
        answered.set()

    # a daemon: a name look-up has no timeout of its own and may outlast our patience
    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(_PATIENCE_SECONDS)

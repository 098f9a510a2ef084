"""Named tensors in one file, with words about them: written atomically, checked when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from crossgap.errors import InputError
from crossgap.files import atomic_path

_DIGEST = "sha256"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write a safetensors file whose metadata hold ``about`` and a checksum of everything."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(kept, temporary, metadata={**about, _DIGEST: digest_of(kept, about)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file of :func:`save_tensors`; one without a checksum, of an earlier version, is believed.

    Raises:
        InputError: no such file, or it is damaged: cut off, overwritten, or no such file at all.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}: {error})") from error
    if about.pop(_DIGEST, expected := digest_of(tensors, about)) != expected:
        raise InputError(f"{path}: damaged (the checksum differs)")
    return tensors, about


def digest_of(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """Return the SHA-256 over words, names, shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    for name, words in sorted(about.items()):
        if name != _DIGEST:
            digest.update(f"{name}={words};".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        rows = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(rows.numpy().data)
    return digest.hexdigest()

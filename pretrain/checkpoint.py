"""Checkpoints: folders that open_clip itself reads, with the state of the training beside the model.

``checkpoints/step-000300/`` holds ``open_clip_config.json`` and ``open_clip_model.safetensors``, which
``open_clip.create_model("local-dir:...")`` reads, and ``state.safetensors`` with ``state.json`` to train on.
A folder appears under its name only when it is whole and on disk; ``checkpoints/latest`` names the newest,
``checkpoints/best`` the best where the run validates. A model card, ``README.md``, lies in each, and in
``ema/`` the averaged model of a run that keeps one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from crossgap.encoders.loading import CONFIG_FILE, WEIGHTS_FILE
from crossgap.errors import InputError
from crossgap.files import file_digest, read_json, write_json

STATE = "state.safetensors"
PROGRESS = "state.json"
LATEST = "latest"
BEST = "best"
CARD = "README.md"
EMA = "ema"
KEPT = 2


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint holds.

    ``weights`` is the model's whole state dict, ``state`` the optimizer's tensors, ``progress`` plain values
    that include ``step``, the number of updates done. ``averaged`` is the state dict of the averaged model,
    where there is one; it is written as a model of its own, in ``ema/``, and not read back. ``tokenizer``
    writes its files beside the model's (``save_pretrained``), where it is not CLIP's.
    """

    open_clip_config: dict[str, Any]
    weights: dict[str, Tensor]
    state: dict[str, Tensor]
    progress: dict[str, Any]
    averaged: dict[str, Tensor] | None = None
    tokenizer: Any = None


def save_checkpoint(folder: Path, checkpoint: Checkpoint, card: str = "") -> Path:
    """Write ``folder/step-NNNNNN`` and name it the latest; remove all but the newest two and the best.

    ``card`` is its README.md.

    A process killed at any moment leaves the earlier checkpoints and ``latest`` as they were.
    """
    step = checkpoint.progress["step"]
    final = folder / f"step-{step:06d}"
    temporary = folder / f".{final.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(_contiguous(checkpoint.weights), temporary / WEIGHTS_FILE)
    save_file(_contiguous(checkpoint.state), temporary / STATE)
    config = json.dumps(checkpoint.open_clip_config, indent=2) + "\n"
    (temporary / CONFIG_FILE).write_text(config, "utf-8")
    if checkpoint.averaged is not None:
        (temporary / EMA).mkdir()
        save_file(_contiguous(checkpoint.averaged), temporary / EMA / WEIGHTS_FILE)
        (temporary / EMA / CONFIG_FILE).write_text(config, "utf-8")
    if checkpoint.tokenizer is not None:
        for place in (temporary, temporary / EMA)[: 1 + (checkpoint.averaged is not None)]:
            checkpoint.tokenizer.save_pretrained(place)
    if card:
        (temporary / CARD).write_text(card, "utf-8")
    files = sorted(path for path in temporary.rglob("*") if path.is_file())
    digests = {path.relative_to(temporary).as_posix(): file_digest(path) for path in files}
    progress = {**checkpoint.progress, "sha256": digests}
    (temporary / PROGRESS).write_text(json.dumps(progress, indent=2) + "\n", "utf-8")
    for path in (*temporary.rglob("*"), temporary):
        _sync(path)
    if final.exists():  # written by a process that was killed before it could name it the latest
        shutil.rmtree(final)
    temporary.rename(final)
    _sync(folder)
    write_json(folder / LATEST, {"step": step, "folder": final.name})
    best = read_json(folder / BEST)["folder"] if (folder / BEST).exists() else None
    for old in _steps(folder)[:-KEPT]:
        if old.name != best:
            shutil.rmtree(old)
    return final


def name_best(path: Path, by: str, value: float) -> bool:
    """Name a checkpoint the best of its folder, if ``value`` is higher than that of the one named so far."""
    named = path.parent / BEST
    if named.exists() and read_json(named)["value"] >= value:
        return False
    write_json(named, {"step": _step(path), "folder": path.name, "by": by, "value": value})
    return True


def find_checkpoint(folder: Path, warn: Callable[[str], None]) -> tuple[Path, Checkpoint] | None:
    """Read the newest whole checkpoint, None when none was ever finished.

    One that is damaged is named by ``warn``, and the one before it is taken.

    Raises:
        InputError: all that are there are damaged.
    """
    if not (folder / LATEST).exists():
        return None
    newest: Path = folder / read_json(folder / LATEST)["folder"]
    older = [path for path in _steps(folder)[::-1] if _step(path) < _step(newest)]
    damages = []
    for path in (newest, *older):
        try:
            checkpoint = load_checkpoint(path)
        except InputError as error:
            damages.append(str(error))
        else:
            for damage in damages:
                warn(f"{damage}; going on from {path.name}")
            return path, checkpoint
    raise InputError(f"no checkpoint is whole: {'; '.join(damages)}; remove {folder} to start over")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint folder, tensors on the CPU.

    Raises:
        InputError: a file is missing, or is not what was written; the first one is named.
    """
    if not (path / PROGRESS).exists():
        raise InputError(f"checkpoint {path} is damaged: {PROGRESS} is missing")
    progress = read_json(path / PROGRESS)
    for name, digest in progress.pop("sha256", {}).items():
        if not (path / name).exists():
            raise InputError(f"checkpoint {path} is damaged: {name} is missing")
        if file_digest(path / name) != digest:
            raise InputError(f"checkpoint {path} is damaged: {name} is not the file that was written")
    try:
        weights, state = load_file(path / WEIGHTS_FILE), load_file(path / STATE)
    except (SafetensorError, FileNotFoundError) as error:  # of a version that wrote no digests
        raise InputError(f"checkpoint {path} is damaged: {error}") from error
    return Checkpoint(
        open_clip_config=read_json(path / CONFIG_FILE), weights=weights, state=state, progress=progress
    )


def remove_leftovers(folder: Path, after: int) -> None:
    """Remove what a killed process left half written, and checkpoints after a step: damaged ones."""
    later = [path for path in folder.glob("step-*") if _step(path) > after]
    for path in (*folder.glob(".step-*"), *later):
        shutil.rmtree(path)
    for name in (LATEST, BEST):
        for path in folder.glob(f".{name}.*"):
            path.unlink()
    if (folder / BEST).exists() and not (folder / read_json(folder / BEST)["folder"]).exists():
        (folder / BEST).unlink()


def _steps(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if re.fullmatch(r"step-\d+", path.name)), key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Lay tensors out for a file, which refuses two names of one memory: parts that towers share."""
    places: set[int] = set()
    ready = {}
    for name, tensor in tensors.items():
        ready[name] = tensor.detach().cpu().contiguous()
        if ready[name].data_ptr() in places:
            ready[name] = ready[name].clone()
        places.add(ready[name].data_ptr())
    return ready


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

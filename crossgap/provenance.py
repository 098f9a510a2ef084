"""Where a number came from: code version, library versions, a hash of the settings."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crossgap


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What rows say about the model and the settings behind them.

    ``seed`` is the training seed of the model (0 for a released one), ``pairs_seen`` the image-text pairs it
    was trained on by us, if it was, ``batches`` how many items were worked on side by side, in words.
    """

    study: str
    arm: str
    seed: int = 0
    pairs_seen: int | None = None
    config_hash: str
    batches: str = ""


def config_hash(config: Mapping[str, Any]) -> str:
    """Hash settings: equal settings give equal hashes, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


@functools.cache
def versions() -> str:
    """Name the versions that can change a number, the thread count included."""
    import open_clip
    import optuna
    import torch

    parts = {
        "crossgap": crossgap.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
        "optuna": optuna.__version__,
    }
    return (
        " ".join(f"{name}={version}" for name, version in parts.items())
        + f" threads={torch.get_num_threads()}"
    )


@functools.cache
def commit() -> str:
    """Return the git commit of a source checkout, with ``+`` after it for uncommitted changes.

    An installed package has none: its version says what it is.
    """
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return f"installed {crossgap.__version__}"
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()

"""Encoded images on disk by their content: several commands may use one cache at once.

A picture lies at ``<cache>/<first two digits>/<SHA-256>``. It is written whole or not at all, and never
changed or removed here: no command takes away what another one reads. Who wants the room removes the folder.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from crossgap.errors import InputError


class PictureCache:
    """Pictures below ``folder``, by default $XDG_CACHE_HOME/crossgap/hf or ~/.cache/crossgap/hf."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or _default()

    def keep(self, data: bytes) -> Path:
        """Return where these bytes lie, after they were written if they did not.

        Raises:
            InputError: the cache cannot be written to.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / digest[:2] / digest
        try:
            if path.exists() and path.stat().st_size == len(data):
                return path
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=f".{digest[:16]}.", dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                os.replace(temporary, path)  # another command may have been first, with the same bytes
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise InputError(
                f"cache {self.folder}: an image cannot be written ({error.strerror}); set XDG_CACHE_HOME to "
                "a folder with room"
            ) from error
        return path


def _default() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossgap" / "hf"

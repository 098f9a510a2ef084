"""Fetch the pinned npm packages, check their integrity, unpack what is needed."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class EmojiSource:
    """An npm package at one version, with its subresource-integrity hash and the folders to unpack."""

    package: str
    version: str
    integrity: str
    unpack: tuple[str, ...]

    @property
    def tarball(self) -> str:
        """Return the file name that ``npm pack`` gives the package."""
        return f"{self.package.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


SOURCES: dict[str, EmojiSource] = {
    "noto": EmojiSource(
        package="emoji-datasource-google",
        version="16.0.0",
        integrity="sha512-ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==",
        unpack=("img/google/64/",),
    ),
    "twemoji": EmojiSource(
        package="emoji-datasource-twitter",
        version="16.0.0",
        integrity="sha512-7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==",
        unpack=("img/twitter/64/",),
    ),
    "openmoji": EmojiSource(
        package="openmoji",
        version="17.0.0",
        integrity="sha512-EBnYrNGdcdw+OSXmENeNE1yBNRu6tOraTmoOyUbJkTmvT/+XETp8RZLSJFzD3lrPc5N9CzsyPnRTk0Vp4UaI9w==",
        unpack=("color/svg/", "LICENSE.txt"),
    ),
    "fluent": EmojiSource(
        package="@lobehub/fluent-emoji-3d",
        version="1.1.0",
        integrity="sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        unpack=("assets/",),
    ),
    "emojione": EmojiSource(
        package="emojione",
        version="2.2.7",
        integrity="sha512-Gbf8qysc34+TFUS5HPwOUY62v8gjLuPmfVTWUR/zirULSYUe/D3MrvYo0W5Y2gScF1YI7EBe5t81IbD8q144Ag==",
        unpack=("assets/svg/", "LICENSE.md"),
    ),
    "emojibase": EmojiSource(
        package="emojibase-data",
        version="17.0.0",
        integrity="sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
        unpack=("en/data.json", "meta/groups.json", "LICENSE"),
    ),
    "emojilib": EmojiSource(
        package="emojilib",
        version="4.0.3",
        integrity="sha512-KbWiYre9aRSaPbHrHZIz9zmoM+21LAsK1VFJtnTh1VCtWE/rNMDviGhQTmselFl95dhqtGlY22iH0leG5BuW0g==",
        unpack=("dist/emoji-en-US.json", "LICENSE"),
    ),
    "licences": EmojiSource(
        package="spdx-license-list",
        version="6.12.0",
        integrity="sha512-+nUYqm3aZMSHbjsthK+i/HHI2okTElCvqwUd4k8QcSk+FTGgjq+fsdFj2wZOaX6XmR2JdWhf/NeflNnvKOjcnQ==",
        unpack=tuple(f"licenses/{name}.json" for name in ("Apache-2.0", "CC-BY-4.0", "MIT", "Unicode-3.0")),
    ),
}


def fetch(source: EmojiSource, cache: Path) -> Path:
    """Return the tarball of a source in ``cache``, downloading it with ``npm pack`` when it is not there.

    Raises:
        ValueError: the bytes do not have the pinned integrity.
    """
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / source.tarball
    if not path.exists():
        package = f"{source.package}@{source.version}"
        subprocess.run(["npm", "pack", package, "--ignore-scripts", "--silent"], cwd=cache, check=True)
    seen = integrity(path)
    if seen != source.integrity:
        raise ValueError(f"{path}: integrity {seen}, expected {source.integrity}; remove the file and retry")
    return path


def integrity(path: Path) -> str:
    """Return the subresource-integrity string of a file: ``sha512-`` and the base64 digest."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha512").digest()
    return "sha512-" + base64.b64encode(digest).decode("ascii")


def unpack(source: EmojiSource, tarball: Path, folder: Path) -> Path:
    """Extract what the source's ``unpack`` names into ``folder`` and return the package's root there."""
    wanted = tuple(f"package/{name}" for name in source.unpack)
    with tarfile.open(tarball, "r:gz") as archive:
        members = [member for member in archive if member.isreg() and member.name.startswith(wanted)]
        archive.extractall(folder, members=members, filter="data")
    return folder / "package"

"""Which files are images, and how one is decoded: for evaluation, training and preparing alike."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from crossgap.datasets.bad import LEAVE_OUT
from crossgap.errors import InputError

# Pillow's name of a format -> endings, the first the one to write. Formats that run programs or hold no
# picture (EPS, WMF, HDF5) are not among them.
FORMATS: Mapping[str, tuple[str, ...]] = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"),
    "PNG": ("png",),
    "WEBP": ("webp",),
    "GIF": ("gif",),
    "BMP": ("bmp",),
    "TIFF": ("tif", "tiff"),
    "PPM": ("ppm", "pgm", "pbm", "pnm"),
    "AVIF": ("avif",),
    "MPO": ("jpg", "mpo"),  # several JPEGs in one file, of which every reader of JPEG shows the first
    "JPEG2000": ("jp2", "j2k"),
}
IMAGE_EXTENSIONS = tuple(dict.fromkeys(ending for endings in FORMATS.values() for ending in endings))


def allow_pixels(most: int | None) -> None:
    """Let images have ``most`` pixels in this process and those that it forks; None leaves Pillow's limit.

    Pillow refuses an image of more than twice ``PIL.Image.MAX_IMAGE_PIXELS`` (178,956,970 pixels), as a small
    file can claim to be a picture that fills the memory, and warns from half of that on. This warning, and
    those of metadata that are damaged, are silenced here: pixels are not the worse for them.

    Raises:
        InputError: less than one pixel.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if most is not None:
        if most < 1:
            raise InputError(f"--max-pixels must be at least 1, not {most}")
        Image.MAX_IMAGE_PIXELS = -(-most // 2)


def is_image(path: Path) -> bool:
    """Tell whether a file is an image: by its ending, else by its content."""
    if path.suffix.lower().lstrip(".") in IMAGE_EXTENSIONS:
        return True
    return looks_like_image(path)


def looks_like_image(image: bytes | Path) -> bool:
    """Tell whether the content of a file begins as an image of one of :data:`FORMATS` does."""
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image, formats=_known()):
            return True
    except Image.DecompressionBombError:
        return True
    except Exception:  # whatever the readers of ten formats raise at bytes of another kind
        return False


def extension_of(data: bytes) -> str:
    """Return the usual ending of an encoded image that :func:`decode_image` has decoded."""
    with Image.open(io.BytesIO(data), formats=_known()) as image:
        return FORMATS[str(image.format)][0]


def decode_image(data: bytes, *, where: str) -> Image.Image:
    """Decode an image of one of :data:`FORMATS`, which its content tells, to RGB.

    Transparent pixels become white; of an animation, or of several pages, the first is taken. Of grey levels
    of 16 bits the high byte is kept, as Pillow does with colours of 16 bits.

    Raises:
        InputError: the bytes are not such an image, are cut off, or have more pixels than
            :func:`allow_pixels` allows; names ``where``.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_known()) as image:
            image.load()
            return _rgb(image)
    except Exception as error:  # the readers of ten formats raise many kinds; each means that it is damaged
        raise InputError(
            f"{where}: the image ({len(data)} bytes) cannot be decoded ({_reason(error)}); replace or remove "
            f"it{LEAVE_OUT}"
        ) from error


@cache
def _known() -> tuple[str, ...]:
    """Those of the formats that the installed Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _of_sixteen_bits(image).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(
            "its pixels are numbers of 32 bits, whose range it does not say; save it with 8 or 16 bits"
        )
    if not image.has_transparency_data:
        return image.convert("RGB")
    coloured = image.convert("RGBA")
    white = Image.new("RGBA", coloured.size, "white")
    return Image.alpha_composite(white, coloured).convert("RGB")


def _of_sixteen_bits(image: Image.Image) -> Image.Image:
    """Scale grey levels to 8 bits; Pillow's own conversion cuts them at 255, which is white."""
    levels_HW = np.asarray(image)
    grey_HW = (levels_HW >> 8).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey_HW[levels_HW == clear] = 255
    return Image.fromarray(grey_HW)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"no image of the formats {', '.join(_known())}"
    if isinstance(error, Image.DecompressionBombError):
        return f"{error} --max-pixels N admits larger images"
    return str(error) or type(error).__name__

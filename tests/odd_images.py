"""Images as users have them: formats, depths, colour models, wrong names, damage."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

SIDE = 24


def picture(seed: int = 0) -> Image.Image:
    """Return a ramp of colours that no two rows or columns share."""
    ramp = np.arange(SIDE, dtype=np.uint8) * 9
    channels = [np.tile(ramp, (SIDE, 1)), np.tile(ramp[:, None], (1, SIDE)), np.full((SIDE, SIDE), 40 + seed)]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.linspace(300, 65535, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16))


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG that says it has many pixels."""
    data = bytearray(encoded(picture(), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def odd_images() -> dict[str, tuple[bytes, bool]]:
    """Return encoded images by name, each with whether it can be decoded; all have SIDE pixels a side."""
    image = picture()
    alpha = Image.merge("RGBA", [*image.split(), image.split()[0]])
    grey = image.convert("L")
    turned = Image.Exif()
    turned[0x0112] = 6
    second = picture(100)
    jpeg, png = encoded(image, "JPEG"), encoded(image, "PNG")
    good = {
        "bmp": encoded(image, "BMP"),
        "gif": encoded(image, "GIF", save_all=True, append_images=[second]),
        "tiff": encoded(image, "TIFF", save_all=True, append_images=[second]),
        "ppm": encoded(image, "PPM"),
        "avif": encoded(image, "AVIF"),
        "jpeg 2000": encoded(image, "JPEG2000"),
        "mpo": encoded(image, "MPO", save_all=True, append_images=[second]),
        "webp": encoded(image, "WEBP", lossless=True),
        "grey png of 16 bits": encoded(sixteen_bits(), "PNG"),
        "grey tiff of 16 bits": encoded(sixteen_bits(), "TIFF"),
        "grey jpeg": encoded(grey, "JPEG"),
        "one bit": encoded(grey.convert("1"), "PNG"),
        "palette": encoded(image.convert("P"), "PNG"),
        "palette with transparency": encoded(image.convert("P"), "PNG", transparency=3),
        "alpha": encoded(alpha, "PNG"),
        "grey with alpha": encoded(alpha.convert("LA"), "PNG"),
        "cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "turned by exif": encoded(image, "JPEG", exif=turned),
        "progressive": encoded(image, "JPEG", progressive=True),
    }
    bad = {
        "empty": b"",
        "text": b"<html>not found</html>",
        "cut jpeg": jpeg[: len(jpeg) // 2],
        "cut png": png[:-40],
        "tiff of floats": encoded(Image.fromarray(np.asarray(grey, dtype=np.float32)), "TIFF"),
        "bomb": bomb(60_000, 60_000),
        "icon": encoded(image, "ICO"),
    }
    return {name: (data, True) for name, data in good.items()} | {
        name: (data, False) for name, data in bad.items()
    }

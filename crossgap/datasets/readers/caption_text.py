"""The captions that a text file holds."""

from __future__ import annotations

from crossgap.errors import InputError


def captions_in(data: bytes, *, where: str, whole: bool) -> tuple[str, ...]:
    """Return the lines of a text that are not blank, or, with ``whole``, the text as one caption.

    Lines end at a line feed alone: a form feed, U+0085 or U+2028 stands inside a caption.

    Raises:
        InputError: not UTF-8; names ``where``.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8 ({error})") from error
    captions = (text,) if whole else text.split("\n")
    return tuple(caption.strip() for caption in captions if caption.strip())

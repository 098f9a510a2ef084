"""Names that are no text: file names need not be UTF-8, and what stores and shows them wants text."""

from __future__ import annotations


def readable(name: str) -> str:
    r"""Write the bytes of a name that are no UTF-8 as ``\xNN``, so that it can be stored and shown."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character of UTF-16, which is no byte of a file name
        return name.encode("utf-8", "backslashreplace").decode("utf-8")


def is_text(text: str) -> bool:
    """Tell whether a string can be written as UTF-8: no half characters of UTF-16, no bytes in disguise."""
    return not any("\ud800" <= character <= "\udfff" for character in text)

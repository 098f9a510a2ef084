"""The known datasets, one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["emoji"]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What is known of a dataset before it is read.

    ``layout`` names the reader, ``counts`` the size of each split.
    """

    layout: Layout
    title: str
    source: str
    licence: str
    counts: dict[str, str]
    tasks: tuple[str, ...]


SPECS: dict[str, Spec] = {
    "emoji": Spec(
        layout="emoji",
        title="1,857 emoji concepts by four or five designers, 64 px, with names and keywords",
        source="embedded: Noto, Twemoji, OpenMoji, Fluent, EmojiOne 2; texts from Unicode CLDR and emojilib",
        licence="by shard: Apache-2.0, CC-BY-4.0, CC-BY-SA-4.0, MIT; texts Unicode-3.0, MIT",
        counts={
            "train": "1114 concepts",
            "val": "186 concepts",
            "test": "371 concepts",
            "sealed": "186 concepts",
        },
        tasks=(
            "image-concept",
            "image-subgroup",
            "text-concept",
            "text-subgroup",
            "image-text",
            "text-image",
            "zero-shot-subgroup",
            "zero-shot-concept",
        ),
    ),
}

"""The licences of what the emoji shards are made of, and who is to be named."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path

from emoji_sources import SOURCES

LICENCES: dict[str, str] = {
    "noto": "Apache-2.0",
    "twemoji": "CC-BY-4.0",
    "openmoji": "CC-BY-SA-4.0",
    "fluent": "MIT",
    "emojione": "CC-BY-4.0",
    "emojilib": "MIT",
    "emojibase": "MIT",
}

# designer -> author, and the file of the licence
PICTURES_BY: dict[str, tuple[str, str]] = {
    "noto": (
        "Noto Emoji, copyright Google LLC (<https://github.com/googlefonts/noto-emoji>); "
        "its flags are in the public domain or exempt from copyright",
        "Apache License 2.0 (`Apache-2.0.txt`)",
    ),
    "twemoji": (
        "Twemoji, copyright Twitter, Inc and other contributors (<https://github.com/jdecked/twemoji>)",
        "CC BY 4.0 (`CC-BY-4.0.txt`)",
    ),
    "openmoji": (
        "OpenMoji, the open-source emoji and icon project (<https://openmoji.org>)",
        "CC BY-SA 4.0 (`CC-BY-SA-4.0.txt`)",
    ),
    "fluent": (
        "Fluent Emoji, copyright Microsoft Corporation (<https://github.com/microsoft/fluentui-emoji>), "
        "packaged by LobeHub",
        "MIT (`MIT-fluent.txt`)",
    ),
    "emojione": (
        "EmojiOne 2, emoji provided free by EmojiOne (<https://github.com/joypixels/emojione>)",
        "CC BY 4.0 (`CC-BY-4.0.txt`)",
    ),
}

ATTRIBUTION = """\
# Who made the emoji of this dataset

Every picture was scaled to 64 x 64 pixels, put on a white background and encoded as lossy WebP; nothing
else was changed. Each shard keeps the licence of its pictures. The full texts lie beside this file.

{table}

Names, groups, subgroups and keywords come from the Unicode CLDR, copyright Unicode, Inc. (Unicode License v3,
`Unicode-3.0.txt`), through {emojibase} by Miles Johnson (MIT, `MIT-emojibase.txt`), and further keywords from
{emojilib} by Mu-An Chiou (MIT, `MIT-emojilib.txt`).

The OpenMoji pictures, and whatever is adapted from them, may be passed on only under CC BY-SA 4.0. The
licence of the program code does not extend to these files.
"""


def write_licences(folder: Path, packages: Mapping[str, Path]) -> None:
    """Write the licence texts and the attribution into ``folder``; ``packages`` are the unpacked sources."""
    standard = packages["licences"] / "licenses"
    mit = _standard_text(standard / "MIT.json")
    fluent = mit.replace(
        "Copyright (c) <year> <copyright holders>",
        "Copyright (c) Microsoft Corporation (Fluent Emoji)\nCopyright (c) 2023 LobeHub (npm package)",
    )
    texts = {
        "Apache-2.0.txt": _standard_text(standard / "Apache-2.0.json"),
        "CC-BY-4.0.txt": _standard_text(standard / "CC-BY-4.0.json"),
        "CC-BY-SA-4.0.txt": (packages["openmoji"] / "LICENSE.txt").read_text(encoding="utf-8"),
        "MIT-fluent.txt": fluent,
        "MIT-emojibase.txt": (packages["emojibase"] / "LICENSE").read_text(encoding="utf-8"),
        "MIT-emojilib.txt": (packages["emojilib"] / "LICENSE").read_text(encoding="utf-8"),
        "Unicode-3.0.txt": _standard_text(standard / "Unicode-3.0.json"),
        "ATTRIBUTION.md": _attribution(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text.rstrip() + "\n", encoding="utf-8")


def _attribution() -> str:
    packages = {name: f"`{source.package}` {source.version}" for name, source in SOURCES.items()}
    lines = ["| Shard | Pictures by | Licence | Taken from |", "|---|---|---|---|"]
    for name, (author, licence) in PICTURES_BY.items():
        lines.append(f"| `{name}.tar.gz` | {author} | {licence} | {packages[name]} |")
    return ATTRIBUTION.format(table="\n".join(lines), **packages)


def _standard_text(path: Path) -> str:
    text = json.loads(path.read_text(encoding="utf-8"))["licenseText"]
    return "\n".join(
        line if len(line) <= 110 else textwrap.fill(line, 110, break_long_words=False)
        for line in text.splitlines()
    )

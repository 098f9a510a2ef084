"""Build the emoji dataset that lies in crossgap/data/emoji from pinned npm packages.

    python -m pip install resvg_py==0.5.0        # besides what crossgap needs; npm must be installed
    python tools/build_emoji.py [--cache DIR] [--out DIR] [--sheet FILE]

The same sources give the same pixels and texts, and the same bytes where the library versions in
manifest.json are the same.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.metadata
import io
import json
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoji_card import data_card
from emoji_concepts import Concept, family, keyword_phrases, read_concepts
from emoji_licences import LICENCES, write_licences
from emoji_pictures import SIZE, WEBP, bare, encode, find_files, render, repeated_concepts, same_drawings
from emoji_sheet import draw_sheet
from emoji_sources import SOURCES, fetch, unpack
from emoji_split import SPLITS, count_by, merge_families, split_concepts
from PIL import Image, features

SPLIT_SEED = 20260
FEWEST_DESIGNERS = 4
DESIGNERS: dict[str, str] = {
    "noto": "img/google/64",
    "twemoji": "img/twitter/64",
    "openmoji": "color/svg",
    "fluent": "assets",
    "emojione": "assets/svg",
}
# Microsoft draws no flags of countries: the package fills the gap with the flags of Noto
NOT_OWN_DRAWINGS: dict[str, tuple[str, ...]] = {"fluent": ("country-flag", "subdivision-flag")}


@dataclass(frozen=True, kw_only=True)
class Emoji:
    """What is written: concepts with their texts, families and splits, and the pictures by designer."""

    concepts: tuple[Concept, ...]
    phrases: Mapping[str, tuple[str, str]]
    families: Mapping[str, str]
    splits: Mapping[str, str]
    pictures: Mapping[str, Mapping[str, Image.Image]]
    left_out: Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    root = Path(__file__).resolve().parent.parent
    parser.add_argument(
        "--cache", type=Path, help="where the npm tarballs are kept; default a temporary folder"
    )
    parser.add_argument("--out", type=Path, default=root / "crossgap" / "data" / "emoji")
    parser.add_argument("--sheet", type=Path, default=root / "docs" / "emoji-sheet.png")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        packages = {
            name: unpack(source, fetch(source, options.cache or folder / "cache"), folder / name)
            for name, source in SOURCES.items()
        }
        emoji = collect(packages)
        write(emoji, options.out)
        write_licences(options.out / "licences", packages)
    draw_sheet(options.sheet, emoji.pictures, {concept.name: concept.concept for concept in emoji.concepts})


def collect(packages: Mapping[str, Path]) -> Emoji:
    """Read the unpacked packages, render the pictures, choose the concepts and split them."""
    concepts = read_concepts(
        _read(packages["emojibase"] / "en" / "data.json"),
        _read(packages["emojibase"] / "meta" / "groups.json"),
        _read(packages["emojilib"] / "dist" / "emoji-en-US.json"),
    )
    files = {name: find_files(packages[name] / folder) for name, folder in DESIGNERS.items()}
    drawn = {
        concept.concept: [name for name in DESIGNERS if _draws(name, concept, files[name])]
        for concept in concepts
    }
    rare = [concept.name for concept in concepts if len(drawn[concept.concept]) < FEWEST_DESIGNERS]
    kept = [concept for concept in concepts if len(drawn[concept.concept]) >= FEWEST_DESIGNERS]
    pictures = {
        name: {
            concept.concept: render(files[name][bare(concept.code)])
            for concept in kept
            if name in drawn[concept.concept]
        }
        for name in DESIGNERS
    }

    same = [same_drawings(pictures[name]) for name in DESIGNERS]
    repeated = repeated_concepts(same, {concept.concept: len(concept.keywords) for concept in kept})
    names = {concept.concept: concept.name for concept in kept}
    kept = [concept for concept in kept if concept.concept not in repeated]
    alike = [pair for pairs in same for pair in pairs if not set(pair) & repeated.keys()]
    families = merge_families({concept.concept: family(concept.name) for concept in kept}, alike)
    return Emoji(
        concepts=tuple(kept),
        phrases=keyword_phrases(kept),
        families=families,
        splits=split_concepts(
            families, {concept.concept: concept.subgroup for concept in kept}, seed=SPLIT_SEED, shares=SPLITS
        ),
        pictures={
            name: {key: picture for key, picture in drawings.items() if key not in repeated}
            for name, drawings in pictures.items()
        },
        left_out={
            "fewer_than_four_designers": rare,
            "drawn_like_another": {names[later]: names[earlier] for later, earlier in repeated.items()},
        },
    )


def write(emoji: Emoji, out: Path) -> None:
    """Write one shard a designer, the manifest and the data card."""
    out.mkdir(parents=True, exist_ok=True)
    shards = {}
    for designer, pictures in emoji.pictures.items():
        samples = [
            (concept, encode(pictures[concept.concept]))
            for concept in emoji.concepts
            if concept.concept in pictures
        ]
        shard = gzipped(tar_of([_parts(emoji, concept, designer, image) for concept, image in samples]))
        (out / f"{designer}.tar.gz").write_bytes(shard)
        shards[f"{designer}.tar.gz"] = {
            "designer": designer,
            "sha256": hashlib.sha256(shard).hexdigest(),
            "bytes": len(shard),
            "samples": len(samples),
            "splits": count_by([emoji.splits[concept.concept] for concept, _ in samples], list(SPLITS)),
            "licence": LICENCES[designer],
        }
    manifest = {
        "name": "emoji",
        "version": 1,
        "concepts": len(emoji.concepts),
        "families": len(set(emoji.families.values())),
        "splits": count_by(emoji.splits.values(), list(SPLITS)),
        "shards": shards,
        "picture": {"size": SIZE, "mode": "RGB on white", "webp": WEBP},
        "split": {"seed": SPLIT_SEED, "shares": SPLITS},
        "sources": {
            name: {"package": source.package, "version": source.version, "integrity": source.integrity}
            for name, source in SOURCES.items()
        },
        "libraries": _library_versions(),
        "same_phrase": _same_phrase(emoji),
        "left_out": emoji.left_out,
    }
    (out / "manifest.json").write_text(
        json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    card = data_card(manifest, emoji.concepts, emoji.families, emoji.splits)
    (out / "DATA_CARD.md").write_text(card, encoding="utf-8")


def tar_of(samples: Sequence[Mapping[str, bytes]]) -> bytes:
    """Write members (name -> bytes) into a tar whose bytes depend on nothing else."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for parts in samples:
            for name, data in parts.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def gzipped(data: bytes) -> bytes:
    """Compress without a name or a time in the header."""
    stream = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=stream, mode="wb", compresslevel=9, mtime=0) as archive:
        archive.write(data)
    return stream.getvalue()


def _parts(emoji: Emoji, concept: Concept, designer: str, image: bytes) -> dict[str, bytes]:
    phrases = emoji.phrases[concept.concept]
    meta = {
        "concept": concept.concept,
        "designer": designer,
        "code": concept.code,
        "name": concept.name,
        "keywords": list(concept.keywords),
        "captions": list(dict.fromkeys([concept.name, f"a photo of {concept.name}", *phrases])),
        "group": concept.group,
        "subgroup": concept.subgroup,
        "family": emoji.families[concept.concept],
        "split": emoji.splits[concept.concept],
    }
    key = f"{concept.concept}_{designer}"
    return {
        f"{key}.webp": image,
        f"{key}.txt": concept.name.encode(),
        f"{key}.json": json.dumps(meta, ensure_ascii=False).encode(),
    }


def _draws(designer: str, concept: Concept, files: Mapping[str, Path]) -> bool:
    return bare(concept.code) in files and concept.subgroup not in NOT_OWN_DRAWINGS.get(designer, ())


def _same_phrase(emoji: Emoji) -> list[str]:
    counts = Counter(first for first, _ in emoji.phrases.values())
    return [concept.name for concept in emoji.concepts if counts[emoji.phrases[concept.concept][0]] > 1]


def _library_versions() -> dict[str, str]:
    return {
        "pillow": importlib.metadata.version("pillow"),
        "libwebp": str(features.version("webp")),
        "resvg_py": importlib.metadata.version("resvg_py"),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
    }


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

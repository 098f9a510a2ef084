"""Write the data card of the emoji dataset from its manifest and concepts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from emoji_concepts import Concept

CARD = """\
# Data card: emoji

Pictures of {concepts:,} concepts, each drawn by at least four designers, with names and keywords. It is
small enough to train a CLIP on a laptop and still poses real retrieval tasks: the same thing drawn by
another hand, or another thing of the same kind. `manifest.json` beside this card holds the sha256 of
every shard.

![Twelve concepts by five designers](../../../docs/emoji-sheet.png)

## What a sample is

One WebDataset shard a designer (`noto.tar.gz`, ...). A sample's key is `<concept>_<designer>`; its parts
are

- `.webp`: {size} x {size} pixels, RGB on white, lossy WebP of quality {quality};
- `.txt`: the name in Unicode CLDR (curly quotes made plain);
- `.json`: `concept`, `designer`, `code` (Unicode code points), `name`, `keywords`, `captions`, `group`,
  `subgroup`, `family`, `split`.

`captions` is what pre-training draws from: the name, "a photo of {{name}}", and two keyword phrases of
about four keywords each. The first phrase shares no word with the name wherever the concept has such
keywords (words that begin with the same four letters, or contain each other, count as shared), and no
phrase holds all the words of the name: matching names with phrases takes more than matching letters.

## Designers

{designers}

Skin-tone variants, hair styles as parts and regional indicator letters are left out.

## Splits

{splits}

The split is by concept: no concept, by whatever designer, is in two splits. It is stratified by subgroup
and seeded (sha256 of the seed {seed} and the family). Families stay together: concepts that differ only
in gender, in the number of people or in direction (`cook`, `man cook`, `woman cook`), and concepts that
some designer draws alike (mean difference of at most one grey level of 255). There are {families:,}
families, {large} of them with more than one concept. The sealed split is for a final study and is not
looked at before.

## Groups

{groups}

## Subgroups

{subgroups}

## Known oddities

- Flags are one large, odd class: {flags} of {concepts:,} concepts are flags of countries, told apart by
  little but colours. Report means over classes (macro) beside means over queries (micro).
- The npm package of Fluent Emoji fills the flags of countries, which Microsoft does not draw, with those
  of Noto. They are left out here: a Noto query would find its own picture in the Fluent gallery. EmojiOne
  2 draws flags, but nothing newer than 2017.
- Left out because fewer than four designers draw them ({rare_count}): {rare}.
- Left out because at least two designers draw them just like another concept ({repeated_count}):
  {repeated}.
- Concepts with the same first keyword phrase: {same_phrase}.
- Twemoji draws most kinds of families alike, and OpenMoji some genderless people like the men.
- Some subgroups have one concept or none in a split; by-subgroup tasks skip queries without a relevant
  item and count them.
- The designers differ in scale and margin (OpenMoji draws smaller), and in what they show: Noto's cook
  holds a pan.
- Keywords come from Unicode CLDR and from volunteers; they hold slang, and stereotypes that go with
  emoji.
- Emoji are drawings. What is found on them need not hold for photographs.

## Licences

Every shard keeps the licence of its pictures; `licences/ATTRIBUTION.md` names the authors and `licences/`
has the full texts. Note that the OpenMoji pictures are under CC BY-SA 4.0. Names, groups and keywords are
from Unicode CLDR (Unicode License v3) through `emojibase-data` (MIT), and from `emojilib` (MIT).

## Sources

{sources}

## Rebuild

    python -m pip install resvg_py=={resvg}
    python tools/build_emoji.py

needs npm and downloads about 280 MB of pinned packages, whose integrity it checks. The same sources give
the same pixels and texts; the bytes are the same with {libraries}.
"""


def data_card(
    manifest: Mapping[str, Any],
    concepts: Sequence[Concept],
    families: Mapping[str, str],
    splits: Mapping[str, str],
) -> str:
    """Return the card as Markdown."""
    names = list(manifest["splits"])
    shards = manifest["shards"].values()
    left_out = manifest["left_out"]
    repeated = left_out["drawn_like_another"]
    sizes = Counter(families.values())
    return CARD.format(
        concepts=manifest["concepts"],
        families=manifest["families"],
        large=sum(size > 1 for size in sizes.values()),
        size=manifest["picture"]["size"],
        quality=manifest["picture"]["webp"]["quality"],
        seed=manifest["split"]["seed"],
        designers=_table(
            ["designer", "pictures", *names, "kB", "licence"],
            [
                [
                    shard["designer"],
                    shard["samples"],
                    *shard["splits"].values(),
                    shard["bytes"] // 1000,
                    shard["licence"],
                ]
                for shard in shards
            ],
        ),
        splits=_table(
            ["", *names, "all"], [["concepts", *manifest["splits"].values(), manifest["concepts"]]]
        ),
        groups=_counts("group", [concept.group for concept in concepts], concepts, splits, names),
        subgroups=_counts("subgroup", [concept.subgroup for concept in concepts], concepts, splits, names),
        flags=sum(concept.subgroup == "country-flag" for concept in concepts),
        rare=", ".join(left_out["fewer_than_four_designers"]),
        rare_count=len(left_out["fewer_than_four_designers"]),
        repeated=", ".join(f"{lesser} (like {kept})" for lesser, kept in repeated.items()),
        repeated_count=len(repeated),
        same_phrase=", ".join(manifest["same_phrase"]) or "none",
        sources=_table(
            ["used for", "npm package", "version"],
            [
                [name, f"`{source['package']}`", source["version"]]
                for name, source in manifest["sources"].items()
            ],
        ),
        resvg=manifest["libraries"]["resvg_py"],
        libraries=", ".join(f"{name} {version}" for name, version in manifest["libraries"].items()),
    )


def _counts(
    title: str,
    values: Sequence[str],
    concepts: Sequence[Concept],
    splits: Mapping[str, str],
    names: Sequence[str],
) -> str:
    counts = Counter(
        (value, splits[concept.concept]) for value, concept in zip(values, concepts, strict=True)
    )
    rows = [
        [value, *(counts[value, name] for name in names), sum(counts[value, name] for name in names)]
        for value in dict.fromkeys(values)
    ]
    return _table([title, *names, "all"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)

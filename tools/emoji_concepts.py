"""Concepts: their names, ids, families and keyword phrases, from CLDR data. Pure functions."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PHRASE_WORDS = 4
SKIN_AND_HAIR = "component"

_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "\u00a0": " "})
_KEYWORD = re.compile(r"[a-z][a-z]*(?:[ '-][a-z]+)*|\d{1,2}(?::\d\d)?")
_NOISE = frozenset(
    {"cjk", "for", "indicator", "kinds", "meaning", "not", "num", "regional", "symbol", "symbols", "the", "u"}
    | {"unicode", "unified", "untitled"}
)
_GENDERED = re.compile(
    r"\b(?:(?:wo)?m[ae]n|persons?|people|adults?|boys?|girls?|child|children|(?:fe)?male)(?:'s)?\b"
)
_MALE = re.compile(r"\b(?:man|men|boy|male|merman|prince|santa claus)(?:'s)?\b")
_FEMALE = re.compile(r"\b(?:woman|women|girl|female|mermaid|princess|mrs\.? claus)(?:'s)?\b")
_IRREGULAR_FAMILIES: tuple[frozenset[str], ...] = (
    frozenset({"boy", "girl", "child"}),
    frozenset({"old man", "old woman", "older person"}),
    frozenset({"prince", "princess", "person with crown"}),
    frozenset({"santa claus", "mrs. claus", "mx claus"}),
    frozenset({"merman", "mermaid", "merperson"}),
)


@dataclass(frozen=True, kw_only=True)
class Concept:
    """One emoji without skin tone: what it is called and where CLDR files it."""

    concept: str
    code: str
    name: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str


def read_concepts(
    data: Sequence[Mapping[str, Any]], groups: Mapping[str, Any], keywords: Mapping[str, Sequence[str]]
) -> list[Concept]:
    """Join emojibase's ``data`` and ``groups`` with emojilib's ``keywords``, in CLDR order.

    Skin tones, hair styles and the regional indicator letters are no concepts and are left out.
    """
    by_code = {code_of(emoji): words for emoji, words in keywords.items()}
    concepts: list[Concept] = []
    for entry in sorted((e for e in data if "group" in e), key=lambda entry: entry["order"]):
        group = groups["groups"][str(entry["group"])]
        if group == SKIN_AND_HAIR:
            continue
        code = drop_selectors(entry["hexcode"])
        name = plain(entry["label"])
        listed = [*entry.get("tags", ()), *by_code.get(code, [""])[1:]]
        concepts.append(
            Concept(
                concept=slug(name),
                code=code,
                name=name,
                keywords=clean_keywords(listed),
                group=group,
                subgroup=groups["subgroups"][str(entry["subgroup"])],
            )
        )
    repeated = [name for name, count in Counter(concept.concept for concept in concepts).items() if count > 1]
    assert not repeated, repeated
    return concepts


def plain(text: str) -> str:
    """Replace curly quotes and non-breaking spaces by plain ones."""
    return text.translate(_QUOTES)


def slug(name: str) -> str:
    """Turn a name into an id of lower-case letters, digits and hyphens: no dot, no underscore."""
    spelled = name.replace("#", " hash ").replace("*", " asterisk ")
    letters = unicodedata.normalize("NFKD", spelled).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"[^a-z0-9]+", "-", letters.replace("'", "")).strip("-")


def drop_selectors(code: str) -> str:
    """Write a code such as ``1F9D1-200D-1F373`` in lower case, without variation selectors."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def code_of(emoji: str) -> str:
    """Return the code of an emoji's characters, as :func:`drop_selectors` writes it."""
    return drop_selectors("-".join(f"{ord(character):04x}" for character in emoji))


def clean_keywords(listed: Iterable[str]) -> tuple[str, ...]:
    """Keep the listed keywords that are words or small numbers, lower case, each once, in order."""
    kept: dict[str, None] = {}
    for text in listed:
        word = plain(text).replace("_", " ").strip().lower()
        if (
            _KEYWORD.fullmatch(word)
            and word not in _NOISE
            and len(word) <= 24
            and not word.endswith("-square")
        ):
            kept[word] = None
    return tuple(kept)


def family(name: str) -> str:
    """Return what is left of a name without gender, number of people and direction.

    Concepts with the same family (``cook``, ``man cook``, ``woman cook``) belong into one split.
    """
    text = plain(name).lower()
    for members in _IRREGULAR_FAMILIES:
        if text in members:
            return slug(min(members))
    for prefix in ("family", "kiss", "couple with heart"):
        if text == prefix or text.startswith(f"{prefix}:"):
            return slug(prefix)
    if text.endswith("holding hands"):
        return "holding-hands"
    rest = _GENDERED.sub(" ", text.replace("facing right", " "))
    return slug(rest) or "person"


def keyword_phrases(concepts: Sequence[Concept]) -> dict[str, tuple[str, str]]:
    """Write two short keyword phrases per concept; the first is unique wherever its keywords allow it.

    The first phrase holds up to four of the rarest keywords that share no word with the name (words that
    begin with the same four letters, or contain each other, count as shared); the second the most frequent
    ones, and keywords that share a word where there are too few others. A gendered name puts "male" or
    "female" first. No phrase holds all the words of the name, be it inside longer words. Where two concepts
    would have the same first phrase, the later one takes more keywords until it differs.
    """
    frequency = Counter(word for concept in concepts for word in concept.keywords)
    phrases: dict[str, tuple[str, str]] = {}
    taken: set[str] = set()
    for concept in concepts:
        by_rarity = sorted(
            (
                word
                for word in concept.keywords
                if not _GENDERED.search(word) and word not in ("human", "humans")
            ),
            key=lambda word: (frequency[word], word),
        )
        shared = [word for word in by_rarity if _shares_word(word, concept.name)]
        fresh = [word for word in by_rarity if word not in shared]
        pool = [*fresh, *shared]
        count = min(PHRASE_WORDS, len(fresh)) or 1
        first = _phrase(concept.name, pool[:count])
        while first in taken and count < len(pool):
            count += 1
            first = _phrase(concept.name, pool[:count])
        taken.add(first)
        others = fresh[PHRASE_WORDS:][::-1]
        few = max(0, PHRASE_WORDS // 2 - len(others))
        second = _phrase(concept.name, [*others, *shared[:2], *fresh[::-1][: few + 1]][:PHRASE_WORDS])
        phrases[concept.concept] = (first, second or first)
    return phrases


def _phrase(name: str, keywords: Iterable[str]) -> str:
    """Join keywords after the gender; one with which the phrase would hold the whole name is left out."""
    chosen = list(_gender(name))
    for keyword in keywords:
        said = words(" ".join([*chosen, keyword]))
        if not all(any(word in other for other in said) for word in words(name)):
            chosen.append(keyword)
    return ", ".join(dict.fromkeys(chosen))


def _gender(name: str) -> tuple[str, ...]:
    text = name.lower()
    return (*(["male"] if _MALE.search(text) else []), *(["female"] if _FEMALE.search(text) else []))


def _shares_word(keyword: str, name: str) -> bool:
    return any(_alike(left, right) for left in words(keyword) for right in words(name))


def words(text: str) -> list[str]:
    """Return the words of a text: its runs of letters and digits, in plain lower case."""
    return re.findall(r"[a-z0-9]+", slug(text))


def _alike(left: str, right: str) -> bool:
    if min(len(left), len(right)) < 4:
        return left == right
    return left[:4] == right[:4] or left in right or right in left

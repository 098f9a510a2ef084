"""The embedded emoji: what is shipped is what the manifest says, and the rules that it was built by."""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib
import io
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import open_clip
import pytest
from PIL import Image

from crossgap.datasets.emoji import embedded_shards
from crossgap.datasets.readers.image_formats import decode_image
from crossgap.datasets.readers.shards import ShardSample, read_shards
from crossgap.files import read_json

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"
FOLDER = embedded_shards()[0].parent
MANIFEST = read_json(FOLDER / "manifest.json")
SHARES = {"train": 0.6, "val": 0.1, "test": 0.2, "sealed": 0.1}


@pytest.fixture(scope="module")
def samples() -> list[ShardSample]:
    return list(read_shards([str(path) for path in embedded_shards()]))


@pytest.fixture(scope="module")
def concepts(samples: list[ShardSample]) -> dict[str, ShardSample]:
    return {sample.meta["concept"]: sample for sample in samples if sample.meta["designer"] == "noto"}


@pytest.fixture(scope="module")
def tools() -> Iterator[SimpleNamespace]:
    """Import the builder's pure parts from the tools folder."""
    sys.path.insert(0, str(TOOLS))
    names = ("concepts", "split", "pictures", "sources")
    modules: dict[str, ModuleType] = {name: importlib.import_module(f"emoji_{name}") for name in names}
    yield SimpleNamespace(**modules)
    sys.path.remove(str(TOOLS))


class TestShipped:
    def test_shards_have_the_hashes_sizes_and_counts_of_the_manifest(
        self, samples: list[ShardSample]
    ) -> None:
        assert {path.name for path in FOLDER.glob("*.tar*")} == set(MANIFEST["shards"])
        for path in embedded_shards():
            shard = MANIFEST["shards"][path.name]
            assert hashlib.sha256(path.read_bytes()).hexdigest() == shard["sha256"]
            assert path.stat().st_size == shard["bytes"]
            splits = Counter(s.meta["split"] for s in samples if s.shard == str(path))
            assert splits == shard["splits"]
            assert splits.total() == shard["samples"]

    def test_the_package_stays_small(self) -> None:
        assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 12_000_000

    def test_every_licence_is_there_and_the_attribution_names_every_shard(self) -> None:
        licences = {path.name: path.read_text() for path in (FOLDER / "licences").iterdir()}
        attribution = licences.pop("ATTRIBUTION.md")
        for name in MANIFEST["shards"]:
            assert f"`{name}`" in attribution
        for name, text in licences.items():
            assert f"`{name}`" in attribution
            assert len(text) > 1000
            assert "<year>" not in text
        assert "Attribution-ShareAlike 4.0" in licences["CC-BY-SA-4.0.txt"]
        assert "Attribution 4.0" in licences["CC-BY-4.0.txt"]
        assert "Microsoft" in licences["MIT-fluent.txt"]

    def test_the_card_states_the_counts(self) -> None:
        card = (FOLDER / "DATA_CARD.md").read_text()
        for shard in MANIFEST["shards"].values():
            counts = " | ".join(map(str, (shard["samples"], *shard["splits"].values())))
            assert f"| {shard['designer']} | {counts} |" in card
        assert f"{MANIFEST['concepts']:,} concepts" in card

    def test_keys_are_concept_and_designer_without_dots(self, samples: list[ShardSample]) -> None:
        assert len({sample.key for sample in samples}) == len(samples)
        for sample in samples:
            assert sample.key == f"{sample.meta['concept']}_{sample.meta['designer']}"
            assert "." not in sample.key

    def test_every_concept_has_four_designers_and_one_description(self, samples: list[ShardSample]) -> None:
        seen = defaultdict(list)
        for sample in samples:
            seen[sample.meta["concept"]].append(sample)
        assert len(seen) == MANIFEST["concepts"] >= 1800
        for drawn in seen.values():
            designers = [sample.meta["designer"] for sample in drawn]
            assert len(set(designers)) == len(designers) >= 4
            described = [{k: v for k, v in sample.meta.items() if k != "designer"} for sample in drawn]
            assert all(description == described[0] for description in described)
            assert all(sample.captions == drawn[0].captions for sample in drawn)

    def test_splits_hold_concepts_and_families_whole_and_meet_their_shares(
        self, concepts: dict[str, ShardSample]
    ) -> None:
        of_family = defaultdict(set)
        for sample in concepts.values():
            of_family[sample.meta["family"]].add(sample.meta["split"])
        assert {len(splits) for splits in of_family.values()} == {1}
        assert len(of_family) == MANIFEST["families"]
        counts = Counter(sample.meta["split"] for sample in concepts.values())
        assert counts == MANIFEST["splits"]
        for split, share in SHARES.items():
            assert abs(counts[split] - share * len(concepts)) <= 2

    def test_large_subgroups_are_divided_by_the_same_shares(self, concepts: dict[str, ShardSample]) -> None:
        by_subgroup = defaultdict(Counter)
        for sample in concepts.values():
            by_subgroup[sample.meta["subgroup"]][sample.meta["split"]] += 1
        large = {
            name: counts for name, counts in by_subgroup.items() if counts.total() >= 20 and name != "family"
        }
        assert len(large) > 20
        for name, counts in large.items():
            for split, share in SHARES.items():
                assert abs(counts[split] - share * counts.total()) <= 3, (name, counts)

    @pytest.mark.parametrize("names", [("cook", "man cook", "woman cook"), ("prince", "princess")])
    def test_people_of_either_gender_share_a_split(
        self, concepts: dict[str, ShardSample], names: tuple[str, ...]
    ) -> None:
        metas = [sample.meta for sample in concepts.values() if sample.meta["name"] in names]
        assert len(metas) == len(names)
        assert len({(meta["family"], meta["split"]) for meta in metas}) == 1

    def test_pictures_are_64_pixels_on_white(self, samples: list[ShardSample]) -> None:
        corners = []
        for sample in samples[::29]:
            assert sample.image is not None
            with Image.open(io.BytesIO(sample.image)) as picture:
                assert (picture.format, picture.mode, picture.size) == ("WEBP", "RGB", (64, 64))
            pixels = np.asarray(decode_image(sample.image, where=sample.where))
            assert pixels.std() > 2, sample.where
            corners.append(pixels[0, 0].min() > 235)
        assert np.mean(corners) > 0.9

    def test_fluent_has_no_flags_of_countries(self, samples: list[ShardSample]) -> None:
        drawn = {s.meta["subgroup"] for s in samples if s.meta["designer"] == "fluent"}
        assert not {"country-flag", "subdivision-flag"} & drawn

    def test_captions_are_name_prompt_and_keyword_phrases(self, concepts: dict[str, ShardSample]) -> None:
        for sample in concepts.values():
            name, prompt, *phrases = sample.captions
            assert (name, prompt) == (sample.meta["name"], f"a photo of {name}")
            assert 1 <= len(phrases) <= 2
            assert len(set(sample.captions)) == len(sample.captions)
        assert np.mean([len(sample.captions) == 4 for sample in concepts.values()]) > 0.99

    def test_no_keyword_phrase_holds_the_name(self, concepts: dict[str, ShardSample]) -> None:
        overlap = 0
        for sample in concepts.values():
            name, _, *phrases = sample.captions
            words = [set(phrase.replace(",", " ").replace("-", " ").split()) for phrase in phrases]
            said = set(name.lower().replace(":", " ").replace("-", " ").split())
            assert not any(said <= phrase for phrase in words), sample.captions
            overlap += bool(said & words[0])
        assert overlap < 0.03 * len(concepts)

    def test_first_phrases_are_unique_but_for_those_the_manifest_names(
        self, concepts: dict[str, ShardSample]
    ) -> None:
        counts = Counter(sample.captions[2] for sample in concepts.values())
        same = [s.meta["name"] for s in concepts.values() if counts[s.captions[2]] > 1]
        assert same == MANIFEST["same_phrase"]
        assert len(same) <= 4

    def test_no_caption_is_cut_by_a_context_of_32_tokens(self, concepts: dict[str, ShardSample]) -> None:
        tokenizer = open_clip.SimpleTokenizer()
        captions = {caption for sample in concepts.values() for caption in sample.captions}
        lengths = {caption: len(tokenizer.encode(caption)) for caption in captions}
        assert max(lengths.values()) <= 25
        assert min(lengths.values()) >= 1


class TestRules:
    @pytest.mark.parametrize(
        ("names", "family"),
        [
            (["cook", "man cook", "woman cook"], "cook"),
            (["person", "man", "woman"], "person"),
            (["man: red hair", "woman: red hair", "person: red hair"], "red-hair"),
            (["person running", "woman running: facing right"], "running"),
            (["people holding hands", "men holding hands", "woman and man holding hands"], "holding-hands"),
            (["kiss", "kiss: woman, man"], "kiss"),
            (["Santa Claus", "Mrs. Claus", "Mx Claus"], "mrs-claus"),
            (["boy", "girl", "child"], "boy"),
            (["men\u2019s room", "women\u2019s room"], "room"),
        ],
    )
    def test_family(self, tools: SimpleNamespace, names: list[str], family: str) -> None:
        assert {tools.concepts.family(name) for name in names} == {family}

    def test_what_is_not_about_people_is_its_own_family(self, tools: SimpleNamespace) -> None:
        names = [
            "kiss mark",
            "mango",
            "woman's hat",
            "manual wheelchair",
            "flag: Oman",
            "red heart",
            "blue heart",
        ]
        assert len({tools.concepts.family(name) for name in names}) == len(names)

    @pytest.mark.parametrize(
        ("name", "slug"),
        [
            ("keycap: #", "keycap-hash"),
            ("keycap: *", "keycap-asterisk"),
            ("flag: Côte d\u2019Ivoire", "flag-cote-divoire"),
            ("Mrs. Claus", "mrs-claus"),
            ("Japanese \u201cvacancy\u201d button", "japanese-vacancy-button"),
        ],
    )
    def test_slug(self, tools: SimpleNamespace, name: str, slug: str) -> None:
        assert tools.concepts.slug(tools.concepts.plain(name)) == slug

    def test_keywords_are_cleaned(self, tools: SimpleNamespace) -> None:
        listed = [
            "Grin",
            "grin",
            "new_zealand",
            ":D",
            "u7a7a",
            "blue-square",
            "8:00",
            "2000",
            "for",
            "womens\xa0x",
        ]
        assert tools.concepts.clean_keywords(listed) == ("grin", "new zealand", "8:00", "womens x")

    def test_keyword_phrases_avoid_the_name_and_each_other(self, tools: SimpleNamespace) -> None:
        def concept(name: str, *keywords: str) -> object:
            return tools.concepts.Concept(
                concept=tools.concepts.slug(name),
                code="",
                name=name,
                keywords=keywords,
                group="g",
                subgroup="s",
            )

        phrases = tools.concepts.keyword_phrases(
            [
                concept("red apple", "apple", "apples", "fruit", "food", "red"),
                concept("pear", "fruit", "food"),
                concept("plum", "fruit", "food", "purple plum", "violet"),
                concept("woman cook", "chef", "cook", "woman", "food", "kitchen"),
                concept("drooling face", "face", "drooling"),
            ]
        )
        assert phrases["red-apple"][0] == "fruit, food"
        assert phrases["pear"][0] == "fruit, food"  # has no keyword left to differ by
        assert phrases["plum"][0] == "violet, fruit, food"
        assert phrases["woman-cook"][0] == "female, chef, kitchen, food"
        assert phrases["drooling-face"][0] in ("face", "drooling")
        assert "apple" in phrases["red-apple"][1]
        for name, texts in phrases.items():
            assert not any(set(name.split("-")) <= set(tools.concepts.words(text)) for text in texts)

    def test_split_keeps_families_and_shares_whatever_the_strata(self, tools: SimpleNamespace) -> None:
        families = {f"c{n}": f"f{n if n % 7 else n // 21}" for n in range(1000)}
        strata = {concept: f"s{(int(concept[1:]) * 37) % 53}" for concept in families}
        splits = tools.split.split_concepts(families, strata, seed=1, shares=tools.split.SPLITS)
        assert list(splits) == list(families)
        by_family = defaultdict(set)
        for concept, split in splits.items():
            by_family[families[concept]].add(split)
        assert all(len(found) == 1 for found in by_family.values())
        counts = Counter(splits.values())
        for split, share in SHARES.items():
            assert abs(counts[split] - 1000 * share) <= 5

    def test_split_follows_the_seed_and_not_the_order(self, tools: SimpleNamespace) -> None:
        families = {f"c{n}": f"c{n}" for n in range(200)}
        strata = dict.fromkeys(families, "s")
        backwards = dict(reversed(families.items()))
        once = tools.split.split_concepts(families, strata, seed=1, shares=tools.split.SPLITS)
        assert tools.split.split_concepts(backwards, strata, seed=1, shares=tools.split.SPLITS) == once
        assert tools.split.split_concepts(families, strata, seed=2, shares=tools.split.SPLITS) != once

    def test_families_merge_along_a_chain(self, tools: SimpleNamespace) -> None:
        families = {"a": "A", "b": "B", "c": "C", "d": "D", "b2": "B"}
        merged = tools.split.merge_families(families, [("c", "b"), ("a", "b2")])
        assert merged == {"a": "A", "b": "A", "c": "A", "d": "D", "b2": "A"}

    def test_the_same_drawing_is_found_and_only_that(self, tools: SimpleNamespace) -> None:
        noise = np.random.default_rng(0)
        base = noise.integers(0, 240, (64, 64, 3))
        pictures = {
            "first": base,
            "other": noise.integers(0, 240, (64, 64, 3)),
            "nearly": base + noise.integers(0, 2, base.shape),
            "shifted": np.roll(base, 1, axis=0),
            "brighter": base + 2,
        }
        drawn = {name: Image.fromarray(pixels.astype(np.uint8)) for name, pixels in pictures.items()}
        assert tools.pictures.same_drawings(drawn) == [("first", "nearly")]

    def test_of_two_repeated_concepts_the_weightier_stays(self, tools: SimpleNamespace) -> None:
        france, clipperton, norway = "france", "clipperton", "norway"
        same = [[(clipperton, france)], [(clipperton, france), (france, norway)]]
        weight = {france: 5, clipperton: 2, norway: 5}
        assert tools.pictures.repeated_concepts(same, weight) == {clipperton: france}

    def test_a_picture_that_is_not_square_is_centred_on_white(self, tools: SimpleNamespace) -> None:
        drawn = Image.new("RGBA", (2, 4), (255, 0, 0, 255))
        drawn.putpixel((0, 0), (0, 0, 0, 0))
        square = np.asarray(tools.pictures.on_white_square(drawn))
        assert square.shape == (4, 4, 3)
        assert (square[:, [0, 3]] == 255).all()
        assert square[0, 1].tolist() == [255, 255, 255]
        assert square[1, 1].tolist() == [255, 0, 0]

    def test_unpack_takes_what_is_wanted_and_nothing_else(
        self, tools: SimpleNamespace, tmp_path: Path
    ) -> None:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name in ("package/in/a.txt", "package/out/b.txt", "package/in/../../../c.txt"):
                archive.addfile(tarfile.TarInfo(name))
        (tmp_path / "p-1.tgz").write_bytes(gzip.compress(stream.getvalue()))
        digest = base64.b64encode(hashlib.sha512((tmp_path / "p-1.tgz").read_bytes()).digest()).decode()
        source = tools.sources.EmojiSource(
            package="p", version="1", integrity=f"sha512-{digest}", unpack=("in/",)
        )
        tarball = tools.sources.fetch(source, tmp_path)
        with pytest.raises(tarfile.OutsideDestinationError):
            tools.sources.unpack(source, tarball, tmp_path / "x")
        assert sorted(path.name for path in tmp_path.rglob("*.txt")) == ["a.txt"]
        (tmp_path / "p-1.tgz").write_bytes(b"other")
        with pytest.raises(ValueError, match="integrity"):
            tools.sources.fetch(source, tmp_path)

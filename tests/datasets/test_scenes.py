"""The world of scenes: the same on every machine, what its splits promise, and captions that are true."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from crossgap.datasets.scenes.captions import caption_scenes, grammar_words, phrases_of, true_of
from crossgap.datasets.scenes.draws import key_of, mix, uniforms
from crossgap.datasets.scenes.names import HELD_OUT_DESIGNER, UNSEEN
from crossgap.datasets.scenes.objects import object_names
from crossgap.datasets.scenes.options import MENTIONED, SPLITS, SceneOptions
from crossgap.datasets.scenes.render import render
from crossgap.datasets.scenes.world import (
    COLOURS,
    PLACES,
    SIZE_NAMES,
    draw_scenes,
    factor_values,
    held_out_colours,
)
from crossgap.errors import InputError
from tests.reference_scenes import holds, painted, read_caption, splitmix

OPTIONS = SceneOptions()
# SHA-256 of pixels and of captions 0 and 1 of the first 16 scenes, first 16 digits
GOLDEN = {
    "train": ("52955e982f063f39", "fd95c4d569ac158b"),
    "test": ("a6d4388ddd5d9fc6", "9d711ca7bb8a3f11"),
    "test-designer": ("0cb150c55dc70db9", "8543e3d7f5ae83c4"),
    "test-pairs": ("de8969d96532b2cc", "17ffe221c32a3a95"),
    "test-objects": ("ff05994d653d43a2", "f18f2c85be558248"),
}
LEAST_P = 1e-4  # of a test of independence: the draws are fixed, so it fails for good or never


def some(split: str, count: int, options: SceneOptions = OPTIONS):
    return draw_scenes(options, split, np.arange(count))


class TestDraws:
    def test_the_stream_is_that_of_splitmix64(self) -> None:
        published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
        assert splitmix(1234567, 4) == published
        steps = np.arange(1, 5, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        assert mix(np.uint64(1234567) + steps).tolist() == published

    def test_each_index_has_the_stream_of_its_own_start(self) -> None:
        key, gamma = key_of("scene", 3, "test"), 0x9E3779B97F4A7C15
        drawn = uniforms(key, np.array([0, 5, 10**12]), 6)
        for index, row in zip((0, 5, 10**12), drawn, strict=True):
            (hashed,) = splitmix((index * gamma - gamma) % 2**64, 1)
            (start,) = splitmix(((key ^ hashed) - gamma) % 2**64, 1)
            assert row.tolist() == [(value >> 11) / 2**53 for value in splitmix(start, 6)]

    def test_numbers_are_uniform_and_columns_go_their_own_ways(self) -> None:
        drawn = uniforms(key_of("x"), np.arange(20_000), 4)
        assert drawn.min() >= 0
        assert drawn.max() < 1
        for column in drawn.T:
            assert chisquare(np.histogram(column, 20, (0, 1))[0]).pvalue > LEAST_P
        assert abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.03
        assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.03


def test_naming_datasets_reads_no_drawing() -> None:
    asked = "from crossgap.datasets import emoji, load_dataset; print(emoji._concepts.cache_info().currsize)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


class TestTheSameEverywhere:
    @pytest.mark.parametrize("split", GOLDEN)
    def test_golden_pixels_and_captions(self, split: str) -> None:
        scenes = some(split, 16)
        pixels = render(scenes, held_out_designer=split == "test-designer").tobytes()
        words = [word for number in (0, 1) for word in caption_scenes(OPTIONS, split, scenes, number).words]
        hashes = [hashlib.sha256(data).hexdigest()[:16] for data in (pixels, "\n".join(words).encode())]
        assert tuple(hashes) == GOLDEN[split]

    def test_a_scene_depends_on_no_neighbour(self) -> None:
        scenes, alone = some("train", 40), draw_scenes(OPTIONS, "train", np.array([31]))
        assert (render(scenes)[31] == render(alone)[0]).all()
        assert caption_scenes(OPTIONS, "train", alone, 1).words == [
            caption_scenes(OPTIONS, "train", scenes, 1).words[31]
        ]

    def test_options_about_captions_change_no_scene(self) -> None:
        told = replace(OPTIONS, mention=1.0, caption_noise=0.5, num_captions=5)
        assert (render(some("test", 8)) == render(some("test", 8, told))).all()

    def test_worlds_and_splits_differ(self) -> None:
        pictures = [render(some(split, 8, replace(OPTIONS, world=world))).tobytes() for split in
                    ("train", "val", "test", "sealed") for world in (0, 1)]  # fmt: skip
        assert len(set(pictures)) == len(pictures)

    @pytest.mark.parametrize("split", ["test", "test-designer"])
    def test_pixels_are_those_of_a_loop(self, split: str) -> None:
        scenes = some(split, 6, replace(OPTIONS, second=0.6))
        held_out = split == "test-designer"
        pictures = render(scenes, held_out_designer=held_out)
        assert (scenes.second.object_N >= 0).any()
        for number in range(len(scenes)):
            assert pictures[number].tolist() == painted(scenes, number, held_out_designer=held_out)


class TestSplits:
    def test_held_out_objects_are_nowhere_else(self) -> None:
        unseen = set(some("test-objects", 200).first.object_N.tolist())
        assert unseen == set(range(OPTIONS.objects, OPTIONS.objects + UNSEEN))
        for split in SPLITS:
            scenes = some(split, 600)
            assert not unseen & set(scenes.second.object_N.tolist())
            assert split == "test-objects" or not unseen & set(scenes.first.object_N.tolist())

    def test_the_held_out_designer_draws_nowhere_else(self) -> None:
        for split in SPLITS:
            designers = set(factor_values(some(split, 600), split)["designer"])
            assert (designers == {HELD_OUT_DESIGNER}) == (split == "test-designer")
            assert split == "test-designer" or HELD_OUT_DESIGNER not in designers

    def test_held_out_pairs_are_nowhere_else(self) -> None:
        never = held_out_colours(OPTIONS)
        scenes = some("test-pairs", 300)
        assert (scenes.colour_N == never[scenes.first.object_N]).all()
        for split in ("train", "fit", "val", "test", "test-designer", "sealed"):
            scenes = some(split, 5000)
            assert (scenes.colour_N != never[scenes.first.object_N]).all()
            assert set(scenes.colour_N.tolist()) == set(range(len(COLOURS)))

    @pytest.mark.parametrize("split", ["val", "test", "test-designer", "test-pairs", "sealed"])
    def test_objects_take_turns(self, split: str) -> None:
        assert set(Counter(some(split, 800).first.object_N.tolist()).values()) == {8}

    def test_factors_are_drawn_evenly_and_apart(self) -> None:
        scenes = some("train", 8000)
        first = scenes.first
        columns = {"size": first.size_N, "place": first.place_N, "turn": first.turn_N, "tint": scenes.tint_N,
                   "mirror": first.mirror_N}  # fmt: skip
        for column in columns.values():
            assert chisquare(np.bincount(column)).pvalue > LEAST_P
        for name, column in columns.items():
            for other, values in {**columns, "colour": scenes.colour_N}.items():
                assert name == other or chi2_contingency(_table(column, values)).pvalue > LEAST_P

    def test_a_second_thing_is_another_far_away_and_as_common_as_asked(self) -> None:
        scenes = some("train", 4000)
        has = scenes.second.object_N >= 0
        assert abs(has.mean() - OPTIONS.second) < 0.03
        assert (scenes.second.object_N != scenes.first.object_N).all()
        rows = [np.stack(np.divmod(side.place_N, 3)) for side in (scenes.first, scenes.second)]
        apart = abs(rows[0] - rows[1]).max(axis=0)
        assert (apart[scenes.first.place_N != 4] == 2).all()
        assert (apart > 0).all()

    def test_drawings_lie_within_the_scene(self) -> None:
        assert render(some("train", 200)).shape == (200, 64, 64, 3)  # pasting outside would fail


class TestCaptions:
    @pytest.mark.parametrize("split", ["train", "test", "test-objects"])
    def test_captions_say_what_is_meant_and_are_true_of_their_scene(self, split: str) -> None:
        options = replace(OPTIONS, mention=0.5, second=0.6)
        scenes = some(split, 400, options)
        for number in (0, 1):
            told = caption_scenes(options, split, scenes, number)
            assert np.diagonal(true_of(told.said, scenes)).all()
            for place, words in enumerate(told.words):
                read = read_caption(words)
                assert holds(read, scenes, place), words
                said = [int(column[place]) for column in told.said]
                assert read.thing == object_names()[said[0]]
                assert (read.size is None) == (said[1] < 0)
                assert (read.colour is None) == (said[2] < 0)
                assert (read.place is None) == (said[3] < 0)
                assert (read.second is None) == (said[4] < 0) == (said[5] < 0)

    def test_truth_is_that_of_a_loop_that_reads_the_words(self) -> None:
        options = SceneOptions(objects=3, mention=0.35, second=0.7)
        scenes = some("test", 90, options)
        told = caption_scenes(options, "test", scenes, 0)
        truth = true_of(told.said, scenes)
        expected = [[holds(read_caption(words), scenes, n) for n in range(90)] for words in told.words]
        assert truth.tolist() == expected
        assert 1 < truth.sum(axis=1).mean() < 80
        second_alone = truth & (told.said.object_N[:, None] != scenes.first.object_N)
        assert second_alone.any()  # true of the second thing

    @pytest.mark.parametrize("mention", [0.0, 0.3, 1.0])
    def test_each_factor_is_named_as_often_as_asked_whatever_its_value(self, mention: float) -> None:
        options = replace(OPTIONS, mention=mention, second=0.5)
        scenes = some("train", 6000, options)
        said = caption_scenes(options, "train", scenes, 0).said
        has = scenes.second.object_N >= 0
        named = {"size": said.size_N >= 0, "colour": said.colour_N >= 0, "place": said.place_N >= 0,
                 "second": (said.second_N >= 0)[has]}  # fmt: skip
        values = {"size": scenes.first.size_N, "colour": scenes.colour_N, "place": scenes.first.place_N,
                  "second": scenes.first.place_N[has]}  # fmt: skip
        for factor, of in named.items():
            assert abs(of.mean() - mention) <= 4 * np.sqrt(mention * (1 - mention) / len(of))
            if 0 < mention < 1:
                assert chi2_contingency(_table(of.astype(int), values[factor])).pvalue > LEAST_P
        assert not (said.second_N >= 0)[~has].any()
        assert (said.object_N == scenes.first.object_N).all()

    @pytest.mark.parametrize("factor", MENTIONED)
    def test_a_factor_may_have_a_probability_of_its_own(self, factor: str) -> None:
        options = replace(OPTIONS, mention=0.0, **{f"mention_{factor}": 1.0})
        scenes = some("test", 200, options)
        said = caption_scenes(options, "test", scenes, 0).said
        columns = {"size": said.size_N, "colour": said.colour_N, "place": said.place_N,
                   "second": said.second_N}  # fmt: skip
        for name, column in columns.items():
            there = scenes.second.object_N >= 0 if name == "second" else np.ones(200, dtype=bool)
            assert ((column >= 0) == (there & (name == factor))).all()

    def test_noise_is_as_common_as_asked_even_and_in_training_alone(self) -> None:
        options = replace(OPTIONS, mention=1.0, caption_noise=0.2, second=1.0)
        scenes = some("train", 6000, options)
        said = caption_scenes(options, "train", scenes, 0).said
        true = (scenes.first.object_N, scenes.first.size_N, scenes.colour_N, scenes.first.place_N,
                scenes.second.object_N)  # fmt: skip
        sizes = (options.objects, len(SIZE_NAMES), len(COLOURS), len(PLACES), options.objects)
        wrong = [told != right for told, right in zip(said[:5], true, strict=True)]
        for off, told, right, size in zip(wrong, said[:5], true, sizes, strict=True):
            assert abs(off.mean() - 0.2) < 0.02
            steps = (told - right)[off] % size  # 1 ... size - 1, each as likely
            assert chisquare(np.bincount(steps, minlength=size)[1:]).pvalue > LEAST_P
        assert abs(np.corrcoef(np.stack(wrong)) - np.eye(5)).max() < 0.06
        for split in ("fit", "val", "test"):
            quiet = some(split, 300, options)
            assert np.diagonal(true_of(caption_scenes(options, split, quiet, 0).said, quiet)).all()

    def test_wording_gives_no_value_away(self) -> None:
        options = replace(OPTIONS, mention=1.0, second=0.0)
        scenes = some("train", 6000, options)
        words = caption_scenes(options, "train", scenes, 0).words
        values = factor_values(scenes, "train")
        grounds = [
            next(form for form in (1, 0, 2) if re.search(rf"\b{phrases_of('colour')[colour][form]}\b", text))
            for colour, text in zip(values["colour"], words, strict=True)
        ]
        begins = [not re.match(r"an? (?!.* ground, )", text) for text in words]
        for form in (np.array(grounds), np.array(begins, dtype=int)):
            assert min(np.bincount(form)) > 1000
            for column in (scenes.first.object_N, scenes.colour_N, scenes.first.place_N, scenes.first.size_N):
                assert chi2_contingency(_table(form, column)).pvalue > LEAST_P

    def test_captions_of_a_scene_differ_and_vary(self) -> None:
        scenes = some("train", 500)
        told = [caption_scenes(OPTIONS, "train", scenes, number).words for number in range(3)]
        for first, second in ((0, 1), (0, 2), (1, 2)):
            same = np.mean([a == b for a, b in zip(told[first], told[second], strict=True)])
            assert same < 0.35  # what names the object alone is said in one way

    def test_the_grammar_has_every_word(self) -> None:
        known = set(grammar_words())
        for split, options in (
            ("train", replace(OPTIONS, mention=0.8, caption_noise=0.2)),
            ("test-objects", OPTIONS),
        ):
            for text in caption_scenes(options, split, some(split, 2000, options), 0).words:
                assert set(text.replace(",", " , ").split()) <= known

    def test_articles_fit(self) -> None:
        options = replace(OPTIONS, mention=0.6, second=0.6)
        text = "\n".join(caption_scenes(options, "train", some("train", 3000, options), 0).words)
        assert not re.findall(r"\ba (?!uni)[aeiou]\w*", text)
        assert not re.findall(r"\ban (?![aeiou])\w*", text)


def _table(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    table = np.zeros((first.max() + 1, second.max() + 1), dtype=int)
    np.add.at(table, (first, second), 1)
    return table[table.sum(1) > 0][:, table.sum(0) > 0]


_VALUES = {
    option.name: (
        st.integers(*map(int, option.metadata["range"]))
        if isinstance(option.default, int)
        else st.floats(*option.metadata["range"])
    )
    for option in fields(SceneOptions)
    if option.name != "version"
}


class TestOptions:
    @given(st.fixed_dictionaries({}, optional=_VALUES))
    def test_a_name_gives_its_options_again(self, given_values: dict[str, float]) -> None:
        if given_values.get("pairs") == 1:
            given_values["pairs"] = 2
        options = SceneOptions(**given_values)  # type: ignore[arg-type]
        assert SceneOptions.parse(options.name) == options
        assert SceneOptions.parse(options.name).name == options.name

    @pytest.mark.parametrize(
        "name, said",
        [
            (
                "scenes:objcts=50",
                r"unknown option of scenes 'objcts'. Did you mean 'objects'\? Known: mention",
            ),
            ("scenes:objects=5000", r"objects=5000 must lie between 2 and \d+$"),
            ("scenes:mention=1.5", "mention=1.5 must lie between 0 and 1"),
            ("scenes:mention=nan", "mention=nan must lie between 0 and 1"),
            ("scenes:mention.place=-1", "mention.place=-1.0 must lie between 0 and 1"),
            ("scenes:objects=2.5", "option objects=2.5: expected a whole number between 2 and"),
            ("scenes:pairs=20000000", "pairs=20000000 must lie between 0 and 10000000$"),
            ("scenes:mention", "option mention: expected a number between 0 and 1, as mention=0.3"),
            ("scenes:mention=.1,mention=.2", "option mention stands twice"),
            ("scenes:pairs=1", "pairs=1: at least 2, or 0"),
            ("scenes:version=0", "version=0 is another world than the one made here"),
        ],
    )
    def test_what_cannot_be_is_refused_with_the_range(self, name: str, said: str) -> None:
        with pytest.raises(InputError, match=said):
            SceneOptions.parse(name)

    def test_a_count_is_whole_and_numbers_of_any_kind_are_written_alike(self) -> None:
        with pytest.raises(InputError, match=r"objects=50.5 must be a whole number"):
            SceneOptions(objects=50.5)  # type: ignore[arg-type]
        told = SceneOptions(mention=np.float64(0.1), objects=np.int64(50))  # type: ignore[arg-type]
        assert (
            told.name
            == SceneOptions(mention=0.1, objects=50).name
            == "scenes:version=1,mention=0.1,objects=50"
        )

    def test_an_unknown_split_lists_the_splits(self) -> None:
        with pytest.raises(InputError, match=r"'tset'.*test-designer"):
            some("tset", 1)

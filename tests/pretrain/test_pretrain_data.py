from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from crossgap.errors import InputError
from pretrain.data.batches import Batch, Batches
from pretrain.data.pairs import TrainingPairs, load_pairs
from pretrain.data.semantics import caption_vectors
from pretrain.settings import AugmentConfig
from tests.training_shards import write_shard

ALL = ("image", "second_image", "third_image", "local_images", "text", "second_text", "fewer_words")
GIVEN = ("concept_B", "semantic_BS")
CAPTIONS = [["a"], ["a", "b c"], ["one two three", "four", "a"], ["five six"], ["b c"], ["g"], ["h i"]]
END = 49407


def load(path: Path, *, limit: int | None = None) -> TrainingPairs:
    return load_pairs(str(path), image_size=20, context_length=8, limit=limit)


@pytest.fixture
def pairs(tmp_path: Path) -> TrainingPairs:
    return load(write_shard(tmp_path / "a.tar", CAPTIONS))


def batches(pairs: TrainingPairs, batch_size: int = 3, seed: int = 0) -> Batches:
    return Batches(pairs=pairs, batch_size=batch_size, image_size=8, augment=AugmentConfig(), seed=seed)


def same_parts(one: Batch, two: Batch) -> bool:
    pixels = all(torch.equal(one.images[name], two.images[name]) for name in one.images)
    return pixels and all(torch.equal(one.texts[name].ids_BL, two.texts[name].ids_BL) for name in one.texts)


def captions_of(pairs: TrainingPairs, index: int) -> list[str]:
    first, count = int(pairs.first_N[index]), int(pairs.count_N[index])
    words = open_clip.SimpleTokenizer()
    found = []
    for caption in pairs.caption_of_K[first : first + count]:
        ids = pairs.vocabulary_V[pairs.ids_ML[caption]][: int(pairs.lengths_M[caption])]
        found.append(words.decode(ids.tolist()[1:-1]).strip())
    return found


def test_every_sample_keeps_its_captions_and_its_pixels(pairs: TrainingPairs, tmp_path: Path) -> None:
    assert [captions_of(pairs, index) for index in range(len(pairs))] == CAPTIONS
    assert pairs.images.pixels_NHWC.shape == (7, 20, 20, 3)
    assert pairs.images.pixels_NHWC.dtype == torch.uint8
    # sample 1 is the second shape in the first colour: a red dot on white
    assert pairs.images.pixels_NHWC[1, 7, 7].tolist() == [220, 30, 30]
    assert pairs.images.pixels_NHWC[1, 0, 0].tolist() == [255, 255, 255]


def test_each_distinct_caption_is_tokenised_once(pairs: TrainingPairs) -> None:
    assert len(pairs.ids_ML) == 7
    ends = pairs.vocabulary_V[pairs.ids_ML[torch.arange(7), pairs.lengths_M - 1]]
    assert ends.tolist() == [END] * 7


def test_long_captions_are_cut_and_keep_their_end(tmp_path: Path) -> None:
    pairs = load(write_shard(tmp_path / "a.tar", [["one two three four five six seven eight nine"]]))
    assert pairs.lengths_M.tolist() == [8]
    assert pairs.vocabulary_V[pairs.ids_ML[0, 7]] == END


def test_other_sizes_are_resized(tmp_path: Path) -> None:
    pairs = load(write_shard(tmp_path / "a.tar", CAPTIONS, size=41))
    assert pairs.images.pixels_NHWC.shape == (7, 20, 20, 3)
    half = pairs.images.pixels_NHWC[3]  # the left half is coloured
    assert half[:, :9].float().std((0, 1)).max() < 1
    assert (half[:, 11:] == 255).all()


def test_limit_and_digest(pairs: TrainingPairs, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    assert len(load(path, limit=4)) == 4
    assert load(path).digest == pairs.digest
    assert load(path, limit=6).digest != pairs.digest
    other = write_shard(tmp_path / "b.tar", [*CAPTIONS[:-1], ["h j"]])
    assert load(other).digest != pairs.digest


def test_several_shards_by_a_pattern(tmp_path: Path) -> None:
    write_shard(tmp_path / "000.tar", CAPTIONS[:3])
    write_shard(tmp_path / "001.tar", CAPTIONS[3:])
    assert len(load(tmp_path / "{000..001}.tar")) == 7


def test_an_epoch_holds_every_pair_at_most_once_and_epochs_differ(pairs: TrainingPairs) -> None:
    drawn = batches(pairs)
    first = torch.cat([drawn.indices(step) for step in (0, 1)])
    second = torch.cat([drawn.indices(step) for step in (2, 3)])
    assert len(set(first.tolist())) == len(first) == 6
    assert len(set(second.tolist())) == len(second) == 6
    assert first.tolist() != second.tolist()
    seen = {index for step in range(20) for index in drawn.indices(step).tolist()}
    assert seen == set(range(7))  # what one epoch leaves over comes in another


def test_a_batch_is_a_function_of_seed_and_step(pairs: TrainingPairs) -> None:
    one, again = (batches(pairs).batch(5, ALL) for _ in range(2))
    assert same_parts(one, again)
    for other in (batches(pairs, seed=1).batch(5), batches(pairs).batch(6)):
        assert not torch.equal(one.images["image"], other.images["image"])


def test_first_views_do_not_depend_on_second_views(pairs: TrainingPairs) -> None:
    plain = batches(pairs).batch(3)
    more = batches(pairs).batch(3, ALL)
    assert list(plain.images) == ["image"]
    assert list(plain.texts) == ["text"]
    assert torch.equal(plain.images["image"], more.images["image"])
    assert torch.equal(plain.texts["text"].ids_BL, more.texts["text"].ids_BL)
    views = [more.images[name] for name in ("image", "second_image", "third_image")]
    views += list(more.images["local_images"].unbind(1))
    for index, view in enumerate(views):
        assert view.shape == views[0].shape
        assert not any(torch.equal(view, other) for other in views[:index])


def test_views_after_the_first_may_be_stronger(pairs: TrainingPairs) -> None:
    plain = batches(pairs).batch(3, ALL)
    strong = AugmentConfig(area=(0.1, 0.2))
    stronger = replace(batches(pairs), extra_augment=strong).batch(3, ALL)
    assert torch.equal(plain.images["image"], stronger.images["image"])
    assert not torch.equal(plain.images["second_image"], stronger.images["second_image"])
    as_strong = replace(batches(pairs), augment=strong).batch(3, ALL)
    assert torch.equal(stronger.images["second_image"], as_strong.images["second_image"])


def test_a_part_of_a_batch_holds_its_rows(pairs: TrainingPairs) -> None:
    whole = replace(batches(pairs, batch_size=6), pairs=with_semantics(pairs)).batch(0, (*ALL, *GIVEN))
    parts = [whole.rows(0, 2), whole.rows(2, 6)]
    assert [part.first_row for part in parts] == [0, 2]
    for kind in ("images", "given"):
        for name, values in getattr(whole, kind).items():
            assert torch.equal(torch.cat([getattr(part, kind)[name] for part in parts]), values)
    for name, captions in whole.texts.items():
        assert torch.equal(torch.cat([part.texts[name].lengths_B for part in parts]), captions.lengths_B)


def with_semantics(pairs: TrainingPairs) -> TrainingPairs:
    concept_N = torch.arange(len(pairs)) % 3
    return replace(pairs, semantic_MS=caption_vectors(pairs.captions_M, None), concept_N=concept_N)


def test_data_without_concepts_say_so_when_a_term_compares_them(pairs: TrainingPairs) -> None:
    with pytest.raises(InputError, match=r'put "concept" or "label" into the \.json part'):
        batches(pairs).batch(0, GIVEN)


def test_concepts_are_numbered_by_name() -> None:
    pairs = load_pairs("emoji", image_size=8, context_length=8, limit=300)
    assert pairs.concept_N is not None
    assert pairs.concept_N.min() == 0
    assert pairs.concept_N.max() == len(pairs.concept_N.unique()) - 1


def test_captions_that_share_words_are_alike() -> None:
    captions = ["red apple", "green apple", "grey stone", "apple red"]
    alike = caption_vectors(captions, None) @ caption_vectors(captions, None).T
    assert torch.allclose(alike.diag(), torch.ones(4))
    assert alike[0, 1] > alike[0, 2]
    assert alike[0, 3] > alike[0, 1]
    assert torch.equal(caption_vectors(captions, None), caption_vectors(captions, None))


def test_captions_take_their_vectors_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "sentences.npz"
    np.savez(path, ids=["b", "a"], values=np.array([[0.0, 2.0], [3.0, 0.0]]), modality="text")
    assert caption_vectors(["a", "b", "a"], str(path)).tolist() == [[1, 0], [0, 1], [1, 0]]
    with pytest.raises(InputError, match=r"sentences\.npz lacks 1 of 2 captions, the first is 'c'"):
        caption_vectors(["a", "c"], str(path))


def test_captions_belong_to_their_images_and_second_ones_differ(pairs: TrainingPairs) -> None:
    drawn = batches(pairs, batch_size=7)
    chosen: dict[int, set[int]] = {}
    for step in range(40):
        indices = drawn.indices(step)
        first, other = drawn._captions(indices, step)
        for index, one, two in zip(indices.tolist(), first.tolist(), other.tolist(), strict=True):
            start, count = int(pairs.first_N[index]), int(pairs.count_N[index])
            own = pairs.caption_of_K[start : start + count].tolist()
            assert one in own
            assert two in own
            assert (one == two) == (count == 1)
            chosen.setdefault(index, set()).add(one)
    assert [len(chosen[index]) for index in range(7)] == [len(captions) for captions in CAPTIONS]


def test_a_pair_with_one_caption_gets_a_second_view_with_words_left_out(tmp_path: Path) -> None:
    long = "one two three four five six"
    pairs = load(write_shard(tmp_path / "a.tar", [[long], [long]]))
    drawn = replace(batches(pairs, batch_size=2), augment=AugmentConfig(drop_words=0.5))
    batch = drawn.batch(0, ("text", "second_text", "fewer_words"))
    assert batch.texts["text"].lengths_B.tolist() == [8, 8]
    assert batch.texts["second_text"].lengths_B.max() < 8
    assert batch.texts["fewer_words"].lengths_B.max() < 8


@pytest.mark.parametrize("batch_size", [1, 8])
def test_batches_that_do_not_fit_are_refused(pairs: TrainingPairs, batch_size: int) -> None:
    with pytest.raises(InputError, match=f"batch_size={batch_size}: must lie between 2 and .* 7"):
        batches(pairs, batch_size=batch_size)


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "none.tar")

"""Places of images: what is read there, and that a dataset holds places and not pictures."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from crossgap.datasets.load import load_dataset
from crossgap.datasets.readers import stored
from crossgap.datasets.readers.stored import StoredImage, digest, digests, read_bytes
from crossgap.datasets.tasks import Answers, Items
from crossgap.embeddings import encode_items
from crossgap.errors import InputError
from crossgap.metrics.relevance import LabelRelevance, ListedRelevance
from crossgap.metrics.retrieval import retrieval_metrics
from crossgap.metrics.similarity import cosine_scores
from crossgap.metrics.streaming import streamed_metrics
from tests.conftest import tiny_encoder
from tests.datasets.test_datasets import write_shard
from tests.miniatures import picture, put


def test_a_part_of_a_file_and_a_box(tmp_path: Path) -> None:
    data = picture(1, 5)
    path = put(tmp_path / "archive", b"before" + data + b"after")
    place = StoredImage(path, 6, len(data))
    assert read_bytes(place) == data
    assert digest(place) == digest(data)
    assert digest(StoredImage(path, 6, len(data), box=(0, 0, 4, 4))) != digest(place)
    with pytest.raises(InputError, match="it ends before byte"):
        read_bytes(StoredImage(path, 6, len(data) + 6))
    with pytest.raises(InputError, match="No such file"):
        read_bytes(StoredImage(tmp_path / "gone"))
    with pytest.raises(InputError, match="No such file"):
        digest(tmp_path / "gone")


@pytest.mark.parametrize("cores", [1, 3])
def test_digests_are_those_of_each_in_order_for_any_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr(stored, "own_cores", lambda: cores)
    monkeypatch.setattr(stored, "_AT_ONCE", 50)
    paths = [put(tmp_path / str(number), bytes([number]) * 3000) for number in range(130)]
    pictures = [*paths, b"held", StoredImage(paths[0], 1, 5)]
    assert list(digests(pictures)) == [digest(one) for one in pictures]
    paths[77].unlink()
    with pytest.raises(InputError, match="77: cannot be read"):
        list(digests(pictures))


def test_a_file_that_changed_has_another_digest(tmp_path: Path) -> None:
    path = put(tmp_path / "image", b"one")
    before = digest(path)
    put(path, b"three")
    assert digest(path) != before


def test_images_of_local_tars_stay_there_and_those_of_packed_ones_do_not(tmp_path: Path) -> None:
    samples = [("a", {"label": "x"}), ("b", {"label": "x"}), ("c", {"label": "y"}), ("d", {"label": "y"})]
    plain = write_shard(tmp_path / "shard.tar", samples)
    packed = tmp_path / "packed.tar.gz"
    with tarfile.open(plain) as source, tarfile.open(packed, "w:gz") as archive:
        for member in source:
            archive.addfile(member, io.BytesIO(source.extractfile(member).read()))  # type: ignore[union-attr]
    stored, held = (load_dataset(str(path)).tasks[0].query for path in (plain, packed))
    assert all(isinstance(content, StoredImage) for content in stored.contents)
    assert all(isinstance(content, bytes) for content in held.contents)
    for place in range(4):
        assert stored.image(place).tobytes() == held.image(place).tobytes()


def test_an_ensemble_is_the_mean_of_unit_features() -> None:
    encoder = tiny_encoder(dtype=torch.float64)
    wordings = (("a cat", "a small cat", "one cat"), ("a dog", "a small dog", "one dog"))
    items = Items(modality="text", ids=("cat", "dog"), contents=wordings, labels=("cat", "dog"))
    found = encode_items(encoder, items)
    for row, texts in zip(found, wordings, strict=True):
        mean = encoder.encode_text(encoder.tokenize(texts)).mean(dim=0)
        torch.testing.assert_close(row, mean / mean.norm())
    single = Items(modality="text", ids=("cat",), contents=("a cat",), labels=("cat",))
    assert items.texts() == ["a cat", "a dog"]
    assert items.content_hash != single.content_hash
    mixed = Items(
        modality="text", ids=("a", "b"), contents=(("a cat", "one cat"), "a dog"), labels=("a", "b")
    )
    torch.testing.assert_close(
        encode_items(encoder, mixed)[1], encoder.encode_text(encoder.tokenize(["a dog"]))[0]
    )


class TestListedRelevance:
    ANSWERS: ClassVar = {"q0": Answers(("b", "d"), ("c",)), "q1": Answers(("a",)), "q2": Answers(())}

    def test_masks(self) -> None:
        judged = ListedRelevance(["q1", "q0", "q2"], list("abcd"), self.ANSWERS)
        whole = judged.rows(slice(None))
        assert whole.relevant_QG.int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
        assert whole.ignored_QG.int().tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
        assert torch.equal(judged.rows(slice(0, 3, 2)).relevant_QG, whole.relevant_QG[::2])

    def test_metrics_follow(self) -> None:
        generator = torch.Generator().manual_seed(0)
        query_QD, gallery_GD = (torch.randn(count, 5, generator=generator) for count in (3, 4))
        judged = ListedRelevance(["q0", "q1", "q2"], list("abcd"), self.ANSWERS)
        found = streamed_metrics(query_QD, gallery_GD, judged)
        slow = retrieval_metrics(cosine_scores(query_QD, gallery_GD), judged.rows(slice(None)), ks=(1, 5, 10))
        for name, values_Q in slow.items():
            torch.testing.assert_close(found[name], values_Q, equal_nan=True)

    def test_what_does_not_fit_is_named(self) -> None:
        with pytest.raises(InputError, match="query 'q9': no answers are listed"):
            ListedRelevance(["q9"], list("abcd"), self.ANSWERS)
        with pytest.raises(InputError, match=r"query 'q0': its answer 'd' is not in the gallery"):
            ListedRelevance(["q0"], list("abc"), self.ANSWERS)
        with pytest.raises(InputError, match="'a' occurs more than once"):
            ListedRelevance(["q1"], ["a", "a"], self.ANSWERS)


def test_the_published_codes_map_at_r_runs_one_rank_further() -> None:
    """By a plain loop: R is counted with the query in the gallery, the sum is over the true R."""
    generator = torch.Generator().manual_seed(1)
    features_ND = torch.randn(40, 6, generator=generator)
    labels = [str(number % 7) for number in range(39)] + ["alone"]
    ids = [str(number) for number in range(40)]
    found = streamed_metrics(
        features_ND, features_ND, LabelRelevance(ids, ids, labels, labels), past_r=True, memory=1 << 12
    )
    scores = cosine_scores(features_ND, features_ND)
    for query in range(40):
        order = [item for item in scores[query].argsort(descending=True).tolist() if item != query]
        hits = [labels[item] == labels[query] for item in order]
        right = sum(hits)
        counted_with_itself = right + 1
        gained = sum(sum(hits[:rank]) / rank for rank in range(1, counted_with_itself + 1) if hits[rank - 1])
        if right == 0:
            assert found["mAP@R+1"][query].isnan()
        else:
            assert float(found["mAP@R+1"][query]) == pytest.approx(gained / right)
    usable = ~found["mAP"].isnan()
    assert bool((found["mAP@R+1"][usable] >= found["mAP@R"][usable]).all())
    assert float(found["mAP@R+1"].nanmean()) > float(found["mAP@R"].nanmean())
    assert "mAP@R+1" not in streamed_metrics(
        features_ND, features_ND, LabelRelevance(ids, ids, labels, labels)
    )

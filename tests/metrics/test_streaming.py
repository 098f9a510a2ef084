"""Streamed metrics: the same as of all scores at once and as plain loops, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics import streaming
from crossgap.metrics.relevance import LabelRelevance, Relevance
from crossgap.metrics.retrieval import retrieval_metrics
from crossgap.metrics.similarity import cosine_scores, inner_products, unit_copy
from crossgap.metrics.streaming import streamed_metrics
from tests.reference import plain_retrieval
from tests.reference_metrics import sorted_metrics


@st.composite
def lists(draw: st.DrawFn) -> tuple[Tensor, Relevance]:
    """Scores of few distinct values, negative ones too, with relevant and ignored items at random."""
    n_queries, n_gallery = draw(st.integers(1, 4)), draw(st.integers(1, 6) | st.integers(7, 30))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    scores_QG = torch.randint(levels, (n_queries, n_gallery), generator=generator) / levels - 0.5
    kind_QG = torch.rand(n_queries, n_gallery, generator=generator)
    share = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    return scores_QG, Relevance(kind_QG < share * 0.8, kind_QG >= 0.8)


@given(lists(), st.sampled_from([(1,), (1, 5, 10), (3, 40)]))
def test_looking_up_gives_what_whole_lists_give_and_what_plain_loops_give(
    given_lists: tuple[Tensor, Relevance], ks: tuple[int, ...]
) -> None:
    scores_QG, relevance = given_lists
    counted = retrieval_metrics(scores_QG, relevance, ks=ks)
    expected = sorted_metrics(scores_QG, relevance, ks)
    assert counted.keys() == expected.keys()
    for name, values_Q in expected.items():
        torch.testing.assert_close(counted[name], values_Q, atol=1e-12, rtol=1e-12, equal_nan=True)
    small = scores_QG.shape[1] <= 6  # the plain twin goes through every order of tied items
    for query in range(len(scores_QG) if small else 0):
        plain = plain_retrieval(
            scores_QG[query].tolist(),
            relevance.relevant_QG[query].tolist(),
            relevance.ignored_QG[query].tolist(),
            ks,
        )
        for name, value in plain.items():
            assert float(counted[name][query]) == pytest.approx(value, abs=1e-12, nan_ok=True)


@given(st.integers(0, 10_000), st.sampled_from([0, 7]), st.booleans(), st.booleans())
def test_streaming_is_the_same_as_all_scores_at_once(
    seed: int, block: int, drop_self: bool, by_group: bool
) -> None:
    """Unit rows of halves tie exactly; ids shared by both sides drop themselves; some items have no group."""
    generator = torch.Generator().manual_seed(seed)
    query_QD = torch.randint(2, (9, 4), generator=generator) - 0.5
    gallery_GD = torch.cat([query_QD[:4], torch.randint(2, (17, 4), generator=generator) - 0.5])
    names = ("a", "b", "c", "alone")
    labels = [names[number] for number in torch.randint(4, (30,), generator=generator).tolist()]
    groups = [("", "x", "y")[number] for number in torch.randint(3, (30,), generator=generator).tolist()]
    judged = LabelRelevance(
        [f"item-{number}" for number in range(9)],
        [f"item-{number}" for number in range(4)] + [f"other-{number}" for number in range(17)],
        labels[:9],
        labels[9:],
        query_groups=groups[:9],
        gallery_groups=groups[9:],
        ignore_same_group=by_group,
        drop_self=drop_self,
    )
    expected = retrieval_metrics(cosine_scores(query_QD, gallery_GD), judged.rows(slice(None)))
    with pytest.MonkeyPatch.context() as patch:
        if block:
            patch.setattr(streaming, "inner_products", partial(inner_products, chunk=block))
        found = streamed_metrics(query_QD, gallery_GD, judged, memory=16 * 21 * 2 if block else 1 << 29)
    for name, values_Q in expected.items():
        torch.testing.assert_close(found[name], values_Q, atol=1e-12, rtol=1e-12, equal_nan=True)


def many(queries: int, gallery: int) -> tuple[torch.Tensor, torch.Tensor, LabelRelevance]:
    generator = torch.Generator().manual_seed(2)
    query_QD, gallery_GD = (torch.randn(count, 6, generator=generator) for count in (queries, gallery))
    labels = [str(number % 5) for number in range(gallery)]
    ids = [f"item-{number}" for number in range(gallery)]
    judged = LabelRelevance(ids[:queries], ids, [*labels[: queries - 1], "nothing"], labels)
    return query_QD, gallery_GD, judged


@pytest.mark.parametrize("shares", [2, 3, 9])
def test_shares_of_the_queries_add_up_to_the_whole(shares: int) -> None:
    query_QD, gallery_GD, judged = many(17, 40)
    memory = 16 * 40 * 3  # three queries at once: six blocks
    whole = streamed_metrics(query_QD, gallery_GD, judged, memory=memory)
    parts = [
        streamed_metrics(query_QD, gallery_GD, judged, memory=memory, share=(number, shares))
        for number in range(shares)
    ]
    for name, values_Q in whole.items():
        filled = torch.stack([part[name] for part in parts])
        assert int((filled.nan_to_num(1.0) != 0).sum(dim=0).max()) <= 1  # each query is in one share
        assert torch.equal(filled.sum(dim=0).nan_to_num(-1.0), values_Q.nan_to_num(-1.0))
    assert bool(whole["mAP"][16].isnan())


def test_scores_are_ranked_on_another_device_than_the_features() -> None:
    """On CUDA where there is some; else the path of a device that is named is the CPU's."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    query_QD, gallery_GD, judged = many(17, 40)
    whole = streamed_metrics(query_QD, gallery_GD, judged)
    found = streamed_metrics(query_QD, gallery_GD, judged, device=device)
    for name, values_Q in whole.items():
        assert found[name].device.type == "cpu"
        torch.testing.assert_close(found[name], values_Q, atol=1e-6, rtol=1e-6, equal_nan=True)


def test_blocks_of_relevance_are_the_whole_in_pieces() -> None:
    names = [f"i{number}" for number in range(7)]
    judged = LabelRelevance(names, names, list("aabbccd"), list("aabbccd"))
    whole = judged.rows(slice(None))
    assert judged.shape == (7, 7)
    parts = [judged.rows(slice(0, 3)), judged.rows(slice(3, 7))]
    assert torch.equal(torch.cat([part.relevant_QG for part in parts]), whole.relevant_QG)
    assert torch.equal(torch.cat([part.ignored_QG for part in parts]), whole.ignored_QG)
    assert torch.equal(whole.ignored_QG, torch.eye(7, dtype=torch.bool))


def test_doubles_stay_doubles() -> None:
    generator = torch.Generator().manual_seed(0)
    query_QD, gallery_GD = (torch.randn(count, 8, generator=generator).double() for count in (3, 5000))
    labels = [str(number % 7) for number in range(5000)]
    ids = [str(number) for number in range(5000)]
    judged = LabelRelevance(["q0", "q1", "q2"], ids, ["0", "1", "nothing"], labels)
    found = streamed_metrics(query_QD, gallery_GD, judged)
    expected = retrieval_metrics(cosine_scores(query_QD, gallery_GD), judged.rows(slice(None)))
    for name, values_Q in expected.items():
        torch.testing.assert_close(found[name], values_Q, atol=1e-12, rtol=1e-12, equal_nan=True)
    assert bool(found["mAP"][2].isnan())


PEAK = """
import sys, torch
from benchmarks.memory import forget_peak, peak
from crossgap.metrics.relevance import LabelRelevance
from crossgap.metrics.streaming import streamed_metrics
queries, memory = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
query_QD, gallery_GD = torch.randn(queries, 16), torch.randn(60_000, 16)
labels = [str(number % 500) for number in range(60_000)]
ids = [str(number) for number in range(60_000)]
judged = LabelRelevance([f"q{n}" for n in range(queries)], ids, labels[:queries], labels)
first = LabelRelevance(list("abcd"), ids, labels[:4], labels)
streamed_metrics(query_QD[:4], gallery_GD, first, memory=memory)
forget_peak()
before = peak()
streamed_metrics(query_QD, gallery_GD, judged, memory=memory)
print((peak() - before) / 2**20)
"""


@pytest.mark.slow
def test_memory_grows_with_the_block_and_not_with_the_queries() -> None:
    def peak(queries: int, memory: int) -> float:
        command = [sys.executable, "-c", PEAK, str(queries), str(memory)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    few, many, at_once = peak(100, 1 << 25), peak(400, 1 << 25), peak(400, 1 << 29)
    assert max(few, many) < 64  # beside the copies of both sides, 4 MiB
    assert at_once > 200


def test_what_does_not_fit_is_refused() -> None:
    judged = LabelRelevance(["a"], ["b", "c"], ["x"], ["x", "y"])
    ones = torch.ones(2, 3)
    with pytest.raises(InputError, match="1 queries and 2 gallery items, the features are of 2 and 2"):
        streamed_metrics(ones, ones, judged)
    with pytest.raises(InputError, match="k of at least 1, got k=0"):
        streamed_metrics(ones[:1], ones, judged, ks=(0,))
    with pytest.raises(InputError, match="row 1 of the gallery has no direction"):
        streamed_metrics(ones[:1], torch.tensor([[1.0, 0, 0], [0, 0, 0]]), judged)
    with pytest.raises(InputError, match="id 'b' occurs more than once"):
        LabelRelevance(["a"], ["b", "b"], ["x"], ["x", "y"])


def test_the_row_without_direction_has_its_own_number() -> None:
    rows_ND = torch.ones(10_000, 2)
    rows_ND[9_001] = torch.nan
    with pytest.raises(InputError, match="row 9001 of the gallery"):
        unit_copy(rows_ND, torch.float32, "gallery")

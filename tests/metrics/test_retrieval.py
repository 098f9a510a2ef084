from __future__ import annotations

import math
import time
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from crossgap.errors import InputError
from crossgap.metrics import ranking
from crossgap.metrics.relevance import Relevance, relevance_from_labels
from crossgap.metrics.retrieval import macro_mean, retrieval_metrics
from tests.reference import plain_retrieval

KS = (1, 2, 3, 20)


def judged(relevant: list[list[int]], ignored: list[list[int]] | None = None) -> Relevance:
    relevant_QG = torch.tensor(relevant).bool()
    return Relevance(
        relevant_QG, torch.zeros_like(relevant_QG) if ignored is None else torch.tensor(ignored).bool()
    )


def random_lists(
    n_queries: int, n_gallery: int, seed: int, levels: int = 0
) -> tuple[torch.Tensor, Relevance]:
    """Random scores, negative ones among them; with ``levels`` only so many different ones (ties)."""
    generator = torch.Generator().manual_seed(seed)
    if levels:
        scores_QG = torch.randint(levels, (n_queries, n_gallery), generator=generator).double() - levels / 2
    else:
        scores_QG = torch.randn((n_queries, n_gallery), generator=generator, dtype=torch.float64)
    kind_QG = torch.randint(4, (n_queries, n_gallery), generator=generator)
    return scores_QG, Relevance(kind_QG == 0, kind_QG == 1)


def test_hand_made_table() -> None:
    scores_QG = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5], [0.9, 0.8, 0.7, 0.6, 0.5]])
    relevance = judged([[1, 0, 1, 0, 0], [0, 0, 0, 1, 1]])
    found = retrieval_metrics(scores_QG, relevance, ks=(1, 3, 4))
    expected = {
        "mAP": [(1 + 2 / 3) / 2, (1 / 4 + 2 / 5) / 2],
        "mAP@R": [1 / 2, 0],
        "R-precision": [1 / 2, 0],
        "hit@1": [1, 0],
        "hit@3": [1, 0],
        "hit@4": [1, 1],
        "recall@1": [1 / 2, 0],
        "recall@3": [1, 0],
        "recall@4": [1, 1 / 2],
    }
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].dtype == torch.float64
        assert found[name].tolist() == pytest.approx(values, abs=1e-15), name


def test_ignored_items_leave_the_list_before_ranks_and_relevant_items_are_counted() -> None:
    # the best item is ignored: rank 1 goes to the next; R is 2, not 3
    found = retrieval_metrics(
        torch.tensor([[0.9, 0.8, 0.7, 0.6]]), judged([[0, 1, 0, 1]], [[1, 0, 0, 0]]), ks=(1,)
    )
    assert found["mAP"].item() == pytest.approx((1 + 2 / 3) / 2)
    assert found["mAP@R"].item() == 0.5
    assert found["hit@1"].item() == 1.0


def test_the_query_itself_does_not_lengthen_the_list_of_relevant_items() -> None:
    # two classes of two: each query finds its one partner first, so AP@R with R = 1 is perfect
    names, labels = ["a1", "a2", "b1", "b2"], ["a", "a", "b", "b"]
    scores_QG = torch.tensor(
        [[1.0, 0.9, 0.1, 0.2], [0.9, 1, 0.2, 0.1], [0.1, 0.2, 1, 0.9], [0.2, 0.1, 0.9, 1]]
    )
    found = retrieval_metrics(scores_QG, relevance_from_labels(names, names, labels, labels), ks=(1,))
    assert all(values.tolist() == [1.0] * 4 for values in found.values())


def test_a_class_of_one_is_skipped_and_spoils_no_mean() -> None:
    names, labels = ["a1", "a2", "b1"], ["a", "a", "b"]
    scores_QG = torch.tensor([[1.0, 0.5, 0.1], [0.5, 1.0, 0.1], [0.1, 0.1, 1.0]])
    found = retrieval_metrics(scores_QG, relevance_from_labels(names, names, labels, labels))
    for name, values_Q in found.items():
        assert values_Q.isnan().tolist() == [False, False, True], name
        assert float(values_Q.nanmean()) == 1.0


def test_negative_scores_count_like_positive_ones() -> None:
    # a library metric that drops items with scores <= 0 would call both of these 0
    relevance = judged([[1, 0, 1, 0]])
    shifted = retrieval_metrics(torch.tensor([[1.9, 1.8, 1.7, 1.6]]), relevance)
    negative = retrieval_metrics(torch.tensor([[-0.1, -0.2, -0.3, -0.4]]), relevance)
    assert negative["mAP"].item() == pytest.approx((1 + 2 / 3) / 2)
    mixed = retrieval_metrics(torch.tensor([[0.1, 0.0, -0.3, -0.4]]), relevance)
    for name in shifted:
        assert shifted[name].item() == negative[name].item() == mixed[name].item()


def test_two_tied_items_are_averaged_by_hand() -> None:
    # one relevant among two tied at the top: rank 1 or 2 with even chance
    found = retrieval_metrics(torch.tensor([[0.5, 0.5, 0.1]]), judged([[1, 0, 0]]), ks=(1, 2))
    assert found["mAP"].item() == 0.75
    assert found["mAP@R"].item() == found["R-precision"].item() == found["hit@1"].item() == 0.5
    assert found["hit@2"].item() == found["recall@2"].item() == 1.0


LIST = st.lists(
    st.tuples(st.integers(-1, 1), st.sampled_from(["relevant", "other", "ignored"])), min_size=1, max_size=6
)


@settings(max_examples=300)
@given(LIST)
def test_ties_equal_the_mean_over_all_orders(items: list[tuple[int, str]]) -> None:
    scores = [float(score) for score, _ in items]
    relevant = [kind == "relevant" for _, kind in items]
    ignored = [kind == "ignored" for _, kind in items]
    found = retrieval_metrics(
        torch.tensor([scores]), Relevance(torch.tensor([relevant]), torch.tensor([ignored])), ks=KS
    )
    expected = plain_retrieval(scores, relevant, ignored, KS)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_larger_lists_with_few_ties_equal_the_mean_over_all_orders() -> None:
    generator = torch.Generator().manual_seed(4)
    for _ in range(10):
        scores = torch.randint(12, (15,), generator=generator).tolist()
        scores = [
            score if scores[:place].count(score) < 3 else 100 + place for place, score in enumerate(scores)
        ]
        relevant = (torch.rand(15, generator=generator) < 0.4).tolist()
        found = retrieval_metrics(torch.tensor([scores]).double(), judged([relevant]), ks=KS)
        for name, value in plain_retrieval(scores, relevant, [False] * 15, KS).items():
            assert found[name].item() == pytest.approx(value, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("n, r", [(7, 1), (7, 3), (7, 7), (40, 2), (1200, 30)])
def test_constant_scores_give_the_closed_forms_of_a_random_order(n: int, r: int) -> None:
    relevance = judged([[1] * r + [0] * (n - r)])
    found = retrieval_metrics(torch.full((1, n), -0.3), relevance, ks=(1, 5, 10))
    # 1/n sum_j (1 + (j-1)(r-1)/(n-1)) / j, written with the harmonic number of n
    harmonic = sum(Fraction(1, place) for place in range(1, n + 1))
    scale = Fraction(r - 1, n - 1)
    assert found["mAP"].item() == pytest.approx(float((scale * (n - harmonic) + harmonic) / n), rel=1e-12)
    assert found["R-precision"].item() == pytest.approx(r / n, rel=1e-12)
    for k in (1, 5, 10):
        miss = Fraction(math.comb(n - r, min(k, n)), math.comb(n, min(k, n)))
        assert found[f"hit@{k}"].item() == pytest.approx(float(1 - miss), rel=1e-12)
        assert found[f"recall@{k}"].item() == pytest.approx(min(k, n) / n, rel=1e-12)


def test_breaking_ties_at_random_has_the_expected_mean() -> None:
    scores_QG, relevance = random_lists(3, 30, seed=1, levels=4)
    found = retrieval_metrics(scores_QG, relevance, ks=(1, 5))
    generator = torch.Generator().manual_seed(0)
    n_draws = 4000
    noise = torch.rand((n_draws, *scores_QG.shape), generator=generator, dtype=torch.float64) * 0.5
    drawn = retrieval_metrics(
        (scores_QG + noise).flatten(0, 1),
        Relevance(relevance.relevant_QG.repeat(n_draws, 1), relevance.ignored_QG.repeat(n_draws, 1)),
        ks=(1, 5),
    )
    for name, values in drawn.items():
        values_NQ = values.reshape(n_draws, 3)
        error_Q = values_NQ.std(dim=0) / math.sqrt(n_draws)
        assert ((values_NQ.mean(dim=0) - found[name]).abs() <= 4.5 * error_Q + 1e-12).all(), name


@given(st.integers(0, 10_000), st.integers(2, 30))
def test_average_precision_agrees_with_scikit_learn_without_ties(seed: int, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores_G = torch.randperm(n, generator=generator).double() / n - 0.5
    relevant_G = torch.rand(n, generator=generator) < 0.4
    relevant_G[0] = True
    found = retrieval_metrics(
        scores_G[None], Relevance(relevant_G[None], torch.zeros((1, n), dtype=torch.bool))
    )
    expected = average_precision_score(relevant_G.numpy(), scores_G.numpy())
    assert found["mAP"].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [0, 5])
def test_the_order_of_gallery_and_queries_does_not_matter(levels: int) -> None:
    scores_QG, relevance = random_lists(12, 40, seed=2, levels=levels)
    generator = torch.Generator().manual_seed(3)
    order_Q, order_G = torch.randperm(12, generator=generator), torch.randperm(40, generator=generator)
    found = retrieval_metrics(scores_QG, relevance)
    shuffled = retrieval_metrics(
        scores_QG[order_Q][:, order_G],
        Relevance(relevance.relevant_QG[order_Q][:, order_G], relevance.ignored_QG[order_Q][:, order_G]),
    )
    for name, values_Q in found.items():
        torch.testing.assert_close(shuffled[name], values_Q[order_Q], rtol=0, atol=1e-14)


@pytest.mark.parametrize("levels", [0, 5])
@pytest.mark.parametrize("block", [1, 40, 100])
def test_block_size_does_not_matter(monkeypatch: pytest.MonkeyPatch, levels: int, block: int) -> None:
    scores_QG, relevance = random_lists(12, 40, seed=2, levels=levels)
    found = retrieval_metrics(scores_QG, relevance)
    monkeypatch.setattr(ranking, "_BLOCK", block)
    for name, values_Q in retrieval_metrics(scores_QG, relevance).items():
        torch.testing.assert_close(values_Q, found[name], rtol=0, atol=0)


def test_an_increasing_map_of_the_scores_changes_nothing() -> None:
    scores_QG, relevance = random_lists(12, 40, seed=2, levels=5)
    for name, values_Q in retrieval_metrics(scores_QG, relevance).items():
        torch.testing.assert_close(retrieval_metrics(scores_QG.exp() - 9, relevance)[name], values_Q)


def test_the_tie_path_reads_lists_without_ties_like_the_fast_path() -> None:
    scores_QG, relevance = random_lists(12, 40, seed=5)
    sorted_QG, hits_QG = ranking.sorted_lists(scores_QG, relevance, slice(None))
    fast, exact = ranking.rank_distinct(sorted_QG, hits_QG), ranking.rank_tied(sorted_QG, hits_QG)
    assert torch.equal(fast.chance_QG, exact.chance_QG)
    assert torch.equal(fast.miss_QG, exact.miss_QG)
    at_hits = fast.chance_QG > 0
    torch.testing.assert_close(fast.precision_QG[at_hits], exact.precision_QG[at_hits], rtol=1e-15, atol=0)


def test_metrics_are_ordered_as_their_definitions_say() -> None:
    scores_QG, relevance = random_lists(50, 40, seed=6, levels=7)
    found = retrieval_metrics(scores_QG, relevance)
    assert (found["mAP@R"] <= found["mAP"] + 1e-12).all()
    assert (found["mAP@R"] <= found["R-precision"] + 1e-12).all()
    for k in (1, 5, 10):
        assert (found[f"recall@{k}"] <= found[f"hit@{k}"] + 1e-12).all()
    assert (found["hit@1"] <= found["hit@5"] + 1e-12).all()
    for values_Q in found.values():
        assert ((values_Q >= 0) & (values_Q <= 1 + 1e-12)).all()


def test_all_tied_lists_are_fast() -> None:
    relevant_QG = torch.rand((400, 1200), generator=torch.Generator().manual_seed(0)) < 0.03
    relevance = Relevance(relevant_QG, torch.zeros_like(relevant_QG))
    seconds = []
    for _ in range(3):  # the best of three: other work on the machine only ever adds
        start = time.perf_counter()
        retrieval_metrics(torch.zeros((400, 1200)), relevance)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.0


def test_empty_sides() -> None:
    no_gallery = retrieval_metrics(torch.zeros((2, 0)), judged([[], []]))
    assert all(values_Q.isnan().all() and len(values_Q) == 2 for values_Q in no_gallery.values())
    none_QG = torch.zeros((0, 3), dtype=torch.bool)
    assert all(
        len(values_Q) == 0
        for values_Q in retrieval_metrics(torch.zeros((0, 3)), Relevance(none_QG, none_QG)).values()
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(value: float) -> None:
    scores_QG = torch.zeros((2, 3))
    scores_QG[1, 2] = value
    relevance = judged([[1, 0, 0], [0, 1, 0]])
    with pytest.raises(InputError, match="query 1 and gallery item 2"):
        retrieval_metrics(scores_QG, relevance)


def test_arguments_that_do_not_fit_are_refused() -> None:
    relevance = judged([[1, 0, 0]])
    with pytest.raises(InputError, match="one shape"):
        retrieval_metrics(torch.zeros((1, 2)), relevance)
    with pytest.raises(InputError, match="k=0"):
        retrieval_metrics(torch.zeros((1, 3)), relevance, ks=(1, 0))
    with pytest.raises(InputError, match="floating point"):
        retrieval_metrics(torch.zeros((1, 3), dtype=torch.int64), relevance)
    with pytest.raises(InputError, match="one class a query"):
        macro_mean(torch.zeros(2), ["a"])


def test_macro_mean_weighs_classes_equally() -> None:
    values_Q = torch.tensor([1.0, 0.5, 0.0, torch.nan, torch.nan, 0.2], dtype=torch.float64)
    classes = ["a", "a", "b", "b", "c", "d"]
    assert macro_mean(values_Q, classes) == pytest.approx((0.75 + 0.0 + 0.2) / 3)
    assert math.isnan(macro_mean(torch.tensor([torch.nan]), ["a"]))

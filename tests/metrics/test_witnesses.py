"""Retrieval metrics against other libraries, and where those libraries say something else.

Lists are random, with ties, negative scores, classes of one and queries that find themselves. A library that
breaks ties by name gives one of the orders that a tie leaves open: its mean over all of them is ours.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import pytrec_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from sklearn.metrics import average_precision_score, ndcg_score
from torch import Tensor
from torchmetrics.functional import retrieval as torchmetrics

from crossgap.metrics.ndcg import ndcg
from crossgap.metrics.relevance import Relevance, relevance_from_labels
from crossgap.metrics.retrieval import retrieval_metrics
from crossgap.metrics.similarity import cosine_scores

KS = (1, 2, 5, 10)


def kept(scores_QG: Tensor, relevance: Relevance) -> list[tuple[list[float], list[int]]]:
    """Cut each query's list down to (scores, relevant) of the items that count."""
    return [
        (scores_G[~out_G].tolist(), right_G[~out_G].int().tolist())
        for scores_G, right_G, out_G in zip(
            scores_QG, relevance.relevant_QG, relevance.ignored_QG, strict=True
        )
    ]


def labelled_lists(seed: int, n: int, classes: int) -> tuple[Tensor, Relevance, list[str]]:
    """Query a set with itself: random cosines, self matches, and classes of one among the labels."""
    generator = torch.Generator().manual_seed(seed)
    values_ND = torch.randn((n, 4), generator=generator, dtype=torch.float64)
    labels = [str(k) for k in torch.randint(classes, (n,), generator=generator).tolist()]
    names = [f"item-{k}" for k in range(n)]
    relevance = relevance_from_labels(names, names, labels, labels)
    return cosine_scores(values_ND, values_ND), relevance, labels


def trec(lists: list[tuple[list[float], list[int]]], names: list[list[str]]) -> list[dict[str, float]]:
    """Ask trec_eval; an item's name decides its place among ties."""
    measures = {"map", "Rprec", "recall.1,2,5,10", "success.1,2,5,10", "ndcg_cut.1,2,5,10"}
    qrels = {str(q): dict(zip(names[q], gains, strict=True)) for q, (_, gains) in enumerate(lists)}
    run = {str(q): dict(zip(names[q], scores, strict=True)) for q, (scores, _) in enumerate(lists)}
    found = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    return [found[str(q)] for q in range(len(lists))]


OF_TREC = {
    "mAP": "map",
    "R-precision": "Rprec",
    **{f"hit@{k}": f"success_{k}" for k in KS},
    **{f"recall@{k}": f"recall_{k}" for k in KS},
}


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 14), st.integers(1, 6))
def test_trec_eval_agrees_without_ties(seed: int, n: int, classes: int) -> None:
    scores_QG, relevance, _ = labelled_lists(seed, n, classes)
    found = retrieval_metrics(scores_QG, relevance, ks=KS)
    lists = kept(scores_QG, relevance)
    expected = trec(lists, [[str(k) for k in range(n - 1)]] * n)
    for query in range(n):
        for ours, theirs in OF_TREC.items():
            value = found[ours][query].item()
            if math.isnan(value):  # a class of one: trec_eval calls the query 0, which lowers the mean
                assert sum(lists[query][1]) == 0
                assert expected[query][theirs] == 0
            else:
                assert value == pytest.approx(expected[query][theirs], abs=1e-9), ours


TIED = st.lists(st.tuples(st.integers(-1, 1), st.integers(0, 3)), min_size=2, max_size=5)


@settings(max_examples=30)
@given(TIED)
def test_trec_eval_agrees_on_average_over_all_names_of_tied_items(items: list[tuple[int, int]]) -> None:
    scores, gains = [score / 4 for score, _ in items], [gain for _, gain in items]
    orders = [list(order) for order in itertools.permutations("abcde"[: len(items)])]
    expected = trec([(scores, gains)] * len(orders), orders)
    relevant_QG = torch.tensor([[gain > 0 for gain in gains]])
    scores_QG = torch.tensor([scores], dtype=torch.float64)
    found = retrieval_metrics(scores_QG, Relevance(relevant_QG, torch.zeros_like(relevant_QG)), ks=KS)
    for k in KS:
        found[f"nDCG@{k}"] = ndcg(scores_QG, torch.tensor([gains]), k=k)
    for ours, theirs in {**OF_TREC, **{f"nDCG@{k}": f"ndcg_cut_{k}" for k in KS}}.items():
        value = found[ours].item()
        mean = sum(one[theirs] for one in expected) / len(expected)
        assert mean == pytest.approx(0 if math.isnan(value) else value, abs=1e-7), ours


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), min_size=2, max_size=12), st.integers(1, 13)
)
def test_scikit_learn_agrees_on_ndcg_under_ties(items: list[tuple[int, int]], k: int) -> None:
    scores, gains = ([float(value) for value in column] for column in zip(*items, strict=True))
    found = ndcg(torch.tensor([scores]), torch.tensor([gains]), k=k).item()
    if not any(gains):
        assert math.isnan(found)  # scikit-learn says 0
    else:
        assert found == pytest.approx(ndcg_score([gains], [scores], k=k), abs=1e-9)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 14), st.integers(1, 6))
def test_scikit_learn_agrees_on_average_precision_without_ties(seed: int, n: int, classes: int) -> None:
    scores_QG, relevance, _ = labelled_lists(seed, n, classes)
    found_Q = retrieval_metrics(scores_QG, relevance)["mAP"].tolist()
    for value, (scores, right) in zip(found_Q, kept(scores_QG, relevance), strict=True):
        assert math.isnan(value) == (not any(right))
        if any(right):
            assert value == pytest.approx(average_precision_score(right, scores), abs=1e-12)


def test_scikit_learn_puts_tied_items_at_the_end_of_their_run() -> None:
    # one relevant of two tied: places 1 and 2 are as likely, 3/4; scikit-learn takes the precision of the run
    relevant_QG = torch.tensor([[True, False]])
    ours = retrieval_metrics(torch.zeros((1, 2)), Relevance(relevant_QG, ~relevant_QG & relevant_QG))["mAP"]
    assert ours.item() == 0.75
    assert average_precision_score([1, 0], [0.0, 0.0]) == 0.5


OF_TORCHMETRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mAP": torchmetrics.retrieval_average_precision,
    "R-precision": torchmetrics.retrieval_r_precision,
    "hit@5": lambda scores, right: torchmetrics.retrieval_hit_rate(scores, right, top_k=5),
    "recall@5": lambda scores, right: torchmetrics.retrieval_recall(scores, right, top_k=5),
}


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 14), st.integers(1, 6))
def test_torchmetrics_agrees_on_distinct_scores_above_zero(seed: int, n: int, classes: int) -> None:
    scores_QG, relevance, _ = labelled_lists(seed, n, classes)
    found = retrieval_metrics(scores_QG, relevance)
    for query, (scores, right) in enumerate(kept(scores_QG, relevance)):
        for name, theirs in OF_TORCHMETRICS.items():
            if name == "hit@5" and n - 1 < 5:
                continue
            value, expected = found[name][query].item(), theirs(torch.tensor(scores) + 2, torch.tensor(right))
            if math.isnan(value):
                assert expected.item() == 0  # no relevant item: 0, where ours has no value
            else:
                assert value == pytest.approx(expected.item(), abs=1e-6), name


def test_torchmetrics_drops_relevant_items_with_cosines_not_above_zero() -> None:
    scores, right = torch.tensor([0.3, 0.2, -0.1, -0.2]), torch.tensor([0, 1, 0, 1])
    relevant_QG = right.bool()[None]
    ours = retrieval_metrics(scores[None], Relevance(relevant_QG, torch.zeros_like(relevant_QG)))["mAP"]
    assert ours.item() == pytest.approx((1 / 2 + 2 / 4) / 2)
    theirs = torchmetrics.retrieval_average_precision
    assert theirs(scores, right).item() == pytest.approx(1 / 2)  # the second relevant item does not count
    assert theirs(scores + 2, right).item() == pytest.approx(ours.item())  # a shift should change nothing
    assert theirs(scores - 2, right).item() == 0


def test_torchmetrics_is_wrong_by_much_on_centred_features() -> None:
    generator = torch.Generator().manual_seed(0)
    scores_QG = torch.randn((50, 400), generator=generator, dtype=torch.float64)
    relevant_QG = torch.rand((50, 400), generator=generator) < 0.05
    ours_Q = retrieval_metrics(scores_QG, Relevance(relevant_QG, torch.zeros_like(relevant_QG)))["mAP"]
    lists = list(zip(scores_QG, relevant_QG.int(), strict=True))
    theirs = torch.stack([torchmetrics.retrieval_average_precision(*one) for one in lists])
    shifted = torch.stack(
        [torchmetrics.retrieval_average_precision(scores + 9, right) for scores, right in lists]
    )
    torch.testing.assert_close(shifted.double(), ours_Q, rtol=1e-5, atol=1e-6)
    assert (theirs - ours_Q).abs().mean() > 0.05 * ours_Q.mean()
    sibling = OF_TORCHMETRICS["recall@5"]
    low = [(scores - 9, right) for scores, right in lists]
    assert all(sibling(*one).item() == 0 for one in low)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(3, 16), st.integers(1, 6))
def test_pytorch_metric_learning_agrees_on_a_set_that_queries_itself(seed: int, n: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values_ND = torch.randn((n, 4), generator=generator, dtype=torch.float64)
    label_N = torch.randint(classes, (n,), generator=generator)
    labels, names = [str(k) for k in label_N.tolist()], [str(k) for k in range(n)]
    found = retrieval_metrics(
        cosine_scores(values_ND, values_ND), relevance_from_labels(names, names, labels, labels)
    )
    ours_of_theirs = {
        "mean_average_precision_at_r": "mAP@R",
        "mean_average_precision": "mAP",
        "r_precision": "R-precision",
        "precision_at_1": "hit@1",
    }
    calculator = AccuracyCalculator(
        include=tuple(ours_of_theirs), k=n - 1, knn_func=CustomKNN(CosineSimilarity())
    )
    expected = calculator.get_accuracy(values_ND, label_N)
    for theirs, ours in ours_of_theirs.items():
        if len(set(labels)) == n:
            assert found[ours].isnan().all()  # only classes of one
        else:
            assert found[ours].nanmean().item() == pytest.approx(expected[theirs], abs=1e-6), ours

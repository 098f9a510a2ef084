"""Known mistakes of published retrieval evaluations, each as a list on which they say something else.

The numbers in the names are those of the nineteen oddities of the published code of arXiv 2502.04263. Noise
and weight decay (10, 11) are tested with inversion, the key of the feature cache (16) with evaluation; what
that code lacks (19) is the rest of this project.
"""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.inversion.config import InversionConfig
from crossgap.inversion.loop import invert
from crossgap.metrics.jackknife import cluster_jackknife
from crossgap.metrics.landmark import trapezoidal_ap
from crossgap.metrics.neighbourhood import modality_mixing, mutual_knn
from crossgap.metrics.relevance import Relevance, relevance_from_labels
from crossgap.metrics.retrieval import macro_mean, micro_mean, retrieval_metrics
from crossgap.metrics.similarity import cosine_scores
from tests.conftest import tiny_encoder, tiny_model
from tests.reference_metrics import plain_published_loop

ROOT = Path(__file__).resolve().parent.parent.parent


def against_itself(scores: list[list[float]], labels: str) -> tuple[Tensor, Relevance]:
    names = [f"item-{k}" for k in range(len(labels))]
    return torch.tensor(scores), relevance_from_labels(names, names, list(labels), list(labels))


def test_1_relevant_items_are_counted_without_the_query() -> None:
    # class a has one other member, found second: within its first R = 1 place there is nothing
    scores = [[1.0, 0.5, 0.9, 0.1], [0.5, 1, 0.9, 0.1], [0.9, 0.9, 1, 0.2], [0.1, 0.1, 0.2, 1]]
    scores_QG, relevance = against_itself(scores, "aabb")
    ours = retrieval_metrics(scores_QG, relevance)["mAP@R"].tolist()
    assert ours[0] == 0
    assert plain_published_loop(scores, "aabb", "aabb")[0] == 0.5  # counted with itself: two places are read


def test_2_a_class_of_one_is_skipped_and_named_and_never_makes_a_mean_nan() -> None:
    scores = [[1.0, 0.5, 0.1], [0.5, 1.0, 0.1], [0.1, 0.1, 1.0]]
    values_Q = retrieval_metrics(*against_itself(scores, "aab"))["mAP@R"]
    assert values_Q.isnan().nonzero().flatten().tolist() == [2]
    assert micro_mean(values_Q) == macro_mean(values_Q, list("aab")) == 1
    assert math.isnan(plain_published_loop(scores, "aab", "aab")[2])
    with pytest.raises(InputError, match="none of 1 queries has a relevant item"):
        micro_mean(values_Q[2:])


def test_3_ap_at_r_divides_by_r_and_not_by_a_cut() -> None:
    # four relevant items, two found first: 1/R sum = 2/4, however few places another metric looks at
    relevant_QG = torch.tensor([[True, True, False, False, True, True]])
    relevance = Relevance(relevant_QG, torch.zeros_like(relevant_QG))
    found = retrieval_metrics(-torch.arange(6.0)[None], relevance, ks=(2,))
    assert found["mAP@R"].item() == 0.5
    with pytest.raises(InputError, match="k=0"):
        retrieval_metrics(-torch.arange(6.0)[None], relevance, ks=(0,))


def test_4_names_that_occur_twice_are_refused_and_order_does_not_matter() -> None:
    with pytest.raises(InputError, match="id 'image_001' occurs more than once"):
        relevance_from_labels(["q"], ["image_001", "image_001"], ["a"], ["a", "b"])
    generator = torch.Generator().manual_seed(0)
    values_ND = torch.randn((12, 4), generator=generator)
    names, labels = [f"item-{k}" for k in range(12)], list("aaabbbccddef")
    order = torch.randperm(12, generator=generator).tolist()
    plain = relevance_from_labels(names, names, labels, labels)
    shuffled = relevance_from_labels(names, [names[k] for k in order], labels, [labels[k] for k in order])
    torch.testing.assert_close(
        retrieval_metrics(cosine_scores(values_ND, values_ND[order]), shuffled)["mAP"],
        retrieval_metrics(cosine_scores(values_ND, values_ND), plain)["mAP"],
        equal_nan=True,
    )


def test_5_and_9_half_precision_ties_what_single_precision_tells_apart() -> None:
    scores_QG = 0.7 + 1e-5 * torch.arange(40.0)[None]
    relevant_QG = torch.arange(40)[None] >= 37
    relevance = Relevance(relevant_QG, torch.zeros_like(relevant_QG))
    assert retrieval_metrics(scores_QG, relevance)["mAP"].item() == 1
    # in float16 the order is lost, and the expectation says so
    assert retrieval_metrics(scores_QG.half(), relevance)["mAP"].item() < 0.5
    # features in half precision still give cosines in single precision
    values_ND = torch.nn.functional.normalize(torch.ones(2, 64) + torch.eye(2, 64), dim=1).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert cosine_scores(values_ND, values_ND).dtype == torch.float32


def test_6_a_gallery_smaller_than_k_is_used_whole() -> None:
    relevance = Relevance(torch.tensor([[True, False]]), torch.zeros((1, 2), dtype=torch.bool))
    found = retrieval_metrics(torch.tensor([[0.1, 0.2]]), relevance, ks=(1, 5, 10))
    assert [found[f"hit@{k}"].item() for k in (1, 5, 10)] == [0, 1, 1]
    # neighbours are another matter: there k of them must exist
    for measure in (modality_mixing, mutual_knn):
        with pytest.raises(InputError, match="k=5 must lie between"):
            measure(torch.eye(3), torch.eye(3), k=5)


def test_7_hit_and_recall_have_their_own_names() -> None:
    relevant_QG = torch.tensor([[True, True, True, True]])
    found = retrieval_metrics(
        torch.tensor([[4.0, 3, 2, 1]]), Relevance(relevant_QG, torch.zeros_like(relevant_QG)), ks=(1,)
    )
    assert (found["hit@1"].item(), found["recall@1"].item()) == (1, 0.25)


def test_12_junk_takes_no_rank_and_the_landmark_ap_has_its_own_name() -> None:
    none_QG = torch.zeros((1, 4), dtype=torch.bool)
    right_QG, junk_QG = none_QG.clone(), none_QG.clone()
    right_QG[0, 2], junk_QG[0, :2] = True, True
    relevance = Relevance(right_QG, junk_QG)
    scores_QG = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    assert trapezoidal_ap(scores_QG, relevance).item() == 1
    assert trapezoidal_ap(scores_QG, Relevance(none_QG, junk_QG)).isnan().all()  # no positive: skipped, not 0
    # one hit at rank 2: step 1/2, trapezoid 1/4
    late = Relevance(torch.tensor([[False, True]]), none_QG[:, :2])
    assert retrieval_metrics(scores_QG[:, :2], late)["mAP"].item() == 0.5
    assert trapezoidal_ap(scores_QG[:, :2], late).item() == 0.25


def test_13_every_caption_can_be_the_query_not_only_the_first() -> None:
    images, captions = list("xxxyyy"), [f"caption-{k}" for k in range(6)]
    relevance = relevance_from_labels(captions, captions, images, images)
    assert relevance.relevant_QG.sum(1).tolist() == [2] * 6
    generator = torch.Generator().manual_seed(0)
    scores_QG = torch.rand((6, 6), generator=generator)
    values_Q = retrieval_metrics(scores_QG, relevance)["mAP"]
    assert len(set(values_Q.tolist())) > 1  # which caption asks makes a difference


def test_14_a_mean_over_two_queries_has_an_interval_that_says_so() -> None:
    values_Q = torch.tensor([0.5, 0.7], dtype=torch.float64)
    value, low, high = cluster_jackknife(torch.mean, values_Q, clusters=["negative", "positive"])
    assert value == pytest.approx(0.6)
    assert high - low > 2  # wider than the range of the metric


def test_15_the_query_is_found_by_its_id_wherever_it_stands() -> None:
    relevance = relevance_from_labels(["b", "a"], ["a", "b", "c"], ["x", "x"], ["x", "x", "x"])
    assert relevance.ignored_QG.int().tolist() == [[0, 1, 0], [1, 0, 0]]
    # other splits hold other items: nothing is dropped because positions agree
    assert not relevance_from_labels(["q0", "q1"], ["g0", "g1"], ["x", "x"], ["x", "x"]).ignored_QG.any()


def test_8_the_template_that_was_inverted_in_is_the_one_that_is_evaluated() -> None:
    encoder = tiny_encoder(dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    targets_ND = torch.randn((3, 16), generator=generator, dtype=torch.float64)
    config = InversionConfig(steps=3, num_tokens=2, template="a drawing of {} in ink")
    found = invert(
        encoder, targets_ND, into="text", config=config, item_ids=list("abc"), snapshots=(3,), engine="tower"
    )

    def encoded(template: str) -> Tensor:
        return encoder.encode_text_with(encoder.prompt(template, 2), found.tokens)

    torch.testing.assert_close(found.snapshots[3], encoded(config.template))
    assert not torch.allclose(found.snapshots[3], encoded(InversionConfig().template), atol=1e-3)


def test_17_open_clip_is_bounded_and_its_pooling_is_not_unpacked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (bound,) = (one for one in project["dependencies"] if one.startswith("open_clip_torch"))
    assert "<" in bound
    # whatever the installed version returns from its pooling: features are those of its own encode_text
    encoder, model = tiny_encoder(), tiny_model("CLIP")
    tokens_BL = encoder.tokenize(["a cat", "a red car in the snow"])
    torch.testing.assert_close(encoder.encode_text(tokens_BL), model.encode_text(tokens_BL, normalize=True))


def test_18_nothing_sets_up_cuda_after_it_may_have_started() -> None:
    for package in ("crossgap", "pretrain", "ablations"):
        for path in (ROOT / package).rglob("*.py"):
            assert "CUBLAS_WORKSPACE_CONFIG" not in path.read_text(), path


def test_copies_are_left_out_when_their_content_is_given_as_group() -> None:
    # items 0 and 1 are one file under two names: found first, they flatter; as a group they do not count
    names, labels, content = list("pqrs"), list("xxxy"), ["f1", "f1", "f2", "f3"]
    scores_QG = torch.tensor(
        [[1.0, 1.0, 0.1, 0.5], [1.0, 1.0, 0.1, 0.5], [0.1, 0.1, 1.0, 0.5], [0.5, 0.5, 0.5, 1]]
    )
    flattered = retrieval_metrics(scores_QG, relevance_from_labels(names, names, labels, labels))["hit@1"]
    assert flattered[:2].tolist() == [1, 1]
    honest = relevance_from_labels(
        names,
        names,
        labels,
        labels,
        query_groups=content,
        gallery_groups=content,
        ignore_same_group=True,
    )
    assert retrieval_metrics(scores_QG, honest)["hit@1"][:2].tolist() == [0, 0]


def test_the_order_of_equal_scores_says_nothing() -> None:
    # all scores equal: whichever item is listed first, the value is that of chance
    relevant_QG = torch.eye(5, dtype=torch.bool)
    found = retrieval_metrics(torch.zeros((5, 5)), Relevance(relevant_QG, torch.zeros_like(relevant_QG)))
    for name in ("mAP", "hit@1"):
        assert len(set(found[name].tolist())) == 1
    assert found["hit@1"][0].item() == pytest.approx(1 / 5)

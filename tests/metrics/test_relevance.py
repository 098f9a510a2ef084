from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossgap.errors import InputError
from crossgap.metrics.relevance import Relevance, relevance_from_labels
from tests.reference import plain_relevance

NAMES = ["cat/1", "cat/2", "dog/1", "dog/2", "owl/1"]
LABELS = ["cat", "cat", "dog", "dog", "owl"]


def test_hand_made_table_drops_the_query_itself() -> None:
    relevance = relevance_from_labels(NAMES, NAMES, LABELS, LABELS)
    assert relevance.ignored_QG.tolist() == torch.eye(5, dtype=torch.bool).tolist()
    assert relevance.relevant_QG.int().tolist() == [
        [0, 1, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0],  # the only owl: nothing left to find
    ]


def test_self_is_found_by_id_and_not_by_position() -> None:
    shuffled = [4, 2, 0, 3, 1]
    relevance = relevance_from_labels(
        NAMES, [NAMES[i] for i in shuffled], LABELS, [LABELS[i] for i in shuffled]
    )
    assert relevance.ignored_QG.nonzero().tolist() == [[0, 2], [1, 4], [2, 1], [3, 3], [4, 0]]


def test_keeping_the_query_itself() -> None:
    relevance = relevance_from_labels(NAMES, NAMES, LABELS, LABELS, drop_self=False)
    assert not relevance.ignored_QG.any()
    assert relevance.relevant_QG.diagonal().all()


def test_the_own_group_is_neither_right_nor_wrong() -> None:
    relevance = relevance_from_labels(
        ["q/rose", "q/tulip", "q/none"],
        ["g/rose", "g/tulip", "g/oak", "g/none"],
        ["flower", "flower", "tree"],
        ["flower", "flower", "tree", "tree"],
        query_groups=["rose", "tulip", ""],
        gallery_groups=["rose", "tulip", "oak", ""],
        ignore_same_group=True,
    )
    assert relevance.ignored_QG.int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert relevance.relevant_QG.int().tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1]]


ITEMS = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from("ab"), st.sampled_from(["x", "y", ""])),
    min_size=1,
    max_size=8,
    unique_by=lambda item: item[0],
)


@given(ITEMS, ITEMS)
def test_equals_plain_loops(queries: list[tuple[int, str, str]], gallery: list[tuple[int, str, str]]) -> None:
    query_ids, query_labels, query_groups = zip(*queries, strict=True)
    gallery_ids, gallery_labels, gallery_groups = zip(*gallery, strict=True)
    query_ids, gallery_ids = tuple(map(str, query_ids)), tuple(map(str, gallery_ids))
    found = relevance_from_labels(
        query_ids,
        gallery_ids,
        query_labels,
        gallery_labels,
        query_groups=query_groups,
        gallery_groups=gallery_groups,
        ignore_same_group=True,
    )
    relevant, ignored = plain_relevance(
        query_ids, gallery_ids, query_labels, gallery_labels, query_groups, gallery_groups
    )
    assert found.relevant_QG.tolist() == relevant
    assert found.ignored_QG.tolist() == ignored


def test_ids_that_occur_twice_are_named() -> None:
    with pytest.raises(InputError, match="gallery: id 'a' occurs more than once"):
        relevance_from_labels(["q"], ["a", "b", "a"], ["x"], ["x", "x", "x"])
    with pytest.raises(InputError, match="query: id 'q'"):
        relevance_from_labels(["q", "q"], ["a"], ["x", "x"], ["x"])


def test_missing_labels_and_groups_are_refused() -> None:
    with pytest.raises(InputError, match="query: 1 ids but 2 labels"):
        relevance_from_labels(["q"], ["a"], ["x", "y"], ["x"])
    with pytest.raises(InputError, match="gallery: item 'b' has an empty label"):
        relevance_from_labels(["q"], ["a", "b"], ["x"], ["x", ""])
    with pytest.raises(InputError, match="gallery: 1 ids but 0 groups"):
        relevance_from_labels(["q"], ["a"], ["x"], ["x"], query_groups=["g"], ignore_same_group=True)


def test_masks_must_be_disjoint_bool_matrices_of_one_shape() -> None:
    true_QG, false_QG = torch.ones((2, 3), dtype=torch.bool), torch.zeros((2, 3), dtype=torch.bool)
    assert Relevance(true_QG, false_QG).relevant_QG is true_QG
    overlap_QG = false_QG.clone()
    overlap_QG[1, 2] = True
    with pytest.raises(InputError, match="item 2 is both relevant and ignored for query 1"):
        Relevance(true_QG, overlap_QG)
    with pytest.raises(InputError, match="one shape"):
        Relevance(true_QG, false_QG[:1])
    with pytest.raises(InputError, match="must be bool"):
        Relevance(true_QG.float(), false_QG)

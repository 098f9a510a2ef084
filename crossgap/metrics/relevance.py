"""Which gallery items are right answers to which query, and which do not count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crossgap.datasets.tasks import Answers, Task
from crossgap.errors import InputError, first_repeated


@dataclass(frozen=True, eq=False)
class Relevance:
    """State for each query which gallery items are relevant and which are left out of its list.

    An ignored item is neither right nor wrong: it is removed before ranks and relevant items are counted.

    Shape: both (Q, G), bool, never true at the same place.

    Raises:
        InputError: the masks differ in shape, are not bool matrices, or overlap.
    """

    relevant_QG: Tensor
    ignored_QG: Tensor

    def __post_init__(self) -> None:
        relevant, ignored = self.relevant_QG, self.ignored_QG
        if relevant.ndim != 2 or relevant.shape != ignored.shape:
            raise InputError(
                "relevant and ignored must be matrices of one shape, queries x gallery; "
                f"got {tuple(relevant.shape)} and {tuple(ignored.shape)}"
            )
        if relevant.dtype != torch.bool or ignored.dtype != torch.bool:
            raise InputError(f"relevant and ignored must be bool; got {relevant.dtype} and {ignored.dtype}")
        both = relevant & ignored
        if bool(both.any()):
            query, item = both.nonzero()[0].tolist()
            raise InputError(f"gallery item {item} is both relevant and ignored for query {query}")


class LabelRelevance:
    """Relevance by equal labels, judged block by block: no queries x gallery mask of a large task is held.

    ``ignored = (drop_self and same id) or (ignore_same_group and same group)``;
    ``relevant = same label and not ignored``. Items are matched by id, never by position. An empty group
    means that the item belongs to none, so it is never ignored for its group.

    Shape: Q ids, labels and groups of queries, G of the gallery.

    Raises:
        InputError: lengths that differ, an id that occurs twice on one side, an empty label, or groups
            asked for but not given.
    """

    def __init__(
        self,
        query_ids: Sequence[str],
        gallery_ids: Sequence[str],
        query_labels: Sequence[str],
        gallery_labels: Sequence[str],
        *,
        query_groups: Sequence[str] = (),
        gallery_groups: Sequence[str] = (),
        ignore_same_group: bool = False,
        drop_self: bool = True,
    ) -> None:
        _check_side("query", query_ids, query_labels, query_groups, needs_groups=ignore_same_group)
        _check_side("gallery", gallery_ids, gallery_labels, gallery_groups, needs_groups=ignore_same_group)
        self.shape = (len(query_ids), len(gallery_ids))
        self._labels = _numbered(query_labels, gallery_labels)
        self._ignored = []
        if drop_self:
            self._ignored.append(_numbered(query_ids, gallery_ids))
        if ignore_same_group:
            query_Q, gallery_G = _numbered(query_groups, gallery_groups)
            alone_Q = torch.tensor([not group for group in query_groups], dtype=torch.bool)
            self._ignored.append((query_Q.masked_fill(alone_Q, -1), gallery_G))

    def rows(self, rows: slice, device: torch.device | None = None) -> Relevance:
        """Judge some queries against the whole gallery, on ``device``: masks (B, G)."""
        relevant_BG = _equal(self._labels, rows, device)
        ignored_BG = torch.zeros_like(relevant_BG)
        for numbers in self._ignored:
            ignored_BG |= _equal(numbers, rows, device)
        return Relevance(relevant_BG & ~ignored_BG, ignored_BG)


class ListedRelevance:
    """Relevance as it was judged item by item: for each query the right answers and what does not count.

    Shape: Q ids of queries, G of the gallery.

    Raises:
        InputError: an id that occurs twice on one side, a query without answers listed, or an answer that is
            not in the gallery.
    """

    def __init__(
        self, query_ids: Sequence[str], gallery_ids: Sequence[str], answers: Mapping[str, Answers]
    ) -> None:
        _check_side("query", query_ids, query_ids, (), needs_groups=False)
        _check_side("gallery", gallery_ids, gallery_ids, (), needs_groups=False)
        self.shape = (len(query_ids), len(gallery_ids))
        place = {name: number for number, name in enumerate(gallery_ids)}
        self._places: list[tuple[Tensor, Tensor]] = []
        for query in query_ids:
            if query not in answers:
                raise InputError(f"query {query!r}: no answers are listed for it")
            lost = [name for part in answers[query] for name in part if name not in place]
            if lost:
                raise InputError(
                    f"query {query!r}: its answer {lost[0]!r} is not in the gallery ({len(lost)} such)"
                )
            relevant, ignored = (torch.tensor([place[name] for name in part]) for part in answers[query])
            self._places.append((relevant.long(), ignored.long()))

    def rows(self, rows: slice, device: torch.device | None = None) -> Relevance:
        """Judge some queries against the whole gallery, on ``device``: masks (B, G)."""
        chosen = self._places[rows]
        relevant_BG = torch.zeros(len(chosen), self.shape[1], dtype=torch.bool, device=device)
        ignored_BG = torch.zeros_like(relevant_BG)
        for row, (relevant, ignored) in enumerate(chosen):
            relevant_BG[row, relevant.to(device)] = True
            ignored_BG[row, ignored.to(device)] = True
        return Relevance(relevant_BG, ignored_BG)


Judgement = LabelRelevance | ListedRelevance


def judge(task: Task) -> Judgement:
    """Judge relevance in a task: by its listed answers, else by its labels with what its protocol ignores."""
    if task.answers is not None:
        return ListedRelevance(task.query.ids, task.gallery.ids, task.answers)
    return LabelRelevance(
        task.query.ids,
        task.gallery.ids,
        task.query.labels,
        task.gallery.labels,
        query_groups=task.query.groups,
        gallery_groups=task.gallery.groups,
        ignore_same_group=task.ignore_same_group,
        drop_self=task.drop_self,
    )


def relevance_of(task: Task) -> Relevance:
    """Give a task's relevance as masks of all queries: :func:`judge` at once."""
    return judge(task).rows(slice(None))


def relevance_from_labels(
    query_ids: Sequence[str],
    gallery_ids: Sequence[str],
    query_labels: Sequence[str],
    gallery_labels: Sequence[str],
    *,
    query_groups: Sequence[str] = (),
    gallery_groups: Sequence[str] = (),
    ignore_same_group: bool = False,
    drop_self: bool = True,
) -> Relevance:
    """Judge relevance by equal labels, as :class:`LabelRelevance`, for all queries at once.

    Shape: Q ids, labels and groups of queries, G of the gallery -> masks (Q, G).

    Raises:
        InputError: as :class:`LabelRelevance`.
    """
    judged = LabelRelevance(
        query_ids,
        gallery_ids,
        query_labels,
        gallery_labels,
        query_groups=query_groups,
        gallery_groups=gallery_groups,
        ignore_same_group=ignore_same_group,
        drop_self=drop_self,
    )
    return judged.rows(slice(None))


def _numbered(queries: Sequence[str], gallery: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Give equal names equal numbers on both sides."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys((*queries, *gallery)))}
    query_Q = torch.tensor([numbers[name] for name in queries], dtype=torch.int64)
    gallery_G = torch.tensor([numbers[name] for name in gallery], dtype=torch.int64)
    return query_Q, gallery_G


def _equal(numbers: tuple[Tensor, Tensor], rows: slice, device: torch.device | None) -> Tensor:
    query_Q, gallery_G = numbers
    return query_Q[rows, None].to(device) == gallery_G[None, :].to(device)


def _check_side(
    side: str, ids: Sequence[str], labels: Sequence[str], groups: Sequence[str], *, needs_groups: bool
) -> None:
    if len(labels) != len(ids):
        raise InputError(f"{side}: {len(ids)} ids but {len(labels)} labels; each item needs one label")
    if needs_groups and len(groups) != len(ids):
        raise InputError(
            f"{side}: {len(ids)} ids but {len(groups)} groups; ignore_same_group needs one group an item"
        )
    twice = first_repeated(ids)
    if twice is not None:
        raise InputError(f"{side}: id {twice!r} occurs more than once; ids must be unique to join by id")
    if "" in labels:
        raise InputError(
            f"{side}: item {ids[labels.index('')]!r} has an empty label; drop it or name its class"
        )

"""Nearest items: both engines find what a whole sort finds."""

from __future__ import annotations

import sys

import pytest
import torch

from crossgap import nearest as module
from crossgap.errors import InputError
from crossgap.nearest import nearest
from crossgap.similarity import cosine_scores


@pytest.mark.parametrize("engine", ["torch", "faiss"])
def test_nearest_items_are_the_first_of_the_sorted_list(
    engine: module.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SCORES", 250)  # three queries at once
    generator = torch.Generator().manual_seed(0)
    query_QD, gallery_GD = torch.randn(10, 6, generator=generator), torch.randn(80, 6, generator=generator)
    found = nearest(query_QD, gallery_GD, k=7, engine=engine)
    ordered = cosine_scores(query_QD, gallery_GD).sort(dim=1, descending=True)
    assert torch.equal(found.item_QK, ordered.indices[:, :7])
    torch.testing.assert_close(found.cosine_QK, ordered.values[:, :7], atol=1e-6, rtol=0)


def test_without_faiss_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"pip install 'crossgap\[faiss\]'"):
        nearest(torch.eye(3), torch.eye(3), k=1, engine="faiss")


@pytest.mark.parametrize("k", [0, 4])
def test_k_must_fit_the_gallery(k: int) -> None:
    with pytest.raises(InputError, match="between 1 and the 3 items"):
        nearest(torch.eye(3), torch.eye(3), k=k)

"""Bad input of every metric: a defined result or an error that says what is wrong, and never a silent NaN."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.relevance import LabelRelevance, Relevance
from tests.test_references import METRICS, NO_METRIC, functions

generator = torch.Generator().manual_seed(0)
IMAGE, TEXT = (
    torch.nn.functional.normalize(torch.randn(12, 4, generator=generator) + offset, dim=1)
    for offset in (1, -1)
)
SCORES = torch.randn(5, 12, generator=generator)
RELEVANT = torch.rand(5, 12, generator=generator) < 0.4
RELEVANT[:, 0] = True
JUDGED = Relevance(RELEVANT, torch.zeros_like(RELEVANT))
LABELS = [str(number % 3) for number in range(12)]
IDS = [f"item-{number}" for number in range(12)]
BY_LABEL = LabelRelevance([f"q-{number}" for number in range(12)], IDS, LABELS, LABELS)
PER_QUERY = torch.tensor([0.2, 0.4, 0.9, 0.1])

PAIRS = {"image_ND": IMAGE, "text_ND": TEXT}
SPACES = {"x_ND": IMAGE, "y_NE": TEXT}
# valid arguments of every metric; tensors of features among them are broken one at a time
ARGUMENTS: dict[str, dict[str, Any]] = {
    **{
        name: {"image_BD": IMAGE, "text_BD": TEXT}
        for name in (
            "centroid_distance", "squared_centroid_distance", "centre_angle", "mean_pair_cosine",
            "pair_distance", "pair_residual", "relative_modality_gap", "centroid_uniformity",
        )
    },
    "linear_separability": {"image_BD": IMAGE, "text_BD": TEXT, "seed": 0},
    "modality_probe": {"image_BD": IMAGE, "text_BD": TEXT, "seed": 0},
    "same_other_auc": {"scores_QG": SCORES, "relevance": JUDGED},
    "same_other_overlap": {"scores_QG": SCORES, "relevance": JUDGED},
    "alignment": {"x_BD": IMAGE, "y_BD": TEXT},
    "uniformity": {"x_BD": IMAGE},
    "cross_uniformity": {"x_BD": IMAGE, "y_BD": TEXT},
    "inversion_gain": {"inverted_Q": PER_QUERY, "native_Q": PER_QUERY.flip(0)},
    "inversion_gain_curve": None,  # a mapping of vectors: tests/test_gain.py
    "modality_mixing": {"image_ND": IMAGE, "text_MD": TEXT, "k": 3},
    "modality_mixings": {"image_ND": IMAGE, "text_MD": TEXT, "ks": (3,)},
    "mutual_knn": {**SPACES, "k": 3},
    "mutual_knns": {**SPACES, "ks": (3,)},
    "linear_cka": SPACES,
    "effective_rank": {"values_ND": IMAGE},
    "participation_ratio": {"values_ND": IMAGE},
    "recoverability": {"image_ND": IMAGE, "text_MD": TEXT, "noise": 0.01, "seed": 0},
    "group_clustering": {
        "image_ND": IMAGE, "text_MD": TEXT, "image_labels": LABELS, "text_labels": LABELS, "seed": 0,
    },
    "retrieval_metrics": {"scores_QG": SCORES, "relevance": JUDGED},
    "counted_metrics": None,  # one block of the next, whose input is checked there
    "streamed_metrics": {"query_QD": IMAGE, "gallery_GD": TEXT, "relevance": BY_LABEL},
    "micro_mean": {"values_Q": PER_QUERY},
    "macro_mean": {"values_Q": PER_QUERY, "classes": list("aabb")},
    "tie_rate": {"scores_QG": SCORES, "relevance": JUDGED},
    "ndcg": {"scores_QG": SCORES, "gains_QG": RELEVANT.float(), "k": 3},
    "trapezoidal_ap": {"scores_QG": SCORES, "relevance": JUDGED},
    "zero_shot_accuracy": {
        "image_ND": IMAGE, "prompt_KD": TEXT[:3], "labels": LABELS, "classes": list("012"),
    },
    "cross_modal_metrics": {
        "image_ND": IMAGE, "text_MD": TEXT, "image_groups": LABELS, "text_groups": LABELS,
    },
}  # fmt: skip
FOUND = {
    name: getattr(import_module(f"crossgap.{module}"), name)
    for module in METRICS
    for _, name, _ in functions(module)
    if name not in NO_METRIC
}
CASES = [
    (name, argument)
    for name, arguments in ARGUMENTS.items()
    if arguments is not None
    for argument, value in arguments.items()
    if isinstance(value, Tensor)
]
# NaN here marks queries without an answer, which every reader of per-query values knows
MARKED = {"inversion_gain", "micro_mean", "macro_mean"}
# rows that are nothing but zeros have a place in these: no direction is asked for
NO_DIRECTION = {
    "centroid_distance", "squared_centroid_distance", "centre_angle", "mean_pair_cosine", "pair_distance",
    "pair_residual", "relative_modality_gap", "centroid_uniformity", "linear_separability", "modality_probe",
    "alignment", "uniformity", "cross_uniformity", "linear_cka", "effective_rank", "participation_ratio",
    "recoverability",
}  # fmt: skip


REFUSED_IF_CONSTANT = {"linear_cka"}


def numbers(found: Any) -> list[float]:
    """Flatten whatever a metric returns."""
    if isinstance(found, Tensor):
        return found.double().flatten().tolist()
    if isinstance(found, dict):
        return [number for value in found.values() for number in numbers(value)]
    if isinstance(found, tuple):
        return [number for value in found for number in numbers(value)]
    return [float(found)]


def call(name: str, **changes: Any) -> list[float]:
    return numbers(FOUND[name](**{**ARGUMENTS[name], **changes}))


def features(name: str, argument: str) -> bool:
    return argument not in ("scores_QG", "gains_QG", "values_Q", "inverted_Q", "native_Q")


def test_every_metric_is_here() -> None:
    assert set(ARGUMENTS) == set(FOUND)


@pytest.mark.parametrize("name", [name for name, arguments in ARGUMENTS.items() if arguments])
def test_valid_input_gives_numbers(name: str) -> None:
    assert not any(number != number for number in call(name))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(("name", "argument"), CASES)
def test_what_is_not_finite_is_refused(name: str, argument: str, value: float) -> None:
    if name in MARKED:
        return
    broken = ARGUMENTS[name][argument].clone()
    broken[1, 2] = value
    with pytest.raises(InputError):
        call(name, **{argument: broken})


@pytest.mark.parametrize(("name", "argument"), [case for case in CASES if features(*case)])
def test_a_zero_row_is_refused_or_defined(name: str, argument: str) -> None:
    broken = ARGUMENTS[name][argument].clone()
    broken[1] = 0
    if name in NO_DIRECTION:
        assert not any(number != number for number in call(name, **{argument: broken}))
        return
    with pytest.raises(InputError, match="row"):
        call(name, **{argument: broken})


@pytest.mark.parametrize(("name", "argument"), [case for case in CASES if features(*case)])
def test_no_row_and_other_widths_are_refused(name: str, argument: str) -> None:
    value = ARGUMENTS[name][argument]
    with pytest.raises(InputError):
        call(name, **{argument: value[:0]})
    with pytest.raises(InputError):
        call(name, **{argument: value[0]})


def identical(name: str) -> Callable[[], list[float]]:
    """Give all rows one value: nothing varies."""
    same = {
        argument: torch.ones_like(ARGUMENTS[name][argument]) / 2 for other, argument in CASES if other == name
    }
    return lambda: call(name, **same)


@pytest.mark.parametrize("name", dict.fromkeys(name for name, argument in CASES if features(name, argument)))
def test_rows_that_do_not_vary_are_refused_or_defined(name: str) -> None:
    run = identical(name)
    if name in REFUSED_IF_CONSTANT:
        with pytest.raises(InputError, match=r"vary|rank|differ"):
            run()
    else:
        assert not any(number != number for number in run())


def test_a_class_of_one_and_a_gallery_smaller_than_k() -> None:
    from crossgap.retrieval import retrieval_metrics

    alone = Relevance(torch.tensor([[True, False], [False, False]]), torch.zeros(2, 2, dtype=torch.bool))
    found = retrieval_metrics(torch.tensor([[0.1, 0.2], [0.3, 0.1]]), alone, ks=(1, 10))
    assert found["hit@10"][0] == 1
    assert all(bool(values_Q[1].isnan()) for values_Q in found.values())  # skipped, and counted as such

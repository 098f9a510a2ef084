"""Bad input of every metric: a defined result or an error that says what is wrong, and never a silent NaN."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.pair_metrics import PairMetric, pair_metrics
from crossgap.metrics.relevance import LabelRelevance, Relevance
from crossgap.probes.linear_probe import fit_linear_probe
from tests.house.test_references import METRICS, NO_FORMULA, functions

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
PROBE = fit_linear_probe(IMAGE, LABELS, strength=1.0)
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
    "modality_mixing": {"image_ND": IMAGE, "text_MD": TEXT, "k": 3},
    "modality_mixings": {"image_ND": IMAGE, "text_MD": TEXT, "ks": (3,)},
    "mutual_knn": {**SPACES, "k": 3},
    "mutual_knns": {**SPACES, "ks": (3,)},
    "cycle_knn": {**SPACES, "k": 3},
    "cknna": {**SPACES, "k": 3},
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
    "ndcg": {"scores_QG": SCORES, "gains_QG": RELEVANT.float(), "k": 3},
    "trapezoidal_ap": {"scores_QG": SCORES, "relevance": JUDGED},
    "capped_precision": {"scores_QG": SCORES, "relevance": JUDGED, "k": 3},
    "class_mean_accuracy": {
        "query_QD": IMAGE, "support_ND": TEXT, "labels": LABELS, "support_labels": LABELS,
        "draws": (torch.arange(12),),
    },
    "own_class_hits": None,  # scores of any make: tests/metrics/test_probes.py
    "fit_linear_probe": None,  # a classifier, no numbers: tests/metrics/test_probes.py
    "linear_probe_accuracy": {"probe": PROBE, "query_QD": IMAGE, "labels": LABELS},
    "held_by_neighbours": {"query_ND": IMAGE, "gallery_ND": TEXT, "values": LABELS, "k": 3},
    "held_linearly": {"fitted_MD": IMAGE, "fitted_values": LABELS, "query_ND": TEXT, "values": LABELS},
    "commonest_share": None,  # of names alone: tests/metrics/test_factors.py
    "factor_agreement": None,  # NaN marks what does not vary: tests/metrics/test_factors.py
    "similarity_slopes": None,  # of sums over pairs, not of features: tests/metrics/test_factors.py
    "similarity_explained": None,
}  # fmt: skip
FOUND = {
    name: getattr(import_module(f"crossgap.{module.replace('/', '.')}"), name)
    for module in METRICS
    for _, name, _ in functions(module)
    if name not in NO_FORMULA
}
CASES = [
    (name, argument)
    for name, arguments in ARGUMENTS.items()
    if arguments is not None
    for argument, value in arguments.items()
    if isinstance(value, Tensor)
]
# NaN here marks queries without an answer, which every reader of per-query values knows
MARKED = {"micro_mean", "macro_mean"}
# rows that are nothing but zeros have a place in these: no direction is asked for
NO_DIRECTION = {
    "centroid_distance", "squared_centroid_distance", "centre_angle", "mean_pair_cosine", "pair_distance",
    "pair_residual", "relative_modality_gap", "centroid_uniformity", "linear_separability", "modality_probe",
    "alignment", "uniformity", "cross_uniformity", "linear_cka", "effective_rank", "participation_ratio",
    "recoverability", "linear_probe_accuracy", "held_linearly",
}  # fmt: skip


REFUSED_IF_CONSTANT = {"linear_cka", "cknna"}


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
    return argument not in ("scores_QG", "gains_QG", "values_Q")


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


NAMES = [
    (name, argument)
    for name, arguments in ARGUMENTS.items()
    if arguments is not None
    for argument, value in arguments.items()
    if isinstance(value, list)
]


@pytest.mark.parametrize(("name", "argument"), NAMES)
def test_names_of_another_number_than_items_are_refused(name: str, argument: str) -> None:
    named = ARGUMENTS[name][argument]
    for other in (named[:-1], [*named, named[0]]):
        with pytest.raises(InputError):
            call(name, **{argument: other})


def test_ids_that_occur_twice_are_named() -> None:
    with pytest.raises(InputError, match="'item-3' occurs more than once"):
        LabelRelevance(["q"], [*IDS, "item-3"], ["0"], [*LABELS, "0"])


def test_relevance_of_another_gallery_is_refused() -> None:
    for name in ("retrieval_metrics", "trapezoidal_ap", "same_other_auc", "same_other_overlap"):
        with pytest.raises(InputError, match="one shape"):
            call(name, scores_QG=SCORES[:, 1:])
    with pytest.raises(InputError, match="one gain"):
        call("ndcg", scores_QG=SCORES[:, 1:])
    with pytest.raises(InputError, match="relevance is of 12 queries"):
        call("streamed_metrics", gallery_GD=TEXT[1:])


def test_an_empty_side_gives_no_value_or_an_error() -> None:
    none = torch.zeros(0, 4)
    empty = Relevance(torch.zeros(5, 0, dtype=torch.bool), torch.zeros(5, 0, dtype=torch.bool))
    found = FOUND["retrieval_metrics"](torch.zeros(5, 0), empty)
    assert all(bool(values_Q.isnan().all()) for values_Q in found.values())
    with pytest.raises(InputError, match="none of 5 queries has a relevant item"):
        FOUND["micro_mean"](found["mAP"])
    for name in ("same_other_auc", "same_other_overlap"):
        with pytest.raises(InputError, match=r"0 same-class and 0 other-class pairs: take"):
            call(name, scores_QG=torch.zeros(5, 0), relevance=empty)
    for side in ("image_ND", "text_MD"):
        with pytest.raises(InputError, match="items of both modalities"):
            call("modality_mixing", **{side: none}, paired=False)
    # documented, as evaluation names such a mean among what it skipped
    assert all(number != number for number in call("macro_mean", values_Q=PER_QUERY * torch.nan))


@pytest.mark.parametrize("side", ["first", "second"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_are_all_alike_to_each_other_have_no_structure(side: str, dtype: torch.dtype) -> None:
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1), dtype=dtype)).Q
    spaces = (turn, IMAGE.to(dtype)) if side == "first" else (IMAGE.to(dtype), turn)
    with pytest.raises(InputError, match=f"rows of the {side} space all have one inner product"):
        FOUND["linear_cka"](*spaces)
    assert 0 < FOUND["linear_cka"](*spaces, unbiased=False) <= 1


def measured_pairs(image_ND: Tensor, text_ND: Tensor) -> dict[str, PairMetric]:
    found = pair_metrics(
        image_ND, text_ND, labels=LABELS[: len(image_ND)], clusters=IDS[: len(image_ND)], seed=0
    )
    return {one.name: one for one in found}


@pytest.mark.parametrize(("factor", "length"), [(3, "3"), (0, "0"), (torch.nan, "nan")])
def test_evaluation_refuses_rows_that_are_no_unit_rows(factor: float, length: str) -> None:
    broken_ND = TEXT.clone()
    broken_ND[7] *= factor
    with pytest.raises(InputError, match=rf"row 7 of the texts has length {length} \(1 of 12 .*unit_rows"):
        measured_pairs(IMAGE, broken_ND)
    assert measured_pairs(IMAGE.bfloat16().float(), TEXT)  # the rounding of half precision is none


def test_evaluation_gives_no_interval_and_no_agreement_where_there_is_none() -> None:
    # without the third image the other two cancel out: that part has no centre to see an angle from
    image_ND = torch.tensor([[1.0, 0, 0, 0], [-1, 0, 0, 0], [0, 1, 0, 0]])
    angle = measured_pairs(image_ND, TEXT[:3])["centre_angle"]
    assert angle.value == angle.value
    assert angle[-2:] == (None, None)
    alike = measured_pairs(torch.eye(12), torch.eye(12))
    assert not {"linear_cka", "cknna@10"} & set(alike)
    assert alike["cycle_knn_image@10"].value == pytest.approx(1)


@pytest.mark.parametrize("captions", ["ab", "aab", "abb", "abc", "aabb", "aaab", "a", "aa"])
def test_few_pairs_are_measured_as_far_as_they_go(captions: str) -> None:
    count = len(captions)
    found = pair_metrics(IMAGE[:count], TEXT[:count], labels=LABELS[:count], clusters=list(captions), seed=0)
    by_name = {one.name: one for one in found}
    assert ("RMG" in by_name) == (count > 1)
    assert "alignment" in by_name
    # of the parts that leave one caption out, one holds a single pair, which has no RMG
    whole = len(set(captions)) > 1 and min(count - captions.count(one) for one in captions) > 1
    assert count == 1 or (by_name["RMG"].low is not None) == whole


def test_a_class_of_one_and_a_gallery_smaller_than_k() -> None:
    alone = Relevance(torch.tensor([[True, False], [False, False]]), torch.zeros(2, 2, dtype=torch.bool))
    found = FOUND["retrieval_metrics"](torch.tensor([[0.1, 0.2], [0.3, 0.1]]), alone, ks=(1, 10))
    assert found["hit@10"][0] == 1
    assert all(bool(values_Q[1].isnan()) for values_Q in found.values())  # skipped, and counted as such

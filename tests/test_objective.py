from __future__ import annotations

import math

import pytest
import torch

from crossgap.errors import InputError
from pretrain.objective import ObjectiveConfig, TemperatureConfig, clamp_logit_scale, evaluate_objective
from pretrain.terms import TERMS, Views
from pretrain.terms.ntxent import nt_xent


def views(*, second: bool = True) -> Views:
    rows = torch.randn((4, 6, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    views = Views(*torch.nn.functional.normalize(rows, dim=-1))
    return views if second else views._replace(second_image_BD=None, second_text_BD=None)


def test_total_is_the_weighted_sum_of_the_parts() -> None:
    weights = {name: 0.5 + index for index, name in enumerate(TERMS)}
    loss = evaluate_objective(views(), ObjectiveConfig(weights=weights), temperature=0.1)
    assert list(loss.raw) == list(loss.weighted) == list(TERMS)
    for name, weight in weights.items():
        assert loss.weighted[name].item() == pytest.approx(weight * loss.raw[name].item())
    assert loss.total.item() == pytest.approx(math.fsum(part.item() for part in loss.weighted.values()))


@pytest.mark.parametrize("name", [name for name in TERMS if name != "clip"])
def test_weight_0_is_exactly_the_objective_without_the_term(name: str) -> None:
    without = views(second=False)
    config = ObjectiveConfig(weights={"clip": 1.0, name: 0.0})
    plain = ObjectiveConfig()
    assert config.active == plain.active == ("clip",)
    total = evaluate_objective(without, config, temperature=0.01).total
    assert torch.equal(total, evaluate_objective(without, plain, temperature=0.01).total)


def test_order_of_the_weights_changes_nothing() -> None:
    forth = {name: 0.1 + index for index, name in enumerate(TERMS)}
    back = dict(reversed(forth.items()))
    totals = [evaluate_objective(views(), ObjectiveConfig(weights=w), temperature=0.1) for w in (forth, back)]
    assert torch.equal(totals[0].total, totals[1].total)


@pytest.mark.parametrize(
    ("weights", "image", "text"),
    [
        ({"clip": 1.0}, False, False),
        ({"clip": 1.0, "image_ntxent": 0.5}, True, False),
        ({"clip": 1.0, "text_ntxent": 0.5}, False, True),
        ({"clip": 1.0, "image_ntxent": 0.0, "text_ntxent": 0.0, "centroid_penalty": 1.0}, False, False),
    ],
)
def test_second_views_are_needed_by_active_terms_only(
    weights: dict[str, float], image: bool, text: bool
) -> None:
    config = ObjectiveConfig(weights=weights)
    assert config.needs("second_image_BD") == image
    assert config.needs("second_text_BD") == text


def test_the_host_temperature_reaches_the_host_loss_alone() -> None:
    config = ObjectiveConfig(weights={"clip": 1.0, "image_ntxent": 1.0})
    sharp = evaluate_objective(views(), config, temperature=0.01).raw
    soft = evaluate_objective(views(), config, temperature=1.0).raw
    assert not torch.equal(sharp["clip"], soft["clip"])
    assert torch.equal(sharp["image_ntxent"], soft["image_ntxent"])


def test_own_temperatures_can_be_set() -> None:
    given = views()
    config = ObjectiveConfig(weights={"text_ntxent": 1.0}, temperatures={"text_ntxent": 0.05})
    assert given.second_text_BD is not None
    expected = nt_xent(given.text_BD, given.second_text_BD, temperature=0.05)
    assert torch.equal(evaluate_objective(given, config, temperature=0.01).raw["text_ntxent"], expected)


def test_learnable_temperature_is_clamped_at_a_scale_of_100() -> None:
    nu = torch.nn.Parameter(torch.tensor(9.0))
    clamp_logit_scale(nu)
    assert nu.exp().item() == pytest.approx(100)
    nu = torch.nn.Parameter(torch.tensor(2.0))
    clamp_logit_scale(nu)
    assert nu.item() == 2


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"clip": 1.0, "image_ntxnet": 1.0}, "Did you mean 'image_ntxent'"),
        ({"clip": -1.0}, "weight of clip=-1.0"),
        ({"clip": math.nan}, "must be finite"),
        ({"clip": 0.0}, "at least one weight"),
        ({}, "at least one weight"),
    ],
)
def test_bad_weights_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ObjectiveConfig(weights=weights)


def test_a_schedule_needs_an_end_and_nothing_else_has_one() -> None:
    with pytest.raises(InputError, match="'linear' with final=None: linear and cosine need a"):
        TemperatureConfig(regime="linear")
    with pytest.raises(InputError, match=r"'fixed' with final=0\.05"):
        TemperatureConfig(final=0.05)
    with pytest.raises(InputError, match=r"temperature final=0\.001: must be finite and at least"):
        TemperatureConfig(regime="cosine", final=0.001)
    assert TemperatureConfig(regime="linear", initial=0.02, final=0.06).at(0, 1) == pytest.approx(0.02)


def test_bad_temperatures_are_refused() -> None:
    with pytest.raises(InputError, match="Known: image_ntxent, text_ntxent"):
        ObjectiveConfig(temperatures={"clip": 0.1})
    with pytest.raises(InputError, match="above 0"):
        ObjectiveConfig(temperatures={"image_ntxent": 0.0})
    with pytest.raises(InputError, match="Did you mean 'learnable'"):
        TemperatureConfig(regime="learned")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"at least 0\.01"):
        TemperatureConfig(initial=0.001)
    with pytest.raises(InputError, match=r"rate=0\.0"):
        TemperatureConfig(rate=0.0)

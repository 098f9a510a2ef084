from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from crossgap.errors import InputError
from pretrain.objective import FIRST, Loss, Moment, build_modules, clamp_logit_scale, evaluate_objective
from pretrain.settings import ObjectiveConfig, TemperatureConfig, WeightSchedule
from pretrain.terms import TERMS, Setup
from pretrain.terms.ntxent import nt_xent
from pretrain.terms.views import VIEWS, Views

BATCH, DIM = 4, 8


def every_view() -> Views:
    generator = torch.Generator().manual_seed(0)
    drawn: Views = {"concept_B": torch.arange(BATCH) // 2}
    for name in VIEWS:
        if name not in drawn:
            shape = (BATCH, 2, DIM) if name.endswith("BKW") else (BATCH, DIM)
            rows = torch.randn(shape, generator=generator, dtype=torch.float64)
            drawn[name] = torch.nn.functional.normalize(rows, dim=-1)
    return drawn


def pair() -> Views:
    return {name: rows for name, rows in every_view().items() if name in ("image_BD", "text_BD")}


def evaluate(config: ObjectiveConfig, views: Views, temperature: float = 0.1, moment: Moment = FIRST) -> Loss:
    modules = build_modules(config, Setup(DIM, DIM), seed=0).double()
    return evaluate_objective(views, config, temperature=temperature, moment=moment, modules=modules)


def test_total_is_the_weighted_sum_of_the_parts() -> None:
    weights = {name: 0.5 + index for index, name in enumerate(TERMS)}
    loss = evaluate(ObjectiveConfig(weights=weights), every_view())
    assert list(loss.raw) == list(loss.weighted) == list(TERMS)
    for name, weight in weights.items():
        assert loss.weighted[name].item() == pytest.approx(weight * loss.raw[name].item())
    assert loss.total.item() == pytest.approx(math.fsum(part.item() for part in loss.weighted.values()))


@pytest.mark.parametrize("name", [name for name in TERMS if name != "clip"])
def test_weight_0_is_exactly_the_objective_without_the_term(name: str) -> None:
    config = ObjectiveConfig(weights={"clip": 1.0, name: 0.0})
    assert config.active == ("clip",)
    assert set(config.views) == {"image_BD", "text_BD"}
    assert not build_modules(config, Setup(DIM, DIM), seed=0)
    assert torch.equal(evaluate(config, pair()).total, evaluate(ObjectiveConfig(), pair()).total)


def test_order_of_the_weights_changes_nothing() -> None:
    forth = {name: 0.1 + index for index, name in enumerate(TERMS)}
    back = dict(reversed(forth.items()))
    totals = [evaluate(ObjectiveConfig(weights=weights), every_view()).total for weights in (forth, back)]
    assert torch.equal(*totals)


@pytest.mark.parametrize(
    ("weights", "more"),
    [
        ({"clip": 1.0}, set()),
        ({"clip": 1.0, "image_ntxent": 0.5}, {"second_image_BD"}),
        ({"clip": 1.0, "text_ntxent": 0.5}, {"second_text_BD"}),
        ({"clip": 1.0, "image_ntxent": 0.0, "text_ntxent": 0.0, "centroid_penalty": 1.0}, set()),
    ],
)
def test_only_active_terms_need_views(weights: dict[str, float], more: set[str]) -> None:
    assert set(ObjectiveConfig(weights=weights).views) == {"image_BD", "text_BD"} | more


def test_an_objective_without_the_clip_loss_needs_no_text() -> None:
    assert ObjectiveConfig(weights={"image_ntxent": 1.0}).views == ("image_BD", "second_image_BD")


def test_the_host_temperature_reaches_the_host_loss_alone() -> None:
    config = ObjectiveConfig(weights={"clip": 1.0, "image_ntxent": 1.0})
    sharp = evaluate(config, every_view(), 0.01).raw
    soft = evaluate(config, every_view(), 1.0).raw
    assert not torch.equal(sharp["clip"], soft["clip"])
    assert torch.equal(sharp["image_ntxent"], soft["image_ntxent"])


def test_own_temperatures_can_be_set() -> None:
    views = every_view()
    config = ObjectiveConfig(weights={"text_ntxent": 1.0}, temperatures={"text_ntxent": 0.05})
    expected = nt_xent(views["text_BD"], views["second_text_BD"], temperature=0.05)
    assert torch.equal(evaluate(config, views).raw["text_ntxent"], expected)


def test_draws_differ_between_steps_and_seeds_and_terms_and_repeat_themselves() -> None:
    config = ObjectiveConfig(weights={"rafa": 1.0, "sliced_wasserstein": 1.0})
    moments = (Moment(0, 9, 0), Moment(1, 9, 0), Moment(0, 9, 1))
    for name in config.active:
        values = [evaluate(config, every_view(), moment=moment).raw[name].item() for moment in moments]
        assert len(set(values)) == 3
        assert values[0] == evaluate(config, every_view(), moment=moments[0]).raw[name].item()


def test_modules_depend_on_the_seed_and_their_name_alone() -> None:
    alone = build_modules(ObjectiveConfig(weights={"text_vicreg": 1.0}), Setup(DIM, DIM), seed=0)
    both = ObjectiveConfig(weights={"image_vicreg": 1.0, "text_vicreg": 1.0})
    before = torch.get_rng_state()
    among = build_modules(both, Setup(DIM, DIM), seed=0)
    assert torch.equal(torch.get_rng_state(), before)

    def first(modules: torch.nn.ModuleDict, name: str) -> torch.Tensor:
        return next(modules[name].parameters())

    assert torch.equal(first(alone, "text_vicreg"), first(among, "text_vicreg"))
    assert not torch.equal(first(among, "image_vicreg"), first(among, "text_vicreg"))
    other = build_modules(both, Setup(DIM, DIM), seed=1)
    assert not torch.equal(first(among, "text_vicreg"), first(other, "text_vicreg"))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (WeightSchedule(), [1, 1, 1, 1, 1]),
        (WeightSchedule(ramp=0.8), [0.25, 0.5, 0.75, 1, 1]),
        (WeightSchedule(start=0.4), [0, 0, 1, 1, 1]),
        (WeightSchedule(stop=0.4), [1, 1, 0, 0, 0]),
        (WeightSchedule(start=0.2, stop=0.8, ramp=0.4), [0, 0.5, 1, 1, 0]),
        (WeightSchedule(fall=0.8), [1, 1, 0.75, 0.5, 0.25]),
        (WeightSchedule(stop=0.8, fall=0.4), [1, 1, 1, 0.5, 0]),
        (WeightSchedule(ramp=0.4, fall=0.6), [0.5, 1, 1, 2 / 3, 1 / 3]),
    ],
)
def test_weights_follow_their_schedule(schedule: WeightSchedule, expected: list[float]) -> None:
    config = ObjectiveConfig(weights={"clip": 1.0, "coral": 2.0}, schedules={"coral": schedule})
    assert [schedule.factor(step, 5) for step in range(5)] == pytest.approx(expected)
    for step, share in enumerate(expected):
        weights = config.weights_at(step, 5)
        assert weights == pytest.approx({"clip": 1.0, "coral": 2 * share} if share else {"clip": 1.0})
        loss = evaluate(config, pair(), moment=Moment(step, 5, 0))
        assert list(loss.raw) == list(weights)
        assert loss.total.item() == pytest.approx(
            loss.raw["clip"].item() + 2 * share * (loss.raw["coral"].item() if share else 0)
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedules": {"corl": WeightSchedule()}}, "Did you mean 'coral'"),
        ({"schedules": {"coral": WeightSchedule()}}, "schedule of coral: it has no weight"),
        ({"schedules": {"clip": WeightSchedule(start=0.5)}}, "leave one at its weight all the time"),
        ({"modifiers": {"label_smothing": 0.1}}, "Did you mean 'label_smoothing'"),
        ({"modifiers": {"label_smoothing": 1.1}}, r"strength of label_smoothing=1\.1: must lie in \[0, 1\]"),
        (
            {"weights": {"siglip": 1.0}, "modifiers": {"swap_hard": 0.1}},
            "swap_hard=0.1 changes the CLIP loss, whose weight is 0",
        ),
        ({"teacher_momentum": 1.0}, r"teacher_momentum=1\.0"),
    ],
)
def test_bad_objectives_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ObjectiveConfig(**fields)


@pytest.mark.parametrize(
    "times",
    [
        {"start": 0.5, "stop": 0.5},
        {"start": -0.1},
        {"stop": 1.1},
        {"ramp": 2.0},
        {"start": 0.6, "ramp": 0.5},
        {"fall": -0.1},
        {"ramp": 0.5, "fall": 0.6},
        {"stop": 0.4, "fall": 0.5},
    ],
)
def test_bad_schedules_are_refused(times: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be 0 <= start < stop <= 1"):
        WeightSchedule(**times)


def test_a_fall_is_a_ramp_backwards() -> None:
    for slope in (0.1, 0.25, 0.3, 1.0):
        rising, falling = WeightSchedule(ramp=slope), WeightSchedule(fall=slope)
        shares = [rising.factor(step, 40) for step in range(40)]
        assert [falling.factor(step, 40) for step in range(40)] == pytest.approx(shares[::-1])
        assert min(shares) == pytest.approx(1 / (40 * slope))


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
    with pytest.raises(InputError, match="Known: image_ntxent, image_ntxent_head"):
        ObjectiveConfig(temperatures={"clip": 0.1})
    with pytest.raises(InputError, match="above 0"):
        ObjectiveConfig(temperatures={"image_ntxent": 0.0})
    with pytest.raises(InputError, match="Did you mean 'learnable'"):
        TemperatureConfig(regime="learned")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"at least 0\.01"):
        TemperatureConfig(initial=0.001)
    with pytest.raises(InputError, match=r"rate=0\.0"):
        TemperatureConfig(rate=0.0)

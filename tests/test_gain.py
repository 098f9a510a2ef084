from __future__ import annotations

import math

import pytest
import torch

from crossgap.errors import InputError
from crossgap.gain import Setting, inversion_gain, inversion_gain_curve


def test_inversion_gain_is_paired_and_counts_what_was_left_to_gain() -> None:
    native_Q = torch.tensor([0.2, 0.6, math.nan, 0.4], dtype=torch.float64)
    inverted_Q = torch.tensor([0.5, 0.5, math.nan, 0.8], dtype=torch.float64)
    found = inversion_gain(inverted_Q, native_Q)
    torch.testing.assert_close(
        found.gain_Q, torch.tensor([0.3, -0.1, math.nan, 0.4], dtype=torch.float64), equal_nan=True
    )
    assert found.gain.item() == pytest.approx(0.2)
    assert found.normalised_gain.item() == pytest.approx(0.2 / 0.6)
    assert inversion_gain(native_Q, native_Q).gain.item() == 0
    assert inversion_gain(
        torch.ones(3), torch.tensor([0.1, 0.2, 0.3])
    ).normalised_gain.item() == pytest.approx(1)


def test_inversion_gain_refuses_values_that_do_not_pair() -> None:
    with pytest.raises(InputError, match="query 1 has a value on one side only"):
        inversion_gain(torch.tensor([0.1, 0.2]), torch.tensor([0.1, math.nan]))
    with pytest.raises(InputError, match="same queries"):
        inversion_gain(torch.zeros(2), torch.zeros(3))
    with pytest.raises(InputError, match="native values must be fractions"):
        inversion_gain(torch.tensor([0.1]), torch.tensor([24.9]))


def test_the_curve_holds_the_paired_gain_of_every_setting() -> None:
    generator = torch.Generator().manual_seed(0)
    native_Q = torch.rand(60, generator=generator, dtype=torch.float64) * 0.5 + 0.2
    classes = [str(k % 12) for k in range(60)]
    inverted_Q = {
        Setting(1, 50): native_Q + 0.1,
        Setting(1, 150): native_Q + 0.2 * torch.rand(60, generator=generator, dtype=torch.float64) - 0.1,
    }
    native_Q[3] = math.nan
    for values_Q in inverted_Q.values():
        values_Q[3] = math.nan
    curve = inversion_gain_curve(inverted_Q, native_Q, clusters=classes)
    assert list(curve) == [(1, 50), (1, 150)]
    # a gain that is the same for every query has no width, however much the queries differ
    assert curve[Setting(1, 50)] == pytest.approx((0.1, 0.1, 0.1))
    value, low, high = curve[Setting(1, 150)]
    assert value == pytest.approx(inversion_gain(inverted_Q[Setting(1, 150)], native_Q).gain.item())
    assert low < value < high


def test_a_setting_that_does_not_pair_is_named() -> None:
    with pytest.raises(InputError, match=r"num_tokens=4, steps=9\): query 0 has a value on one side only"):
        inversion_gain_curve(
            {Setting(4, 9): torch.tensor([math.nan, 0.1])}, torch.tensor([0.1, 0.1]), clusters=["a", "b"]
        )
    with pytest.raises(InputError, match="one cluster"):
        inversion_gain_curve({}, torch.tensor([0.1, 0.1]), clusters=["a"])
    with pytest.raises(InputError, match="two of them, got 1"):
        inversion_gain_curve({Setting(1, 1): torch.zeros(2)}, torch.zeros(2), clusters=["a", "a"])

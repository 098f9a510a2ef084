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

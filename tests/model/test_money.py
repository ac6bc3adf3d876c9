"""Amounts of money as people read them."""

import pytest

from slurm_power.model.money import money_text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        *((0.0, "0.00"), (12_345.678, "12,345.68"), (-3.5, "-3.50"), (0.095, "0.10"), (0.0949, "0.09")),
        *((0.0096, "0.01"), (0.004, "0.004"), (-0.004, "-0.004")),
        # A job of seconds costs as little; nobody reads 3e-05.
        *((3e-5, "0.00003"), (-3e-5, "-0.00003"), (1e-6, "0.000001")),
        # A bill less itself, added up in another order.
        *((-0.0, "0.00"), (1e-17, "0.00"), (-1e-17, "0.00"), (-4e-7, "0.00")),
    ],
)
def test_an_amount_is_written_without_an_exponent_and_zero_without_a_sign(amount: float, text: str) -> None:
    assert money_text(amount, "EUR") == f"{text} EUR"


def test_what_is_more_and_what_is_less_say_so() -> None:
    assert money_text(3e-5, None, signed=True) == "+0.00003 money units of the tariff"
    assert money_text(-12.0, None, signed=True) == "-12.00 money units of the tariff"

"""Charges on the grid's own peak before anybody has named its hour: which are open, and between what."""

from datetime import datetime

import numpy as np
import pytest

from slurm_power.model.billing_rules import CoincidentRate, Window
from slurm_power.plan.billing import bill
from tests.plan.test_billing import JUNE, QUARTER, flat, rules


@pytest.mark.parametrize(
    ("hours", "windows", "is_open"),
    [
        ((), (), True),
        (("2024-05-31T17:00",), (), True),
        (("2024-06-20T17:00",), (), False),
        (("2024-07-20T17:00",), (), False),
        ((), (Window(months=frozenset({6, 7})),), True),
        ((), (Window(months=frozenset({7})),), False),
        ((), (Window(first_day=(6, 30), last_day=(9, 1)),), True),
        (("2023-07-20T17:00",), (Window(months=frozenset({6, 7})),), True),
        (("2024-07-20T17:00",), (Window(months=frozenset({6, 7})),), False),
    ],
)
def test_hours_of_a_grids_peak_that_nobody_has_named_yet(
    hours: tuple[str, ...], windows: tuple[Window, ...], *, is_open: bool
) -> None:
    named = tuple(datetime.fromisoformat(at) for at in hours)
    rate = CoincidentRate(name="system", price_per_kw=50.0, hours=named, windows=windows)
    found = bill(rules(coincident=(rate,)), JUNE, flat(100_000.0), QUARTER)
    assert [charge.name for charge in found.open] == (["system"] if is_open else [])


def test_what_an_unnamed_hour_can_come_to_is_a_range_by_the_tariffs_rule() -> None:
    afternoons = (Window(days=frozenset(range(5)), from_minute=14 * 60, to_minute=19 * 60),)
    rate = CoincidentRate(name="system", price_per_kw=50.0, hours=(), windows=afternoons)
    hour = JUNE.astype("datetime64[h]")
    load = flat(100_000.0)
    load[hour == np.datetime64("2024-06-20T17")] = 180_000.0
    load[hour == np.datetime64("2024-06-21T14")] = 40_000.0
    load[hour == np.datetime64("2024-06-22T15")] = 500_000.0  # a Saturday
    found = bill(rules(coincident=(rate,)), JUNE, load, QUARTER)
    (charge,) = found.open
    assert (charge.least, charge.most) == pytest.approx((50 * 40, 50 * 180))
    assert found.demand == 0.0
    nobody_says = CoincidentRate(name="system", price_per_kw=50.0, hours=())
    (charge,) = bill(rules(coincident=(nobody_says,)), JUNE, load, QUARTER).open
    assert (charge.least, charge.most) == (None, None)

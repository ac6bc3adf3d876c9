"""The supply on a grid: means, lowest limits, seasons and clock changes, and nothing made up."""

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.forecast.supply import HeldValues, Supply, SupplyAhead, fresh, overlaid, supply_ahead
from slurm_power.model.site import Circuit, LimitKind, Site
from slurm_power.model.snapshot import LimitEvent
from slurm_power.model.tariff import Period, Rates, Season, Tariff

BERLIN = ZoneInfo("Europe/Berlin")
SITE = Site(
    name="lab",
    circuits={
        "grid": Circuit(
            name="grid", rating_watts=60_000.0, limit_watts=40_000.0, limit_kind=LimitKind.ECONOMIC
        ),
        "rack1": Circuit(
            name="rack1", parent="grid", rating_watts=20_000.0, limit_kind=LimitKind.SAFETY, nodes=("c1",)
        ),
    },
    ess={},
)


def ahead(supply: Supply, start: float = 0.0, steps: int = 4, **more: object) -> SupplyAhead:
    given_more = {"circuit": "grid", "step_seconds": 900.0, **more}
    return supply_ahead(supply, SITE, start_seconds=start, steps=steps, **given_more)  # type: ignore[arg-type]


def moment(text: str, zone: ZoneInfo = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def period(
    hours: tuple[int, int], price: float, days: range = range(7), demand: float | None = None
) -> Period:
    return Period(
        days=frozenset(days),
        from_minute=hours[0] * 60,
        to_minute=hours[1] * 60,
        rates=Rates(price_per_kwh=price, demand_price_per_kw=demand),
    )


def tariff(*periods: Period) -> Tariff:
    return Tariff(
        name="t", seasons=(Season(name="all", first_day=(1, 1), last_day=(12, 31), periods=periods),)
    )


def test_prices_are_means_over_time_and_unknown_where_any_part_is() -> None:
    price = HeldValues(seconds=(0.0, 1_200.0), values=(0.10, 0.40), end_seconds=2_700.0)
    found = ahead(Supply(price_per_kwh=price), start=0.0, steps=5)
    # The second step has 300 s at 0.10 and 600 s at 0.40.
    assert found.price_per_kwh == pytest.approx((0.10, 0.30, 0.40, None, None))
    assert ahead(Supply(price_per_kwh=price), start=-450.0, steps=1).price_per_kwh == (None,)


def test_real_time_comes_before_the_day_ahead_only_while_it_is_fresh() -> None:
    day_ahead = HeldValues(seconds=(0.0, 3_600.0, 7_200.0), values=(0.10, 0.20, 0.30), end_seconds=14_400.0)
    # Each five minutes until it stops; the next row of its file is an hour later and knows nothing.
    real_time = HeldValues(
        seconds=(0.0, 300.0, 600.0, 3_600.0), values=(0.50, 0.51, 0.52, None), end_seconds=10_800.0
    )
    both = overlaid(fresh(real_time), day_ahead)
    assert both is not None
    for at, price in (
        (0.0, 0.50),
        (899.0, 0.52),
        (1_199.0, 0.52),
        (1_200.0, 0.10),
        (3_600.0, 0.20),
        (12_000.0, 0.30),
        (14_400.0, None),
        (-1.0, None),
    ):
        assert both.value_at(at) == price
    assert list(both.pieces(1_000.0, 4_000.0)) == [
        (1_000.0, 1_200.0, 0.52),
        (1_200.0, 3_600.0, 0.10),
        (3_600.0, 4_000.0, 0.20),
    ]
    assert overlaid(None, day_ahead) is day_ahead
    assert overlaid(real_time, None) is real_time


def test_a_real_time_price_that_lasts_is_not_cut_and_a_lone_one_lasts_an_hour() -> None:
    lone = fresh(HeldValues(seconds=(0.0,), values=(0.5,), end_seconds=math.inf))
    assert (lone.value_at(3_599.0), lone.value_at(3_600.0)) == (0.5, None)
    steady = HeldValues(seconds=(0.0, 60.0, 120.0), values=(1.0, 2.0, 3.0), end_seconds=240.0)
    assert fresh(steady) == steady


def test_an_unknown_value_is_not_filled_from_its_neighbours() -> None:
    carbon = HeldValues(seconds=(0.0, 900.0, 1_800.0), values=(300.0, None, 100.0))
    assert ahead(Supply(carbon_g_per_kwh=carbon)).carbon_g_per_kwh == (300.0, None, 100.0, 100.0)


def test_the_lowest_limit_of_a_step_counts_and_only_at_the_grid_connection() -> None:
    limit = HeldValues(seconds=(0.0, 1_000.0, 1_100.0), values=(50_000.0, 10_000.0, None))
    supply = Supply(limit_watts=limit)
    assert ahead(supply).limit_watts == (40_000.0, 10_000.0, 40_000.0, 40_000.0)
    assert ahead(supply, circuit="rack1").limit_watts == (20_000.0,) * 4


def test_events_lower_the_steps_they_touch() -> None:
    event = LimitEvent(
        event_id="ev-1",
        circuit="grid",
        limit_watts=9_000.0,
        starts_in_seconds=850.0,
        ends_in_seconds=1_850.0,
        reason="utility",
    )
    # The grid begins 50 s after the moment that the event's seconds count from.
    found = ahead(Supply(), start=1_000.0, steps=3, events=[event], now_seconds=950.0)
    assert found.limit_watts == (9_000.0, 9_000.0, 40_000.0)
    assert ahead(Supply(), events=[event], circuit="rack1").limit_watts == (20_000.0,) * 4


def test_the_ramp_and_the_recovery_of_an_event_are_ahead_too() -> None:
    event = LimitEvent(
        event_id="ev-1",
        circuit="grid",
        limit_watts=10_000.0,
        starts_in_seconds=1_800.0,
        ends_in_seconds=2_700.0,
        reason="utility",
        baseline_watts=28_000.0,
        ramp_seconds=1_800.0,
        recover_seconds=1_800.0,
    )
    found = ahead(Supply(), steps=8, events=[event])
    lowest = (19_000.0, 10_000.0, 10_000.0, 10_000.0, 19_000.0, 28_000.0, 28_000.0, 40_000.0)
    assert found.limit_watts == pytest.approx(lowest, rel=1e-4)


def test_the_tariff_fills_what_the_price_file_leaves() -> None:
    rates = tariff(period((0, 24), 0.2, demand=15.0))
    price = HeldValues(seconds=(0.0,), values=(-0.05,), end_seconds=450.0)
    found = ahead(Supply(price_per_kwh=price, tariff=rates), steps=2)
    assert found.price_per_kwh == pytest.approx((0.075, 0.2))
    assert found.demand_price_per_kw == (15.0, 15.0)


def test_periods_follow_the_local_clock_over_both_clock_changes() -> None:
    rates = tariff(period((0, 6), 0.1), period((6, 22), 0.3), period((22, 24), 0.1))
    supply = Supply(tariff=rates, zone=BERLIN)
    for day, cheap_hours in (("2026-03-28", 8), ("2026-03-29", 7), ("2026-10-25", 9)):
        # From noon of the day before, 24 h by the local clock: the night is an hour shorter or longer.
        start, end = moment(f"{day}T00:00") - 12 * 3600.0, moment(f"{day}T12:00")
        hours = round((end - start) / 3600.0)
        found = ahead(supply, start=start, steps=hours, step_seconds=3600.0)
        assert [
            price for price in found.price_per_kwh if price == pytest.approx(0.1)
        ].__len__() == cheap_hours


def test_a_step_over_an_edge_is_weighted_and_pays_the_higher_demand_price() -> None:
    rates = tariff(period((0, 6), 0.1, demand=5.0), period((6, 24), 0.4, demand=15.0))
    start = moment("2026-01-05T05:50")
    found = ahead(Supply(tariff=rates, zone=BERLIN), start=start, steps=1)
    assert found.price_per_kwh == pytest.approx(((600 * 0.1 + 300 * 0.4) / 900,))
    assert found.demand_price_per_kw == (15.0,)


def test_seasons_and_weekdays() -> None:
    summer = Season(
        name="summer",
        first_day=(6, 1),
        last_day=(9, 30),
        periods=(period((0, 24), 0.5, range(5)), period((0, 24), 0.3, range(5, 7))),
    )
    winter = Season(name="winter", first_day=(10, 1), last_day=(5, 31), periods=(period((0, 24), 0.2),))
    supply = Supply(tariff=Tariff(name="t", seasons=(summer, winter)), zone=BERLIN)
    # Friday, Saturday in summer; New Year's Eve and Day, the last of May and the first of June in 2026.
    days = [
        ("2026-06-05", 0.5),
        ("2026-06-06", 0.3),
        ("2026-12-31", 0.2),
        ("2027-01-01", 0.2),
        ("2026-05-31", 0.2),
        ("2026-06-01", 0.5),
    ]
    for day, price in days:
        assert ahead(supply, start=moment(f"{day}T23:45"), steps=1).price_per_kwh == pytest.approx((price,))


def test_a_message_has_null_for_what_is_unknown() -> None:
    found = ahead(Supply(), steps=2).as_message()
    assert found == {
        "limit_watts": [40_000.0, 40_000.0],
        "price_per_kwh": None,
        "demand_price_per_kw": None,
        "carbon_g_per_kwh": None,
    }


@given(
    st.lists(
        st.tuples(st.integers(0, 10_000), st.floats(-5.0, 5.0)),
        min_size=1,
        max_size=20,
        unique_by=lambda v: v[0],
    ),
    st.integers(0, 5_000),
    st.integers(1, 900),
)
def test_means_keep_the_cost_of_a_steady_draw(
    rows: list[tuple[int, float]], start: int, step_seconds: int
) -> None:
    """What ten fine steps cost in all is what one coarse step over the same time costs."""
    rows.sort()
    price = HeldValues(seconds=tuple(map(float, (at for at, _ in rows))), values=tuple(v for _, v in rows))
    supply = Supply(price_per_kwh=price)
    fine = ahead(supply, start=float(start), steps=10, step_seconds=float(step_seconds)).price_per_kwh
    (coarse,) = ahead(supply, start=float(start), steps=1, step_seconds=10.0 * step_seconds).price_per_kwh
    known = [value for value in fine if value is not None]
    if coarse is None:
        assert len(known) < 10
    else:
        assert sum(known) / 10 == pytest.approx(coarse)


def test_one_time_zone_more_moves_the_tariff_by_an_hour() -> None:
    rates = tariff(period((0, 6), 0.1), period((6, 24), 0.3))
    start = datetime(2026, 1, 5, 5, tzinfo=UTC).timestamp()
    assert ahead(Supply(tariff=rates), start=start, steps=1).price_per_kwh == pytest.approx((0.1,))
    assert ahead(Supply(tariff=rates, zone=BERLIN), start=start, steps=1).price_per_kwh == pytest.approx(
        (0.3,)
    )

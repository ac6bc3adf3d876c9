"""Bills of single months, calculated by hand, and what holds for any bill."""

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from slurm_power.model.billing_rules import (
    BillingRules,
    CoincidentRate,
    DemandRate,
    DemandTier,
    EnergyRate,
    EnergyTier,
    Window,
)
from slurm_power.plan.billing import Bill, bill, monthly_bills, period_terms
from slurm_power.plan.local_calendar import LocalCalendar

QUARTER = 900.0
BERLIN = ZoneInfo("Europe/Berlin")
NOON = Window(days=frozenset(range(5)), from_minute=720, to_minute=1080)
ALWAYS = Window()
Column = NDArray[np.float64]


def times(start: str, end: str, minutes: int = 15) -> NDArray[np.datetime64]:
    return np.arange(np.datetime64(start, "s"), np.datetime64(end, "s"), np.timedelta64(minutes * 60, "s"))


# Thirty days from a Saturday: 20 weekdays.
JUNE = times("2024-06-01", "2024-07-01")
IS_NOON = LocalCalendar.of(JUNE).within([NOON])


def energy(price: float, *windows: Window, sell: float | None = None) -> EnergyRate:
    tiers = (EnergyTier(price_per_kwh=price),)
    return EnergyRate(name=f"at {price}", windows=windows or (ALWAYS,), tiers=tiers, sell_price_per_kwh=sell)


def demand(name: str, price: float, *windows: Window, **changes: object) -> DemandRate:
    tiers = (DemandTier(price_per_kw=price),)
    rate = DemandRate(name=name, windows=windows or (ALWAYS,), tiers=tiers)
    return replace(rate, **changes)  # type: ignore[arg-type]  # fields by name


def rules(**parts: object) -> BillingRules:
    return BillingRules(name="test", **({"energy": (energy(0.1),)} | parts))  # type: ignore[arg-type]


def flat(watts: float, at: NDArray[np.datetime64] = JUNE) -> Column:
    return np.full(len(at), watts)


def peak_at(clock: str, watts: float, base: float = 100_000.0) -> Column:
    load = flat(base)
    load[np.datetime64(clock, "s") == JUNE] = watts
    return load


# --- by hand: 100 kW over 720 h are 72,000 kWh; noon on 20 weekdays is 120 h, 12,000 kWh


def test_energy_by_its_hours() -> None:
    found = bill(rules(energy=(energy(0.3, NOON), energy(0.1))), JUNE, flat(100_000.0), QUARTER)
    assert found.energy == pytest.approx(12_000 * 0.3 + 60_000 * 0.1)
    assert found.total == found.energy
    assert [(line.name, round(line.quantity, 6)) for line in found.lines] == [
        ("at 0.3", 12_000.0),
        ("at 0.1", 60_000.0),
    ]


def test_tiers_of_the_month_are_shared_by_its_hours() -> None:
    tiers = (EnergyTier(price_per_kwh=0.2, up_to_kwh=18_000.0), EnergyTier(price_per_kwh=0.1))
    # A quarter of the 72,000 kWh is in the first tier: so is a quarter of those at noon.
    tiered = EnergyRate(name="noon", windows=(NOON,), tiers=tiers)
    found = bill(rules(energy=(tiered, energy(0.05))), JUNE, flat(100_000.0), QUARTER)
    assert found.energy == pytest.approx(12_000 * (0.25 * 0.2 + 0.75 * 0.1) + 60_000 * 0.05)
    daily = replace(
        tiered, windows=(ALWAYS,), tiers=(replace(tiers[0], up_to_kwh=600.0, daily=True), tiers[1])
    )
    found = bill(rules(energy=(daily,)), JUNE, flat(100_000.0), QUARTER)
    assert found.energy == pytest.approx(18_000 * 0.2 + 54_000 * 0.1)


def test_the_month_has_its_adder() -> None:
    found = bill(rules(energy_adder_per_kwh=(0.0,) * 5 + (0.01,) + (0.0,) * 6), JUNE, flat(1000.0), QUARTER)
    assert found.energy == pytest.approx(720 * 0.11)


def test_each_demand_charge_has_its_own_peak() -> None:
    # The month's peak is on a Saturday; the highest of weekdays' noons is another.
    load = np.maximum(peak_at("2024-06-08T13:00", 300_000.0), peak_at("2024-06-12T17:45", 200_000.0))
    found = bill(rules(demand=(demand("all", 10.0), demand("noon", 15.0, NOON))), JUNE, load, QUARTER)
    assert found.demand == pytest.approx(300 * 10 + 200 * 15)
    assert found.peaks_watts == {"all": 300_000.0, "noon": 200_000.0}


def test_an_edge_of_a_window_belongs_to_what_begins_there() -> None:
    noon = rules(demand=(demand("noon", 1.0, NOON),))
    for clock, kilowatts in (("11:45", 100), ("12:00", 500), ("17:45", 500), ("18:00", 100)):
        load = peak_at(f"2024-06-12T{clock}", 500_000.0)
        assert bill(noon, JUNE, load, QUARTER).demand == pytest.approx(kilowatts)


def test_tiers_of_demand() -> None:
    tiers = (DemandTier(price_per_kw=20.0, up_to_kw=50.0), DemandTier(price_per_kw=5.0))
    tiered = rules(demand=(demand("all", 0.0, tiers=tiers),))
    assert bill(tiered, JUNE, flat(30_000.0), QUARTER).demand == pytest.approx(30 * 20)
    assert bill(tiered, JUNE, flat(150_000.0), QUARTER).demand == pytest.approx(50 * 20 + 100 * 5)
    (charge,) = period_terms(tiered, JUNE, QUARTER).demand
    assert (charge.price_per_kw, charge.cost(150_000.0)) == pytest.approx((5.0, 1500.0))


@pytest.mark.parametrize(
    ("earlier", "kilowatts"),
    [((), 100), ((200.0,), 160), ((110.0,), 100), ((900.0, 200.0, 150.0), 160), ((0.0, 0.0), 100)],
)
def test_a_ratchet_holds_for_its_months(earlier: tuple[float, ...], kilowatts: float) -> None:
    rate = demand("all", 10.0, ratchet_ratio=(0.8,) * 12, ratchet_months=2)
    peaks = {"all": [1000.0 * peak for peak in earlier], "other": [1e9]}
    found = bill(rules(demand=(rate,)), JUNE, flat(100_000.0), QUARTER, earlier_peaks_watts=peaks)
    assert found.demand == pytest.approx(10 * kilowatts)
    assert found.peaks_watts == {"all": 100_000.0}
    on_other = replace(rate, ratchet_on=("other",))
    found = bill(rules(demand=(on_other,)), JUNE, flat(1.0), QUARTER, earlier_peaks_watts={"other": [5e4]})
    assert found.demand == pytest.approx(10 * 40)


def test_a_ratchet_over_the_months_of_a_series() -> None:
    at = times("2024-01-01", "2024-05-01", 60)
    load = flat(100_000.0, at)
    load[10] = 400_000.0
    load[-1] = 150_000.0
    rate = demand("all", 1.0, ratchet_ratio=(0.5,) * 12, ratchet_months=2)
    found = monthly_bills(rules(demand=(rate,)), at, load, 3600.0)
    demands = {month: part.demand for month, part in found.items()}
    assert demands == pytest.approx({"2024-01": 400, "2024-02": 200, "2024-03": 200, "2024-04": 150})


def test_coincident_hours() -> None:
    hours = tuple(datetime.fromisoformat(at) for at in ("2024-06-20T17:00", "2024-06-21T17:00", "2024-07-01"))
    rated = rules(coincident=(CoincidentRate(name="system", price_per_kw=50.0, hours=hours),))
    load = flat(100_000.0)
    load[JUNE.astype("datetime64[h]") == np.datetime64("2024-06-20T17")] = 180_000.0
    found = bill(rated, JUNE, load, QUARTER)
    assert found.demand == pytest.approx(50 * 140)
    prices = period_terms(rated, JUNE, QUARTER).energy_price_per_kwh
    assert prices[JUNE.astype("datetime64[h]") == np.datetime64("2024-06-21T17")] == pytest.approx(25.1)
    # What the terms say of these hours is what the bill takes.
    kwh = load * QUARTER / 3.6e6
    assert float(kwh @ prices) == pytest.approx(found.total)


def test_prices_come_in_place_of_the_tariffs_energy() -> None:
    prices = np.where(IS_NOON, -0.02, 0.05)
    rated = rules(energy=(), demand=(demand("all", 10.0),), fixed_per_month=7.0)
    found = bill(rated, JUNE, flat(100_000.0), QUARTER, prices)
    assert found.energy == pytest.approx(-0.02 * 12_000 + 0.05 * 60_000)
    assert (found.demand, found.fixed) == pytest.approx((1000.0, 7.0))
    assert period_terms(rated, JUNE, QUARTER, prices).energy_price_per_kwh.tolist() == prices.tolist()


@pytest.mark.parametrize(
    ("parts", "priced", "earned"),
    [
        ({}, False, 0.0),
        ({"energy": (energy(0.1, sell=0.04),)}, False, 0.04),
        ({"net_metering": True}, False, 0.1),
        ({"energy": (energy(0.1, sell=0.04),), "net_metering": True}, False, 0.04),
        ({}, True, 0.0),
        ({"net_metering": True}, True, 0.3),
        ({"energy": (energy(0.1, sell=0.04),)}, True, 0.04),
        ({"energy": ()}, True, 0.0),
    ],
)
def test_exports(parts: dict[str, object], priced: bool, earned: float) -> None:
    load = np.where(IS_NOON, -50_000.0, 0.0)
    prices = np.full(len(JUNE), 0.3) if priced else None
    rated = rules(**parts, demand=(demand("all", 10.0),))
    found = bill(rated, JUNE, load, QUARTER, prices)
    assert found.total == pytest.approx(-6000 * earned)
    assert period_terms(rated, JUNE, QUARTER, prices).sell_price_per_kwh == pytest.approx(earned)


def test_fixed_charges_and_the_least_bill() -> None:
    rated = rules(fixed_per_month=10.0, fixed_per_day=1.0, minimum_per_month=100.0, minimum_per_day=1.0)
    found = bill(rated, JUNE, flat(1000.0), QUARTER)
    assert (found.energy, found.fixed, found.total) == pytest.approx((72.0, 58.0, 130.0))
    assert found.lines[-1].name == "up to the minimum bill"
    assert bill(rated, JUNE, flat(2000.0), QUARTER).fixed == pytest.approx(40.0)


@pytest.mark.parametrize(
    ("minutes", "interval", "kilowatts"),
    [(5, 900, 200), (5, 1800, 150), (5, 300, 400), (15, 300, 400), (15, 3600, 175), (60, 900, 400)],
)
def test_demand_is_the_mean_of_an_interval(minutes: int, interval: float, kilowatts: float) -> None:
    at = times("2024-06-01", "2024-07-01", minutes)
    load = flat(100_000.0, at)
    load[at == np.datetime64("2024-06-12T12:00", "s")] = 400_000.0
    rated = rules(demand=(demand("all", 1.0),), demand_interval_seconds=interval)
    assert bill(rated, at, load, 60.0 * minutes).demand == pytest.approx(kilowatts)


# --- parts of months, clocks and what is no month


def test_a_part_of_a_month_is_whole_unless_pro_rata() -> None:
    rated = rules(demand=(demand("all", 10.0),), fixed_per_month=30.0, minimum_per_month=3000.0)
    days = JUNE[: 15 * 96]
    whole = bill(rated, days, flat(100_000.0, days), QUARTER)
    assert (whole.demand, whole.fixed) == pytest.approx((1000.0, 30.0))
    half = bill(rated, days, flat(100_000.0, days), QUARTER, pro_rata=True)
    assert (half.demand, half.fixed) == pytest.approx((500.0, 15.0))
    assert half.energy == whole.energy
    assert period_terms(rated, days, QUARTER, pro_rata=True).demand[0].price_per_kw == pytest.approx(5.0)


def test_a_charge_counts_for_the_days_of_its_season() -> None:
    summer = demand("summer", 30.0, Window(first_day=(6, 16), last_day=(9, 30)))
    winter = demand("winter", 10.0, Window(first_day=(10, 1), last_day=(6, 15)))
    found = bill(rules(demand=(summer, winter)), JUNE, flat(100_000.0), QUARTER)
    assert found.demand == pytest.approx(100 * (30 * 0.5 + 10 * 0.5))
    july = times("2024-07-01", "2024-08-01")
    assert bill(rules(demand=(summer, winter)), july, flat(1e5, july), QUARTER).demand == pytest.approx(
        3000.0
    )


@pytest.mark.parametrize(
    ("month", "hours"), [("2026-03", 743), ("2026-10", 745), ("2024-02", 696), ("2023-02", 672)]
)
def test_months_are_as_long_as_the_clock_makes_them(month: str, hours: int) -> None:
    start = datetime.fromisoformat(f"{month}-01").replace(tzinfo=BERLIN).timestamp()
    seconds = start + QUARTER * np.arange(4 * hours, dtype=np.float64)
    calendar = LocalCalendar.from_epoch(seconds, BERLIN)
    assert [label for label, _ in calendar.months()] == [month]
    end = LocalCalendar.from_epoch(seconds[-1:] + QUARTER, BERLIN)
    assert (int(end.day[0]), float(end.minute[0])) == (1, 0.0)
    rated = rules(fixed_per_month=100.0)
    found = bill(rated, calendar, np.full(len(seconds), 1000.0), QUARTER, pro_rata=True)
    assert (found.energy, found.fixed) == pytest.approx((0.1 * hours, 100.0))


def test_an_hour_that_comes_twice_is_two_intervals() -> None:
    seconds = datetime(2026, 10, 25, 0, tzinfo=UTC).timestamp() + 300.0 * np.arange(24, dtype=np.float64)
    calendar = LocalCalendar.from_epoch(seconds, BERLIN)
    assert calendar.minute[::12].tolist() == [120.0, 120.0]
    load = np.where(np.arange(24, dtype=np.float64) < 12, 300_000.0, 100_000.0)
    rated = rules(demand=(demand("all", 1.0),), demand_interval_seconds=3600.0)
    assert bill(rated, calendar, load, 300.0).demand == pytest.approx(300.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"local_times": times("2024-06-30", "2024-07-02")}, "one calendar month"),
        ({"local_times": JUNE[:0]}, "a billing period needs steps"),
        ({"step_seconds": 0.0}, "a step has to last"),
        ({"import_watts": flat(1.0)[1:]}, "import_watts: 2880 finite numbers"),
        ({"import_watts": flat(np.nan)}, "import_watts: 2880 finite numbers"),
        ({"prices_per_kwh": flat(np.inf)}, "prices_per_kwh: 2880 finite numbers"),
        ({"rules": rules(energy=())}, "test has no energy prices"),
        ({"rules": rules(energy=(energy(0.1, NOON),))}, "test has no energy price at 2024-06-01T00:00:00"),
    ],
)
def test_what_cannot_be_billed(changes: dict[str, object], words: str) -> None:
    given_now = {"rules": rules(), "local_times": JUNE, "import_watts": flat(1.0), "step_seconds": QUARTER}
    with pytest.raises(ValueError, match=words):
        bill(**(given_now | changes))  # type: ignore[arg-type]  # arguments by name


# --- what holds for any bill

loads = st.lists(st.floats(0.0, 1e6), min_size=96, max_size=96).map(lambda day: np.tile(day, 30))
RATED = BillingRules(
    name="all there is",
    energy=(
        EnergyRate(
            name="noon",
            windows=(NOON,),
            tiers=(EnergyTier(price_per_kwh=0.3, up_to_kwh=50_000.0), EnergyTier(price_per_kwh=0.2)),
        ),
        EnergyRate(
            name="else",
            windows=(ALWAYS,),
            tiers=(EnergyTier(price_per_kwh=0.1, up_to_kwh=50_000.0), EnergyTier(price_per_kwh=0.05)),
        ),
    ),
    demand=(
        demand("all", 10.0, ratchet_ratio=(0.8,) * 12, ratchet_months=11),
        demand(
            "noon",
            5.0,
            NOON,
            tiers=(DemandTier(price_per_kw=5.0, up_to_kw=300.0), DemandTier(price_per_kw=8.0)),
        ),
    ),
    fixed_per_month=100.0,
    demand_interval_seconds=1800.0,
)
EARLIER = {"all": [400_000.0]}


def billed(load: Column, rated: BillingRules = RATED) -> Bill:
    return bill(rated, JUNE, load, QUARTER, earlier_peaks_watts=EARLIER)


@settings(max_examples=25, deadline=None)
@given(load=loads, more=st.floats(0.0, 5e5), at=st.integers(0, 2879))
def test_demand_never_falls_when_a_load_rises(load: Column, more: float, at: int) -> None:
    higher = load.copy()
    higher[at] += more
    assert billed(higher).demand >= billed(load).demand - 1e-9
    assert billed(higher).energy >= billed(load).energy * (1.0 - 1e-9)


@settings(max_examples=25, deadline=None)
@given(load=loads, factor=st.floats(0.0, 5.0))
def test_a_bill_is_linear_in_its_prices(load: Column, factor: float) -> None:
    dearer = replace(
        RATED,
        energy=tuple(
            replace(
                rate,
                tiers=tuple(replace(tier, price_per_kwh=factor * tier.price_per_kwh) for tier in rate.tiers),
            )
            for rate in RATED.energy
        ),
        demand=tuple(
            replace(
                rate,
                tiers=tuple(replace(tier, price_per_kw=factor * tier.price_per_kw) for tier in rate.tiers),
            )
            for rate in RATED.demand
        ),
        fixed_per_month=factor * RATED.fixed_per_month,
    )
    assert billed(load, dearer).total == pytest.approx(factor * billed(load).total)


@settings(max_examples=25, deadline=None)
@given(load=loads)
def test_lines_add_up_to_the_bill_and_tiers_to_the_energy(load: Column) -> None:
    found = billed(load)
    assert sum(line.amount for line in found.lines) == pytest.approx(found.total)
    kwh = sum(line.quantity for line in found.lines if line.part == "energy")
    assert kwh == pytest.approx(float(load.sum()) * QUARTER / 3.6e6)
    terms = period_terms(RATED, JUNE, QUARTER, expected_import_kwh=kwh, earlier_peaks_watts=EARLIER)
    assert float(load @ terms.energy_price_per_kwh) * QUARTER / 3.6e6 == pytest.approx(found.energy)
    # The terms' charges are of steps, the bill's of half hours: never less.
    charged = sum(charge.cost(float(load[charge.steps].max())) for charge in terms.demand)
    assert charged >= found.demand - 1e-9
    assert terms.fixed == found.fixed


@settings(max_examples=15, deadline=None)
@given(day=st.lists(st.floats(-1e5, 1e6), min_size=24, max_size=24), first=st.integers(0, 700))
def test_a_series_is_the_sum_of_its_months(day: list[float], first: int) -> None:
    at = times("2023-12-01", "2024-04-01", 60)[first:]
    load = np.resize(np.array(day), len(at))
    found = monthly_bills(replace(RATED, net_metering=True), at, load, 3600.0, earlier_peaks_watts=EARLIER)
    assert list(found) == ["2023-12", "2024-01", "2024-02", "2024-03"]
    exact = {"all": [400_000.0], "noon": list[float]()}
    for label, part in found.items():
        within = at.astype("datetime64[M]") == np.datetime64(label)
        alone = bill(
            replace(RATED, net_metering=True), at[within], load[within], 3600.0, earlier_peaks_watts=exact
        )
        assert part == alone
        for name, peaks in exact.items():
            peaks.append(part.peaks_watts.get(name, 0.0))

"""What the thread answers once a quarter of an hour, and the billing period that it answers for."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from slurm_power.model.billing_rules import BillingRules, DemandRate, DemandTier, Window
from slurm_power.plan.billing_period import (
    BillingPeriod,
    billing_period,
    counted_watts,
    highest,
    period_label,
)
from slurm_power.plan.ess_ahead import Ahead, look_ahead, start_levels
from slurm_power.plan.joint_battery import joint_battery
from slurm_power.plan.load_paths import SIMILAR, LoadPaths
from slurm_power.plan.peak_level import Battery, Values
from slurm_power.plan.policy import Policy
from tests.plan.situations import ess_reading, situation

BERLIN = ZoneInfo("Europe/Berlin")
OF = Battery(
    charge_watts=8_000.0, discharge_watts=8_000.0, energy_kwh=8.0, charge_ratio=1.0, discharge_ratio=1.0
)
DAY = 96


def rules(*rates: DemandRate) -> BillingRules:
    return BillingRules(name="test", demand=rates)


def rate(name: str = "all", price: float = 10.0, **window: Any) -> DemandRate:
    return DemandRate(name=name, windows=(Window(**window),), tiers=(DemandTier(price_per_kw=price),))


def month(*rates: DemandRate, day: int = 10, zone: Any = UTC) -> BillingPeriod:
    at = datetime(2026, 3, day, tzinfo=zone).timestamp()
    return billing_period(rules(*rates), at, zone, {})


def test_a_period_is_a_month_of_the_sites_clock_with_its_lost_hour() -> None:
    period = month(rate(), zone=BERLIN)
    assert period.label == "2026-03"
    assert period.start_seconds == datetime(2026, 2, 28, 23, tzinfo=UTC).timestamp()
    assert period.end_seconds == datetime(2026, 3, 31, 22, tzinfo=UTC).timestamp()
    assert len(period.charges[0].steps) == 31 * DAY - 4
    assert period.step(period.start_seconds - 1.0) is None and period.step(period.end_seconds) is None
    assert period.step(period.start_seconds + 1_799.0) == 1
    assert period_label(period.start_seconds - 1.0, BERLIN) == "2026-02"
    assert (
        billing_period(rules(rate()), datetime(2026, 12, 31, tzinfo=UTC).timestamp(), UTC, {}).label
        == "2026-12"
    )


def test_only_charges_that_cost_something_and_count_now() -> None:
    period = month(rate(), rate("noon", from_minute=720, to_minute=780), rate("free", price=0.0))
    assert [charge.name for charge in period.charges] == ["all", "noon"]
    noon = datetime(2026, 3, 10, 12, 30, tzinfo=UTC).timestamp()
    assert [charge.name for charge in period.counting(noon)] == ["all", "noon"]
    assert [charge.name for charge in period.counting(noon + 1_800.0)] == ["all"]
    seen = counted_watts(period, np.arange(DAY, dtype=np.float64), period.start_seconds, UTC)
    assert highest(seen["all"]) == 95.0 and highest(seen["noon"]) == 51.0
    assert highest(np.full(3, np.nan)) is None and highest([]) is None


def test_a_level_starts_with_a_week_of_load_or_at_the_ratchet() -> None:
    day = np.full(DAY, 10_000.0)
    day[48:52] = 18_000.0
    period = month(rate())
    (level,) = start_levels(period.charges, {"all": np.tile(day, 8)}, OF, step_hours=0.25).values()
    # 8 kWh are 8 kW for an hour, but what was given has to come back in 23 hours.
    assert level == pytest.approx(10_000.0 + 8_000.0 / 24.0, abs=20.0)
    short = {"all": np.tile(day, 3)}
    assert start_levels(period.charges, short, OF, step_hours=0.25) == {"all": None}
    ratchet = rate()
    ratchet = DemandRate(
        name="all", windows=ratchet.windows, tiers=ratchet.tiers, ratchet_ratio=(0.5,) * 12, ratchet_months=11
    )
    at = datetime(2026, 3, 10, tzinfo=UTC).timestamp()
    paid = billing_period(rules(ratchet), at, UTC, {"all": [40_000.0, 30_000.0]})
    assert start_levels(paid.charges, short, OF, step_hours=0.25) == {"all": 20_000.0}


class Told(LoadPaths):
    """Paths as they are told, after so many days."""

    def __init__(self, paths: Values, days: float = 20.0) -> None:
        super().__init__(OF, 900.0)
        self._told, self._values = paths, [10_000.0] * round(days * DAY)

    @property
    def source(self) -> str:
        return SIMILAR

    def paths(self, now_watts: float | None = None) -> Values | None:  # noqa: ARG002
        return self._told.copy()

    def expected(self, now_watts: float | None = None) -> Values | None:  # noqa: ARG002
        return np.asarray(self._told[:, 0].copy())


def ahead(paths: Values, load: float, stored_kwh: float, level: float = 15_000.0, **more: Any) -> Ahead:
    days = more.pop("days", 20.0)
    period = month(rate(from_minute=0, to_minute=1_380))  # not all hours: no look at the rest of the month
    given = {"natural_most_watts": 20_000.0, "prices_per_kwh": np.full(DAY, 0.1), **more}
    return look_ahead(
        Told(paths, days),
        OF,
        period.charges,
        {"all": level},
        step=0,
        step_hours=0.25,
        load_watts=load,
        stored_kwh=stored_kwh,
        **given,
    )


def course(first_watts: float, hours: float) -> Values:
    paths = np.full((DAY, 3), 10_000.0)
    paths[: round(hours * 4)] = first_watts
    return paths


def test_a_long_excess_raises_the_level_and_a_short_one_does_not() -> None:
    # 4 kWh last for 5 kW above the level for 48 minutes; over 4 hours they are 1 kW.
    assert ahead(course(20_000.0, 0.75), 20_000.0, 4.0).levels_watts == {}
    assert ahead(course(20_000.0, 4.0), 20_000.0, 4.0).levels_watts == {
        "all": pytest.approx(19_000.0, abs=100.0)
    }


def test_what_cannot_be_held_now_is_left_to_the_meter() -> None:
    """With 0.5 kWh nothing can be kept for longer than the quarter that begins."""
    assert ahead(course(20_000.0, 0.25), 20_000.0, 0.5).levels_watts == {}


def test_what_excesses_need_is_kept() -> None:
    later = np.full((DAY, 3), 10_000.0)
    later[1:5] = 19_000.0
    assert ahead(later, 10_000.0, 8.0).reserve_ratio == pytest.approx(0.5)
    assert ahead(np.full((DAY, 3), 10_000.0), 10_000.0, 8.0).reserve_ratio == 0.0


def test_it_trades_only_where_prices_pay_and_are_known() -> None:
    dear = np.full(DAY, 0.1)
    dear[:8] = 0.9, 0.9, *(0.01,) * 6
    dear[40:44] = 0.5
    flat = np.full((DAY, 3), 10_000.0)
    assert ahead(flat, 10_000.0, 8.0, prices_per_kwh=dear).trade_watts == pytest.approx(8_000.0)
    assert ahead(flat, 10_000.0, 8.0).trade_watts is None
    assert ahead(flat, 10_000.0, 8.0, prices_per_kwh=dear[:15]).trade_watts is None
    assert ahead(flat, 10_000.0, 8.0, prices_per_kwh=dear, days=13.9).trade_watts is None
    assert ahead(course(20_000.0, 0.5), 20_000.0, 8.0, prices_per_kwh=dear).trade_watts is None


def test_the_joint_battery_is_what_lies_between_reserve_and_target() -> None:
    battery, stored = joint_battery(situation(), {"battery": (7_000.0, 6_000.0)}, Policy())
    assert (battery.charge_watts, battery.discharge_watts) == (7_000.0, 6_000.0)
    assert battery.energy_kwh == pytest.approx(6.0) and stored == pytest.approx(4.0)
    assert battery.charge_ratio * battery.discharge_ratio == pytest.approx(0.88)
    for soc, kwh in ((0.1, 0.0), (0.95, 6.0)):
        full = situation(ess=ess_reading(soc_ratio=soc))
        assert joint_battery(full, {"battery": (1.0, 1.0)}, Policy())[1] == pytest.approx(kwh)
    lost = situation(ess=ess_reading(remote=False))
    assert joint_battery(lost, {"battery": (1.0, 1.0)}, Policy())[0].is_none

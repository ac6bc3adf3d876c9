"""With an outlook the battery holds a level, recharges below it and trades; limits and caps come first."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.action import SetDischarge
from slurm_power.model.grid_event import Commitment, LimitEvent
from slurm_power.model.outlook import EssOutlook
from slurm_power.model.reading import EssReading, Quality
from slurm_power.model.site import Ess
from slurm_power.model.snapshot import HoldLease, Snapshot
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import AT, cap_lease, ess_reading, pending, running, site, situation

POLICY = Policy()
# The site's own limit, less its margin.
TARGET_WATTS = 30_000.0 * 0.98


def outlook(**more: Any) -> EssOutlook:
    given: dict[str, Any] = {
        "made_at": AT,
        "valid_seconds": 60.0,
        "period": "2026-01",
        "level_watts": 22_000.0,
        "natural_most_watts": 25_000.0,
        "trade_reason": "energy costs 0.1 per kWh now",
    }
    return EssOutlook(**{**given, **more})


def with_outlook(of: EssOutlook, **more: Any) -> Snapshot:
    return replace(situation(**more), outlook=of)


def setpoint(snapshot: Snapshot) -> SetDischarge | None:
    found = plan_cycle(snapshot, POLICY, hold_seconds=60.0).actions
    return next((action for action in found if isinstance(action, SetDischarge)), None)


def watts(snapshot: Snapshot) -> float:
    action = setpoint(snapshot)
    return 0.0 if action is None else action.discharge_watts


def test_the_battery_holds_the_level_and_says_why() -> None:
    action = setpoint(with_outlook(outlook(), import_watts=24_000.0))
    assert action is not None and action.discharge_watts == 2_000.0
    assert "2026-01 is paid for" in action.reason and "keeps it at 22.0 kW" in action.reason


def test_what_it_gives_already_counts_as_load() -> None:
    giving = ess_reading(discharge_watts=2_000.0)
    assert (
        watts(with_outlook(outlook(), import_watts=22_000.0, ess=giving, setpoint_watts=2_000.0)) == 2_000.0
    )


def test_a_level_never_caps_a_job() -> None:
    jobs = (running("1", ("c1",)),)
    drained = ess_reading(soc_ratio=0.2)
    found = plan_cycle(
        with_outlook(outlook(), import_watts=28_000.0, jobs=jobs, ess=drained), POLICY, hold_seconds=60.0
    )
    assert found.actions == () and found.shortfalls == ()


def test_near_its_end_it_gives_what_lasts_for_a_demand_interval() -> None:
    low = ess_reading(soc_ratio=0.22)  # 0.2 kWh above the reserve
    assert watts(with_outlook(outlook(), import_watts=26_000.0, ess=low)) == pytest.approx(800.0)
    lower = ess_reading(soc_ratio=0.201)
    action = setpoint(with_outlook(outlook(), import_watts=26_000.0, ess=lower, setpoint_watts=50.0))
    assert action is not None and action.discharge_watts == 0.0
    assert "down to 20% and cannot keep the site at 22.0 kW" in action.reason


def test_a_real_limit_comes_first_and_takes_all_that_is_left() -> None:
    low = ess_reading(soc_ratio=0.22)
    excess = 33_000.0 - TARGET_WATTS
    assert watts(with_outlook(outlook(), import_watts=33_000.0, ess=low)) == pytest.approx(excess)
    assert watts(with_outlook(outlook(level_watts=None), import_watts=33_000.0)) == pytest.approx(excess)
    # Enough is stored for the level below that limit too.
    assert watts(with_outlook(outlook(), import_watts=29_900.0)) == pytest.approx(7_900.0)


@pytest.mark.parametrize(
    ("level_watts", "natural_watts", "expected"),
    [(22_000.0, 25_000.0, -2_000.0), (22_000.0, 21_000.0, -1_000.0), (None, 23_000.0, -3_000.0)],
)
def test_it_recharges_to_the_level_and_the_natural_maximum(
    level_watts: float | None, natural_watts: float, expected: float
) -> None:
    of = outlook(level_watts=level_watts, natural_most_watts=natural_watts)
    action = setpoint(with_outlook(of, import_watts=20_000.0))
    assert action is not None and action.discharge_watts == pytest.approx(expected)
    assert "recharging to 80%" in action.reason


def test_without_an_outlook_it_takes_half_of_the_room_below_the_limit() -> None:
    assert watts(situation(import_watts=20_000.0)) == pytest.approx(-(TARGET_WATTS - 20_000.0) / 2)
    # With one, that still bounds it.
    wide = outlook(level_watts=29_000.0, natural_most_watts=29_000.0)
    assert watts(with_outlook(wide, import_watts=28_000.0)) == pytest.approx(-(TARGET_WATTS - 28_000.0) / 2)


@pytest.mark.parametrize("seconds", [61.0, -61.0])
def test_a_stale_outlook_is_ignored(seconds: float) -> None:
    old = outlook(made_at=AT - timedelta(seconds=seconds), trade_watts=3_000.0)
    for load in (20_000.0, 24_000.0):
        assert setpoint(with_outlook(old, import_watts=load)) == setpoint(situation(import_watts=load))


def test_it_sells_above_what_the_level_needs() -> None:
    selling = outlook(trade_watts=3_000.0, reserve_ratio=0.5)
    action = setpoint(with_outlook(selling, import_watts=20_000.0, ess=ess_reading(soc_ratio=0.7)))
    assert action is not None and action.discharge_watts == 3_000.0
    assert "energy costs 0.1 per kWh now" in action.reason and "keeps 50%" in action.reason
    # Half of what lies between the outage reserve of 20 % and the target of 80 % is kept.
    assert watts(with_outlook(selling, import_watts=20_000.0, ess=ess_reading(soc_ratio=0.5))) == 0.0
    near = ess_reading(soc_ratio=0.53)
    assert watts(with_outlook(selling, import_watts=20_000.0, ess=near)) == pytest.approx(0.3 * 4_000.0)


def test_it_never_sells_more_than_the_site_draws() -> None:
    selling = outlook(trade_watts=8_000.0)
    assert watts(with_outlook(selling, import_watts=3_000.0, rack_watts=(1_500.0, 1_500.0))) == 3_000.0


def test_it_charges_as_much_as_trading_wants() -> None:
    assert watts(with_outlook(outlook(trade_watts=-1_500.0), import_watts=20_000.0)) == -1_500.0
    assert watts(with_outlook(outlook(trade_watts=-9_000.0), import_watts=20_000.0)) == -2_000.0
    assert watts(with_outlook(outlook(trade_watts=0.0), import_watts=20_000.0)) == 0.0


@pytest.mark.parametrize("trade_watts", [None, -3_000.0, 3_000.0])
def test_it_neither_charges_nor_sells_while_jobs_are_held_or_capped(trade_watts: float | None) -> None:
    of = outlook(trade_watts=trade_watts)
    jobs = (running("1", ("c1",)), pending("2", 8))
    held = {"2": HoldLease(job_id="2", held_seconds=10.0, ends_in_seconds=50.0)}
    assert watts(with_outlook(of, import_watts=20_000.0, jobs=jobs, holds=held)) == 0.0
    capped = {"1": cap_lease("1", 500.0)}
    assert watts(with_outlook(of, import_watts=20_000.0, jobs=jobs[:1], caps=capped)) == 0.0


def test_before_a_grid_event_it_fills_up() -> None:
    event = LimitEvent(
        event_id="ev-1",
        circuit="grid",
        limit_watts=15_000.0,
        starts_in_seconds=3_600.0,
        ends_in_seconds=7_200.0,
        reason="utility",
        commitment=Commitment.MUST,
    )
    selling = outlook(trade_watts=3_000.0)
    assert watts(with_outlook(selling, import_watts=20_000.0, events=(event,))) == pytest.approx(-2_000.0)


@pytest.mark.parametrize(
    "broken",
    [{"remote": False}, {"alarms": ("hot",)}, {"quality": Quality.INVALID}],
)
def test_what_may_not_be_commanded_is_left_alone(broken: dict[str, Any]) -> None:
    for of in (outlook(), outlook(trade_watts=3_000.0)):
        assert setpoint(with_outlook(of, import_watts=24_000.0, ess=ess_reading(**broken))) is None


def test_without_a_meter_nobody_charges_or_trades() -> None:
    for trade_watts in (None, -3_000.0, 3_000.0):
        blind = with_outlook(outlook(trade_watts=trade_watts), import_watts=None)
        assert watts(blind) == 0.0


def two_batteries(first: EssReading, second: EssReading, of: EssOutlook, load: float) -> dict[str, float]:
    where = site()
    both = replace(where, ess={name: Ess(name=name, circuit="grid") for name in ("battery", "other")})
    snapshot = replace(
        situation(of=where, import_watts=load),
        site=both,
        ess={"battery": first, "other": replace(second, name="other")},
        setpoints={},
        outlook=of,
    )
    found = plan_cycle(snapshot, POLICY, hold_seconds=60.0).actions
    return {action.ess: action.discharge_watts for action in found if isinstance(action, SetDischarge)}


def test_two_batteries_share_level_room_and_trade() -> None:
    small = ess_reading(max_watts=1_500.0)
    assert two_batteries(small, ess_reading(), outlook(), 24_000.0) == {"battery": 1_500.0, "other": 500.0}
    assert two_batteries(small, ess_reading(), outlook(), 20_000.0) == {"battery": -1_500.0, "other": -500.0}
    selling = outlook(trade_watts=4_000.0)
    assert two_batteries(small, ess_reading(), selling, 20_000.0) == {"battery": 1_500.0, "other": 2_500.0}
    buying = outlook(trade_watts=-1_800.0)
    assert two_batteries(small, ess_reading(), buying, 20_000.0) == {"battery": -1_500.0, "other": -300.0}


@settings(max_examples=200, deadline=None)
@given(
    load=st.floats(0.0, 40_000.0),
    recent=st.lists(st.floats(0.0, 40_000.0), max_size=3),
    level=st.none() | st.floats(0.0, 40_000.0),
    natural=st.floats(0.0, 40_000.0),
    soc=st.floats(0.0, 1.0),
    reserve=st.floats(0.0, 1.0),
    trade=st.none() | st.floats(-9_000.0, 9_000.0),
)
def test_charging_never_lifts_the_import_above_level_and_natural_maximum(
    *,
    load: float,
    recent: list[float],
    level: float | None,
    natural: float,
    soc: float,
    reserve: float,
    trade: float | None,
) -> None:
    of = outlook(level_watts=level, natural_most_watts=natural, reserve_ratio=reserve, trade_watts=trade)
    seen = with_outlook(
        of,
        import_watts=load,
        rack_watts=(load / 2, load / 2),
        recent_load_watts=(*recent, load),
        ess=ess_reading(soc_ratio=soc),
    )
    given = watts(seen)
    top = natural if level is None else min(level, natural)
    if given < 0.0:
        assert load - given <= top + 1e-6
        assert soc < 0.8
    if given > 0.0:
        assert soc > 0.2
        highest = max(*recent, load) if recent else load
        assert given <= highest + 1e-6
        if highest <= TARGET_WATTS and (level is None or highest <= level):
            assert soc > 0.2 + reserve * 0.6, "only what is above the reserve is sold"

"""PCS and battery: energy is conserved, bounds hold, setpoints ramp after the dead time and always revert."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.simulate.pcs import Alarm, Pcs, PcsControl
from tests.simulate.plant_constants import CONSTANTS

PCS = CONSTANTS.pcs
RATED = PCS.rated_watts
# A battery that empties in minutes, so that its bounds are met in short tests.
SMALL = replace(PCS, rated_capacity_wh=PCS.rated_watts / 20.0)

setpoints = st.floats(-RATED, RATED)
steps = st.lists(st.tuples(setpoints, st.floats(0.001, 400.0)), min_size=1, max_size=12)


def hold(watts: float, **more: float) -> PcsControl:
    return PcsControl(enabled=True, setpoint_watts=watts, **more)  # type: ignore[arg-type]  # only numbers here


@given(steps)
def test_energy_is_conserved_and_the_soc_stays_within_bounds(course: list[tuple[float, float]]) -> None:
    pcs, now = Pcs(SMALL, 0.0), 0.0
    stored = pcs.stored_joules
    for watts, seconds in course:
        pcs.command(hold(watts))
        now += seconds
        pcs.advance(now)
        assert SMALL.min_soc_ratio - 1e-9 <= pcs.soc_ratio <= SMALL.max_soc_ratio + 1e-9
        assert abs(pcs.discharge_watts) <= RATED
        taken = stored - pcs.stored_joules
        assert taken == pytest.approx(pcs.injected_joules - pcs.absorbed_joules + pcs.loss_joules, abs=1e-3)
    assert pcs.loss_joules >= 0.0


@given(setpoints, st.floats(0.5, 60.0), setpoints, st.floats(0.0, 30.0))
def test_a_setpoint_always_reverts(watts: float, timer: float, fallback: float, ignored: float) -> None:
    pcs = Pcs(PCS, 100.0)
    pcs.command(
        PcsControl(
            enabled=True,
            setpoint_watts=watts,
            reversion_seconds=timer,
            reversion_enabled=True,
            reversion_setpoint_watts=fallback,
        )
    )
    pcs.advance(100.0 + timer + PCS.dead_time_seconds + 2 * PCS.ramp_full_seconds + ignored)
    assert pcs.control.setpoint_watts == fallback
    assert pcs.discharge_watts == pytest.approx(fallback, abs=1e-6)
    assert pcs.reversion_remaining_seconds == 0.0


@given(st.floats(10.0, RATED), st.lists(st.floats(0.01, 0.4), min_size=2, max_size=20))
def test_a_rising_setpoint_is_followed_monotonically(watts: float, pauses: list[float]) -> None:
    pcs, now, last = Pcs(PCS, 0.0), 0.0, 0.0
    pcs.command(hold(watts))
    for pause in pauses:
        now += pause
        pcs.advance(now)
        assert last <= pcs.discharge_watts <= watts
        last = pcs.discharge_watts


@given(steps)
def test_the_way_does_not_depend_on_how_often_one_looks(course: list[tuple[float, float]]) -> None:
    seldom, often, now = Pcs(SMALL, 0.0), Pcs(SMALL, 0.0), 0.0
    for watts, seconds in course:
        for pcs in (seldom, often):
            pcs.command(hold(watts))
        for part in range(1, 8):
            often.advance(now + seconds * part / 7.0)
        now += seconds
        seldom.advance(now)
    # The limits near the bounds follow the SoC in steps of at most a second.
    assert often.soc_ratio == pytest.approx(seldom.soc_ratio, abs=0.01)


def test_nothing_moves_in_the_dead_time_then_power_ramps_in_two_seconds() -> None:
    pcs = Pcs(PCS, 0.0)
    pcs.command(hold(RATED))
    pcs.advance(PCS.dead_time_seconds)
    assert pcs.discharge_watts == 0.0
    pcs.advance(PCS.dead_time_seconds + PCS.ramp_full_seconds / 2.0)
    assert pcs.discharge_watts == pytest.approx(RATED / 2.0)
    pcs.advance(PCS.dead_time_seconds + PCS.ramp_full_seconds)
    assert pcs.discharge_watts == pytest.approx(RATED)


def test_charging_is_negative_and_fills_the_battery() -> None:
    pcs = Pcs(PCS, 0.0)
    before = pcs.soc_ratio
    pcs.command(hold(-6000.0))
    pcs.advance(600.0)
    assert pcs.discharge_watts == -6000.0
    assert pcs.soc_ratio > before


def test_a_round_trip_returns_88_percent() -> None:
    pcs = Pcs(PCS, 0.0)
    before = pcs.stored_joules
    pcs.command(hold(-6000.0))
    pcs.advance(1800.0)
    pcs.command(hold(6000.0))
    now = 1800.0
    while pcs.stored_joules > before:
        now += 0.5
        pcs.advance(now)
    assert pcs.injected_joules / pcs.absorbed_joules == pytest.approx(0.88, abs=0.002)


def test_power_tapers_before_the_battery_is_empty() -> None:
    pcs = Pcs(SMALL, 0.0)
    pcs.command(hold(RATED))
    pcs.advance(140.0)
    assert pcs.throttled
    assert 0.0 < pcs.discharge_watts < RATED
    pcs.advance(3600.0)
    assert pcs.soc_ratio == pytest.approx(SMALL.min_soc_ratio, abs=1e-3)


def test_refreshing_keeps_a_setpoint_and_its_ramp_alive() -> None:
    pcs = Pcs(PCS, 0.0)
    for second in range(20):
        pcs.advance(float(second))
        pcs.command(hold(5000.0, reversion_seconds=3.0))
    assert pcs.discharge_watts == 5000.0
    pcs.advance(19.0 + 3.0 + PCS.dead_time_seconds + PCS.ramp_full_seconds)
    assert pcs.discharge_watts == 0.0


def test_a_missing_heartbeat_disables_the_setpoint() -> None:
    pcs = Pcs(PCS, 0.0)
    pcs.command(hold(5000.0))
    pcs.heartbeat()
    pcs.advance(PCS.heartbeat_timeout_seconds - 1.0)
    assert pcs.discharge_watts == 5000.0
    pcs.advance(PCS.heartbeat_timeout_seconds + 5.0)
    assert not pcs.control.enabled
    assert pcs.discharge_watts == 0.0


def test_local_refuses_commands_and_idles() -> None:
    pcs = Pcs(PCS, 0.0)
    pcs.command(hold(5000.0))
    pcs.advance(5.0)
    pcs.set_local(True)
    with pytest.raises(PermissionError):
        pcs.command(hold(1.0))
    pcs.advance(10.0)
    assert pcs.discharge_watts == 0.0


def test_a_trip_cuts_power_at_once_until_it_is_reset() -> None:
    pcs = Pcs(PCS, 0.0)
    pcs.command(hold(5000.0))
    pcs.advance(5.0)
    pcs.trip(Alarm.DC_OVER_VOLT)
    assert pcs.discharge_watts == 0.0
    pcs.reset_alarms()
    assert pcs.alarms == Alarm.DC_OVER_VOLT
    pcs.end_fault(Alarm.DC_OVER_VOLT)
    pcs.advance(20.0)
    assert pcs.discharge_watts == 0.0
    pcs.reset_alarms()
    pcs.advance(25.0)
    assert pcs.discharge_watts == 5000.0


def test_a_cosmetic_timer_counts_down_and_reverts_nothing() -> None:
    pcs = Pcs(PCS, 0.0)
    pcs.reversion_works = False
    pcs.command(hold(5000.0, reversion_seconds=3.0))
    pcs.advance(1.0)
    assert pcs.reversion_remaining_seconds == 2.0
    pcs.advance(60.0)
    assert pcs.discharge_watts == 5000.0


def test_heat_derates_the_power() -> None:
    pcs = Pcs(PCS, 0.0)
    pcs.ambient_celsius = 50.0
    pcs.command(hold(RATED))
    pcs.advance(4.0 * PCS.thermal_time_constant_seconds)
    assert pcs.throttled
    assert PCS.derating_start_celsius < pcs.temperature_celsius < PCS.derating_end_celsius


def test_a_setpoint_follows_a_limit_that_rises_as_the_battery_cools() -> None:
    pcs = Pcs(PCS, 0.0)
    pcs.temperature_celsius = PCS.derating_end_celsius
    pcs.command(hold(RATED))
    pcs.advance(100.0)
    assert 0.0 < pcs.discharge_watts < RATED
    pcs.advance(4.0 * PCS.thermal_time_constant_seconds)
    assert pcs.discharge_watts == RATED


def test_more_than_rated_is_refused() -> None:
    with pytest.raises(ValueError, match="above the rated"):
        Pcs(PCS, 0.0).command(hold(RATED * 1.01))

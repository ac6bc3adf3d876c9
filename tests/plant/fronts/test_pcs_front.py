"""The PCS over Modbus: signs, dead time, ramp, reversion, watchdog, refusals, faults, effect at the meter."""

import time

import pytest

from tests.plant.fronts.lab import PlantLab, SunSpec, eventually

RATED = 12000.0


def hold(pcs: SunSpec, watts: float, reversion_seconds: int = 30) -> None:
    """Write a setpoint in the safe order, the enable last."""
    for name, value in (
        ("WSetRvrtTms", reversion_seconds),
        ("WSetRvrt", 0),
        ("WSetEnaRvrt", 0),
        ("WSetMod", 1),
        ("WSet", watts),
        ("WSetEna", 1),
    ):
        assert pcs.put(704, name, value) == 0, name


def settle(pcs: SunSpec, watts: float, seconds: float = 4.0) -> None:
    eventually(lambda: abs(pcs.get(701, "W") - watts) <= 2.0, seconds)


def test_the_chain_and_the_ratings(pcs: SunSpec) -> None:
    assert list(pcs.models) == [1, 701, 702, 704, 713, 715]
    assert pcs.get(702, "WMaxRtg") == pcs.get(702, "WDisChaRteMax") == RATED
    assert pcs.get(713, "WHRtg") == 24000.0
    assert pcs.get(713, "SoC") == pytest.approx(60.0, abs=5.0)
    assert pcs.get(713, "SoH") == 96.0
    assert pcs.raw(715, "LocRemCtl") == 0


def test_power_waits_the_dead_time_and_ramps_in_two_seconds(pcs: SunSpec) -> None:
    settle(pcs, 0.0)
    hold(pcs, RATED)
    begin, course = time.monotonic(), []
    while time.monotonic() < begin + 2.8:
        course.append((pcs.get(701, "W"), time.monotonic() - begin))
    assert all(watts == 0.0 for watts, at in course if at < 0.15)
    watts_only = [watts for watts, _ in course]
    assert watts_only == sorted(watts_only)
    full = next(at for watts, at in course if watts >= RATED - 1.0)
    assert full == pytest.approx(2.2, abs=0.15)


def test_charging_reads_negative_and_raises_the_meter(lab: PlantLab, pcs: SunSpec, meter: SunSpec) -> None:
    settle(pcs, 0.0)
    eventually(lambda: abs(meter.get(203, "W") - lab.truth()["grid_import_watts"]) < 20.0)
    idle = meter.get(203, "W")
    hold(pcs, -6000.0)
    settle(pcs, -6000.0)
    eventually(lambda: meter.get(203, "W") == pytest.approx(idle + 6000.0, abs=30.0))
    hold(pcs, 6000.0)
    settle(pcs, 6000.0)
    eventually(lambda: meter.get(203, "W") == pytest.approx(idle - 6000.0, abs=30.0))
    assert pcs.raw(701, "InvSt") == 3


def test_an_unrefreshed_setpoint_reverts(pcs: SunSpec) -> None:
    hold(pcs, 5000.0, reversion_seconds=2)
    assert pcs.raw(704, "WSetRvrtRem") in (1, 2)
    eventually(lambda: pcs.raw(704, "WSetEna") == 0, 3.0)
    assert pcs.get(704, "WSet") == 0.0
    settle(pcs, 0.0)
    assert pcs.raw(704, "WSetRvrtRem") == 0


def test_refreshing_the_setpoint_rearms_the_timer(pcs: SunSpec) -> None:
    hold(pcs, 5000.0, reversion_seconds=2)
    end = time.monotonic() + 4.0
    while time.monotonic() < end:
        assert pcs.put(704, "WSet", 5000.0) == 0
        assert pcs.raw(704, "WSetEna") == 1
    settle(pcs, 5000.0)


def test_reversion_to_another_setpoint(pcs: SunSpec) -> None:
    hold(pcs, 5000.0, reversion_seconds=2)
    assert pcs.put(704, "WSetRvrt", -1000.0) == 0
    assert pcs.put(704, "WSetEnaRvrt", 1) == 0
    eventually(lambda: pcs.get(704, "WSet") == -1000.0, 3.0)
    assert pcs.raw(704, "WSetEna") == 1
    settle(pcs, -1000.0)


def test_percent_of_the_maximum(pcs: SunSpec) -> None:
    assert pcs.put(704, "WSetMod", 0) == 0
    assert pcs.put(704, "WSetPct", 25.0) == 0
    assert pcs.put(704, "WSetEna", 1) == 0
    settle(pcs, RATED / 4.0)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("WSet", RATED + 1.0, 3),
        ("WSet", -RATED - 1.0, 3),
        ("WSetRvrt", 2 * RATED, 3),
        ("WSetEna", 7, 3),
        ("WRmp", 0, 3),
        ("WSetRvrtRem", 5, 2),
        ("WSet_SF", 1, 2),
        ("VarSet", 1, 2),
    ],
)
def test_refusals_change_nothing(pcs: SunSpec, name: str, value: float, code: int) -> None:
    before = pcs.raw(704, name)
    assert pcs.put(704, name, value) == code
    assert pcs.raw(704, name) == before


def test_measurements_cannot_be_written(pcs: SunSpec) -> None:
    assert pcs.put(701, "W", 1.0) == 2
    assert pcs.put(715, "OpCtl", 9) == 3


def test_local_means_hands_off(lab: PlantLab, pcs: SunSpec) -> None:
    hold(pcs, 5000.0)
    lab.fault("pcs", "local")
    assert pcs.raw(715, "LocRemCtl") == 1
    assert pcs.put(704, "WSet", 1000.0) == 6
    assert pcs.put(715, "ControllerHb", 1) == 0
    settle(pcs, 0.0)
    lab.ask("clear_faults")
    assert pcs.raw(715, "LocRemCtl") == 0
    hold(pcs, 1000.0)
    settle(pcs, 1000.0)
    # The heartbeat above runs out, so that it does not disturb the next test.
    eventually(lambda: pcs.raw(704, "WSetEna") == 0, 4.0)


def test_an_alarm_trips_and_waits_for_its_reset(lab: PlantLab, pcs: SunSpec) -> None:
    hold(pcs, 5000.0)
    settle(pcs, 5000.0)
    lab.fault("pcs", "alarm")
    assert pcs.get(701, "W") == 0.0
    assert pcs.raw(701, "Alrm") == 1 << 1
    assert (pcs.raw(701, "InvSt"), pcs.raw(713, "Sta")) == (6, 2)
    lab.ask("clear_faults")
    assert pcs.raw(701, "InvSt") == 6
    pcs.put(715, "AlarmReset", 1)
    assert pcs.raw(701, "Alrm") == 0
    settle(pcs, 5000.0)


def test_a_cosmetic_reversion_timer_reverts_nothing(lab: PlantLab, pcs: SunSpec) -> None:
    lab.fault("pcs", "reversion_cosmetic")
    hold(pcs, 3000.0, reversion_seconds=1)
    eventually(lambda: pcs.raw(704, "WSetRvrtRem") == 0, 3.0)
    settle(pcs, 3000.0)
    assert pcs.raw(704, "WSetEna") == 1


def test_a_missing_heartbeat_disables_the_setpoint(pcs: SunSpec) -> None:
    hold(pcs, 3000.0)
    settle(pcs, 3000.0)
    pcs.put(715, "ControllerHb", 1)
    eventually(lambda: pcs.raw(704, "WSetEna") == 0, 4.0)
    settle(pcs, 0.0)


def test_stop_and_start(pcs: SunSpec) -> None:
    hold(pcs, 3000.0)
    settle(pcs, 3000.0)
    assert pcs.put(715, "OpCtl", 0) == 0
    settle(pcs, 0.0)
    assert (pcs.raw(701, "St"), pcs.raw(715, "OpCtl")) == (0, 0)
    assert pcs.put(715, "OpCtl", 1) == 0
    settle(pcs, 3000.0)


def test_an_empty_battery_gives_no_more(lab: PlantLab, pcs: SunSpec) -> None:
    assert lab.ask("set_soc", soc_ratio=0.051)["ok"]
    hold(pcs, RATED)
    eventually(lambda: pcs.raw(701, "InvSt") == 4, 4.0)
    assert pcs.get(701, "W") < 0.2 * RATED
    assert pcs.get(713, "SoC") >= 5.0
    assert lab.ask("set_soc", soc_ratio=0.6)["ok"]


def test_heat_derates(lab: PlantLab, pcs: SunSpec) -> None:
    lab.fault("pcs", "hot", value=3000.0)
    hold(pcs, RATED)
    eventually(lambda: lab.truth()["ess"]["max_discharge_watts"] < RATED, 30.0)
    eventually(lambda: pcs.raw(701, "InvSt") == 4, 4.0)

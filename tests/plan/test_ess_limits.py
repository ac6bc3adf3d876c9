"""What a battery may do by its C-rate, its charge and its temperature, and when a stop is left again."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.power_table import PowerTable
from slurm_power.model.reading import EssReading, believable_celsius
from slurm_power.model.site import Ess
from slurm_power.plan.ess import burst_watts, sustainable_watts
from slurm_power.plan.ess_limits import NO_STOPS, Direction, Stops, heat_stops, limited
from slurm_power.plan.joint_battery import bridge_kwh, joint_battery
from slurm_power.plan.policy import Policy
from tests.plan.situations import ess_reading, site, situation

PLAIN = Ess(name="battery", circuit="grid")
WARM = PowerTable(((0.0, 0.0), (10.0, 1.0), (40.0, 1.0), (50.0, 0.0)))
FULL = PowerTable(((0.8, 1.0), (1.0, 0.2)))
HEATED = replace(
    PLAIN, charge_power_by_celsius=WARM, discharge_power_by_celsius=PowerTable(((45.0, 1.0), (55.0, 0.0)))
)


def at(celsius: float | None, soc_ratio: float = 0.6) -> EssReading:
    return replace(ess_reading(soc_ratio=soc_ratio), temperature_celsius=celsius)


@pytest.mark.parametrize(
    ("where", "ratio"),
    [(-5.0, 0.0), (0.0, 0.0), (5.0, 0.5), (10.0, 1.0), (30.0, 1.0), (47.5, 0.25), (80.0, 0.0)],
)
def test_a_table_is_straight_between_its_points_and_level_beyond(where: float, ratio: float) -> None:
    assert WARM.ratio(where) == pytest.approx(ratio)


def test_without_limits_the_reading_stays_as_it_is() -> None:
    reading = at(80.0)
    assert limited(PLAIN, reading) == reading
    assert heat_stops(PLAIN, reading, NO_STOPS) == NO_STOPS


@pytest.mark.parametrize(
    ("celsius", "charge", "discharge"),
    [(25.0, 8_000.0, 8_000.0), (45.0, 4_000.0, 8_000.0), (50.0, 0.0, 4_000.0), (-10.0, 0.0, 8_000.0)],
)
def test_temperature_takes_power_by_direction(celsius: float, charge: float, discharge: float) -> None:
    seen = limited(HEATED, at(celsius))
    assert seen.max_charge_watts == pytest.approx(charge)
    assert seen.max_discharge_watts == pytest.approx(discharge)


def test_where_nobody_knows_the_temperature_the_site_says_how_much_is_used() -> None:
    assert limited(HEATED, at(None)).max_charge_watts == 4_000.0
    assert limited(replace(HEATED, unknown_temperature_ratio=0.0), at(None)).max_discharge_watts == 0.0
    assert limited(replace(PLAIN, unknown_temperature_ratio=0.0), at(None)).max_discharge_watts == 8_000.0


def test_a_stop_is_left_only_inside_the_table() -> None:
    seen: list[Stops] = [NO_STOPS]
    for celsius in (49.9, 50.0, 49.0, 47.1, None, 46.9):
        seen.append(heat_stops(HEATED, at(celsius), seen[-1]))
    stopped = frozenset({Direction.CHARGE})
    assert seen[1:] == [NO_STOPS, stopped, stopped, stopped, stopped, NO_STOPS]
    assert limited(HEATED, at(48.0), stopped).max_charge_watts == 0.0
    assert limited(HEATED, at(None), stopped).max_charge_watts == 0.0, "a lost sensor frees nothing"
    assert limited(HEATED, at(48.0), NO_STOPS).max_charge_watts > 0.0


def test_the_lowest_limit_counts_and_not_their_product() -> None:
    both = replace(HEATED, charge_power_by_soc=FULL, max_charge_c_rate=0.5)
    # 10 kWh at 0.5 C are 5 kW; at 90 % charge the table leaves 60 %, at 45 degrees 50 %.
    assert limited(both, at(45.0, 0.9)).max_charge_watts == pytest.approx(2_500.0)
    assert limited(both, at(30.0, 0.9)).max_charge_watts == pytest.approx(3_000.0)
    aged = replace(at(30.0, 0.5), soh_ratio=0.8)
    assert limited(both, aged).max_charge_watts == pytest.approx(4_000.0)
    assert limited(replace(both, max_charge_c_rate=5.0), at(30.0, 0.5)).max_charge_watts == 8_000.0


def test_what_the_inverter_itself_allows_is_never_widened_nor_cut_twice() -> None:
    rated = replace(PLAIN, max_charge_c_rate=0.8, charge_power_by_soc=FULL)
    # Its own management has come down to 2 kW already; the table would leave 20 % of 8 kW.
    assert limited(rated, replace(at(20.0, 0.95), max_charge_watts=2_000.0)).max_charge_watts == 2_000.0


def test_a_hot_battery_hands_over_to_the_job_levers() -> None:
    for celsius, watts in ((30.0, 8_000.0), (50.0, 4_000.0), (60.0, 0.0)):
        seen = limited(HEATED, at(celsius))
        assert sustainable_watts(HEATED, seen) == pytest.approx(watts)
        assert burst_watts(HEATED, seen) == pytest.approx(watts)


def test_the_joint_battery_has_the_power_that_the_temperature_leaves() -> None:
    hot = situation(of=replace(site(), ess={"battery": HEATED}), ess=at(50.0))
    rated = {"battery": (8_000.0, 8_000.0)}
    battery, _ = joint_battery(hot, rated, Policy())
    assert (battery.charge_watts, battery.discharge_watts) == (0.0, 4_000.0)
    # 8 kW for 300 s, and the losses on the way out.
    assert bridge_kwh(hot, rated, battery) == pytest.approx(8.0 / 12.0 / 0.88**0.5)
    slow = replace(hot.site, ess={"battery": replace(HEATED, bridge_seconds=7_200.0)})
    assert bridge_kwh(replace(hot, site=slow), rated, battery) == pytest.approx(3.0)


def test_a_sensor_that_is_not_there_says_nothing() -> None:
    assert [believable_celsius(value) for value in (None, -3276.8, 6553.5, 25.0)] == [None, None, None, 25.0]


points = st.lists(
    st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)), min_size=1, max_size=5, unique_by=lambda p: p[0]
)


@given(points, st.floats(0.0, 1.0), st.floats(0.05, 3.0), st.floats(0.5, 1.0))
def test_limits_only_ever_take(
    rows: list[tuple[float, float]], soc: float, c_rate: float, soh: float
) -> None:
    table = PowerTable(tuple(sorted(rows)))
    ess = replace(PLAIN, charge_power_by_soc=table, discharge_power_by_soc=table, max_discharge_c_rate=c_rate)
    reading = replace(ess_reading(soc_ratio=soc), soh_ratio=soh)
    seen = limited(ess, reading)
    assert 0.0 <= seen.max_charge_watts <= reading.max_charge_watts
    assert (
        0.0
        <= seen.max_discharge_watts
        <= min(reading.max_discharge_watts, 1_000.0 * c_rate * 10.0 * soh + 1e-6)
    )
    assert sustainable_watts(ess, seen) <= sustainable_watts(PLAIN, reading)

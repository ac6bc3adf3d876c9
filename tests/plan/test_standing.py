"""Safe or at risk, where and by how much: what every picture of a site begins with."""

from dataclasses import replace

import pytest

from slurm_power.model.action import Shortfall
from slurm_power.model.forecast import CircuitForecast, Reach
from slurm_power.model.reading import PowerReading, Quality
from slurm_power.model.snapshot import LimitEvent, Snapshot
from slurm_power.model.standing import Danger
from slurm_power.plan.standing import site_standing
from tests.plan import situations


def reading(watts: float | None, quality: Quality = Quality.GOOD, reason: str = "") -> PowerReading:
    return PowerReading(source="meter", watts=watts, age_seconds=0.5, quality=quality, reason=reason)


def moment(grid: PowerReading | None, rack1: float = 10_000.0, rack2: float = 5_000.0) -> Snapshot:
    circuits = {"rack1": reading(rack1), "rack2": reading(rack2)}
    if grid is not None:
        circuits["grid"] = grid
    lasting = {name: one.watts for name, one in circuits.items() if one.watts is not None}
    return Snapshot(
        at=situations.AT,
        site=situations.site(grid_limit_watts=32_000.0),
        circuits=circuits,
        ess={},
        nodes={},
        jobs=(),
        lasting_watts=lasting,
    )


def forecast(circuit: str, p90_watts: tuple[float, ...], started_seconds_ago: float = 0.0) -> CircuitForecast:
    return CircuitForecast(
        circuit=circuit,
        reach=Reach.NEAR,
        issued_seconds=situations.AT.timestamp() - started_seconds_ago,
        step_seconds=60.0,
        p10_watts=p90_watts,
        p50_watts=p90_watts,
        p90_watts=p90_watts,
        source="blend",
    )


def test_safe_by_what_is_left_at_the_grid_connection() -> None:
    standing = site_standing(moment(reading(15_700.0)), (), controls=True)
    assert standing.safe
    assert standing.headline == "SAFE: grid is 16.3 kW below its limit of 32.0 kW"
    assert standing.margin_watts == pytest.approx(16_300.0)
    assert standing.tightest == "grid"
    assert standing.tightest_watts == pytest.approx(16_300.0)


def test_the_tightest_circuit_need_not_be_the_grid_connection() -> None:
    standing = site_standing(moment(reading(15_700.0), rack1=39_000.0), (), controls=True)
    assert standing.safe
    assert standing.tightest == "rack1"
    assert standing.tightest_watts == pytest.approx(1_000.0)


def test_above_a_limit() -> None:
    standing = site_standing(moment(reading(33_200.0)), (), controls=True)
    assert standing.headline == "AT RISK: grid is 1.2 kW above its limit"
    assert standing.risks[0].reason == "the levers are on their way"
    assert standing.margin_watts == pytest.approx(-1_200.0)


def test_one_reading_above_a_limit_is_no_risk_yet() -> None:
    snapshot = replace(moment(reading(33_200.0)), lasting_watts={"grid": 20_000.0})
    standing = site_standing(snapshot, (), controls=True)
    assert standing.safe
    assert standing.headline == "SAFE: grid has just reached its limit of 32.0 kW"


def test_an_event_counts_as_the_limit_it_is() -> None:
    event = LimitEvent(
        event_id="ev-1",
        circuit="grid",
        limit_watts=15_000.0,
        starts_in_seconds=-10.0,
        ends_in_seconds=600.0,
        reason="asked",
    )
    standing = site_standing(replace(moment(reading(15_700.0)), events=(event,)), (), controls=True)
    assert standing.headline == "AT RISK: grid is 0.7 kW above its limit"


@pytest.mark.parametrize(
    ("grid", "why"),
    [(None, "no reading yet"), (reading(None, Quality.INVALID, "stale for 9.0 s"), "stale for 9.0 s")],
)
def test_what_nobody_measures_is_at_risk(grid: PowerReading | None, why: str) -> None:
    standing = site_standing(moment(grid), (), controls=True)
    assert standing.headline == "AT RISK: nobody measures grid"
    assert standing.risks[0].reason == why
    assert standing.margin_watts is None


def test_an_estimate_is_no_risk() -> None:
    assert site_standing(moment(reading(15_700.0, Quality.QUESTIONABLE)), (), controls=True).safe


def test_what_the_levers_will_not_hold_is_told_before_it_happens() -> None:
    short = Shortfall(
        circuit="grid", watts=2_000.0, reason="the battery is empty by then", from_seconds=720.0
    )
    standing = site_standing(moment(reading(15_700.0)), (short,), controls=True)
    assert standing.headline == "AT RISK: grid will be 2.0 kW above its limit in 12 min"
    assert standing.risks[0].danger is Danger.FORESEEN


def test_what_is_worse_comes_first_and_each_circuit_once() -> None:
    shorts = (
        Shortfall(circuit="grid", watts=9_000.0, reason="later", from_seconds=60.0),
        Shortfall(circuit="rack2", watts=500.0, reason="later", from_seconds=60.0),
    )
    standing = site_standing(moment(reading(33_000.0), rack1=41_000.0), shorts, controls=True)
    assert [(risk.danger, risk.circuit) for risk in standing.risks] == [
        (Danger.ABOVE, "grid"),
        (Danger.ABOVE, "rack1"),
        (Danger.FORESEEN, "rack2"),
    ]


def test_a_forecast_above_the_limit_is_for_the_levers_unless_nothing_controls() -> None:
    snapshot = moment(reading(15_700.0))
    forecasts = {"grid": forecast("grid", (16_000.0, 30_000.0, 35_800.0, 40_000.0), 30.0)}
    assert site_standing(snapshot, (), controls=True, forecasts=forecasts).safe
    standing = site_standing(snapshot, (), controls=False, forecasts=forecasts)
    assert standing.headline == "AT RISK: grid will be 3.8 kW above its limit in 90 s"
    assert standing.risks[0].reason == "nothing is controlled"


def test_an_old_forecast_does_not_speak_of_what_is_over() -> None:
    forecasts = {"grid": forecast("grid", (50_000.0, 16_000.0), 90.0)}
    assert site_standing(moment(reading(15_700.0)), (), controls=False, forecasts=forecasts).safe

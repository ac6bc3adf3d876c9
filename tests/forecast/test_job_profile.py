"""A job's power as it is seen while it runs: level, percentile, start, ramp, swing, and what caps hide."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.forecast.job_profile import BIN_WATTS, JobProfile
from slurm_power.model.expected_power import PowerShape

IDLE = 75.0


def course(second: int) -> float:
    """Forty seconds of loading, then a level with a pause of five seconds in each minute."""
    if second <= 40:
        return 140.0
    return 150.0 if second % 60 >= 55 else 600.0


def profile(seconds: int = 600, *, capped: range = range(0)) -> JobProfile:
    found = JobProfile(idle_watts=IDLE)
    for second in range(1, seconds + 1):
        held = second in capped
        found.tick(float(second), min(course(second), 350.0) if held else course(second), capped=held)
    return found


def shape(known: JobProfile) -> PowerShape:
    found = known.shape()
    assert found is not None
    return found


def test_what_a_job_drew() -> None:
    seen = shape(profile())
    assert seen.mean_watts == pytest.approx(sum(course(s) for s in range(1, 601)) / 600)
    assert seen.p95_watts == pytest.approx(600.0, abs=BIN_WATTS)
    assert seen.start_step_watts == pytest.approx(600.0 - IDLE)
    assert seen.ramp_seconds == pytest.approx(40.0, abs=6.0)
    assert seen.swing_watts == pytest.approx(450.0)
    assert JobProfile(idle_watts=IDLE).shape() is None


def test_a_cap_does_not_teach_that_the_job_wants_less() -> None:
    free, held = shape(profile()), profile(capped=range(120, 480))
    assert held.capped_seconds == 360.0
    seen = shape(held)
    assert seen.p95_watts == pytest.approx(free.p95_watts, abs=BIN_WATTS)
    assert seen.swing_watts == pytest.approx(free.swing_watts)
    assert seen.start_step_watts == pytest.approx(free.start_step_watts)
    assert seen.mean_watts > 450.0
    assert profile(capped=range(601)).shape() is None


def test_one_short_peak_is_no_start_step() -> None:
    known = JobProfile(idle_watts=IDLE)
    for second in range(1, 200):
        known.tick(float(second), 690.0 if second == 30 else 300.0)
    seen = shape(known)
    assert seen.start_step_watts < 390.0 - IDLE
    assert seen.swing_watts == pytest.approx(0.0), "the first minute is the start"


def test_a_level_is_not_held_across_a_gap() -> None:
    known = JobProfile(idle_watts=IDLE)
    for second in (1, 2, 3, 100, 101, 102):
        known.tick(float(second), 600.0)
    assert shape(known).ramp_seconds == 0.0
    assert shape(known).start_step_watts == 600.0 - IDLE, "its mean, as nothing was held"


def test_it_goes_on_after_a_restart_and_stays_small() -> None:
    whole, first = profile(900), profile(470)
    text = json.dumps(first.to_json())
    second_life = JobProfile.from_json(json.loads(text))
    for second in range(471, 901):
        second_life.tick(float(second), course(second))
    before, after = shape(whole), shape(second_life)
    assert after.mean_watts == pytest.approx(before.mean_watts)
    assert after.p95_watts == pytest.approx(before.p95_watts)
    assert after.ramp_seconds == pytest.approx(before.ramp_seconds, abs=0.1)
    assert after.swing_watts == pytest.approx(before.swing_watts)
    assert len(json.dumps(profile(20_000).to_json())) < 2_000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 2),
        ("seconds", "many"),
        ("seconds", math.nan),
        ("watt_seconds", -1.0),
        ("bins", [1, 2]),
        ("bins", {"x": 1.0}),
        ("bins", {"9999": 1.0}),
        ("swings", [1.0]),
        ("idle_watts", True),
    ],
)
def test_a_damaged_one_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        JobProfile.from_json({**profile().to_json(), key: value})


@pytest.mark.parametrize("value", [None, [], "x", {}, {"version": 1}])
def test_what_is_no_profile_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="no profile"):
        JobProfile.from_json(value)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=True, allow_infinity=True),
            st.floats(-10.0, 9_000.0) | st.just(math.nan) | st.just(math.inf),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_whatever_is_read_its_figures_are_powers(ticks: list[tuple[float, float, bool]]) -> None:
    known = JobProfile(idle_watts=IDLE)
    for at, watts, capped in ticks:
        known.tick(at, watts, capped=capped)
    seen = known.shape()
    if seen is not None:
        for value in (
            seen.mean_watts,
            seen.p95_watts,
            seen.start_step_watts,
            seen.ramp_seconds,
            seen.swing_watts,
        ):
            assert math.isfinite(value) and value >= 0.0
        assert seen.p95_watts >= seen.mean_watts
    JobProfile.from_json(json.loads(json.dumps(known.to_json())))

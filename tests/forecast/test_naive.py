"""What is said while nobody forecasts."""

import math

from hypothesis import given
from hypothesis import strategies as st

from slurm_power.forecast.messages import forecast_from, forecast_message
from slurm_power.forecast.naive import fall_back
from slurm_power.model.forecast import CircuitForecast, Reach, RecentScore


def said(values: list[float | None], reach: Reach = Reach.FAR, steps: int = 8) -> CircuitForecast | None:
    step = 900.0 if reach is Reach.FAR else 60.0
    return fall_back(
        "grid", reach, values, end_seconds=9e5, step_seconds=step, steps=steps, reason="the worker is away"
    )


def test_nobody_speaks_before_the_first_value() -> None:
    assert said([]) is None and said([None, None]) is None


def test_without_a_yesterday_it_is_as_now() -> None:
    found = said([5.0, None, 7.0, None])
    assert found is not None and found.source == "persistence"
    assert found.p50_watts == (7.0,) * 8
    assert found.reason == "fall-back: the worker is away"


def test_with_a_yesterday_it_is_as_then() -> None:
    found = said([float(step % 96) for step in range(200)], steps=4)
    assert found is not None and found.source == "day_naive"
    assert found.p50_watts == (8.0, 9.0, 10.0, 11.0)


def test_the_next_hour_is_as_now_even_with_a_yesterday() -> None:
    found = said([float(step) for step in range(1600)], Reach.NEAR, steps=3)
    assert found is not None and found.source == "persistence" and found.p50_watts == (1599.0,) * 3


@given(
    st.lists(st.none() | st.floats(-1e7, 1e7), min_size=1, max_size=300),
    st.sampled_from(Reach),
    st.integers(1, 200),
)
def test_it_is_finite_and_ordered(values: list[float | None], reach: Reach, steps: int) -> None:
    found = said(values, reach, steps)
    if found is None:
        assert all(value is None for value in values)
        return
    for low, middle, high in zip(found.p10_watts, found.p50_watts, found.p90_watts, strict=True):
        assert math.isfinite(low + middle + high) and low <= middle <= high
    assert forecast_from(forecast_message(found)).source == found.source


def test_a_forecast_survives_the_wire() -> None:
    score = RecentScore(
        forecasts=40,
        mae_watts=120.5,
        best_naive="persistence",
        best_naive_mae_watts=130.0,
        coverage_ratio=0.8,
        bias_watts=-3.0,
    )
    sent = CircuitForecast(
        circuit="grid",
        reach=Reach.NEAR,
        issued_seconds=1.7e9,
        step_seconds=60.0,
        p10_watts=(1.0, 2.0),
        p50_watts=(2.0, 3.0),
        p90_watts=(3.5, 4.0),
        source="blend",
        reason="r",
        history_days=2.5,
        drivers={"persistence": (0.75, 0.25)},
        score=score,
    )
    assert forecast_from(forecast_message(sent)) == sent


def test_a_malformed_forecast_is_refused() -> None:
    known = said([1.0, 2.0])
    assert known is not None
    good = forecast_message(known)
    for key, value in (
        ("p50_watts", [1.0]),
        ("p50_watts", ["x"] * 8),
        ("p10_watts", [float("nan")] * 8),
        ("p10_watts", [9e9] * 8),
        ("p90_watts", [-9e9] * 8),
        ("reach", "soon"),
        ("issued_seconds", None),
        ("drivers", {"a": [1.0]}),
        ("score", {"forecasts": 1}),
        ("p90_watts", "12345678"),
    ):
        try:
            forecast_from({**good, key: value})
        except ValueError:
            continue
        raise AssertionError(f"{key}={value!r} was taken")

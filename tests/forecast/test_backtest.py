"""Rolling origins: where they lie, that the future stays unseen, and the arithmetic of the scores."""

import numpy as np
import pytest

from slurm_power.forecast.backtest import Origin, model_named, pick_origins, run, score
from slurm_power.forecast.blend import Forecast
from slurm_power.forecast.experts import EXPERTS, Values
from slurm_power.forecast.grid import on_grid
from slurm_power.forecast.peers import PEERS
from tests.forecast.series import DAY, SEASONS, daily


def at_rest() -> float:
    return 0.0


def forecasts_of(values: Values, model: str = "blend", wanted: int = 8) -> list[Origin]:
    origins = pick_origins(len(values), SEASONS, wanted)
    return list(run(values, SEASONS, origins, model_named(model, SEASONS, at_rest), at_rest))


@pytest.mark.parametrize("model", ["blend", *EXPERTS, "state_space"])
def test_what_comes_after_an_origin_is_never_seen(model: str) -> None:
    if model == "state_space":
        pytest.importorskip("statsmodels")
    values = daily(60, noise=0.5)
    sound = forecasts_of(values, model)
    spoiled = values.copy()
    at = sound[3].index
    spoiled[at:] = 1e6 * np.random.default_rng(2).standard_normal(len(values) - at)
    for before, after in zip(sound[:4], forecasts_of(spoiled, model)[:4], strict=True):
        assert before.index == after.index
        np.testing.assert_array_equal(before.forecast.p50, after.forecast.p50)
        np.testing.assert_array_equal(before.forecast.p90, after.forecast.p90)
        assert before.forecast.source == after.forecast.source
        assert before.forecast.reason == after.forecast.reason


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_forecasts_and_sees_nothing_later(name: str) -> None:
    pytest.importorskip("statsforecast")
    values = daily(20, noise=0.5)
    spoiled = values.copy()
    spoiled[15 * DAY :] = 1e6
    paths = []
    for each in (values, spoiled):
        (found,) = run(each, SEASONS, [15 * DAY], model_named(name, SEASONS, at_rest), at_rest)
        paths.append(found.forecast.p50)
    np.testing.assert_array_equal(paths[0], paths[1])
    assert float(np.abs(paths[0] - values[15 * DAY : 16 * DAY]).mean()) < 1.0


@pytest.mark.parametrize("count", [2 * DAY, 5 * DAY, 40 * DAY + 7, 400 * DAY])
@pytest.mark.parametrize("wanted", [1, 5, 24])
def test_origins_are_within_what_is_known_and_spread(count: int, wanted: int) -> None:
    origins = pick_origins(count, SEASONS, wanted)
    assert 1 <= len(origins) <= wanted
    assert origins == sorted(set(origins))
    assert min(28 * DAY, count // 2) <= origins[0]
    assert origins[-1] + SEASONS.horizon_steps <= count
    if count == 400 * DAY and wanted == 24:
        assert len({origin % DAY for origin in origins}) > 12


def test_too_little_is_refused_with_numbers() -> None:
    with pytest.raises(ValueError, match="25 steps are too few: 24 ahead from 12 known ones needs 36"):
        pick_origins(25, SEASONS, 5)


def test_scores_on_a_case_done_by_hand() -> None:
    values = np.concatenate([np.tile(np.arange(DAY, dtype=float), 3), np.arange(DAY) + 2.0])
    forecast = Forecast(
        p10=np.arange(DAY) + np.float64(0.0),
        p50=np.arange(DAY) + np.float64(1.0),
        p90=np.arange(DAY) + np.float64(1.5),
        weights={},
    )
    found = score(values, SEASONS, [Origin(3 * DAY, forecast, values[3 * DAY :], 0.0)])
    assert found.mae == pytest.approx(1.0)
    assert found.mase is None, "the days before repeat exactly"
    assert (found.best_naive, found.to_best_naive, found.to_day_naive) == ("day_naive", 0.5, 0.5)
    assert found.coverage_ratio == 0.0
    assert found.pinball == pytest.approx((0.1 * 2.0, 0.5 * 1.0, 0.9 * 0.5))
    first, end, mae = found.mae_by_stretch[0]
    assert (first, end) == (0, 1)
    assert mae == pytest.approx(1.0)


def test_a_gap_after_the_origin_is_left_out_of_the_scores() -> None:
    values = daily(10)
    values[-5:] = np.nan
    found = forecasts_of(values, "persistence", 3)
    assert np.isfinite(score(values, SEASONS, found).mae)


def test_a_grid_takes_means_whatever_the_order_and_leaves_gaps() -> None:
    times = np.array([7200.0, 0.0, 900.0, 1000.0, 7300.0])
    series = on_grid(times, np.array([5.0, 1.0, 2.0, np.nan, 7.0]), 3600.0)
    assert series.start_seconds == 0.0
    np.testing.assert_array_equal(series.values, [1.5, np.nan, 6.0])
    with pytest.raises(ValueError, match=r"values come every 3600 s, steps are 900 s"):
        on_grid(np.float64(3600.0) * np.arange(5), np.ones(5), 900.0)
    with pytest.raises(ValueError, match="no value"):
        on_grid(np.arange(3.0), np.full(3, np.nan), 1.0)
    with pytest.raises(ValueError, match="is a time wrong"):
        on_grid(np.array([0.0, 1.0, 2.0, 9e9]), np.ones(4), 1.0)

"""Racks add up, the grid balances, and each workload class has the shape it is known for."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.simulate.rack import grid_import_watts, host_watts, node_watts, site_load_watts
from slurm_power.simulate.workload import Shape, Workload
from tests.simulate.plant_constants import CONSTANTS

LIMIT = CONSTANTS.gpu.limit_max_watts


def shape(workload: Workload, seed: int = 7, batch: int | None = None) -> Shape:
    return Shape(workload, getattr(CONSTANTS, workload.value), LIMIT, seed, batch)


def watts_over(of: Shape, begin: float, seconds: float) -> list[float]:
    return [of.demand(begin + tick / 20.0).demand_watts for tick in range(round(seconds * 20))]


@given(st.lists(st.floats(0.0, 1e5), min_size=1), st.floats(-1e5, 1e5), st.floats(0.0, 1e3))
def test_sources_and_loads_balance(racks: list[float], discharge: float, auxiliary: float) -> None:
    load = site_load_watts(CONSTANTS.site, racks, 0.0)
    grid = grid_import_watts(load, auxiliary, discharge)
    assert grid + discharge == pytest.approx(load + auxiliary, abs=1e-6)
    assert load >= sum(racks)


def test_an_idle_and_a_full_host() -> None:
    assert host_watts(CONSTANTS.host, 0.0, 8) == 1000.0
    assert host_watts(CONSTANTS.host, 1.0, 8) == 2800.0
    assert host_watts(CONSTANTS.host, 0.5, 4) == 950.0
    full = node_watts(CONSTANTS.host, 8 * 680.0, 2800.0)
    assert full == pytest.approx(8766.0, abs=1.0)


@pytest.mark.parametrize("workload", list(Workload))
@given(seed=st.integers(0, 2**32), seconds=st.floats(-5.0, 1e5))
def test_demand_stays_between_idle_and_the_limit(workload: Workload, seed: int, seconds: float) -> None:
    demand = shape(workload, seed).demand(seconds)
    assert 0.1 * LIMIT <= demand.demand_watts <= LIMIT
    assert demand.static_watts < demand.demand_watts
    assert shape(workload, seed).demand(seconds) == demand


def test_training_starts_with_a_step_swings_and_writes_checkpoints() -> None:
    training = shape(Workload.TRAINING)
    constants = CONSTANTS.training
    before = training.demand(constants.startup_seconds - 0.01)
    after = [training.demand(constants.startup_seconds + tick / 20.0) for tick in range(200)]
    assert not before.working
    assert max(item.demand_watts for item in after) > 4.0 * before.demand_watts
    swings = sum(a.demand_watts < b.demand_watts for a, b in pairwise(after))
    assert swings == pytest.approx(training.swing_hertz * 10.0, abs=1.0)
    checkpoint = training.demand(constants.startup_seconds + constants.pause_period_seconds - 0.5)
    assert not checkpoint.working


def test_generation_draws_what_decode_draws() -> None:
    watts = watts_over(shape(Workload.GENERATION), 10.0, 60.0)
    assert min(watts) >= 137.0
    assert max(watts) <= 300.5
    assert max(watts) - min(watts) > 60.0


def test_inference_mixes_prefill_and_decode() -> None:
    watts = watts_over(shape(Workload.INFERENCE), 10.0, 60.0)
    assert min(watts) < 0.6 * LIMIT
    assert max(watts) > 0.75 * LIMIT


def test_a_quarter_of_the_batch_costs_more_throughput_than_it_saves_power() -> None:
    full, quarter = shape(Workload.INFERENCE, batch=256), shape(Workload.INFERENCE, batch=64)
    assert quarter.throughput_ratio / full.throughput_ratio == pytest.approx(0.57, abs=0.01)
    power = quarter.demand(20.0).demand_watts / full.demand(20.0).demand_watts
    assert power == pytest.approx(0.88, abs=0.01)

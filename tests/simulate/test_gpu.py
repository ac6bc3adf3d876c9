"""The GPU twin: energy is the integral of power, caps are monotonic, and the measured curves are met."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.simulate.gpu import Gpu, GpuLoad, operating_point
from tests.simulate.plant_constants import CONSTANTS

GPU = CONSTANTS.gpu
loads = st.builds(
    lambda demand, static, bound: GpuLoad(
        demand_watts=demand, static_watts=demand * static, compute_bound_ratio=bound
    ),
    st.floats(100.0, 800.0),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
)


@given(loads, st.floats(0.2, 1.0))
def test_more_allowance_never_means_less_throughput_or_power(load: GpuLoad, clock_bound: float) -> None:
    points = [operating_point(GPU, load, watts, clock_bound, GPU.idle_watts) for watts in range(20, 900, 20)]
    for less, more in pairwise(points):
        assert less.power_watts <= more.power_watts + 1e-9
        assert less.performance_ratio <= more.performance_ratio + 1e-9
        assert 0.0 <= less.performance_ratio <= 1.0 + 1e-9


@given(st.lists(st.tuples(loads | st.none(), st.floats(200.0, 700.0), st.floats(0.01, 5.0)), max_size=8))
def test_energy_is_the_integral_of_power(course: list[tuple[GpuLoad | None, float, float]]) -> None:
    gpu, now, integral = Gpu(GPU, 0.0), 0.0, 0.0
    for load, limit, seconds in course:
        gpu.set_limit(limit)
        gpu.set_load(load)
        parts = max(1, round(seconds / 0.002))
        for _ in range(parts):
            before = gpu.power_watts
            now += seconds / parts
            gpu.advance(now)
            integral += (before + gpu.power_watts) / 2.0 * seconds / parts
    assert gpu.energy_joules == pytest.approx(integral, rel=1e-3, abs=1.0)


@given(loads, st.floats(0.1, 20.0))
def test_the_way_does_not_depend_on_how_often_one_looks(load: GpuLoad, seconds: float) -> None:
    seldom, often = Gpu(GPU, 0.0), Gpu(GPU, 0.0)
    for gpu in (seldom, often):
        gpu.set_limit(300.0)
        gpu.set_load(load)
    seldom.advance(seconds)
    for part in range(1, 38):
        often.advance(seconds * part / 37.0)
    assert often.energy_joules == pytest.approx(seldom.energy_joules, rel=1e-6)
    assert often.work_seconds == pytest.approx(seldom.work_seconds, rel=1e-6)
    assert often.power_average_watts == pytest.approx(seldom.power_average_watts, rel=0.01)


def test_a_step_spikes_above_the_limit_and_is_pulled_under_it() -> None:
    gpu = Gpu(GPU, 0.0)
    gpu.set_limit(400.0)
    gpu.advance(1.0)
    gpu.set_load(GpuLoad(demand_watts=680.0, static_watts=110.0, compute_bound_ratio=0.5))
    gpu.advance(1.0 + GPU.regulator_delay_seconds)
    assert gpu.power_watts > 500.0
    gpu.advance(3.0)
    assert gpu.power_watts == pytest.approx(GPU.cap_tracking_ratio * 400.0, rel=0.01)
    assert gpu.capped


def test_a_cap_waits_its_dead_time_and_then_settles() -> None:
    gpu = Gpu(GPU, 0.0)
    gpu.set_load(GpuLoad(demand_watts=600.0, static_watts=100.0, compute_bound_ratio=0.5))
    gpu.advance(5.0)
    gpu.set_limit(350.0)
    gpu.advance(5.0 + GPU.cap_dead_time_seconds)
    assert gpu.power_watts == pytest.approx(600.0, rel=1e-3)
    gpu.advance(5.0 + GPU.cap_dead_time_seconds + 10 * GPU.cap_time_constant_seconds)
    assert gpu.power_watts == pytest.approx(GPU.cap_tracking_ratio * 350.0, rel=0.01)


def test_a_cap_above_a_decode_load_does_nothing_and_a_clock_lock_does() -> None:
    shape = CONSTANTS.generation
    demand = 300.0
    load = GpuLoad(
        demand_watts=demand,
        static_watts=shape.static_ratio * demand,
        compute_bound_ratio=shape.compute_bound_ratio,
    )
    capped, locked = Gpu(GPU, 0.0), Gpu(GPU, 0.0)
    capped.set_limit(350.0)
    locked.lock_clocks(210.0, 0.4 * GPU.clock_max_megahertz)
    for gpu in (capped, locked):
        gpu.set_load(load)
        gpu.advance(10.0)
    assert capped.power_watts == pytest.approx(demand)
    assert capped.performance_ratio == pytest.approx(1.0)
    energy_per_token = (locked.power_watts / demand) / locked.performance_ratio
    assert energy_per_token == pytest.approx(0.68, abs=0.02)


# Cap [W], throughput: A100, 13B pre-training and 8B inference, Emerald Phoenix 2025 cap sweep.
MEASURED = {
    "training": [(300, 0.866), (250, 0.783), (200, 0.638), (100, 0.191)],
    "inference": [(300, 0.931), (250, 0.871), (200, 0.781), (100, 0.225)],
}


@pytest.mark.parametrize("name", MEASURED)
def test_throughput_follows_the_measured_sweep(name: str) -> None:
    shape = getattr(CONSTANTS, name)
    demand = shape.high_demand_ratio * 400.0
    load = GpuLoad(
        demand_watts=demand,
        static_watts=shape.static_ratio * demand,
        compute_bound_ratio=shape.compute_bound_ratio,
    )
    for cap, throughput in MEASURED[name]:
        point = operating_point(GPU, load, GPU.cap_tracking_ratio * cap, 1.0, 60.0)
        assert point.performance_ratio == pytest.approx(throughput, abs=0.03)


def test_a_load_ends_with_its_lease() -> None:
    gpu = Gpu(GPU, 0.0)
    gpu.set_load(
        GpuLoad(demand_watts=600.0, static_watts=90.0, compute_bound_ratio=0.5, expires_at_seconds=2.0)
    )
    gpu.advance(10.0)
    assert gpu.load is None
    assert gpu.power_watts == pytest.approx(GPU.idle_watts)
    assert gpu.work_seconds == pytest.approx(2.0, abs=0.01)

"""The physics of the simulated GPU against its formulas (PHYSICS.md), on a clock that the tests move."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from containers.plant.nvml_control import FaultKind, NodeGpus
from tests.plant.nvml_bench import H100, Bench, open_bench

DEMAND = 650.0
STATIC = DEMAND / 6


def settled(bench: Bench, gpu: int = 0) -> float:
    bench.gpus.pass_time(5.0)
    return bench.gpus.truth(gpu).instant_watts


def test_idle_levels(bench: Bench) -> None:
    assert settled(bench) == pytest.approx(70.0)
    bench.gpus.add_process(0, 4242)
    assert settled(bench) == pytest.approx(120.0)
    assert bench.gpus.truth(0).clock_megahertz == pytest.approx(1980.0)
    bench.gpus.remove_process(0, 4242)
    assert settled(bench) == pytest.approx(70.0)
    assert settled(bench, 1) == pytest.approx(70.0)


def test_job_start_is_a_step(bench: Bench) -> None:
    bench.train()
    bench.gpus.pass_time(0.02)
    expected = DEMAND + (70.0 - DEMAND) * math.exp(-1)
    assert bench.gpus.truth(0).instant_watts == pytest.approx(expected)
    bench.gpus.pass_time(0.08)
    assert bench.gpus.truth(0).instant_watts > 0.97 * DEMAND


@pytest.mark.parametrize("dead_time_seconds", [0.05, 0.1, 0.2])
def test_cap_waits_its_dead_time_and_then_falls_with_its_time_constant(
    nvml_library: Path, tmp_path: Path, dead_time_seconds: float
) -> None:
    bench = open_bench(nvml_library, tmp_path, replace(H100, cap_dead_time_seconds=dead_time_seconds))
    with bench.gpus:
        bench.train()
        assert settled(bench) == pytest.approx(DEMAND)
        bench.gpus.write_foreign_limit(0, 400.0)
        bench.gpus.pass_time(dead_time_seconds * 0.999)
        assert bench.gpus.truth(0).instant_watts == pytest.approx(DEMAND)
        bench.gpus.pass_time(dead_time_seconds * 0.001)
        budget = 0.97 * 400.0
        for step in range(1, 30):
            bench.gpus.pass_time(0.025)
            expected = budget + (DEMAND - budget) * math.exp(-0.025 * step / 0.1)
            assert bench.gpus.truth(0).instant_watts == pytest.approx(expected, abs=0.01)


def test_raising_a_cap_is_as_slow_as_lowering_it(bench: Bench) -> None:
    bench.gpus.write_foreign_limit(0, 300.0)
    bench.train()
    assert settled(bench) == pytest.approx(291.0)
    bench.gpus.write_foreign_limit(0, 600.0)
    bench.gpus.pass_time(0.1)
    assert bench.gpus.truth(0).instant_watts == pytest.approx(291.0)
    bench.gpus.pass_time(0.1)
    assert bench.gpus.truth(0).instant_watts == pytest.approx(582.0 + (291.0 - 582.0) * math.exp(-1))


def test_quick_writes_each_take_effect_after_their_own_dead_time(bench: Bench) -> None:
    bench.train()
    settled(bench)
    seen = []
    for limit in (600.0, 550.0, 500.0, 450.0, 450.0, 450.0):
        bench.gpus.write_foreign_limit(0, limit)
        bench.gpus.pass_time(0.051)  # two steps are a little more than the dead time, whatever is rounded
        seen.append(bench.gpus.truth(0).limit_active_watts)
    assert seen == [700.0, 600.0, 550.0, 500.0, 450.0, 450.0]


def test_more_writes_than_the_queue_holds_end_at_the_last_one(bench: Bench) -> None:
    for step in range(30):
        bench.gpus.write_foreign_limit(0, 300.0 + step)
        bench.gpus.pass_time(0.001)
    bench.gpus.pass_time(0.2)
    assert bench.gpus.truth(0).limit_active_watts == 329.0


def test_spike_over_the_limit_at_a_job_start(bench: Bench) -> None:
    """A load of 800 W on a 700-W part: up for the regulator's delay, then under the cap."""
    start = bench.gpus.truth(0).energy_joules
    bench.train(800.0)
    bench.gpus.pass_time(0.1)
    top = bench.gpus.truth(0)
    assert top.instant_watts == pytest.approx(800.0 - 730.0 * math.exp(-0.1 / 0.02))
    assert top.capped_seconds == 0.0
    bench.gpus.pass_time(0.1)
    falling = bench.gpus.truth(0)
    assert falling.instant_watts == pytest.approx(
        679.0 + (top.instant_watts - 679.0) * math.exp(-1), abs=0.01
    )
    assert falling.reasons == 4
    bench.gpus.pass_time(0.8)
    whole_second = bench.gpus.truth(0)
    assert whole_second.average_watts == pytest.approx(whole_second.energy_joules - start, rel=1e-3)
    assert whole_second.instant_watts == pytest.approx(679.0, abs=0.1)
    bench.train(2000.0, gpu=1)
    bench.gpus.pass_time(0.1)
    assert 870.0 < bench.gpus.truth(1).instant_watts <= 1.2575 * 700.0


def test_spikes_return_after_a_long_pause_only(bench: Bench) -> None:
    bench.train(800.0)
    settled(bench)
    for pause_seconds, spike in ((0.3, False), (0.7, True)):
        bench.train(200.0)
        bench.gpus.pass_time(pause_seconds)
        bench.train(800.0)
        highest = 0.0
        for _ in range(50):
            bench.gpus.pass_time(0.01)
            highest = max(highest, bench.gpus.truth(0).instant_watts)
        assert (highest > 700.0) is spike


def test_energy_is_the_integral_of_power_and_does_not_depend_on_who_looks(bench: Bench) -> None:
    def script(gpu: int, look_seconds: float) -> float:
        """Play the same second with looks between; return the trapezoid over the looks."""
        joules, last = 0.0, bench.gpus.truth(gpu).instant_watts
        actions: tuple[Callable[[], None], ...] = (
            lambda: bench.train(900.0, gpu=gpu),
            lambda: bench.gpus.write_foreign_limit(gpu, 350.0),
            lambda: bench.train(500.0, gpu=gpu),
            lambda: bench.gpus.write_foreign_limit(gpu, 700.0),
            lambda: bench.gpus.clear_load(gpu),
        )
        for action in actions:
            action()
            for _ in range(round(0.4 / look_seconds)):
                bench.gpus.pass_time(look_seconds)
                now = bench.gpus.truth(gpu).instant_watts
                joules += (last + now) / 2 * look_seconds
                last = now
        return joules

    start = bench.gpus.truth(0).energy_joules
    sampled = script(0, 0.001)
    often = bench.gpus.truth(0)
    assert often.energy_joules - start == pytest.approx(sampled, rel=1e-3)
    before = bench.gpus.truth(1).energy_joules
    script(1, 0.4)
    seldom = bench.gpus.truth(1)
    # 2,000 thousandths of a second are nanoseconds off, the more the longer the machine has been up.
    assert seldom.energy_joules - before == pytest.approx(often.energy_joules - start, rel=1e-7)
    assert seldom.work_seconds == pytest.approx(often.work_seconds, rel=1e-7)


def test_counter_in_millijoules_is_the_energy(bench: Bench) -> None:
    bench.train()
    with bench.process() as process:
        bench.gpus.pass_time(100.0)
        joules = bench.gpus.truth(0).energy_joules
        assert joules == pytest.approx(DEMAND * 100.0 - (DEMAND - 70.0) * 0.02, rel=1e-5)
        assert process.number("nvmlDeviceGetTotalEnergyConsumption", 0) == int(joules * 1000)
        assert process.field(0, 83) == process.field(0, 191) == int(joules * 1000)


@pytest.mark.parametrize("look_seconds", [1 / 32, 0.05, 0.3, 2.5])
def test_average_is_the_mean_of_the_last_second(bench: Bench, look_seconds: float) -> None:
    """Whatever the readers' rhythm, also one that falls on the knots of the window."""
    energies: list[tuple[float, float]] = []
    start = bench.gpus.truth(0).now_seconds
    for step in range(100):
        bench.train(300.0 if step % 7 < 3 else 620.0)
        for _ in range(10):
            bench.gpus.pass_time(look_seconds / 10)
            energies.append((bench.gpus.truth(1).now_seconds - start, bench.gpus.truth(0).energy_joules))
    now, joules = energies[-1]
    (early, first), (late, second) = next(
        pair for pair in itertools.pairwise(energies) if pair[1][0] > now - 1.0
    )
    then = first + (second - first) * (now - 1.0 - early) / (late - early)
    tolerance = 2.0 if look_seconds < 1.0 else 10.0  # the expectation itself is coarser with seldom looks
    assert bench.gpus.truth(0).average_watts == pytest.approx(joules - then, abs=tolerance)


def test_load_ends_at_its_lease_whoever_looks(bench: Bench) -> None:
    start = bench.gpus.truth(0).energy_joules
    bench.gpus.set_load(0, demand_watts=500.0, static_watts=80.0, compute_bound_ratio=0.5)
    bench.gpus.pass_time(1.5)
    bench.gpus.set_load(0, demand_watts=500.0, static_watts=80.0, compute_bound_ratio=0.5)
    bench.gpus.pass_time(60.0)
    truth = bench.gpus.truth(0)
    assert not truth.load_active
    assert truth.instant_watts == pytest.approx(70.0)
    assert truth.energy_joules - start == pytest.approx(3.5 * 500.0 + 58.0 * 70.0)
    assert truth.work_seconds == pytest.approx(3.5)


def test_next_job_keeps_its_load_when_the_last_one_clears(bench: Bench) -> None:
    with NodeGpus(bench.library, bench.state) as last_job:
        last_job.set_load(0, demand_watts=400.0, static_watts=80.0, compute_bound_ratio=0.5)
        bench.train()
        last_job.clear_load(0)
    assert settled(bench) == pytest.approx(DEMAND)
    bench.gpus.clear_load(0)
    assert settled(bench) == pytest.approx(70.0)


# Workload, draw at the 400-W limit, S/D, beta; then (cap, measured draw, measured throughput).
A100_SWEEP: dict[str, tuple[float, float, float, tuple[tuple[float, float, float], ...]]] = {
    "ft_llama_8b_dolly": (
        *(345.65, 0.177, 0.309),
        ((100, 99.9, 0.241), (200, 196.1, 0.807), (250, 244.1, 0.904), (300, 288.3, 0.951)),
    ),
    "infer_llama_8b": (
        *(368.38, 0.158, 0.308),
        (
            (100, 97.9, 0.225),
            (200, 194.7, 0.781),
            (250, 241.8, 0.871),
            (300, 289.0, 0.931),
            (350, 332.9, 0.976),
        ),
    ),
    "pt_mpt_13b_sm": (
        *(376.83, 0.169, 0.569),
        (
            (100, 102.9, 0.191),
            (200, 195.4, 0.638),
            (250, 243.2, 0.783),
            (300, 287.1, 0.866),
            (350, 331.0, 0.912),
        ),
    ),
}


@pytest.mark.parametrize("workload", A100_SWEEP)
def test_cap_leaves_the_measured_power_and_throughput(
    nvml_library: Path, tmp_path: Path, workload: str
) -> None:
    """Emerald Phoenix 2025, dvfs_sweep.csv: draw within 6 %, throughput within 0.04 of the measured."""
    a100 = replace(
        H100, limit_min_watts=100.0, limit_max_watts=400.0, limit_default_watts=400.0, idle_watts=60.0,
        loaded_idle_watts=84.8,
    )  # fmt: skip
    demand, static_ratio, beta, points = A100_SWEEP[workload]
    bench = open_bench(nvml_library, tmp_path, a100)
    with bench.gpus:
        bench.gpus.set_load(
            0,
            demand_watts=demand,
            static_watts=static_ratio * demand,
            compute_bound_ratio=beta,
            lease_seconds=None,
        )
        assert settled(bench) == pytest.approx(demand, rel=1e-6)
        for cap, watts, throughput in points:
            bench.gpus.write_foreign_limit(0, cap)
            assert settled(bench) == pytest.approx(watts, rel=0.06)
            assert bench.gpus.truth(0).performance_ratio == pytest.approx(throughput, abs=0.04)


def test_decode_moves_with_the_clock_lock_and_not_with_the_cap(bench: Bench) -> None:
    bench.gpus.set_load(
        0, demand_watts=250.0, static_watts=100.0, compute_bound_ratio=0.12, lease_seconds=None
    )
    assert settled(bench) == pytest.approx(250.0)
    bench.gpus.write_foreign_limit(0, 300.0)
    assert settled(bench) == pytest.approx(250.0)
    with bench.process() as process:
        process.call("nvmlDeviceSetGpuLockedClocks", 0, 210, 790)
        assert settled(bench) == pytest.approx(100.0 + 150.0 * (795 / 1980) ** 1.36)
        truth = bench.gpus.truth(0)
        assert truth.performance_ratio == pytest.approx(1 / (0.88 + 0.12 * 1980 / 795))
        assert (truth.lock_low_megahertz, truth.lock_high_megahertz) == (210.0, 795.0)
        assert process.number("nvmlDeviceGetClockInfo", 0, 1) == 795
        assert truth.reasons == 0
        process.call("nvmlDeviceResetGpuLockedClocks", 0)
        assert settled(bench) == pytest.approx(250.0)
        assert bench.gpus.truth(0).lock_high_megahertz is None


def test_capping_is_counted_while_it_binds(bench: Bench) -> None:
    bench.train()
    settled(bench)
    bench.gpus.write_foreign_limit(0, 400.0)
    bench.gpus.pass_time(2.1)
    bench.gpus.write_foreign_limit(0, 700.0)
    bench.gpus.pass_time(5.0)
    with bench.process() as process:
        assert process.field(0, 74) == pytest.approx(2.1e9, rel=1e-6)
        assert process.number("nvmlDeviceGetCurrentClocksEventReasons", 0) == 0
        assert process.number("nvmlDeviceGetCurrentClocksThrottleReasons", 1) == 1


def test_heat_follows_power_with_its_own_time_constant(bench: Bench) -> None:
    bench.train()
    bench.gpus.pass_time(30.0)
    start, final = 30.0 + 0.06 * 70.0, 30.0 + 0.06 * DEMAND
    warm = bench.gpus.truth(0).temperature_celsius
    assert warm == pytest.approx(final + (start - final) * math.exp(-1), abs=0.02)
    bench.gpus.pass_time(600.0)
    assert bench.gpus.truth(0).temperature_celsius == pytest.approx(final)


def test_hot_room_throttles_by_heat_until_it_cools(bench: Bench) -> None:
    bench.train()
    bench.gpus.pass_time(300.0)
    bench.gpus.set_fault(0, FaultKind.HOT_AMBIENT, value=30.0, duration_seconds=120.0)
    bench.gpus.pass_time(110.0)
    hot = bench.gpus.truth(0)
    assert hot.reasons & 0x20
    assert hot.instant_watts < 0.7 * DEMAND
    with bench.process() as process:
        assert process.field(0, 269) > 1e9
    bench.gpus.pass_time(60.0)
    cool = bench.gpus.truth(0)
    assert cool.reasons == 0
    assert cool.instant_watts == pytest.approx(DEMAND)

"""Standard load, training swings and massive starts are told apart, on the plant's own shapes."""

import math
import random

import pytest

from slurm_power.forecast.labels import Started, label, swings
from slurm_power.model.forecast import LoadLabel
from slurm_power.simulate.workload import Shape, Workload
from tests.simulate.plant_constants import CONSTANTS

CEILING = 32_000.0


def ticks(watts: list[float]) -> list[tuple[float, float]]:
    return [(float(second), value) for second, value in enumerate(watts)]


def shaped(workload: Workload, *, seed: int, seconds: int = 60, gpus: int = 16) -> list[float]:
    """A job's draw in one-second means, as a meter shows it, on top of an idle site."""
    shape = Shape(workload, getattr(CONSTANTS, workload.value), 700.0, seed)
    return [
        8_000.0
        + gpus * sum(shape.demand(200.0 + second + tenth / 10).demand_watts for tenth in range(10)) / 10
        for second in range(seconds)
    ]


def test_a_steady_load_is_standard() -> None:
    chance = random.Random(1)
    steady = [20_000.0 + chance.gauss(0.0, 150.0) for _ in range(120)]
    assert label(ticks(steady), [], ceiling_watts=CEILING) is LoadLabel.STANDARD
    assert label([], [], ceiling_watts=CEILING) is LoadLabel.STANDARD


@pytest.mark.parametrize("period", [4, 7, 12, 20])
def test_a_load_that_goes_up_and_down_swings(period: int) -> None:
    wave = [20_000.0 + (2_000.0 if second % period < period * 0.7 else -1_500.0) for second in range(120)]
    assert label(ticks(wave), [], ceiling_watts=CEILING) is LoadLabel.TRAINING_SWING


def test_a_ramp_a_single_step_and_a_spike_are_no_swings() -> None:
    ramp = [10_000.0 + 100.0 * second for second in range(60)]
    step = [10_000.0] * 30 + [20_000.0] * 30
    spike = [10_000.0] * 60
    spike[40] = 25_000.0
    there_and_back = [10_000.0] * 20 + [16_000.0] * 20 + [10_000.0] * 20
    for load in (ramp, step, spike, there_and_back):
        assert label(ticks(load), [], ceiling_watts=CEILING) is LoadLabel.STANDARD


def test_small_swings_are_noise() -> None:
    wave = [20_000.0 + 200.0 * math.sin(second) for second in range(60)]
    assert not swings(wave, 0.02 * CEILING)
    assert swings(wave, 100.0)


def test_a_massive_start_is_one_while_its_step_comes() -> None:
    started = [Started(job_id="7", at_seconds=60.0, step_watts=8_000.0, before_watts=10_000.0)]
    load = [10_000.0] * 60 + [10_000.0 + min(8_000.0, 1_000.0 * second) for second in range(1, 120)]
    seen = {
        second: label(ticks(load[: second + 1]), started, ceiling_watts=CEILING)
        for second in (59, 61, 66, 100, 178)
    }
    assert seen[59] is seen[61] is LoadLabel.STANDARD
    assert seen[66] is seen[100] is LoadLabel.MASSIVE_START
    assert seen[178] is LoadLabel.STANDARD


def test_the_plants_trainings_swing_where_a_meter_can_see_it() -> None:
    """Swings faster than the meter's second average out; slower ones are seen, inference is not one."""
    slow = [
        seed
        for seed in range(40)
        if Shape(Workload.TRAINING, CONSTANTS.training, 700.0, seed).swing_hertz < 0.25
    ]
    assert slow
    found = [label(ticks(shaped(Workload.TRAINING, seed=seed)), [], ceiling_watts=CEILING) for seed in slow]
    assert found.count(LoadLabel.TRAINING_SWING) >= 0.8 * len(found)

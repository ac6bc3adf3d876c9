"""Energy of a GPU from counter and power, against a made-up GPU whose energy is known."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.energy import (
    FINE_STEPS,
    GpuEnergy,
    with_counter,
    with_power,
)

BEAT_SECONDS = 5


class TrueGpu:
    """A GPU with a power for each second, a counter that may restart, and a sensor that may be silent."""

    def __init__(self, watts: Callable[[int], float], *, sensor_ratio: float = 1.0) -> None:
        self.watts = watts
        self.sensor_ratio = sensor_ratio
        self.joules = 0.0
        self.resets: dict[int, float] = {}
        self.driver_load = "1"

    def watched(
        self,
        seconds: int,
        *,
        lost: range = range(0),
        resets: tuple[int, ...] = (),
        counter_ratio: float = 1.0,
        has_counter: bool = True,
    ) -> GpuEnergy:
        """Read power each second, the counter each fifth, as powerd does."""
        energy = GpuEnergy()
        zero = 0.0
        for second in range(seconds + 1):
            if second in resets:
                zero = self.joules
            counter = (self.joules - zero) * counter_ratio if has_counter else None
            if second not in lost:
                energy = with_power(energy, self.watts(max(second - 1, 0)) * self.sensor_ratio, float(second))
                if second % BEAT_SECONDS == 0:
                    energy = with_counter(energy, counter, float(second), max_cap_watts=700.0)
            if second < seconds:
                self.joules += self.watts(second)
        return energy


def steady(_second: int) -> float:
    return 500.0


def swinging(second: int) -> float:
    return 650.0 if second // 7 % 2 else 120.0


def test_a_good_counter_is_taken_to_the_joule_whatever_the_sensor_says() -> None:
    gpu = TrueGpu(swinging, sensor_ratio=0.9)
    energy = gpu.watched(60)
    assert energy.booked_joules == pytest.approx(gpu.joules)
    assert (energy.estimated_joules, energy.covered_seconds, energy.counted) == (0.0, 60.0, True)


@pytest.mark.parametrize("reset", [12, 15, 16, 19])
def test_a_restarted_counter_costs_an_estimate_of_one_beat(reset: int) -> None:
    gpu = TrueGpu(steady)
    energy = gpu.watched(60, resets=(reset,))
    assert energy.booked_joules == pytest.approx(gpu.joules, rel=0.01)
    assert 0.0 <= energy.estimated_joules <= BEAT_SECONDS * 500.0
    assert energy.trusted


def test_a_restart_that_has_outgrown_the_last_value_is_seen_by_power_or_the_driver_s_load() -> None:
    early = with_power(GpuEnergy(counter_joules=100.0, counter_at_seconds=0.0), 500.0, 0.0)
    late = with_counter(with_power(early, 500.0, 2.0), 600.0, 2.0, driver_load="2", max_cap_watts=700.0)
    assert (late.booked_joules, late.estimated_joules) == (1000.0, 400.0)
    unseen = with_counter(with_power(early, 500.0, 2.0), 600.0, 2.0, max_cap_watts=700.0)
    assert (unseen.booked_joules, unseen.estimated_joules) == (1000.0, 1000.0)


def test_a_gpu_lost_for_ten_seconds_is_whole_again_when_its_counter_went_on() -> None:
    gpu = TrueGpu(swinging)
    energy = gpu.watched(60, lost=range(21, 32))
    assert energy.booked_joules == pytest.approx(gpu.joules)
    assert energy.estimated_joules == 0.0
    assert energy.covered_seconds == 48.0


def test_a_gpu_that_comes_back_with_a_new_counter_is_estimated_over_the_gap() -> None:
    gpu = TrueGpu(steady)
    energy = gpu.watched(60, lost=range(21, 32), resets=(26,))
    assert energy.booked_joules == pytest.approx(gpu.joules, rel=0.01)
    assert 0.0 < energy.estimated_joules < 15 * 500.0


@pytest.mark.parametrize("ratio", [0.0, 0.5, 2.0, 1000.0])
def test_a_counter_that_power_contradicts_is_not_believed(ratio: float) -> None:
    gpu = TrueGpu(steady)
    energy = gpu.watched(60, counter_ratio=ratio)
    assert energy.total_joules == pytest.approx(gpu.joules, rel=0.01)
    assert not energy.counted
    assert energy.unsure_joules == pytest.approx(energy.total_joules)


def test_a_counter_that_is_right_again_for_a_minute_is_believed_again() -> None:
    energy = TrueGpu(steady).watched(60, counter_ratio=0.0)
    for step in range(1, FINE_STEPS + 1):
        at_seconds = 60.0 + BEAT_SECONDS * step
        energy = with_power(energy, 500.0, at_seconds)
        energy = with_counter(energy, 2500.0 * step, at_seconds, max_cap_watts=700.0)
    assert energy.counted


def test_without_a_counter_all_is_estimated_from_power() -> None:
    gpu = TrueGpu(steady)
    energy = gpu.watched(60, has_counter=False)
    assert energy.total_joules == energy.unsure_joules == pytest.approx(gpu.joules)
    assert not energy.counted


@given(
    watts=st.lists(st.floats(min_value=50.0, max_value=700.0), min_size=70, max_size=70),
    resets=st.lists(st.integers(min_value=1, max_value=60), max_size=3).map(tuple),
    lost_at=st.integers(min_value=1, max_value=40),
    lost_for=st.integers(min_value=0, max_value=12),
)
def test_energy_never_shrinks_and_never_passes_what_could_be_drawn(
    watts: list[float], resets: tuple[int, ...], lost_at: int, lost_for: int
) -> None:
    gpu = TrueGpu(lambda second: watts[second])
    energy = gpu.watched(60, lost=range(lost_at, lost_at + lost_for), resets=resets)
    assert 0.0 <= energy.estimated_joules <= energy.booked_joules + 1e-6
    assert 60 * 50.0 * 0.5 <= energy.total_joules <= 60 * 700.0 * 1.1
    assert energy.covered_seconds <= 60.0

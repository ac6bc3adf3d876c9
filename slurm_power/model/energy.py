"""Energy of one GPU from its driver's counter and its power: what was counted, what had to be estimated."""

from dataclasses import dataclass, replace
from functools import partial

# Power readings closer together than this say what happened between them.
COVERED_GAP_SECONDS = 3.0
# A counter may differ from the integral of a sensor that sees a quarter of the time by this much ...
AGREEMENT_RATIO = 0.25
# ... and by what a change of power hides between two readings of an average over a second.
CHANGE_SECONDS = 1.5
SLACK_JOULES = 25.0
# A counter that disagrees so often in a row is believed no more, until it has agreed so often in a row.
ODD_STEPS = 3
FINE_STEPS = 12
# What a GPU may draw at most, as a multiple of its highest cap: 1.26 has been seen.
PEAK_RATIO = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuEnergy:
    """Energy of one GPU since it has been watched; times are monotonic seconds.

    ``booked_joules`` is what closed intervals used, from one reading of the counter to the next, and
    ``estimated_joules`` the part of it that rests on power instead of the counter. ``open_joules`` is power
    integrated since the counter's last reading. ``covered_seconds`` is the time between power readings that
    followed each other closely. ``driver_load`` changes when the driver is loaded anew.
    """

    booked_joules: float = 0.0
    estimated_joules: float = 0.0
    covered_seconds: float = 0.0
    open_joules: float = 0.0
    open_gap: bool = False
    counter_joules: float | None = None
    counter_at_seconds: float | None = None
    driver_load: str = ""
    watts: float | None = None
    at_seconds: float | None = None
    low_watts: float = 0.0
    high_watts: float = 0.0
    odd_steps: int = 0
    fine_steps: int = 0
    trusted: bool = True

    @property
    def total_joules(self) -> float:
        """All energy up to ``at_seconds``."""
        return self.booked_joules + self.open_joules

    @property
    def counted(self) -> bool:
        """Whether the driver's counter is there and believed."""
        return self.trusted and self.counter_joules is not None

    @property
    def unsure_joules(self) -> float:
        """The part of ``total_joules`` that is an estimate; what a good counter will soon confirm is none."""
        return self.estimated_joules + (0.0 if self.counted else self.open_joules)


def with_power(energy: GpuEnergy, watts: float, at_seconds: float) -> GpuEnergy:
    """Take a power reading: the time since the last one had the mean of both."""
    return _until(energy, at_seconds, watts)


def held(energy: GpuEnergy, at_seconds: float) -> GpuEnergy:
    """Go on to a moment without a reading, at the last known power."""
    return energy if energy.watts is None else _until(energy, at_seconds, energy.watts)


def _until(energy: GpuEnergy, at_seconds: float, watts: float) -> GpuEnergy:
    if energy.at_seconds is None or energy.watts is None:
        return replace(energy, watts=watts, at_seconds=at_seconds, low_watts=watts, high_watts=watts)
    seconds = max(0.0, at_seconds - energy.at_seconds)
    covered = seconds <= COVERED_GAP_SECONDS
    return replace(
        energy,
        open_joules=energy.open_joules + 0.5 * (energy.watts + watts) * seconds,
        covered_seconds=energy.covered_seconds + (seconds if covered else 0.0),
        open_gap=energy.open_gap or not covered,
        watts=watts,
        at_seconds=max(at_seconds, energy.at_seconds),
        low_watts=min(energy.low_watts, watts),
        high_watts=max(energy.high_watts, watts),
    )


def with_counter(
    energy: GpuEnergy,
    counter_joules: float | None,
    at_seconds: float,
    *,
    driver_load: str = "",
    max_cap_watts: float,
) -> GpuEnergy:
    """Take a reading of the counter, None if there is none, and close the interval since the last one.

    A counter that restarted is taken for what it shows, and power for the time before; a step that power
    contradicts is replaced by power. Both are marked as estimated.
    """
    energy = held(energy, at_seconds)
    by_power_joules = energy.open_joules
    known_joules, known_at_seconds = energy.counter_joules, energy.counter_at_seconds
    close = partial(_closed, counter_joules=counter_joules, at_seconds=at_seconds, driver_load=driver_load)
    if known_joules is None or known_at_seconds is None or counter_joules is None:
        return close(energy, used_joules=by_power_joules, estimated_joules=by_power_joules)
    slack_joules = _slack_joules(energy, at_seconds - known_at_seconds, max_cap_watts)
    if driver_load != energy.driver_load or counter_joules < known_joules:
        sure = energy.trusted and counter_joules <= by_power_joules + slack_joules
        sure_joules = counter_joules if sure else 0.0
        used_joules = max(sure_joules, by_power_joules)
        return close(energy, used_joules=used_joules, estimated_joules=used_joules - sure_joules)
    step_joules = counter_joules - known_joules
    energy = _judged(energy, agrees=abs(step_joules - by_power_joules) <= slack_joules)
    if energy.trusted and energy.odd_steps == 0:
        return close(energy, used_joules=step_joules, estimated_joules=0.0)
    return close(energy, used_joules=by_power_joules, estimated_joules=by_power_joules)


def _slack_joules(energy: GpuEnergy, seconds: float, max_cap_watts: float) -> float:
    """How far counter and integrated power may be apart; over a gap anything the GPU could draw is right."""
    slack_joules = AGREEMENT_RATIO * energy.open_joules + SLACK_JOULES
    slack_joules += CHANGE_SECONDS * (energy.high_watts - energy.low_watts)
    return max(slack_joules, PEAK_RATIO * max_cap_watts * seconds) if energy.open_gap else slack_joules


def _judged(energy: GpuEnergy, *, agrees: bool) -> GpuEnergy:
    odd_steps = 0 if agrees else energy.odd_steps + 1
    fine_steps = energy.fine_steps + 1 if agrees else 0
    trusted = odd_steps < ODD_STEPS if energy.trusted else fine_steps >= FINE_STEPS
    return replace(energy, odd_steps=odd_steps, fine_steps=fine_steps, trusted=trusted)


def _closed(
    energy: GpuEnergy,
    *,
    counter_joules: float | None,
    at_seconds: float,
    driver_load: str,
    used_joules: float,
    estimated_joules: float,
) -> GpuEnergy:
    watts = energy.watts or 0.0
    return replace(
        energy,
        booked_joules=energy.booked_joules + used_joules,
        estimated_joules=energy.estimated_joules + estimated_joules,
        open_joules=0.0,
        open_gap=False,
        counter_joules=counter_joules,
        counter_at_seconds=at_seconds,
        driver_load=driver_load,
        low_watts=watts,
        high_watts=watts,
    )

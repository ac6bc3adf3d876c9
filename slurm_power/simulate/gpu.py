"""One GPU moving through time: the twin of the NVML stand-in's C library, by the formulas of its PHYSICS.md.

Between two events every target is constant, so power, throughput, clock and heat have closed forms and the
energy is exact whatever the step. The caller passes the time in; inputs take effect at the time advanced to.
"""

import math
from dataclasses import dataclass

from slurm_power.simulate.constants import GpuConstants

LONGEST_STEP_SECONDS = 1.0
AVERAGE_WINDOW_SECONDS = 1.0
KNOT_STEP_SECONDS = 1.0 / 32.0
KNOT_LEAST_STEP_SECONDS = 1.0 / 64.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLoad:
    """What runs on a GPU: its draw uncapped at full clock and how it answers to less."""

    demand_watts: float
    static_watts: float
    compute_bound_ratio: float
    expires_at_seconds: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """A steady state: draw, throughput relative to uncapped, SM clock relative to its highest."""

    power_watts: float
    performance_ratio: float
    clock_ratio: float


def operating_point(
    constants: GpuConstants,
    load: GpuLoad,
    allowance_watts: float,
    clock_bound_ratio: float,
    idle_watts: float,
) -> OperatingPoint:
    """Return what an allowance leaves of a load (PHYSICS.md, section 2)."""
    dynamic = load.demand_watts - load.static_watts
    exponent = constants.clock_exponent
    clock, duty, power = clock_bound_ratio, 1.0, load.demand_watts
    if dynamic > 0.0:
        if allowance_watts < load.static_watts + dynamic * clock_bound_ratio**exponent:
            floor = min(constants.clock_min_ratio, clock_bound_ratio)
            share = max((allowance_watts - load.static_watts) / dynamic, 0.0)
            clock = share ** (1.0 / exponent)
            if clock < floor:
                clock = floor
                duty = min(max(share / floor**exponent, constants.duty_min_ratio), 1.0)
        power = load.static_watts + duty * dynamic * clock**exponent
    bound = load.compute_bound_ratio
    return OperatingPoint(
        power_watts=max(power, idle_watts),
        performance_ratio=duty / ((1.0 - bound) + bound / clock),
        clock_ratio=clock,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Targets:
    power_watts: float
    performance_ratio: float
    clock_megahertz: float
    time_constant_seconds: float


class Gpu:
    """State of one GPU. ``advance`` moves it; every other method is an input at the present time."""

    def __init__(self, constants: GpuConstants, now_seconds: float) -> None:
        self.constants = constants
        self.now_seconds = now_seconds
        self.power_watts = constants.idle_watts
        self.performance_ratio = 0.0
        self.clock_megahertz = constants.clock_idle_megahertz
        resistance = constants.thermal_resistance_celsius_per_watt
        self.temperature_celsius = constants.thermal_ambient_celsius + resistance * constants.idle_watts
        self.energy_joules = 0.0
        self.work_seconds = 0.0
        self.limit_requested_watts = self.limit_enforced_watts = constants.limit_default_watts
        self.load: GpuLoad | None = None
        self._resident = False
        self._active_limit_watts = constants.limit_default_watts
        self._out_of_band_watts = math.inf
        self._pending_limits: list[tuple[float, float]] = []
        self._lock_megahertz: tuple[float, float] | None = None
        self._engaged = self._over = self._hot = False
        self._over_since_seconds = self._under_since_seconds = now_seconds
        self._knots: list[tuple[float, float]] = [(now_seconds, 0.0)]

    @property
    def capped(self) -> bool:
        """True while the power limit holds the load back (NVML reason SwPowerCap)."""
        return self._engaged and self._over

    @property
    def power_average_watts(self) -> float:
        """Mean draw over the last second (``nvmlDeviceGetPowerUsage``)."""
        begin = self.now_seconds - AVERAGE_WINDOW_SECONDS
        later = (self.now_seconds, self.energy_joules)
        for at, joules in reversed(self._knots):
            if at <= begin and later[0] > at:
                slope = (later[1] - joules) / (later[0] - at)
                return (self.energy_joules - joules - slope * (begin - at)) / AVERAGE_WINDOW_SECONDS
            later = (at, joules)
        span = self.now_seconds - later[0]
        return (self.energy_joules - later[1]) / span if span > 0.0 else self.power_watts

    def set_load(self, load: GpuLoad | None) -> None:
        """Put a load on the GPU, or take it off."""
        self.load = load
        self._settle()

    def set_resident(self, resident: bool) -> None:
        """Say whether a process holds memory: weights loaded keep the idle draw up."""
        self._resident = resident
        self._settle()

    def set_limit(self, watts: float) -> None:
        """Request a power limit; raises ValueError outside the constraints."""
        if not self.constants.limit_min_watts <= watts <= self.constants.limit_max_watts:
            raise ValueError(f"a limit of {watts:g} W is outside the constraints")
        self.limit_requested_watts = watts
        self._settle()

    def set_out_of_band_limit(self, watts: float | None) -> None:
        """Clamp the limit from outside, as a BMC does; None takes the clamp away."""
        self._out_of_band_watts = math.inf if watts is None else watts
        self._settle()

    def lock_clocks(self, low_megahertz: float, high_megahertz: float) -> None:
        """Lock the SM clock between two values."""
        self._lock_megahertz = (low_megahertz, high_megahertz)
        self._settle()

    def reset_clocks(self) -> None:
        """Take the clock lock away."""
        self._lock_megahertz = None
        self._settle()

    def advance(self, now_seconds: float) -> None:
        """Move to ``now_seconds``, from event to event; an earlier time changes nothing."""
        while self.now_seconds < now_seconds:
            self._glide(self._next_event(now_seconds))
            self._settle()

    def _idle_watts(self) -> float:
        return self.constants.loaded_idle_watts if self._resident else self.constants.idle_watts

    def _clock_bound_ratio(self) -> float:
        bound = 1.0
        if self._lock_megahertz is not None:
            bound = max(self._lock_megahertz[1] / self.constants.clock_max_megahertz, 0.01)
        if self._hot:
            bound = min(bound, self.constants.thermal_slowdown_ratio)
        return min(bound, 1.0)

    def _point(self, load: GpuLoad, allowance_watts: float) -> OperatingPoint:
        return operating_point(
            self.constants, load, allowance_watts, self._clock_bound_ratio(), self._idle_watts()
        )

    def _settle(self) -> None:
        """Bring lease, limits and regulator up to date (PHYSICS.md, sections 3 and 4)."""
        constants, now = self.constants, self.now_seconds
        if now >= self._knots[-1][0] + KNOT_LEAST_STEP_SECONDS:
            self._knots.append((now, self.energy_joules))
            self._forget_old_knots()
        if self.load is not None and self.load.expires_at_seconds <= now:
            self.load = None
        limit_changed = self._follow_limit()
        unbound = self._idle_watts()
        if self.load is not None:
            unbound = self._point(self.load, math.inf).power_watts
        over = unbound > constants.cap_tracking_ratio * self._active_limit_watts
        if over and not self._over:
            self._over_since_seconds = now
            self._engaged = self._engaged or limit_changed
        if self._over and not over:
            self._under_since_seconds = now
        self._over = over
        if over and now >= self._over_since_seconds + constants.regulator_delay_seconds:
            self._engaged = True
        if not over and now >= self._under_since_seconds + constants.regulator_release_seconds:
            self._engaged = False

    def _forget_old_knots(self) -> None:
        begin = self.now_seconds - AVERAGE_WINDOW_SECONDS
        while len(self._knots) > 2 and self._knots[1][0] <= begin:
            del self._knots[0]

    def _follow_limit(self) -> bool:
        """Queue a changed limit and take what is due; returns whether the active limit changed."""
        enforced = min(self.limit_requested_watts, self._out_of_band_watts)
        if enforced != self.limit_enforced_watts:
            self.limit_enforced_watts = enforced
            due = self.now_seconds + self.constants.cap_dead_time_seconds
            self._pending_limits.append((due, enforced))
        taken = False
        while self._pending_limits and self._pending_limits[0][0] <= self.now_seconds:
            self._active_limit_watts = self._pending_limits.pop(0)[1]
            taken = True
        return taken

    def _next_event(self, to_seconds: float) -> float:
        now, constants = self.now_seconds, self.constants
        due = [to_seconds, now + LONGEST_STEP_SECONDS]
        if self._pending_limits:
            due.append(self._pending_limits[0][0])
        if self.load is not None:
            due.append(self.load.expires_at_seconds)
        if self._over and not self._engaged:
            due.append(self._over_since_seconds + constants.regulator_delay_seconds)
        if self._engaged and not self._over:
            due.append(self._under_since_seconds + constants.regulator_release_seconds)
        # Knots matter for the last second only; a long silence is crossed in big steps.
        knots_from = to_seconds - AVERAGE_WINDOW_SECONDS - 2.0 * KNOT_STEP_SECONDS
        if now >= knots_from:
            due.append((math.floor(now / KNOT_STEP_SECONDS) + 1.0) * KNOT_STEP_SECONDS)
        else:
            due.append(knots_from)
        first = min(due)
        return first if first > now else to_seconds

    def _targets(self) -> _Targets:
        constants = self.constants
        power, performance, clock = self._idle_watts(), 0.0, constants.clock_idle_megahertz
        if self.load is not None:
            allowance = constants.peak_ratio * constants.limit_max_watts
            if self._engaged:
                allowance = constants.cap_tracking_ratio * self._active_limit_watts
            point = self._point(self.load, allowance)
            power, performance = point.power_watts, point.performance_ratio
            clock = point.clock_ratio * constants.clock_max_megahertz
        else:
            if self._resident:
                clock = self._clock_bound_ratio() * constants.clock_max_megahertz
            if self._lock_megahertz is not None:
                clock = max(clock, self._lock_megahertz[0])
        load_went_away = not self._over and power < self.power_watts
        regulated = self._engaged and not load_went_away
        return _Targets(
            power_watts=power,
            performance_ratio=performance,
            clock_megahertz=clock,
            time_constant_seconds=(
                constants.cap_time_constant_seconds if regulated else constants.load_time_constant_seconds
            ),
        )

    def _glide(self, until_seconds: float) -> None:
        """Move over a span in which every target is constant (PHYSICS.md, sections 5 and 6)."""
        constants, targets = self.constants, self._targets()
        span, tau = until_seconds - self.now_seconds, targets.time_constant_seconds
        left, lag = math.exp(-span / tau), -tau * math.expm1(-span / tau)
        tau_heat = constants.thermal_time_constant_seconds
        resistance = constants.thermal_resistance_celsius_per_watt
        final = constants.thermal_ambient_celsius + resistance * targets.power_watts
        slow = math.exp(-span / tau_heat)
        drive = resistance * (self.power_watts - targets.power_watts) / tau_heat
        self.temperature_celsius = (
            final
            + (self.temperature_celsius - final) * slow
            + drive * (left - slow) / (1.0 / tau_heat - 1.0 / tau)
        )
        self.energy_joules += targets.power_watts * span + (self.power_watts - targets.power_watts) * lag
        self.work_seconds += (
            targets.performance_ratio * span + (self.performance_ratio - targets.performance_ratio) * lag
        )
        self.power_watts = targets.power_watts + (self.power_watts - targets.power_watts) * left
        self.performance_ratio = (
            targets.performance_ratio + (self.performance_ratio - targets.performance_ratio) * left
        )
        self.clock_megahertz = (
            targets.clock_megahertz + (self.clock_megahertz - targets.clock_megahertz) * left
        )
        self.now_seconds = until_seconds
        if self.temperature_celsius >= constants.thermal_slowdown_celsius:
            self._hot = True
        if (
            self.temperature_celsius
            < constants.thermal_slowdown_celsius - constants.thermal_hysteresis_celsius
        ):
            self._hot = False

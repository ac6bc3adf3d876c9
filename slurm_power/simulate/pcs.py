"""A PCS with its battery: setpoint, reversion timer, heartbeat and alarms in; power, energy and heat out.

Signs: discharge is positive, at the AC terminals (``discharge_watts``) as inside the battery. Times are
seconds on any clock that only goes forward, passed in by the caller. Words are those of SunSpec models.
"""

import math
from dataclasses import dataclass, replace
from enum import IntFlag

from slurm_power.simulate.constants import PcsConstants

JOULES_PER_WH = 3600.0
# Limits that follow the state of charge and the temperature are looked at this often.
LONGEST_STEP_SECONDS = 1.0
SHORTEST_RAMP_STEP_SECONDS = 0.01


class Alarm(IntFlag):
    """Alarm bits, as SunSpec model 701 numbers them."""

    NONE = 0
    DC_OVER_VOLT = 1 << 1
    OVER_TEMP = 1 << 7
    MANUFACTURER = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PcsControl:
    """What a controller writes. ``reversion_seconds`` 0 means that a setpoint holds until it is changed."""

    enabled: bool = False
    setpoint_watts: float = 0.0
    reversion_enabled: bool = False
    reversion_setpoint_watts: float = 0.0
    reversion_seconds: float = 0.0
    ramp_ratio_per_second: float | None = None


class Pcs:
    """State of one PCS and battery. Call ``advance`` with the time before reading anything."""

    def __init__(self, constants: PcsConstants, now_seconds: float) -> None:
        self.constants = constants
        self.now_seconds = now_seconds
        self.control = PcsControl()
        self.discharge_watts = 0.0
        self.capacity_joules = constants.rated_capacity_wh * JOULES_PER_WH * constants.state_of_health_ratio
        self.stored_joules = constants.initial_soc_ratio * self.capacity_joules
        self.injected_joules = 0.0
        self.absorbed_joules = 0.0
        self.loss_joules = 0.0
        self.auxiliary_joules = 0.0
        self.temperature_celsius = constants.ambient_celsius
        self.ambient_celsius = constants.ambient_celsius
        self.local = False
        self.started = True
        self.alarms = Alarm.NONE
        self.active_faults = Alarm.NONE
        self.reversion_works = True
        self._applied_watts = 0.0
        self._queue: list[tuple[float, float]] = []
        self._revert_at_seconds: float | None = None
        self._heartbeat_at_seconds: float | None = None

    @property
    def soc_ratio(self) -> float:
        """State of charge, of the capacity that age has left."""
        return self.stored_joules / self.capacity_joules

    @property
    def reversion_remaining_seconds(self) -> float:
        """Seconds until the setpoint reverts; 0 when no timer runs."""
        return 0.0 if self._revert_at_seconds is None else self._revert_at_seconds - self.now_seconds

    @property
    def throttled(self) -> bool:
        """True while a limit, not the setpoint, decides the power."""
        return not math.isclose(self._limited(self._applied_watts), self._applied_watts, abs_tol=1.0)

    @property
    def auxiliary_watts(self) -> float:
        """Draw of controls and cooling at the AC side, in addition to the terminals' power."""
        return self.constants.auxiliary_watts if self.started else 0.0

    def command(self, control: PcsControl, *, arm: bool = True) -> None:
        """Take a controller's writing at the present time; ``arm`` starts the reversion timer anew.

        Raises PermissionError in LOCAL, ValueError when a setpoint is above the rated power.
        """
        if self.local:
            raise PermissionError("the PCS is under LOCAL control")
        for watts in (control.setpoint_watts, control.reversion_setpoint_watts):
            if not abs(watts) <= self.constants.rated_watts:
                raise ValueError(f"{watts:g} W is above the rated {self.constants.rated_watts:g} W")
        self.control = control
        if not control.enabled:
            self._revert_at_seconds = None
        elif arm:
            timed = control.reversion_seconds > 0.0
            self._revert_at_seconds = self.now_seconds + control.reversion_seconds if timed else None
        self._request()

    def heartbeat(self) -> None:
        """Take a sign of life of the controller; from the first one on, its absence disables the setpoint."""
        self._heartbeat_at_seconds = self.now_seconds

    def set_local(self, local: bool) -> None:
        """Hand control to (or back from) the operator at the device, who lets it idle."""
        self.local = local
        if local:
            self._disable()

    def start(self) -> None:
        """Let a stopped PCS follow its setpoint again."""
        self.started = True
        self._request()

    def stop(self) -> None:
        """Ramp to zero and stay there until started."""
        self.started = False
        self._request()

    def trip(self, alarm: Alarm) -> None:
        """Begin a fault: power is cut at once and stays off until it has ended and was reset."""
        self.active_faults |= alarm
        self.alarms |= alarm
        self._applied_watts = self.discharge_watts = 0.0
        self._queue.clear()

    def end_fault(self, alarm: Alarm) -> None:
        """End a fault; its alarm stays until it is reset."""
        self.active_faults &= ~alarm

    def reset_alarms(self) -> None:
        """Forget the alarms of faults that have ended."""
        self.alarms = self.active_faults
        self._request()

    def advance(self, now_seconds: float) -> None:
        """Move to ``now_seconds``, stopping at each event on the way; an earlier time changes nothing."""
        while self.now_seconds < now_seconds:
            self._fire()
            self._step(self._next_event(now_seconds))
        self._fire()

    def _disable(self) -> None:
        self.control = replace(self.control, enabled=False)
        self._revert_at_seconds = None
        self._request()

    def _request(self) -> None:
        """Queue the power wanted now; it takes effect after the dead time."""
        wanted = self.control.setpoint_watts if self.control.enabled and self.started else 0.0
        if self.alarms:
            wanted = 0.0
        last = self._queue[-1][1] if self._queue else self._applied_watts
        if wanted != last:
            self._queue.append((self.now_seconds + self.constants.dead_time_seconds, wanted))

    def _fire(self) -> None:
        """Do what is due now: reversion, missed heartbeat, a queued setpoint."""
        if self._revert_at_seconds is not None and self.now_seconds >= self._revert_at_seconds:
            self._revert_at_seconds = None
            if self.reversion_works:
                control = self.control
                self.control = replace(
                    control,
                    enabled=control.reversion_enabled,
                    setpoint_watts=control.reversion_setpoint_watts,
                )
                self._request()
        beat = self._heartbeat_at_seconds
        if beat is not None and self.now_seconds >= beat + self.constants.heartbeat_timeout_seconds:
            self._heartbeat_at_seconds = None
            self._disable()
        while self._queue and self.now_seconds >= self._queue[0][0]:
            self._applied_watts = self._queue.pop(0)[1]

    def _next_event(self, now_seconds: float) -> float:
        due = [now_seconds, self.now_seconds + LONGEST_STEP_SECONDS]
        if self._queue:
            due.append(self._queue[0][0])
        if self._revert_at_seconds is not None:
            due.append(self._revert_at_seconds)
        if self._heartbeat_at_seconds is not None:
            due.append(self._heartbeat_at_seconds + self.constants.heartbeat_timeout_seconds)
        ramp_left = abs(self._limited(self._applied_watts) - self._limited(self.discharge_watts))
        crossing = self.discharge_watts * self._applied_watts < 0.0
        if ramp_left > 0.0:
            # Losses change their formula at zero power: a ramp through it is two steps.
            part = abs(self.discharge_watts) if crossing else ramp_left
            # A ramp that follows a slowly rising limit would otherwise take ever shorter steps, without end.
            span = max(part / self._ramp_watts_per_second(), SHORTEST_RAMP_STEP_SECONDS)
            due.append(self.now_seconds + span)
        # A step too short for the clock's resolution would never end.
        return max(min(due), math.nextafter(self.now_seconds, math.inf))

    def _ramp_watts_per_second(self) -> float:
        fastest = 1.0 / self.constants.ramp_full_seconds
        asked = self.control.ramp_ratio_per_second
        return self.constants.rated_watts * (fastest if asked is None else min(fastest, asked))

    def derating_ratio(self) -> float:
        """Share of rated power that the battery's temperature allows: 1 when cool, 0 when hot."""
        constants = self.constants
        span = constants.derating_end_celsius - constants.derating_start_celsius
        return min(1.0, max(0.0, (constants.derating_end_celsius - self.temperature_celsius) / span))

    def limits_watts(self) -> tuple[float, float]:
        """Return the most it can charge and discharge now, both magnitudes."""
        constants = self.constants
        rated = constants.rated_watts * self.derating_ratio()
        room = (constants.max_soc_ratio - self.soc_ratio) / constants.taper_soc_ratio
        left = (self.soc_ratio - constants.min_soc_ratio) / constants.taper_soc_ratio
        return rated * min(1.0, max(0.0, room)), rated * min(1.0, max(0.0, left))

    def _limited(self, watts: float) -> float:
        charge, discharge = self.limits_watts()
        return min(discharge, max(-charge, watts))

    def _step(self, until_seconds: float) -> None:
        """Integrate one stretch in which power is a straight line of time."""
        duration = until_seconds - self.now_seconds
        begin = self._limited(self.discharge_watts)
        most = self._ramp_watts_per_second() * duration
        target = self._limited(self._applied_watts)
        end = begin + min(most, max(-most, target - begin))
        joules = self._bounded((begin + end) / 2.0 * duration)
        self.discharge_watts = end
        if joules >= 0.0:
            from_battery = joules / self.constants.discharge_efficiency_ratio
            self.injected_joules += joules
        else:
            from_battery = joules * self.constants.charge_efficiency_ratio
            self.absorbed_joules -= joules
        self.stored_joules -= from_battery
        loss = from_battery - joules
        self.loss_joules += loss
        self.auxiliary_joules += self.auxiliary_watts * duration
        settled = self.ambient_celsius + self.constants.thermal_resistance_celsius_per_watt * loss / duration
        decay = math.exp(-duration / self.constants.thermal_time_constant_seconds)
        self.temperature_celsius = settled + (self.temperature_celsius - settled) * decay
        self.now_seconds = until_seconds

    def _bounded(self, joules: float) -> float:
        """Keep a step's energy within what the battery can give or take."""
        constants = self.constants
        give = self.stored_joules - constants.min_soc_ratio * self.capacity_joules
        take = constants.max_soc_ratio * self.capacity_joules - self.stored_joules
        most = max(0.0, give) * constants.discharge_efficiency_ratio
        least = -max(0.0, take) / constants.charge_efficiency_ratio
        return min(most, max(least, joules))

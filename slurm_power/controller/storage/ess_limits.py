"""Shows every planner only what batteries may do by their C-rates, charge and temperature."""

from dataclasses import replace

from slurm_power.controller.governance.operators import Note
from slurm_power.model.reading import EssReading
from slurm_power.model.site import Ess
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.ess_limits import NO_STOPS, Direction, Stops, heat_stops, limited

_WORDS = {Direction.CHARGE: "charging", Direction.DISCHARGE: "discharging"}


class EssLimits:
    """Remembers which temperatures have stopped what, as a stop is left later than it is entered."""

    def __init__(self, *, note: Note) -> None:
        self._note = note
        self._stops: dict[str, Stops] = {}

    def onto(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with what the batteries may do now; the same where nothing bounds them."""
        found = {}
        for name, reading in snapshot.ess.items():
            ess = snapshot.site.ess[name]
            before = self._stops.get(name, NO_STOPS)
            stops = heat_stops(ess, reading, before)
            if stops != before:
                self._stops[name] = stops
                self._tell(ess, reading, stops, before)
            seen = limited(ess, reading, stops)
            if seen != reading:
                found[name] = seen
        return replace(snapshot, ess={**snapshot.ess, **found}) if found else snapshot

    def _tell(self, ess: Ess, reading: EssReading, stops: Stops, before: Stops) -> None:
        celsius = reading.temperature_celsius
        for direction in sorted(stops ^ before):
            goes_on = direction in before
            what = "may go on" if goes_on else "stops"
            self._note(
                "controller",
                "battery temperature",
                f"ess:{ess.name}",
                f"{celsius:g} \N{DEGREE SIGN}C: {_WORDS[direction]} {what}",
                details={
                    "temperature_celsius": celsius,
                    "direction": direction.value,
                    "stopped": not goes_on,
                },
            )

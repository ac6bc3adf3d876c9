"""What each running job's energy cost and emitted by the rates of its time, and when it was used.

Rates stand for a quarter of an hour or for months; so a job's energy is looked at when they change and when
it ends, not each second.
"""

from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# A controller that was away no longer than this goes on with the rates that it left.
_LONGEST_GAP_SECONDS = 900.0
_FIRST_STEP_SECONDS = 2.0
_MOST_POINTS = 128


class Rates(NamedTuple):
    """Price and carbon per kWh; None: nobody says."""

    price_per_kwh: float | None = None
    carbon_g_per_kwh: float | None = None


class RatedEnergy(NamedTuple):
    """Joules of one job's GPUs: looked at so far; with a known price, and times it; so for carbon."""

    seen_joules: float = 0.0
    priced_joules: float = 0.0
    priced_rate_joules: float = 0.0
    carbon_joules: float = 0.0
    carbon_rate_joules: float = 0.0

    def up_to(self, joules: float, rates: Rates | None) -> "RatedEnergy":
        """With all up to ``joules`` at these rates; None: nobody knows at which."""
        more = max(0.0, joules - self.seen_joules)
        price, carbon = rates or Rates()
        return RatedEnergy(
            max(joules, self.seen_joules),
            self.priced_joules + (more if price is not None else 0.0),
            self.priced_rate_joules + more * (price or 0.0),
            self.carbon_joules + (more if carbon is not None else 0.0),
            self.carbon_rate_joules + more * (carbon or 0.0),
        )


class JobRates:
    """The rated energy of all running jobs. Times are Unix seconds."""

    def __init__(self, stored: object = None) -> None:
        """Go on with the ``document`` of an earlier controller; what is none is as nothing."""
        self._jobs: dict[str, RatedEnergy] = {}
        self._rates: Rates | None = None
        self._at_seconds = 0.0
        try:
            self._load(stored)
        except (AttributeError, KeyError, TypeError, ValueError):
            self._jobs, self._rates, self._at_seconds = {}, None, 0.0

    def _load(self, stored: Any) -> None:
        if isinstance(stored, dict):
            self._jobs = {str(job): RatedEnergy(*map(float, row)) for job, row in stored["jobs"].items()}
            price, carbon = stored["rates"]
            self._rates = Rates(price, carbon)
            self._at_seconds = float(stored["at_seconds"])

    def document(self) -> dict[str, Any]:
        """All as plain values, for an own successor."""
        return {"jobs": self._jobs, "rates": self._rates or Rates(), "at_seconds": self._at_seconds}

    def look(self, energies: Mapping[str, float], rates: Rates, at_seconds: float) -> None:
        """Take the rates of now; where they are new, what jobs used until now had the old ones."""
        away = at_seconds - self._at_seconds > _LONGEST_GAP_SECONDS
        if away or rates != self._rates:
            before = None if away else self._rates
            for job_id, joules in energies.items():
                self._jobs[job_id] = self._jobs.get(job_id, RatedEnergy()).up_to(joules, before)
            self._rates = rates
        self._at_seconds = at_seconds

    def taken(self, job_id: str, joules: float | None) -> dict[str, float]:
        """A job's figures at its end, as its record has them; it is forgotten."""
        rated = self._jobs.pop(job_id, RatedEnergy())
        return {} if joules is None else dict(_named(rated.up_to(joules, self._rates)))

    def keep(self, jobs: Collection[str]) -> None:
        """Forget all others."""
        for job_id in self._jobs.keys() - set(jobs):
            del self._jobs[job_id]


def _named(rated: RatedEnergy) -> dict[str, float]:
    return {name: value for name, value in rated._asdict().items() if name != "seen_joules"}


@dataclass(slots=True)
class _Line:
    """Moments and energies by turns, at least ``step_seconds`` apart."""

    step_seconds: float = _FIRST_STEP_SECONDS
    values: "array[float]" = field(default_factory=lambda: array("d"))


class EnergyPoints:
    """How each job's energy rose: up to 128 points a job, further apart the longer it runs."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    def add(self, energies: Mapping[str, float], at_seconds: float) -> None:
        """Note where all jobs are now."""
        for job_id, joules in energies.items():
            line = self._lines.get(job_id)
            if line is None:
                line = self._lines[job_id] = _Line()
            values = line.values
            if values and at_seconds - values[-2] < line.step_seconds:
                continue
            values.append(at_seconds)
            values.append(joules)
            if len(values) > 2 * _MOST_POINTS:
                line.values = array("d", (v for i in range(0, len(values), 4) for v in values[i : i + 2]))
                line.step_seconds *= 2.0

    def of(self, job_id: str) -> list[tuple[float, float]]:
        """A job's points (Unix seconds, joules), in order."""
        values = self._lines[job_id].values if job_id in self._lines else ()
        return list(zip(values[::2], values[1::2], strict=True))

    def keep(self, jobs: Collection[str]) -> None:
        """Forget all others."""
        for job_id in self._lines.keys() - set(jobs):
            del self._lines[job_id]

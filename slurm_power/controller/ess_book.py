"""What is known of the running billing period: the levels held, the peaks paid for; kept over a restart."""

import math
from dataclasses import dataclass, field
from typing import Any, TypeGuard

# Ratchets of tariffs look back at the year before.
_KEPT_PERIODS = 24


@dataclass(slots=True, kw_only=True)
class LevelBook:
    """One billing period, with the peaks of those before it; everything by the name of a demand charge.

    ``levels_watts`` only ever rise within a period. ``natural_most_watts`` is the most that the site drew by
    itself in it.
    """

    period: str = ""
    levels_watts: dict[str, float] = field(default_factory=dict)
    peaks_watts: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    earlier_watts: dict[str, list[float]] = field(default_factory=dict)
    natural_most_watts: float = 0.0

    def begin(self, period: str) -> None:
        """Close the period and begin another one with no level; peaks go to those of earlier periods."""
        for name, watts in self.peaks_watts.items():
            self.earlier_watts[name] = [*self.earlier_watts.get(name, ()), watts][-_KEPT_PERIODS:]
        self.period = period
        self.levels_watts, self.peaks_watts, self.reasons = {}, {}, {}
        self.natural_most_watts = 0.0

    def drew(self, watts: float) -> None:
        """The site drew so much by itself over a step."""
        self.natural_most_watts = max(self.natural_most_watts, watts)

    def raised(self, name: str, watts: float, reason: str) -> bool:
        """Raise a level to ``watts``, or start it there; False if it is as high already."""
        if watts <= self.levels_watts.get(name, -math.inf):
            return False
        self.levels_watts[name] = watts
        self.reasons[name] = reason
        return True

    def to_json(self) -> dict[str, Any]:
        """Give what ``from_json`` takes."""
        return {
            "period": self.period,
            "levels_watts": dict(self.levels_watts),
            "peaks_watts": dict(self.peaks_watts),
            "reasons": dict(self.reasons),
            "earlier_watts": {name: list(peaks) for name, peaks in self.earlier_watts.items()},
            "natural_most_watts": self.natural_most_watts,
        }

    @classmethod
    def from_json(cls, value: object) -> "LevelBook":
        """Go on with what was kept; what is no book is an empty one, what is no number is left out."""
        if not isinstance(value, dict) or not isinstance(value.get("period"), str):
            return cls()
        earlier = value.get("earlier_watts")
        reasons = value.get("reasons")
        natural = value.get("natural_most_watts")
        return cls(
            period=value["period"],
            levels_watts=_numbers(value.get("levels_watts")),
            peaks_watts=_numbers(value.get("peaks_watts")),
            reasons={str(name): str(text) for name, text in reasons.items()}
            if isinstance(reasons, dict)
            else {},
            earlier_watts={
                str(name): [float(watts) for watts in peaks if _is_number(watts)]
                for name, peaks in earlier.items()
                if isinstance(peaks, list)
            }
            if isinstance(earlier, dict)
            else {},
            natural_most_watts=float(natural) if _is_number(natural) else 0.0,
        )


def _numbers(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        return {}
    return {str(name): float(watts) for name, watts in value.items() if _is_number(watts)}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

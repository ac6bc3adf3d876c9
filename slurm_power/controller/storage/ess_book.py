"""What is known of the running billing period: the levels held, the peaks paid for; kept over a restart."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from slurm_power.plan.billing_period import BillingPeriod

# Ratchets of tariffs look back at the year before.
_KEPT_PERIODS = 24


@dataclass(slots=True, kw_only=True)
class LevelBook:
    """One billing period, with the peaks of those before it; everything by the name of a demand charge.

    ``earlier_watts`` has them by period as well. ``levels_watts`` only ever rise within a period.
    ``natural_most_watts`` is the most that the site drew by itself in it.
    """

    period: str = ""
    levels_watts: dict[str, float] = field(default_factory=dict)
    peaks_watts: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    earlier_watts: dict[str, dict[str, float]] = field(default_factory=dict)
    natural_most_watts: float = 0.0

    def begin(self, period: str) -> None:
        """Close the period and begin another one with no level; peaks go to those of earlier periods."""
        for name, watts in self.peaks_watts.items():
            peaks = {**self.earlier_watts.get(name, {}), self.period: watts}
            self.earlier_watts[name] = dict(sorted(peaks.items())[-_KEPT_PERIODS:])
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
            "earlier_watts": {name: dict(peaks) for name, peaks in self.earlier_watts.items()},
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
                str(name): _by_period(peaks, value["period"])
                for name, peaks in earlier.items()
                if isinstance(peaks, list | dict)
            }
            if isinstance(earlier, dict)
            else {},
            natural_most_watts=float(natural) if _is_number(natural) else 0.0,
        )


def earlier_peaks(
    book: LevelBook, billed_kw: Mapping[str, Mapping[str, float]], period: str
) -> dict[str, list[float]]:
    """Peaks of the periods before ``period`` in watts by charge, one for each, the newest last.

    Of what was measured here and what the site says was billed the higher one counts; 0 where neither is
    known.
    """
    labels = labels_before(period, _KEPT_PERIODS)
    found = {}
    for name in book.earlier_watts.keys() | billed_kw.keys():
        measured, billed = book.earlier_watts.get(name, {}), billed_kw.get(name, {})
        found[name] = [max(measured.get(label, 0.0), 1000.0 * billed.get(label, 0.0)) for label in labels]
    return found


def unknown_charges(billed_kw: Mapping[str, Mapping[str, float]], period: BillingPeriod) -> str:
    """What is wrong where the site names charges that its tariff does not have; empty where it is not."""
    names = sorted({rate.name for rate in period.rules.demand})
    unknown = sorted(billed_kw.keys() - set(names))
    if not unknown:
        return ""
    return (
        f"supply.billed_peaks_kw: the tariff has no demand charge named {', '.join(unknown)}; it has"
        f" {', '.join(names) or 'none'}"
    )


def labels_before(period: str, count: int) -> list[str]:
    """The names of so many periods before one, the oldest first; empty where it is none."""
    year, dash, month = period.partition("-")
    if not dash or not year.isdecimal() or not month.isdecimal():
        return []
    number = int(year) * 12 + int(month) - 1
    return [f"{at // 12:04}-{at % 12 + 1:02}" for at in range(number - count, number)]


def _by_period(peaks: list[Any] | dict[Any, Any], period: str) -> dict[str, float]:
    """Peaks as they are kept; a list, as it once was, ends with the period before."""
    if isinstance(peaks, dict):
        return _numbers(peaks)
    return _numbers(dict(zip(labels_before(period, len(peaks)), peaks, strict=False)))


def _numbers(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        return {}
    return {str(name): float(watts) for name, watts in value.items() if _is_number(watts)}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

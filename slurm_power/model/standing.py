"""How a site stands to its limits, in the words that every picture of it begins with."""

from dataclasses import dataclass
from enum import StrEnum

from slurm_power.model.units import kilowatts_text


class Danger(StrEnum):
    """Why a site is at risk; the worst first."""

    ABOVE = "above"
    """A circuit draws more than its limit, for longer than one reading."""
    UNMEASURED = "unmeasured"
    """A circuit's meter says nothing that may be used."""
    FORESEEN = "foreseen"
    """A limit will be exceeded that no lever can hold, or that none will, since nothing is controlled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """One circuit at risk. ``watts``: above its limit, now or ``in_seconds``; None where nobody measures."""

    danger: Danger
    circuit: str
    watts: float | None
    in_seconds: float = 0.0
    reason: str = ""

    @property
    def text(self) -> str:
        """The risk as a sentence without its end: ``grid is 1.2 kW above its limit``."""
        match self.danger:
            case Danger.UNMEASURED:
                return f"nobody measures {self.circuit}"
            case Danger.ABOVE:
                return f"{self.circuit} is {kilowatts_text(self.watts or 0.0)} above its limit"
            case Danger.FORESEEN:
                above = kilowatts_text(self.watts or 0.0)
                return f"{self.circuit} will be {above} above its limit in {_lead_text(self.in_seconds)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A site against its limits at one moment.

    ``circuit`` is the grid connection, ``margin_watts`` its limit less its draw: negative above it, None
    where nobody measures. ``risks``: the worst first; without one the site is safe. ``tightest`` is the
    circuit with the smallest share of its limit left, ``tightest_watts`` what is left.
    """

    circuit: str
    watts: float | None
    limit_watts: float
    margin_watts: float | None
    risks: tuple[Risk, ...] = ()
    tightest: str | None = None
    tightest_watts: float | None = None

    @property
    def safe(self) -> bool:
        """Whether nothing is at risk."""
        return not self.risks

    @property
    def word(self) -> str:
        """``SAFE`` or ``AT RISK``."""
        return "SAFE" if self.safe else "AT RISK"

    @property
    def headline(self) -> str:
        """The word and by how much: ``SAFE: grid is 16.3 kW below its limit of 32.0 kW``."""
        if self.risks:
            return f"{self.word}: {self.risks[0].text}"
        if self.margin_watts is None:
            return f"{self.word}: nothing measures {self.circuit}"
        limit = kilowatts_text(self.limit_watts)
        if self.margin_watts < 0.0:  # one reading above it: the levers have their second
            return f"{self.word}: {self.circuit} has just reached its limit of {limit}"
        return (
            f"{self.word}: {self.circuit} is {kilowatts_text(self.margin_watts)} below its limit of {limit}"
        )


def _lead_text(seconds: float) -> str:
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    if seconds < 7200.0:
        return f"{seconds / 60.0:.0f} min"
    return f"{seconds / 3600.0:.1f} h"

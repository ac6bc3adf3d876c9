"""The ``[signals.NAME]`` tables of kinds http_prices, http_carbon and http_limits: JSON pages."""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from slurm_power.config.address import address_problems
from slurm_power.model.grid_event import Commitment

_TEMPLATE = re.compile(r"\{([^{}]*)\}")
_TEMPLATES = frozenset({"date", "year", "month", "day", "from", "to"})
_DAILY = frozenset({"date", "year", "month", "day"})
_EXAMPLE = "https://prices.example.org/day?date={date}"
# A pound of 453.59237 g, by definition.
_PER_KWH = {
    "per_kWh": 1.0,
    "per_MWh": 1e-3,
    "g_per_kWh": 1.0,
    "kg_per_MWh": 1.0,
    "kg_per_kWh": 1e3,
    "lb_per_MWh": 0.45359237,
}
_WATTS = {"W": 1.0, "kW": 1e3, "MW": 1e6}


class EventCommitment(StrEnum):
    """How firmly the site follows the events of a signal."""

    MUST = Commitment.MUST.value
    BEST_EFFORT = Commitment.BEST_EFFORT.value


class HttpKind(StrEnum):
    """What a page tells."""

    PRICES = "http_prices"
    CARBON = "http_carbon"
    LIMITS = "http_limits"


class HttpPriceUnit(StrEnum):
    """What the numbers of prices count: money per so much energy."""

    PER_KWH = "per_kWh"
    PER_MWH = "per_MWh"


class HttpCarbonUnit(StrEnum):
    """What the numbers of carbon intensities count: CO2 per so much energy."""

    G_PER_KWH = "g_per_kWh"
    KG_PER_MWH = "kg_per_MWh"
    KG_PER_KWH = "kg_per_kWh"
    LB_PER_MWH = "lb_per_MWh"


class HttpLimitUnit(StrEnum):
    """What the numbers of import limits count."""

    WATTS = "W"
    KILOWATTS = "kW"
    MEGAWATTS = "MW"


class TimeForm(StrEnum):
    """How a page writes moments."""

    ISO = "iso"
    EPOCH_SECONDS = "epoch_seconds"
    EPOCH_MILLISECONDS = "epoch_milliseconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFeed:
    """What all kinds have in common. Plausible values are in the page's own unit."""

    name: str
    url: str
    rows: str = ""
    time: str
    end: str = ""
    value: str
    published: str = ""
    time_form: TimeForm = TimeForm.ISO
    zone: str = "UTC"
    step_minutes: float | None = None
    days: int = 2
    headers_file: Path | None = None
    ca_file: Path | None = None
    poll_seconds: float = 900.0
    timeout_seconds: float = 10.0
    most_bytes: int = 2_000_000

    @property
    def daily(self) -> bool:
        """Whether each day has an address of its own."""
        return any(word in _DAILY for word in _TEMPLATE.findall(self.url))

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key; no file is looked at."""
        plain = _TEMPLATE.sub("0", self.url)
        found = address_problems(
            "url", plain, example=_EXAMPLE, danger="change prices and limits", query=True
        )
        host = self.url.partition("://")[2].partition("/")[0].partition("?")[0]
        if _TEMPLATE.search(host):
            found.append("url: the host must stand as it is, without {}")
        unknown = sorted({word for word in _TEMPLATE.findall(self.url) if word not in _TEMPLATES})
        if unknown:
            known = ", ".join(f"{{{word}}}" for word in sorted(_TEMPLATES))
            found.append(f"url: {{{unknown[0]}}} is unknown; known here: {known}")
        for key in ("time", "value"):
            if not getattr(self, key):
                found.append(f"{key}: is empty; name the key of a row")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            found.append(f"zone: {self.zone!r} is no zone; write one such as Europe/Berlin")
        for key, low, high in (
            ("poll_seconds", 1.0, 86_400.0),
            ("timeout_seconds", 1.0, 60.0),
            ("step_minutes", 1.0, 1440.0),
            ("days", 1, 8),
            ("most_bytes", 1_000, 50_000_000),
        ):
            value = getattr(self, key)
            if value is not None and not low <= value <= high:
                found.append(f"{key}: {value:g} is not between {low:g} and {high:g}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpPricesSignal(HttpFeed):
    """Prices of energy, negative ones too. The currency is unknown: the site says what is plausible."""

    kind: HttpKind = HttpKind.PRICES
    unit: HttpPriceUnit
    least_value: float
    most_value: float

    @property
    def factor(self) -> float:
        """From the page's unit to money per kWh."""
        return _PER_KWH[self.unit.value]

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key; no file is looked at."""
        return HttpFeed.problems(self) + _bound_problems(self.least_value, self.most_value, -1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCarbonSignal(HttpFeed):
    """Carbon intensities, never negative."""

    kind: HttpKind = HttpKind.CARBON
    unit: HttpCarbonUnit
    least_value: float = 0.0
    most_value: float = 2000.0

    @property
    def factor(self) -> float:
        """From the page's unit to grams per kWh."""
        return _PER_KWH[self.unit.value]

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key; no file is looked at."""
        return HttpFeed.problems(self) + _bound_problems(self.least_value, self.most_value, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimitsSignal(HttpFeed):
    """Import limits of a circuit, each a grid event for its time; a row without a value is no limit."""

    kind: HttpKind = HttpKind.LIMITS
    unit: HttpLimitUnit
    least_value: float = 0.0
    most_value: float = 1e9
    poll_seconds: float = 60.0
    circuit: str = ""
    commitment: EventCommitment = EventCommitment.MUST
    ramp_seconds: float | None = None
    longest_event_hours: float = 168.0

    @property
    def factor(self) -> float:
        """From the page's unit to watts."""
        return _WATTS[self.unit.value]

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key; no file is looked at."""
        found = HttpFeed.problems(self) + _bound_problems(self.least_value, self.most_value, 0.0)
        if not self.end and self.step_minutes is None:
            found.append(
                "end: missing; name the key of a row's end, or say in step_minutes how long each counts"
            )
        for key, low, high in (("ramp_seconds", 0.0, 3600.0), ("longest_event_hours", 0.01, 8784.0)):
            value = getattr(self, key)
            if value is not None and not low <= value <= high:
                found.append(f"{key}: {value:g} is not between {low:g} and {high:g}")
        return found


HttpSignal = HttpPricesSignal | HttpCarbonSignal | HttpLimitsSignal


def _bound_problems(least: float, most: float, low: float) -> list[str]:
    if low <= least < most <= 1e9:
        return []
    return [f"least_value and most_value: {least:g} and {most:g} are not {low:g} <= least < most <= 1e9"]

"""The ``[store]`` table: how long the series are kept, how finely, and what they may take of the disk."""

import math
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

# Room for some minutes of a mid-sized site, and for the write-ahead log beside them.
LEAST_BUDGET_BYTES = 64_000_000
_LONGEST_DAYS = 36_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """How long powerctld keeps series: every tick for days, then 1-min and 15-min values."""

    raw_days: float = 7.0
    minute_days: float = 180.0
    quarter_hour_days: float = 3650.0
    disk_budget_bytes: int = 20_000_000_000
    resolution_watts: float = 0.1
    queue_ticks: int = 120
    series_url: str | None = None
    ledger_url: str | None = None

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key."""
        found = []
        for key in ("raw_days", "minute_days", "quarter_hour_days"):
            days = getattr(self, key)
            if not (math.isfinite(days) and 0.0 < days <= _LONGEST_DAYS):
                found.append(f"{key}: {days:g} is not between 0 and {_LONGEST_DAYS:g} days")
        if not self.raw_days <= self.minute_days <= self.quarter_hour_days:
            found.append(
                f"minute_days: {self.minute_days:g} is not between raw_days, {self.raw_days:g},"
                f" and quarter_hour_days, {self.quarter_hour_days:g}"
            )
        if self.disk_budget_bytes < LEAST_BUDGET_BYTES:
            found.append(
                f"disk_budget_bytes: {self.disk_budget_bytes} is below {LEAST_BUDGET_BYTES};"
                " it is in bytes, is this in MB or GB?"
            )
        if not 0.001 <= self.resolution_watts <= 100.0:
            found.append(f"resolution_watts: {self.resolution_watts:g} is not between 0.001 and 100")
        if not 1 <= self.queue_ticks <= 3600:
            found.append(f"queue_ticks: {self.queue_ticks} is not between 1 and 3600")
        if self.series_url is not None and (problem := check_url(self.series_url)):
            found.append(f"series_url: {problem}")
        if self.ledger_url is not None and (problem := check_ledger_url(self.ledger_url)):
            found.append(f"ledger_url: {problem}")
        return found


def check_ledger_url(url: str) -> str:
    """What is wrong with the address of a database; "" for nothing."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        return (
            f"{url!r} is no address; write postgresql://HOST/DATABASE, or postgresql:///DATABASE?host=FOLDER"
        )
    # libpq reads names behind ? with their percent signs resolved.
    if parts.password is not None or not {"password", "sslpassword"}.isdisjoint(parse_qs(parts.query)):
        return (
            "holds a password; put that into a file and write ?passfile=FILE, since others may read site.toml"
        )
    return ""


def check_url(url: str) -> str:
    """What is wrong with the address of an engine; "" for nothing."""
    parts = urlsplit(url)
    try:
        port_good = parts.port is None or parts.port > 0
    except ValueError:
        port_good = False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_good:
        return f"{url!r} is no address; write http://HOST:PORT"
    if parts.username is not None or parts.password is not None:
        return "holds a password, which would not be sent; write http://HOST:PORT"
    return "" if not parts.query and not parts.fragment else f"{url!r}: leave out what follows ? or #"

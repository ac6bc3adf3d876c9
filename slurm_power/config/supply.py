"""The ``[supply]`` table: the files that say what the grid connection allows and costs over time."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from slurm_power.config.problems import read_record
from slurm_power.model.money import is_currency

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
FEEDS = "feeds"
"""Below powerctld's state directory: where powerbridge puts what signals say of prices and carbon."""
# What no site draws: a peak above it was written in W.
_MOST_KW = 5e6


class PriceUnit(StrEnum):
    """What the numbers of a price file count."""

    PER_KWH = "per_kWh"
    PER_MWH = "per_MWh"


class CarbonUnit(StrEnum):
    """What the numbers of a carbon file count."""

    G_PER_KWH = "g_per_kWh"
    KG_PER_KWH = "kg_per_kWh"


class LimitUnit(StrEnum):
    """What the numbers of a limit file count."""

    WATTS = "W"
    KILOWATTS = "kW"
    MEGAWATTS = "MW"


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplyConfig:
    """Files with price, carbon intensity, import limit and tariff. Relative paths start at site.toml.

    ``currency`` is the ISO 4217 code of what prices, tariff and the policy's weights count.
    ``billed_peaks_kw``: what was billed already, by name of the tariff's demand charge and month (2026-01).
    """

    price_file: Path | None = None
    price_unit: PriceUnit | None = None
    price_column: str | None = None
    realtime_price_file: Path | None = None
    realtime_price_unit: PriceUnit | None = None
    realtime_price_column: str | None = None
    carbon_file: Path | None = None
    carbon_unit: CarbonUnit | None = None
    carbon_column: str | None = None
    limit_file: Path | None = None
    limit_unit: LimitUnit | None = None
    limit_column: str | None = None
    tariff_file: Path | None = None
    billed_peaks_kw: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    currency: str | None = None

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key; the files themselves are not looked at."""
        found = []
        for kind, units in (
            ("price", PriceUnit),
            ("realtime_price", PriceUnit),
            ("carbon", CarbonUnit),
            ("limit", LimitUnit),
        ):
            file, unit = getattr(self, f"{kind}_file"), getattr(self, f"{kind}_unit")
            if file is not None and unit is None:
                found.append(f"{kind}_unit: missing; say what {kind}_file counts: {' or '.join(units)}")
            if file is None:
                more = [key for key in (f"{kind}_unit", f"{kind}_column") if getattr(self, key) is not None]
                found += [f"{key}: there is no {kind}_file" for key in more]
        if self.currency is not None and not is_currency(self.currency):
            found.append(
                f"currency: {self.currency!r} is no ISO 4217 code; write three capitals, such as EUR"
            )
        if self.tariff_file is not None and self.tariff_file.suffix not in (".toml", ".json"):
            found.append(f"tariff_file: {self.tariff_file.name} is neither .toml nor .json")
        if self.billed_peaks_kw and self.tariff_file is None:
            found.append("billed_peaks_kw: there is no tariff_file, whose demand charges they are of")
        return found

    def below(self, folder: Path) -> "SupplyConfig":
        """Make relative paths start at ``folder``."""
        keys = ("price_file", "realtime_price_file", "carbon_file", "limit_file", "tariff_file")
        given = {key: getattr(self, key) for key in keys}
        return replace(self, **{key: folder / path for key, path in given.items() if path is not None})


def read_supply(table: dict[str, Any], problems: list[str]) -> SupplyConfig | None:
    """Read the table; None, with each problem added, where it cannot be used."""
    rest = {key: value for key, value in table.items() if key != "billed_peaks_kw"}
    before = len(problems)
    billed = _billed_peaks(table.get("billed_peaks_kw", {}), problems)
    supply = read_record(SupplyConfig, rest, "supply.", problems, billed_peaks_kw=billed)
    if supply is not None:
        problems += [f"supply.{problem}" for problem in supply.problems()]
    return supply if len(problems) == before else None


def _billed_peaks(value: object, problems: list[str]) -> dict[str, dict[str, float]]:
    """Peaks by charge and month; adds each problem with its path."""
    path = "supply.billed_peaks_kw"
    example = f'write [{path}."NAME OF THE DEMAND CHARGE"] with lines such as 2026-01 = 84.5'
    if not isinstance(value, dict):
        problems.append(f"{path}: must be a group of tables, {example}")
        return {}
    found: dict[str, dict[str, float]] = {}
    for name, months in value.items():
        if not isinstance(months, dict):
            problems.append(f"{path}.{name}: must be a table, {example}")
            continue
        for month, peak in months.items():
            if _MONTH.fullmatch(month) is None:
                problems.append(f"{path}.{name}.{month}: is no month, write 2026-01")
            if type(peak) not in (int, float) or not 0.0 <= peak <= _MOST_KW:
                problems.append(f"{path}.{name}.{month}: {peak!r} is no number of kW from 0 to {_MOST_KW:g}")
            else:
                found.setdefault(name, {})[month] = float(peak)
    return found


def zone_named(name: str) -> tzinfo | None:
    """The time zone of that name, such as Europe/Berlin; None if the machine knows none."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None

"""The ``[supply]`` table: the files that say what the grid connection allows and costs over time."""

from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from enum import StrEnum
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


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
    """Files with price, carbon intensity, import limit and tariff. Relative paths start at site.toml."""

    price_file: Path | None = None
    price_unit: PriceUnit | None = None
    price_column: str | None = None
    carbon_file: Path | None = None
    carbon_unit: CarbonUnit | None = None
    carbon_column: str | None = None
    limit_file: Path | None = None
    limit_unit: LimitUnit | None = None
    limit_column: str | None = None
    tariff_file: Path | None = None

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key; the files themselves are not looked at."""
        found = []
        for kind, units in (("price", PriceUnit), ("carbon", CarbonUnit), ("limit", LimitUnit)):
            file, unit = getattr(self, f"{kind}_file"), getattr(self, f"{kind}_unit")
            if file is not None and unit is None:
                found.append(f"{kind}_unit: missing; say what {kind}_file counts: {' or '.join(units)}")
            if file is None:
                more = [key for key in (f"{kind}_unit", f"{kind}_column") if getattr(self, key) is not None]
                found += [f"{key}: there is no {kind}_file" for key in more]
        if self.tariff_file is not None and self.tariff_file.suffix not in (".toml", ".json"):
            found.append(f"tariff_file: {self.tariff_file.name} is neither .toml nor .json")
        return found

    def below(self, folder: Path) -> "SupplyConfig":
        """Make relative paths start at ``folder``."""
        keys = ("price_file", "carbon_file", "limit_file", "tariff_file")
        given = {key: getattr(self, key) for key in keys}
        return replace(self, **{key: folder / path for key, path in given.items() if path is not None})


def zone_named(name: str) -> tzinfo | None:
    """The time zone of that name, such as Europe/Berlin; None if the machine knows none."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None

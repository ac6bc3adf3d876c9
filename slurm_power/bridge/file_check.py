"""One file of ``[supply]`` tried: can it be read, and does it say something of now?"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from slurm_power import clock
from slurm_power.bridge.signal_found import SignalFound, Standing
from slurm_power.config import SiteConfig
from slurm_power.config.supply import SupplyConfig
from slurm_power.signals.supply_files import FILE_KINDS, SupplyFiles


def try_file(config: SiteConfig, key: str, feeds: Path) -> SignalFound:
    """Read one file as powerctld does, with its unit and column. ``feeds``: where powerbridge writes."""
    file: Path = getattr(config.supply, key)
    name, kind = f"supply.{key}", FILE_KINDS[key]
    ours = file.parent == feeds
    if not file.exists():
        fix = (
            "powerbridge writes it: systemctl status powerbridge" if ours else f"put it there, or mend {name}"
        )
        return SignalFound(
            name=name, kind=kind, standing=Standing.UNREACHABLE, what=f"{file}: no such file", fix=fix
        )
    files = SupplyFiles(_alone(config.supply, key), config.zone)
    files.read()
    ((_, _, problems, standing),) = files.standings(clock.now().timestamp())
    found = SignalFound(
        name=name,
        kind=kind,
        standing=Standing.OK if standing.known else Standing.STALE,
        what=standing.what,
        newest_age_seconds=standing.age_seconds,
    )
    if problems:
        fix = "mend the file; until then powerctld keeps to what it has read before"
        return replace(found, standing=Standing.WRONG, what="; ".join(problems), fix=fix)
    if standing.known:
        return found
    fix = "systemctl status powerbridge; slurm-power sources" if ours else "see why nobody writes it any more"
    return replace(found, fix=fix)


def _alone(supply: SupplyConfig, key: str) -> SupplyConfig:
    if key == "tariff_file":
        return SupplyConfig(tariff_file=supply.tariff_file)
    stem = key.removesuffix("_file")
    given: dict[str, Any] = {
        f"{stem}_{part}": getattr(supply, f"{stem}_{part}") for part in ("file", "unit", "column")
    }
    return SupplyConfig(**given)

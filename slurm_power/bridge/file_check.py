"""One file of ``[supply]`` tried: can it be read, and does it say something of now?"""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurm_power import clock
from slurm_power.bridge.http_doubts import moment_text
from slurm_power.bridge.signal_found import SignalFound, Standing
from slurm_power.config import SiteConfig
from slurm_power.config.supply import SupplyConfig
from slurm_power.forecast.supply import HeldValues
from slurm_power.signals.supply_files import SupplyFiles

FILE_KINDS = {
    "price_file": "prices",
    "realtime_price_file": "prices in real time",
    "carbon_file": "carbon intensity",
    "limit_file": "import limit",
    "tariff_file": "tariff",
}


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
    supply = files.read()
    if files.problems:
        return SignalFound(
            name=name,
            kind=kind,
            standing=Standing.WRONG,
            what="; ".join(files.problems),
            fix="mend the file; until then powerctld keeps to what it has read before",
        )
    if supply.tariff is not None:
        return SignalFound(
            name=name, kind=kind, standing=Standing.OK, what=f"{supply.tariff.name}: can be read"
        )
    held = next(
        each
        for each in (supply.limit_watts, supply.carbon_g_per_kwh, supply.price_per_kwh)
        if each is not None
    )
    fix = "systemctl status powerbridge; slurm-power sources" if ours else "see why nobody writes it any more"
    return _held_found(name, kind, held, fix)


def _alone(supply: SupplyConfig, key: str) -> SupplyConfig:
    if key == "tariff_file":
        return SupplyConfig(tariff_file=supply.tariff_file)
    stem = key.removesuffix("_file")
    given: dict[str, Any] = {
        f"{stem}_{part}": getattr(supply, f"{stem}_{part}") for part in ("file", "unit", "column")
    }
    return SupplyConfig(**given)


def _held_found(name: str, kind: str, held: HeldValues, fix: str) -> SignalFound:
    now_seconds = clock.now().timestamp()
    steps = list(zip(held.seconds, held.values, strict=True))
    past = [at for at, value in steps if value is not None and at <= now_seconds]
    if held.value_at(now_seconds) is None:
        gone = [at for at, value in steps if value is None and past and past[-1] < at <= now_seconds]
        since = gone[0] if gone else held.end_seconds
        what = f"nothing is known since {_text(since)}" if past else f"it begins at {_text(steps[0][0])}"
        standing = Standing.STALE
    else:
        ends = [at for at, value in steps if value is None and at > now_seconds] + [held.end_seconds]
        what = "known until a row says otherwise" if math.isinf(ends[0]) else f"known until {_text(ends[0])}"
        standing, fix = Standing.OK, ""
    return SignalFound(
        name=name,
        kind=kind,
        standing=standing,
        what=what,
        fix=fix,
        newest_age_seconds=now_seconds - past[-1] if past else None,
    )


def _text(seconds: float) -> str:
    return moment_text(datetime.fromtimestamp(seconds, UTC))

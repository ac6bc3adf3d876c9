"""A desk of the battery's level with a made-up past, a clock that is turned by hand, and quick paths."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from slurm_power.config.supply import SupplyConfig
from slurm_power.controller.storage import ess_learned
from slurm_power.controller.storage.ess_desk import EssDesk
from slurm_power.controller.storage.ess_learned import nothing_stored
from slurm_power.model.outlook import EssOutlook
from slurm_power.model.site import Ess
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.load_paths import LEAST_DAYS, LoadPaths
from slurm_power.plan.peak_level import Values
from slurm_power.plan.policy import Policy
from tests.controller.test_fairness_desk import Memory
from tests.plan.situations import AT, ess_reading, site, situation

DEMAND = (
    '[[season]]\n[[season.period]]\nprice_per_kwh = 0.1\n[[demand]]\nname = "peak"\nprice_per_kw = 12.0\n'
)
NO_DEMAND = "[[season]]\n[[season.period]]\nprice_per_kwh = 0.1\n"
ON_PEAK = DEMAND + 'from = "12:00"\nto = "18:00"\n'
QUARTER = timedelta(minutes=15)


def daily_watts(at_seconds: Values) -> Values:
    """15 kW, and 20 kW from noon to one o'clock UTC."""
    hour = at_seconds % 86_400.0 / 3600.0
    return np.where((hour >= 12.0) & (hour < 13.0), 20_000.0, 15_000.0)


def history(days: float, imported_watts: float | None = None) -> Callable[[str, float, float], Values]:
    """A store of so many days before it is first asked."""
    begins: list[float] = []

    def read(name: str, since: float, until: float) -> Values:
        if not begins:
            begins.append(until - days * 86_400.0)
        times = np.arange(max(since, begins[0]), until, 900.0)
        if name.endswith(".load_watts") or imported_watts is None:
            return daily_watts(times)
        return np.full(len(times), imported_watts)

    return read


def is_start(watts: float) -> bool:
    """6 kWh, with losses, nearly hold 5 kW for an hour; what is given has to be charged again in 23."""
    return 15_100.0 < watts < 15_400.0


class QuickPaths(LoadPaths):
    """The next day is as the last one; judges nobody."""

    def extend(self, watts: float) -> None:
        self._values.append(self._values[-1] if np.isnan(watts) and self._values else watts)

    def paths(self, now_watts: float | None = None) -> Values | None:
        if self.days < LEAST_DAYS:
            return None
        ahead = np.repeat(self.recent(1.0)[:, None], 3, axis=1)
        ahead[0] = ahead[0] if now_watts is None else now_watts
        return ahead

    def expected(self, now_watts: float | None = None) -> Values | None:
        found = self.paths(now_watts)
        return None if found is None else found[:, 0]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ess_learned, "LoadPaths", QuickPaths)


class Bench:
    def __init__(
        self,
        folder: Path,
        *,
        tariff: str | None = DEMAND,
        read: Callable[[str, float, float], Values] = nothing_stored,
        store: Memory | None = None,
        at: datetime = AT,
        zone: tzinfo = UTC,
        price: Callable[[int], float | None] = lambda _hour: 0.1,
        price_file: Path | None = None,
        billed_kw: dict[str, dict[str, float]] | None = None,
        **ess: Any,
    ) -> None:
        self.file = folder / "tariff.toml"
        if tariff is not None:
            self.file.write_text(tariff)
        self.store = Memory() if store is None else store
        self.notes: list[tuple[str, str]] = []
        self.faults: list[tuple[str, str]] = []
        self.price = price
        self.site = replace(site(), ess={"battery": Ess(name="battery", circuit="grid", **ess)})
        config: Any = SimpleNamespace(
            site=self.site,
            supply=SupplyConfig(
                tariff_file=None if tariff is None else self.file,
                price_file=price_file,
                billed_peaks_kw=billed_kw or {},
            ),
            zone=zone,
            policy=Policy(),
            store=SimpleNamespace(series_url=None),
            controller=SimpleNamespace(state_directory=folder),
        )
        supply: Any = SimpleNamespace(ahead=self.ahead)
        self.desk = EssDesk(
            config,
            self.store,
            supply=supply,
            note=self.note,
            fault=lambda subject, text: self.faults.append((subject, text)),
            read_quarters=read,
        )
        self.now = at

    def note(self, actor: str, kind: str, subject: str, reason: str, **_more: Any) -> None:
        assert (actor, subject) in (("controller", "circuit:grid"), ("controller", "ess:battery"))
        self.notes.append((kind, reason))

    def ahead(self, *_: Any, start_seconds: float, step_seconds: float, steps: int) -> Any:
        hours = [int((start_seconds + number * step_seconds) // 3600 % 24) for number in range(steps)]
        return SimpleNamespace(price_per_kwh=tuple(self.price(hour) for hour in hours))

    def seen(self, import_watts: float | None = 15_000.0, **ess: Any) -> Snapshot:
        """The site at this moment."""
        celsius = ess.pop("celsius", None)
        reading = replace(ess_reading(**ess), temperature_celsius=celsius)
        return replace(situation(of=self.site, import_watts=import_watts, ess=reading), at=self.now)

    async def moment(self, import_watts: float | None = 15_000.0, **ess: Any) -> None:
        """One cycle; what it begins beside itself is waited for."""
        seen = self.seen(import_watts, **ess)
        self.desk.observe(seen)
        if self.desk._at_work is not None:
            await self.desk._at_work
            self.desk.observe(seen)

    async def quarters(self, count: int, import_watts: float = 15_000.0, **ess: Any) -> None:
        """So many quarters, seen three times each, from the next one on."""
        for _ in range(3 * count):
            self.now += QUARTER / 3
            await self.moment(import_watts, **ess)

    async def to_quarter(self) -> None:
        """Go to just after the next full quarter, with nothing seen in between."""
        over = self.now.timestamp() % 900.0
        self.now += timedelta(seconds=900.0 - over + 1.0)
        await self.moment()

    @property
    def said(self) -> EssOutlook:
        assert self.desk.outlook is not None
        return self.desk.outlook

    @property
    def level(self) -> float:
        assert self.said.level_watts is not None
        return self.said.level_watts

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.notes]

"""What the supply allows and costs: its files read beside the control loop, its limit put upon the site."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from slurm_power.config import SiteConfig
from slurm_power.config.supply import FEEDS
from slurm_power.controller.jobs.job_rates import Rates
from slurm_power.forecast.supply import Supply, SupplyAhead, supply_ahead
from slurm_power.model.reading import Quality
from slurm_power.model.snapshot import LimitEvent, Snapshot
from slurm_power.signals.supply_files import FILE_KINDS, SupplyFiles
from slurm_power.telemetry.circuits import SourceRow

_READ_SECONDS = 30.0
# How far ahead the limit of the supply is put upon the site; it is looked up again in each cycle.
_AHEAD_SECONDS = 86_400.0
SUBJECT = "supply"
# A file with more mistakes is told by its first.
_MOST_SAID = 2


class SupplyDesk:
    """Keeps what the files of the [supply] table say; ``fault`` is told when they go bad and good again."""

    def __init__(self, config: SiteConfig, *, fault: Callable[[str, str], None]) -> None:
        self._config = config
        self._site = config.site
        self._files = SupplyFiles(config.supply, config.zone)
        self._fault = fault
        self._problem = ""
        self.supply = Supply(zone=config.zone)

    async def run(self) -> None:
        """Look at the files again and again until cancelled; a slow disk delays nobody but us."""
        while True:
            self.supply = await asyncio.to_thread(self._files.read)
            problem = "; ".join(self._files.problems)
            if problem != self._problem:
                self._problem = problem
                self._fault(SUBJECT, problem)
            await asyncio.sleep(_READ_SECONDS)

    def rows(self, at: datetime) -> list[SourceRow]:
        """Each file as a source; those that powerbridge writes are shown by the signals they come from."""
        feeds = self._config.controller.state_directory / FEEDS
        found = []
        for key, file, problems, standing in self._files.standings(at.timestamp()):
            if file.parent == feeds:
                continue
            good = Quality.QUESTIONABLE if problems else Quality.GOOD
            found.append(
                SourceRow(
                    source=f"supply:{key}",
                    measures=FILE_KINDS[key],
                    watts=None,
                    age_seconds=standing.age_seconds,
                    quality=good if standing.known else Quality.INVALID,
                    reason="; ".join([*problems[:_MOST_SAID], *([] if standing.known else [standing.what])]),
                )
            )
        return found

    def onto(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with the supply's import limit: what of it is tighter than the site's own."""
        limits = self.supply.limit_watts
        if limits is None:
            return snapshot
        root, now = self._site.root, snapshot.at.timestamp()
        events = tuple(
            LimitEvent(
                event_id=f"supply-{start:.0f}",
                circuit=root.name,
                limit_watts=watts,
                starts_in_seconds=start - now,
                ends_in_seconds=end - now,
                reason="the supply's import limit",
            )
            for start, end, watts in limits.pieces(now, now + _AHEAD_SECONDS)
            if watts is not None and watts < root.ceiling_watts
        )
        return replace(snapshot, events=(*snapshot.events, *events)) if events else snapshot

    def rates(self, snapshot: Snapshot) -> Rates:
        """What energy costs and emits at the grid connection now."""
        root, now = self._site.root.name, snapshot.at.timestamp()
        ahead = self.ahead(snapshot, root, start_seconds=now, step_seconds=1.0, steps=1)
        return Rates(ahead.price_per_kwh[0], ahead.carbon_g_per_kwh[0])

    def ahead(
        self, snapshot: Snapshot, circuit: str, *, start_seconds: float, step_seconds: float, steps: int
    ) -> SupplyAhead:
        """The supply of a circuit on a forecast's grid."""
        return supply_ahead(
            self.supply,
            self._site,
            circuit,
            start_seconds=start_seconds,
            step_seconds=step_seconds,
            steps=steps,
            events=snapshot.events,
            now_seconds=snapshot.at.timestamp(),
        )

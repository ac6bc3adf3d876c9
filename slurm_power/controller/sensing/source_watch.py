"""Looks at every source once a cycle: who has gone bad or good again, and what has been learned of losses."""

from slurm_power.config import SiteConfig
from slurm_power.controller.governance.operators import Note
from slurm_power.controller.sensing.signal_book import SignalBook
from slurm_power.controller.sensing.sources import SourceNotes, source_rows
from slurm_power.controller.sensing.supply_desk import SupplyDesk
from slurm_power.model.snapshot import Snapshot
from slurm_power.ports import Records
from slurm_power.telemetry import SiteTelemetry
from slurm_power.telemetry.circuits import SourceRow

# Every source has spoken by then, or has something wrong.
_SETTLE_SECONDS = 10.0
_KEEP_LOSSES_SECONDS = 60.0
_LOSSES = "losses"


class SourceWatch:
    """The sources of one site. What it learned of losses before is read from ``records`` at once."""

    def __init__(
        self,
        config: SiteConfig,
        telemetry: SiteTelemetry,
        records: Records,
        note: Note,
        supply: SupplyDesk,
        *,
        now_seconds: float,
    ) -> None:
        self.signals = SignalBook({name: one.kind.value for name, one in config.signals.items()})
        self._telemetry = telemetry
        self._supply = supply
        self._records = records
        self._notes = SourceNotes(note)
        self._slurm_poll_seconds = config.controller.slurm_poll_seconds
        self._settled_seconds = now_seconds + _SETTLE_SECONDS
        self._kept_seconds = now_seconds
        telemetry.circuits.take_json(records.state(_LOSSES))
        self.latest: list[SourceRow] | None = None
        """The rows of the last look, None before the first."""

    def rows(self, snapshot: Snapshot, now_seconds: float) -> list[SourceRow]:
        """Every source of the site with its quality."""
        rows = source_rows(self._telemetry, snapshot, now_seconds, self._slurm_poll_seconds)
        return rows + self._supply.rows(snapshot.at) + self.signals.rows(snapshot.at, now_seconds)

    def look(self, snapshot: Snapshot, now_seconds: float) -> None:
        """Write down who has gone bad or good again; keep what has been learned about losses."""
        if now_seconds < self._settled_seconds:
            return
        self.latest = self.rows(snapshot, now_seconds)
        self._notes.look(self.latest, now_seconds)
        if now_seconds - self._kept_seconds >= _KEEP_LOSSES_SECONDS:
            self._kept_seconds = now_seconds
            self._records.put_state(_LOSSES, self._telemetry.circuits.to_json())

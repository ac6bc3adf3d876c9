"""What the bridge looks at itself: disks, certificates, and what the ledger says of stores and events."""

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from slurm_power import clock
from slurm_power.bridge.event_book import Ask
from slurm_power.bridge.loose import number, rows, table, words
from slurm_power.config import SiteConfig

_LOOK_BACK_SECONDS = 86_400.0
_MOST_PAGES = 200
_EVENT_SECONDS = 3600.0
_PEM = ("ca.pem", "server.pem")
_FIRM = "must"


def free_ratios(config: SiteConfig) -> dict[str, float]:
    """The free share of each disk that we write to, by the first path on it."""
    found: dict[str, float] = {}
    seen = set()
    for path in (config.controller.state_directory, Path("/var/log"), Path("/tmp")):  # noqa: S108  # only looked at
        try:
            device, disk = path.stat().st_dev, os.statvfs(path)
        except OSError:
            continue
        if device not in seen and disk.f_blocks > 0:
            seen.add(device)
            # What root alone may still take is no room for us.
            found[str(path)] = disk.f_bavail / max(disk.f_blocks - disk.f_bfree + disk.f_bavail, 1)
    return found


def certificate_seconds(folder: Path, now: datetime) -> dict[str, float]:
    """How long the site's certificates last, by file; what cannot be read is powerctld's to tell."""
    found = {}
    for name in _PEM:
        try:
            certificate = x509.load_pem_x509_certificate((folder / name).read_bytes())
        except (OSError, ValueError):
            continue
        found[str(folder / name)] = (certificate.not_valid_after_utc - now).total_seconds()
    return found


class LedgerWatch:
    """Follows the ledger for what no picture has: failing stores, events that were missed, a broken chain."""

    def __init__(self) -> None:
        self.faults: dict[str, str] = {}
        self.broken_at: int | None = None
        self._events: dict[str, tuple[float, float]] = {}
        self._after = 0

    def delivered_ratios(self) -> dict[str, float]:
        """Of promised events that ended in the last hour, the share that was delivered."""
        now = clock.monotonic()
        self._events = {
            key: (ended, ratio)
            for key, (ended, ratio) in self._events.items()
            if now - ended < _EVENT_SECONDS
        }
        return {key: ratio for key, (_, ratio) in self._events.items()}

    async def look(self, ask: Ask) -> None:
        """Read what is new; raises LineError."""
        for _ in range(_MOST_PAGES):
            since = {"since_seconds": _LOOK_BACK_SECONDS} if not self._after else {}
            answer = await ask({"op": "ledger", "after_sequence": self._after, **since})
            broken = answer.get("broken_at_sequence")
            self.broken_at = broken if type(broken) is int else None
            entries = rows(answer, "entries")
            self._take(entries)
            last = number(entries[-1], "sequence") if entries else None
            if last is not None:
                self._after = int(last)
            if answer.get("more") is not True or last is None:
                return

    def _take(self, entries: Iterable[Any]) -> None:
        for entry in entries:
            kind, subject = words(entry, "kind"), words(entry, "subject")
            if subject.startswith("store:") and kind == "fault":
                self.faults[subject] = words(entry, "reason")
            elif subject.startswith("store:") and kind == "fault over":
                self.faults.pop(subject, None)
            elif kind == "start":
                # The next controller begins with what works, and says so if it does not.
                self.faults.clear()
            elif kind == "event over":
                self._over(entry)

    def _over(self, entry: Any) -> None:
        details = table(entry, "details")
        ratio, event_id = number(details, "delivered_ratio"), words(details, "event_id")
        at = words(entry, "at")
        if ratio is None or not event_id or words(details, "commitment") not in ("", _FIRM):
            return
        try:
            age_seconds = (clock.now() - datetime.fromisoformat(at)).total_seconds()
        except (ValueError, TypeError):
            return
        if 0.0 <= age_seconds < _EVENT_SECONDS:
            self._events[event_id] = (clock.monotonic() - age_seconds, ratio)

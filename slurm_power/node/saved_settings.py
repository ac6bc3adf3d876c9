"""The save file: what every capped GPU of this node has to go back to, safe against crash and torn write.

One JSON document with one record a line, so that what a torn file still holds can be read line by line.
"""

import json
import logging
import math
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from slurm_power.model.lease import LeaseKey, Lever
from slurm_power.model.site import LimitKind

FILE_NAME = "saved_settings.json"
BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSetting:
    """What a GPU's setting goes back to. ``bound`` is what we wrote, ``boot_id`` when we wrote it.

    Bounds are in watts for a power cap and in hertz for a clock lock, infinity where no clock was locked.
    """

    uuid: str
    previous: float
    bound: float
    kind: LimitKind
    lease_id: str
    boot_id: str
    lever: Lever = Lever.POWER_CAP
    safe: float | None = None
    job_id: str | None = None

    @property
    def key(self) -> LeaseKey:
        """The setting it is about; there is at most one record for each."""
        return LeaseKey(self.uuid, self.lever)


def this_boot() -> str:
    """The kernel's id of this boot: a power limit does not outlive it."""
    return BOOT_ID_FILE.read_text().strip()


class SavedSettings:
    """All records of the save file. Every change is on disk when the call returns, or raises OSError.

    A record whose change could not be written stays as it was before the call.
    """

    def __init__(self, directory: Path, *, write: Callable[[Path, str], None] | None = None) -> None:
        """``write`` replaces a file durably; the default is `write_durably`."""
        self.file = directory / FILE_NAME
        self._write = write_durably if write is None else write
        self._records: dict[LeaseKey, SavedSetting] = {}
        self._lock = threading.Lock()

    def load(self) -> Mapping[LeaseKey, SavedSetting]:
        """Read the file; none is no record. A damaged file is copied aside and every readable record kept.

        Raises OSError when the file is there but cannot be read: then nothing may be written over it.
        """
        try:
            text = self.file.read_bytes().decode(errors="replace")
        except FileNotFoundError:
            text = ""
        records, damaged = _parsed(text) if text else ({}, False)
        if damaged:
            aside = self.file.with_suffix(".corrupt")
            log.error("%s is damaged: %d records could be read, copied to %s", self.file, len(records), aside)
            self._write(aside, text)
        with self._lock:
            self._records = records
        return dict(records)

    def records(self) -> Mapping[LeaseKey, SavedSetting]:
        """The records as last written."""
        with self._lock:
            return dict(self._records)

    def put(self, record: SavedSetting) -> None:
        """Add or replace the record of one setting; raises OSError, with nothing changed."""
        with self._lock:
            if self._records.get(record.key) != record:
                self._save({**self._records, record.key: record})

    def drop(self, key: LeaseKey) -> None:
        """Forget a setting that is proved to be back; raises OSError, with nothing changed."""
        with self._lock:
            if key in self._records:
                self._save({other: record for other, record in self._records.items() if other != key})

    def _save(self, records: dict[LeaseKey, SavedSetting]) -> None:
        lines = ",\n".join(json.dumps(_row(record)) for record in records.values())
        self._write(self.file, f'{{"version":1,"records":[\n{lines}\n]}}\n')
        self._records = records


def write_durably(file: Path, text: str) -> None:
    """Replace a file so that after any crash either the old or the new one is there, whole."""
    temporary = file.with_suffix(".new")
    with temporary.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _parsed(text: str) -> tuple[dict[LeaseKey, SavedSetting], bool]:
    """All readable records, and whether anything else was found."""
    try:
        document = json.loads(text)
        rows = document["records"]
        damaged = not isinstance(rows, list)
    except (ValueError, KeyError, TypeError, RecursionError):
        rows, damaged = _salvaged_rows(text), True
    records = {}
    for row in rows if isinstance(rows, list) else []:
        record = _record(row)
        if record is None:
            damaged = True
        else:
            records[record.key] = record
    return records, damaged


def _salvaged_rows(text: str) -> list[object]:
    rows: list[object] = []
    for line in text.splitlines():
        try:
            rows.append(json.loads(line.strip().rstrip(",")))
        except (ValueError, RecursionError):
            continue
    return rows


def _row(record: SavedSetting) -> dict[str, object]:
    """A record as it stands in the file, where every number says its unit; null is a clock without a lock."""
    previous, bound, safe = _NAMES[record.lever]
    return {
        "uuid": record.uuid,
        "lever": record.lever.value,
        previous: None if math.isinf(record.previous) else record.previous,
        bound: None if math.isinf(record.bound) else record.bound,
        safe: record.safe,
        "kind": record.kind.value,
        "lease_id": record.lease_id,
        "boot_id": record.boot_id,
        "job_id": record.job_id,
    }


_NAMES = {
    Lever.POWER_CAP: ("previous_watts", "cap_watts", "safe_watts"),
    Lever.CLOCK_LOCK: ("previous_hertz", "lock_hertz", "safe_hertz"),
}
_MOST = {Lever.POWER_CAP: 1e6, Lever.CLOCK_LOCK: 1e11}


def _record(row: object) -> SavedSetting | None:
    """A record if the row names a GPU and a usable previous setting; the rest may be missing."""
    if not isinstance(row, dict):
        return None
    uuid = row.get("uuid")
    lever = Lever.CLOCK_LOCK if row.get("lever") == Lever.CLOCK_LOCK else Lever.POWER_CAP
    names = _NAMES[lever]
    previous = _bound(row.get(names[0]), lever)
    if previous is None and lever is Lever.CLOCK_LOCK and row.get(names[0], 0) is None:
        previous = math.inf
    if not isinstance(uuid, str) or not uuid or previous is None:
        return None
    bound = _bound(row.get(names[1]), lever)
    return SavedSetting(
        uuid=uuid,
        lever=lever,
        previous=previous,
        bound=previous if bound is None else bound,
        kind=LimitKind.SAFETY if row.get("kind") == LimitKind.SAFETY else LimitKind.ECONOMIC,
        lease_id=str(row.get("lease_id") or "unknown"),
        boot_id=str(row.get("boot_id") or ""),
        safe=_bound(row.get(names[2]), lever),
        job_id=None if row.get("job_id") is None else str(row["job_id"]),
    )


def _bound(value: object, lever: Lever) -> float | None:
    """A number that can be a bound, else None."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MOST[lever]:
        return float(value)
    return None

"""The save file: what every capped GPU of this node has to go back to, safe against crash and torn write.

One JSON document with one record a line, so that what a torn file still holds can be read line by line.
"""

import json
import logging
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from slurm_power.model.site import LimitKind

FILE_NAME = "saved_settings.json"
BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSetting:
    """What a capped GPU goes back to. ``cap_watts`` is the cap we wrote, ``boot_id`` when we wrote it."""

    uuid: str
    previous_watts: float
    cap_watts: float
    kind: LimitKind
    lease_id: str
    boot_id: str
    safe_watts: float | None = None
    job_id: str | None = None


def this_boot() -> str:
    """The kernel's id of this boot: a power limit does not outlive it."""
    return BOOT_ID_FILE.read_text().strip()


class SavedSettings:
    """All records of the save file. Every change is on disk when the call returns, or raises OSError.

    A record whose change could not be written stays as it was before the call.
    """

    def __init__(self, directory: Path) -> None:
        self.file = directory / FILE_NAME
        self._records: dict[str, SavedSetting] = {}
        self._lock = threading.Lock()

    def load(self) -> Mapping[str, SavedSetting]:
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
            write_durably(aside, text)
        with self._lock:
            self._records = records
        return dict(records)

    def records(self) -> Mapping[str, SavedSetting]:
        """The records as last written, by UUID."""
        with self._lock:
            return dict(self._records)

    def put(self, record: SavedSetting) -> None:
        """Add or replace the record of one GPU; raises OSError, with nothing changed."""
        with self._lock:
            if self._records.get(record.uuid) != record:
                self._save({**self._records, record.uuid: record})

    def drop(self, uuid: str) -> None:
        """Forget a GPU whose setting is proved to be back; raises OSError, with nothing changed."""
        with self._lock:
            if uuid in self._records:
                self._save({key: record for key, record in self._records.items() if key != uuid})

    def _save(self, records: dict[str, SavedSetting]) -> None:
        lines = ",\n".join(json.dumps(asdict(record)) for record in records.values())
        write_durably(self.file, f'{{"version":1,"records":[\n{lines}\n]}}\n')
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


def _parsed(text: str) -> tuple[dict[str, SavedSetting], bool]:
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
            records[record.uuid] = record
    return records, damaged


def _salvaged_rows(text: str) -> list[object]:
    rows: list[object] = []
    for line in text.splitlines():
        try:
            rows.append(json.loads(line.strip().rstrip(",")))
        except (ValueError, RecursionError):
            continue
    return rows


def _record(row: object) -> SavedSetting | None:
    """A record if the row names a GPU and a usable previous setting; the rest may be missing."""
    if not isinstance(row, dict):
        return None
    uuid, previous_watts = row.get("uuid"), _watts(row.get("previous_watts"))
    if not isinstance(uuid, str) or not uuid or previous_watts is None:
        return None
    cap_watts = _watts(row.get("cap_watts"))
    return SavedSetting(
        uuid=uuid,
        previous_watts=previous_watts,
        cap_watts=previous_watts if cap_watts is None else cap_watts,
        kind=LimitKind.SAFETY if row.get("kind") == LimitKind.SAFETY else LimitKind.ECONOMIC,
        lease_id=str(row.get("lease_id") or "unknown"),
        boot_id=str(row.get("boot_id") or ""),
        safe_watts=_watts(row.get("safe_watts")),
        job_id=None if row.get("job_id") is None else str(row["job_id"]),
    )


def _watts(value: object) -> float | None:
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 < value < 1e6
        and math.isfinite(value)
    ):
        return float(value)
    return None

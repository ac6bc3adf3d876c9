"""``python -m containers.bench.store_sizes``: bytes of a ledger entry and of a job's record on disk."""

import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slurm_power.model.ledger import LedgerEntry
from slurm_power.store.sqlite import SqliteStore

COUNT = 10_000
_START = datetime(2026, 1, 1, tzinfo=UTC)
# As the demo writes them; two thirds of a ledger are about jobs.
_REASON = "grid must stay below 32.0 kW (economic limit); flex2 allows up to 25% slowdown, expected 8%"
_DETAILS = {"cap_watts": 415.0, "gpu_count": 16, "slowdown_ratio": 0.0832, "limit_kind": "economic"}
_RECORD = {
    "user": "alice",
    "account": "physics",
    "name": "pretrain",
    "state": "ended",
    "workload": "training",
    "flex": "flex2",
    "gpu_count": 16,
    "nodes": ["c1", "c2"],
    "submitted": _START.isoformat(),
    "started": _START.isoformat(),
    "seconds": 3600.0,
    "energy_joules": 27_000_000.0,
    "node_seconds": 7200.0,
    "mean_watts": 7500.0,
    "peak_watts": 9100.0,
    "lowest_cap_watts": 415.0,
    "slowdown_seconds": 300.0,
    "held_seconds": 0.0,
    "coverage_ratio": 1.0,
    "host_joules": 4_000_000.0,
    "residual_joules": 900_000.0,
}


def measured() -> dict[str, float]:
    """Bytes on disk an entry and a record, indexes included."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "powerctld.sqlite"
        empty = _size(file, 0, 0)
        entries = _size(file.with_name("entries.sqlite"), COUNT, 0)
        records = _size(file.with_name("records.sqlite"), 0, COUNT)
    return {"entry_bytes": (entries - empty) / COUNT, "record_bytes": (records - empty) / COUNT}


def _size(file: Path, entries: int, records: int) -> int:
    store = SqliteStore(file)
    # At once: it is their size that is asked for, not how long each takes to be on disk.
    store.fill(map(_entry, range(entries)), {str(number): _RECORD for number in range(records)}, {})
    store.close()
    return file.stat().st_size


def _entry(number: int) -> LedgerEntry:
    job = str(100_000 + number // 3)
    return LedgerEntry(
        at=_START + timedelta(seconds=number),
        actor="guard",
        kind="cap",
        subject=f"job:{job}",
        reason=_REASON,
        job_id=job,
        user="alice",
        saved_watts=4480.0,
        details=_DETAILS,
    )


if __name__ == "__main__":
    print(json.dumps({name: round(value) for name, value in measured().items()}))

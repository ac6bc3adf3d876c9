"""Fault trials of the ledger: its writer is killed, and what it was told is written has to be there."""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from containers.faults.outcome import Outcome
from slurm_power.store.sqlite import SqliteStore

KIND = "ledger: SIGKILL while writing"
# Rows as fast as they go, each acknowledged on standard output once it is durable; other writes in between.
_WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from slurm_power.model.ledger import LedgerEntry
from slurm_power.store.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
at = datetime(2026, 1, 1, tzinfo=UTC)
for number in range(int(sys.argv[2]), 1 << 30):
    entry = LedgerEntry(at=at, actor="trial", kind="row", subject=str(number), reason="x" * (number % 300))
    store.append(entry)
    print(number, flush=True)
    store.put_jobs({str(index): {"seconds": number} for index in range(20)})
    store.put_state("levers", {"number": number})
"""


def run_trial(seed: int) -> Outcome:
    """Kill the writer several times; each time read the ledger as the next controller would."""
    chance = random.Random(f"ledger {seed}")  # noqa: S311  # trials have to be repeatable
    folder = Path(tempfile.mkdtemp(prefix="sp-ledger-"))
    problems: list[str] = []
    lost_rows, acknowledged = 0, -1
    began = time.monotonic()
    try:
        for _ in range(chance.randrange(1, 4)):
            acknowledged = _written(folder / "store.sqlite", acknowledged, chance.uniform(0.0, 0.4))
            began = time.monotonic()
            store = SqliteStore(folder / "store.sqlite")
            found = [int(entry.subject) for entry in store.entries()]
            lost_rows += len(set(range(acknowledged + 1)) - set(found))
            if found != list(range(len(found))):
                problems.append("rows out of order or twice")
            if store.broken_at_sequence() is not None:
                problems.append(f"the chain is broken at {store.broken_at_sequence()}")
            acknowledged = len(found) - 1
            store.close()
    finally:
        shutil.rmtree(folder)
    if lost_rows:
        problems.append(f"{lost_rows} acknowledged rows are lost")
    return Outcome(
        kind=KIND,
        seed=seed,
        problems=tuple(problems),
        safe_seconds=time.monotonic() - began,
        lost_rows=lost_rows,
    )


def _written(file: Path, acknowledged: int, seconds: float) -> int:
    """Let the writer work for so long after its first row, then kill it; the last row it was sure of."""
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(file), str(acknowledged + 1)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    first = writer.stdout.readline()
    time.sleep(seconds)
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read()
    writer.wait()
    numbers = [int(line) for line in (first + rest).split("\n")[:-1]]
    return numbers[-1] if numbers else acknowledged

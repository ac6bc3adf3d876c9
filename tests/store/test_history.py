"""Files that each earlier version's own code wrote, taken out of the history, go on with today's."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from slurm_power import clock
from slurm_power.store.copies import check
from slurm_power.store.places import open_series_reader
from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore
from tests.store.contract_series import START

ROOT = Path(__file__).parents[2]
# Run by the earlier version: what it keeps of five decisions, a job and 200 s of series.
WRITE = """
import sys
from datetime import datetime, timedelta
from pathlib import Path
from slurm_power.model.ledger import LedgerEntry
from slurm_power.store.sqlite import SqliteStore
folder, start = Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2])
store = SqliteStore(folder / "powerctld.sqlite")
for number in range(5):
    about = {"subject": "job:17", "job_id": "17", "user": "alice", "reason": f"r{number} \\u2603"}
    more = {"saved_watts": number, "details": {"x": [number]}}
    store.append(LedgerEntry(at=start, actor="guard", kind="cap", **about, **more))
store.put_job("17", {"user": "alice"})
store.put_state("key", {"value": 1})
if len(sys.argv) > 3:
    sys.exit(store.close())
rows = [(start + timedelta(seconds=second), {"circuit.grid.watts": 1000.0 + second}) for second in range(200)]
if hasattr(store, "add_samples"):
    for at, values in rows:
        store.add_samples(at, values)
else:
    from slurm_power.store.series import SqliteSeries
    series = SqliteSeries(folder / "series.sqlite")
    for at, values in rows:
        series.add(at, values)
    series.close()
store.close()
"""


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True).stdout


def _versions() -> list[str]:
    """The commits that changed the stores, the first one first; none where there is no history."""
    try:
        return _git("log", "--reverse", "--format=%h", "--", "slurm_power/store").decode().split()
    except (OSError, subprocess.CalledProcessError):
        return []


@pytest.mark.slow
def test_there_is_a_history_to_look_at() -> None:
    assert len(_versions()) >= 12, "a clone without its history: git fetch --unshallow"


@pytest.mark.slow
@pytest.mark.parametrize("version", _versions())
def test_what_an_earlier_version_wrote_goes_on(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: START + timedelta(days=1))
    code, state = tmp_path / "code", tmp_path / "state"
    state.mkdir()
    code.mkdir()
    subprocess.run(["tar", "-x", "-C", str(code)], input=_git("archive", version, "slurm_power"), check=True)

    def run_earlier(*more: str) -> None:
        words = [sys.executable, "-c", WRITE, str(state), START.isoformat(), *more]
        subprocess.run(words, cwd=code, check=True, env={**os.environ, "PYTHONPATH": str(code)})

    run_earlier()
    store = SqliteStore(state / "powerctld.sqlite")
    assert [each.reason for each in store.entries()[:5]] == [f"r{number} \u2603" for number in range(5)]
    assert store.broken_at_sequence() is None
    assert (store.job("17"), store.state("key")) == ({"user": "alice"}, {"value": 1})
    store.close()
    if (state / "series.sqlite").exists():
        SqliteSeries(state / "series.sqlite").close()
    reader = open_series_reader(state)
    points = reader.read(["circuit.grid.watts"])["circuit.grid.watts"]
    reader.close()
    assert [point.mean for point in points] == [1000.0 + second for second in range(200)]
    assert check(state).problems == ()
    # Those before the number take today's schema as it is: nobody has to restore anything to go back to them.
    entries = check(state).entries
    run_earlier("the ledger alone")
    assert (check(state).problems, check(state).entries) == ((), entries + 5)

"""slurm-power report span: a page about all that a state directory holds."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slurm_power.model.ledger import LedgerEntry
from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore
from tests.cli.test_slurm_power import run


def fill(store: SqliteStore, *, restored: bool) -> None:
    start = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
    series = SqliteSeries(store.file.with_name("series.sqlite"))
    for second in range(30):
        series.add(
            start + timedelta(seconds=second),
            {
                "circuit.grid.watts": 900.0,
                "circuit.grid.limit_watts": 1000.0,
                "circuit.rack1.watts": 400.0,
                "circuit.rack1.limit_watts": 500.0,
                "ess.a.discharge_watts": 100.0,
                "ess.b.discharge_watts": 50.0,
                "ess.a.soc_ratio": 0.5,
                "ess.b.soc_ratio": 0.7,
                "caps.withheld_watts": 200.0,
            },
        )
    series.close()
    store.put_job(
        "17", {"user": "alice", "name": "train", "state": "ended", "seconds": 20, "slowdown_seconds": 2}
    )
    kinds = ["cap", "event", "event cancelled", "discharge", *(["uncap", "rest"] if restored else [])]
    for second, kind in enumerate(kinds):
        subject = {"discharge": "ess:a", "rest": "ess:a"}.get(
            kind, "circuit:grid" if "event" in kind else "job:18"
        )
        details = {"event_id": "e", "limit_watts": 950.0, "start_seconds": 0.0, "duration_seconds": 600.0}
        at = start + timedelta(seconds=second)
        store.append(
            LedgerEntry(at=at, actor="guard", kind=kind, subject=subject, reason="because", details=details)
        )


@pytest.mark.parametrize("restored", [True, False])
def test_report_from_the_controllers_state(tmp_path: Path, restored: bool) -> None:
    store = SqliteStore(tmp_path / "powerctld.sqlite")
    fill(store, restored=restored)
    store.close()
    out = tmp_path / "out.html"
    result = run("report", "span", "--state", tmp_path, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == {"file": str(out), "held": True, "jobs": 1}
    text = out.read_text()
    assert "Power at grid" in text
    assert "1.2 kW" in text  # 900 W drawn, 150 W from two batteries, 200 W withheld
    assert ("every cap, hold and setpoint is back" in text) is restored
    assert ("cap on job:18, setpoint on ess:a" in text) is not restored
    assert "10.0 %" in text
    assert f"The ledger is whole: {6 if restored else 4} entries" in text


def test_report_of_a_circuit_that_is_not_there(tmp_path: Path) -> None:
    assert (
        "no store in this directory"
        in run("report", "span", "--state", tmp_path, "--out", tmp_path / "x").output
    )
    store = SqliteStore(tmp_path / "powerctld.sqlite")
    fill(store, restored=True)
    store.close()
    result = run("report", "span", "--state", tmp_path, "--out", tmp_path / "x", "--circuit", "moon")
    assert result.exit_code == 1
    assert "no series of circuit 'moon'; there are: grid, rack1" in result.output

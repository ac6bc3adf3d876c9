"""What job records add to a month without us, in plain numbers."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slurm_power.report.month.month_jobs import JobShifts, job_shifts, records_since
from slurm_power.store.sqlite import SqliteStore
from tests.plan.situations import site

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3600.0


def record(job_id: str = "1", **more: Any) -> dict[str, Any]:
    """Two hours from the second on, at 1 kW on two GPUs."""
    return {
        "job_id": job_id,
        "state": "ended",
        "started": (START + timedelta(hours=1)).isoformat(),
        "running_seconds": 2 * HOUR,
        "mean_watts": 1000.0,
        "gpu_count": 2,
        "nodes": ["c1"],
        **more,
    }


def shifts(*records: dict[str, Any], overhead_ratio: float = 1.0) -> JobShifts:
    """Over the first six hours, an hour a step."""
    return job_shifts(
        records,
        start_seconds=START.timestamp(),
        step_seconds=HOUR,
        steps=6,
        site=site(overhead_ratio=overhead_ratio),
    )


def test_a_slowed_job_would_have_ended_sooner() -> None:
    found = shifts(record(slowdown_seconds=0.5 * HOUR))
    assert found.slowed_watts.tolist() == [0.0, 0.0, -500.0, 0.0, 0.0, 0.0]
    assert (found.slowed_jobs, found.lost_gpu_hours) == (1, 1.0)
    assert not found.delayed_watts.any()


def test_a_running_job_has_not_ended_sooner_yet() -> None:
    found = shifts(record(slowdown_seconds=0.5 * HOUR, state="running"))
    assert not found.slowed_watts.any()
    assert found.slowed_jobs == 1


def test_a_held_job_would_have_begun_and_ended_sooner() -> None:
    found = shifts(record(held_seconds=0.25 * HOUR))
    assert found.delayed_watts.tolist() == [250.0, 0.0, -250.0, 0.0, 0.0, 0.0]
    assert (found.delayed_jobs, found.held_gpu_hours) == (1, 0.5)


def test_a_paused_job_would_have_gone_on() -> None:
    since = (START + timedelta(hours=2)).isoformat()
    found = shifts(record(paused_seconds=HOUR, paused_since=since))
    assert found.delayed_watts.tolist() == [0.0, 0.0, 1000.0, -1000.0, 0.0, 0.0]


def test_losses_on_the_way_to_the_meter_count() -> None:
    found = shifts(record(slowdown_seconds=HOUR), overhead_ratio=1.2)
    assert found.slowed_watts.tolist() == pytest.approx([0.0, 0.0, -1200.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    "broken",
    [
        {"started": "yesterday"},
        {"started": "2026-01-01T01:00:00"},
        {"started": None},
        {"running_seconds": float("nan")},
        {"mean_watts": "much"},
        {"mean_watts": -5.0},
        {"slowdown_seconds": True},
    ],
)
def test_a_record_that_cannot_be_read_adds_nothing(broken: dict[str, Any]) -> None:
    found = shifts({**record(slowdown_seconds=HOUR, held_seconds=HOUR), "held_seconds": 0.0, **broken})
    assert not found.slowed_watts.any() and not found.delayed_watts.any()


def test_records_come_in_pages_until_none_is_of_the_time(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite")
    old = (START - timedelta(days=40)).isoformat()
    store.put_jobs({"0": record("0")})  # written too early to be looked for
    store.put_jobs({str(n): record(str(n), started=old) for n in range(1, 12_001)})
    store.put_jobs({str(n): record(str(n)) for n in range(20_000, 20_010)})
    store.put_jobs({"30000": record("30000", started=old, state="running")})
    found = [one["job_id"] for one in records_since(store, START.timestamp())]
    store.close()
    assert found == ["30000", *(str(n) for n in range(20_009, 19_999, -1))]

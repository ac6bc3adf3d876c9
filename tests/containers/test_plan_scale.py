"""The bench of the planner on a small site: its site is sound, its figures are told, a miss is a miss."""

import json
from pathlib import Path

import pytest

from containers.bench import plan_scale
from containers.bench.big_site import BigSite
from slurm_power.model.job import JobState
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy


def test_the_made_up_site_is_sound_and_moves() -> None:
    site = BigSite(nodes=200, limit_watts=720_000.0)
    before = site.step()
    for _ in range(12):
        snapshot = site.step()
        site.take(plan_cycle(snapshot, Policy(), hold_seconds=60.0))
    assert len(snapshot.site.nodes()) == 200
    taken = [uuid for job in snapshot.jobs for uuid in job.gpu_uuids]
    assert len(taken) == len(set(taken)) > 800
    assert snapshot.caps and snapshot.holds
    assert (snapshot.circuits["grid"].watts or 0.0) < (before.circuits["grid"].watts or 0.0)
    running = {job.job_id for job in before.jobs if job.state is JobState.RUNNING}
    assert running != {job.job_id for job in snapshot.jobs if job.state is JobState.RUNNING}


def test_all_times_are_measured_and_judged_on_the_largest_site() -> None:
    measured = [plan_scale.measure(nodes, at_limit=False, cycles=2) for nodes in (60, 120)]
    rows = plan_scale.figures(measured)
    judged = [row.what for row in rows if row.ratio is not None]
    assert [what for what in judged if "nodes at" in what] == [
        f"120 nodes at ease: {what}"
        for what in (
            "planner p50",
            "planner p99",
            "guard p50",
            "guard p99",
            "plan of the day, longest",
            "highest memory",
        )
    ]
    assert len([what for what in judged if "over" in what]) == 2


def test_the_command_writes_its_files_and_says_when_a_promise_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def here(nodes: int, one: str, cycles: int) -> plan_scale.Measured:
        return plan_scale.measure(nodes, at_limit=one == "limit", cycles=cycles)

    monkeypatch.setattr(plan_scale, "_elsewhere", here)
    figure, times = tmp_path / "scale.svg", tmp_path / "scale.json"
    words = ["plan_scale", "--sizes", "40", "80", "--cycles", "1"]
    monkeypatch.setattr("sys.argv", [*words, "--figure", str(figure), "--json", str(times)])
    plan_scale.main()
    assert "guard p50" in capsys.readouterr().out
    assert "<svg" in figure.read_text()
    assert {one["nodes"] for one in json.loads(times.read_text())} == {40, 80}
    monkeypatch.setattr(plan_scale, "_GUARD_SECONDS", 1e-9)
    assert plan_scale.main() == 1

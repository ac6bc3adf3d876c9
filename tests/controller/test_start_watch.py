"""Massive starts are announced once, recognised when they come, and written down with what came."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from slurm_power.controller.levers.start_watch import StartWatch
from slurm_power.model.forecast import LoadLabel
from slurm_power.model.job import Job, JobState
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.policy import Policy
from slurm_power.plan.starts import coming_starts, rooms
from tests.plan.situations import AT, pending, running, site, situation

POLICY = Policy(
    training_gpu_watts=650.0,
    idle_gpu_watts=50.0,
    host_watts_per_gpu=200.0,
    massive_start_ratio=0.2,
    start_expected_seconds=20.0,
)
ROOM = rooms(site(), dict.fromkeys(("c1", "c2", "c3", "c4"), 8))
STEP_WATTS = 6_400.0


class Story:
    """A watch that is shown one second after the other."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.watch = StartWatch(site(), POLICY, self.note)

    def note(self, actor: str, kind: str, subject: str, reason: str, **more: Any) -> None:
        self.entries.append({"actor": actor, "kind": kind, "subject": subject, "reason": reason, **more})

    def second(self, second: float, watts: float, *jobs: Job) -> LoadLabel:
        snapshot: Snapshot = replace(situation(jobs=jobs), at=AT + timedelta(seconds=second))
        self.watch.look(
            snapshot, {"grid": watts, "rack1": None, "rack2": None}, coming_starts(snapshot, POLICY, ROOM)
        )
        return self.watch.label("grid")


def starting_at(second: float, state: JobState = JobState.RUNNING) -> Job:
    return replace(running("7", ("c1",), state=state), started=AT + timedelta(seconds=second), user="bob")


def test_a_massive_start_from_its_announcement_to_its_end() -> None:
    story = Story()
    waiting = pending("7", 8, begin_in_seconds=30.0)
    for second in range(30):
        assert story.second(second, 10_000.0, waiting) is LoadLabel.STANDARD
    (ahead,) = story.entries
    assert ahead["kind"] == "massive start ahead" and ahead["job_id"] == "7" and ahead["user"] == "bob"
    assert ahead["details"]["lead_seconds"] == 30.0 and ahead["details"]["step_watts"]["grid"] == STEP_WATTS
    labels = [
        story.second(second, 10_000.0 + min(6_000.0, 1_000.0 * (second - 30)), starting_at(30.0))
        for second in range(30, 55)
    ]
    assert labels[2] is LoadLabel.STANDARD and labels[4] is LoadLabel.MASSIVE_START
    came = story.entries[-1]
    assert came["kind"] == "massive start" and len(story.entries) == 2
    assert came["details"] == {
        "expected_watts": 6_400,
        "came_watts": 6_000,
        "announced_seconds": 30.0,
        "together_with": [],
    }
    assert "announced 30 s before" in came["reason"]


def test_two_that_start_together_are_told_together() -> None:
    story = Story()
    other = replace(starting_at(3.0), job_id="8")
    for second in range(30):
        watts = 10_000.0 + (6_400.0 if second > 1 else 0.0) + (6_400.0 if second > 4 else 0.0)
        jobs = [starting_at(0.0), *([other] if second >= 3 else [])]
        story.second(second, watts, *jobs)
    first = next(each for each in story.entries if each["kind"] == "massive start")
    assert first["details"]["together_with"] == ["8"]
    assert first["details"]["expected_watts"] == 12_800 and first["details"]["came_watts"] == 12_800
    assert "together with job 8" in first["reason"]


def test_a_plan_that_moves_by_minutes_is_no_news_one_that_moves_by_more_is() -> None:
    story = Story()
    for second, begin in ((0.0, 600.0), (1.0, 900.0), (2.0, 1_500.0)):
        story.second(second, 10_000.0, replace(pending("7", 8), expected_start=AT + timedelta(seconds=begin)))
    assert [entry["details"]["lead_seconds"] for entry in story.entries] == [600.0, 1_498.0]


def test_small_jobs_and_jobs_without_a_date_are_not_announced() -> None:
    story = Story()
    story.second(0.0, 10_000.0, pending("1", 4, begin_in_seconds=10.0), pending("2", 32))
    assert story.entries == []


def test_a_job_that_is_gone_is_forgotten() -> None:
    story = Story()
    story.second(0.0, 10_000.0, pending("7", 8, begin_in_seconds=30.0))
    story.second(1.0, 10_000.0)
    story.second(2.0, 10_000.0, pending("7", 8, begin_in_seconds=30.0))
    assert len(story.entries) == 2, "it has come back: that is news"


def test_one_that_starts_at_once_is_told_with_no_lead_at_all() -> None:
    story = Story()
    for second in range(30):
        state = JobState.STARTING if second < 2 else JobState.RUNNING
        story.second(second, 10_000.0 + (0.0 if second < 1 else 6_400.0), starting_at(0.0, state))
    assert [entry["kind"] for entry in story.entries] == ["massive start ahead", "massive start"]
    assert "announced 0 s before" in story.entries[-1]["reason"]

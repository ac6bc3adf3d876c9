"""Which starts are coming, when, and what they add to each circuit."""

from dataclasses import replace
from datetime import timedelta

import pytest

from slurm_power.model.forecast import ComingStart
from slurm_power.model.job import Job, JobState
from slurm_power.model.snapshot import HoldLease, Snapshot
from slurm_power.plan.policy import Policy
from slurm_power.plan.starts import Room, coming_starts, rooms
from tests.plan.situations import AT, pending, running, site, situation

POLICY = Policy(
    training_gpu_watts=650.0, idle_gpu_watts=50.0, host_watts_per_gpu=200.0, massive_start_ratio=0.2
)
ROOM = rooms(site(), dict.fromkeys(("c1", "c2", "c3", "c4"), 8))


def starts(*jobs: Job, snapshot: Snapshot | None = None) -> tuple[ComingStart, ...]:
    return coming_starts(snapshot or situation(jobs=jobs), POLICY, ROOM)


def test_a_circuit_has_room_for_the_gpus_below_it() -> None:
    assert {"grid": Room(32, 1.0), "rack1": Room(16, 1.0), "rack2": Room(16, 1.0)} == ROOM
    lossy = rooms(site(overhead_ratio=1.1), {"c1": 8})
    assert lossy["grid"] == Room(8, 1.1) and lossy["rack2"] == Room(0, 1.0)


def test_a_job_without_a_place_may_come_to_every_circuit_with_all_that_fits_there() -> None:
    (start,) = starts(pending("7", 24, begin_in_seconds=120.0))
    assert start.step_watts == {"grid": 24 * 800.0, "rack1": 16 * 800.0, "rack2": 16 * 800.0}
    assert (start.placed, start.massive, start.gpu_count) == (False, True, 24)
    assert start.lead_seconds == 120.0 and start.known_from == "its begin time"


def test_a_job_in_its_prolog_comes_now_and_to_its_own_circuits() -> None:
    job = running("7", ("c3",), state=JobState.STARTING, started_seconds_ago=0.0)
    (start,) = starts(job)
    assert start.step_watts == {"grid": 6400.0, "rack2": 6400.0}
    assert start.placed and start.lead_seconds == 0.0 and start.known_from == "its prolog runs"


def test_one_that_has_just_started_may_still_be_coming() -> None:
    just, long_ago = (running("7", ("c3",), started_seconds_ago=ago) for ago in (3.0, 300.0))
    (start,) = starts(just)
    assert start.placed and start.lead_seconds == 0.0 and start.known_from == "it has started"
    assert not starts(long_ago)


def test_the_latest_of_what_is_known_counts() -> None:
    begin = pending("1", 8, begin_in_seconds=60.0)
    backfilled = replace(begin, expected_start=AT + timedelta(seconds=300))
    held = situation(
        jobs=(backfilled,), holds={"1": HoldLease(job_id="1", held_seconds=5.0, ends_in_seconds=900.0)}
    )
    assert [start.known_from for start in starts(begin)] == ["its begin time"]
    assert [start.known_from for start in starts(backfilled)] == ["Slurm's plan"]
    (start,) = starts(snapshot=held)
    assert start.known_from == "our hold ends" and start.lead_seconds == 900.0


def test_who_is_held_runs_or_has_no_gpus_is_not_coming() -> None:
    assert not starts(pending("1", 8, held_by_user=True), pending("2", 0), running("3", ("c1",)))


def test_the_soonest_come_first_and_those_nobody_can_date_last() -> None:
    found = starts(
        pending("1", 8), pending("2", 8, begin_in_seconds=60.0), pending("3", 8, begin_in_seconds=5.0)
    )
    assert [start.job_id for start in found] == ["3", "2", "1"]
    assert found[-1].earliest is None and found[-1].lead_seconds is None


def test_an_expected_start_that_has_passed_is_now() -> None:
    (start,) = starts(replace(pending("1", 8), expected_start=AT - timedelta(seconds=9)))
    assert start.lead_seconds == 0.0


@pytest.mark.parametrize(("gpus", "massive"), [(7, False), (8, True)])
def test_what_is_massive_is_the_sites_own_share(gpus: int, massive: bool) -> None:
    # A fifth of 30 kW is 6 kW: eight GPUs of 800 W are more, seven are less.
    assert starts(pending("1", gpus))[0].massive is massive


def test_an_array_starts_no_more_tasks_than_there_are_gpus() -> None:
    (start,) = starts(pending("1", 8, task_count=100))
    assert start.gpu_count == 32 and start.step_watts["grid"] == 32 * 800.0


def test_of_a_long_queue_without_dates_only_the_front_is_told() -> None:
    dated = pending("9", 8, begin_in_seconds=60.0)
    found = starts(*(pending(str(n), 8) for n in range(100, 800)), dated)
    assert [found[0].job_id, found[1].job_id, found[-1].job_id] == ["9", "100", "599"]

import json
from datetime import UTC, datetime, timedelta

from slurm_power.controller.levers.levers import LeverState
from slurm_power.model.action import HoldJob, ReleaseJob, SetCap, SetDischarge
from slurm_power.model.job import JobState
from slurm_power.model.site import LimitKind

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def cap(watts: float | None, job_id: str = "1") -> SetCap:
    return SetCap(job_id=job_id, cap_watts=watts, kind=LimitKind.ECONOMIC, reason="because")


def later(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def test_a_renewal_is_no_change_and_keeps_its_age() -> None:
    state = LeverState()
    assert state.capped(cap(500.0), 650.0, AT)
    assert not state.capped(cap(500.0), 500.0, later(5))
    lease = state.view(later(6)).caps["1"]
    assert (lease.changed_seconds_ago, lease.uncapped_watts, lease.lowered_watts) == (6.0, 650.0, 150.0)


def test_what_a_job_drew_before_its_first_cap_is_remembered() -> None:
    state = LeverState()
    state.capped(cap(500.0), 650.0, AT)
    state.capped(cap(400.0), 500.0, later(3))
    lease = state.view(later(3)).caps["1"]
    assert (lease.uncapped_watts, lease.lowered_watts) == (650.0, 100.0)
    state.capped(cap(450.0), 400.0, later(9))
    assert state.view(later(9)).caps["1"].lowered_watts == 0.0
    assert state.capped(cap(None), 450.0, later(12))
    assert not state.capped(cap(None), 450.0, later(13))


def test_what_a_change_gives_back_is_known_too() -> None:
    state = LeverState()
    state.capped(cap(400.0), 650.0, AT)
    state.capped(cap(460.0), 650.0, later(9))
    assert state.view(later(9)).caps["1"].lowered_watts == -60.0
    state.capped(cap(500.0), 650.0, later(10))
    assert state.view(later(10)).caps["1"].lowered_watts == -100.0, "both are on their way to the meter"
    state.capped(cap(700.0), 650.0, later(20))
    assert state.view(later(20)).caps["1"].lowered_watts == -150.0, "no more than the job draws"


def test_a_clock_lock_is_kept_over_a_restart() -> None:
    state = LeverState()
    lock = SetCap(
        job_id="1",
        cap_watts=200.0,
        kind=LimitKind.ECONOMIC,
        reason="because",
        lock_hertz=1.4e9,
        full_hertz=1.98e9,
    )
    state.capped(lock, 250.0, AT)
    again = LeverState.from_json(json.loads(json.dumps(state.to_json())), later(1), 10.0)
    lease = again.view(later(1)).caps["1"]
    assert (lease.cap_watts, lease.lock_hertz, lease.full_hertz) == (200.0, 1.4e9, 1.98e9)


def test_a_cap_that_its_user_asked_for_is_none_of_our_levers() -> None:
    levers = LeverState()
    own = SetCap(job_id="1", cap_watts=400.0, kind=LimitKind.ECONOMIC, reason="asked for", own=True)
    assert levers.capped(own, 400.0, AT)
    assert levers.view(AT).caps == {}
    assert not levers.capped(own, 400.0, later(3))
    ours = SetCap(job_id="1", cap_watts=350.0, kind=LimitKind.ECONOMIC, reason="ours", slowdown_ratio=0.1)
    assert levers.capped(ours, 400.0, later(4))
    assert levers.view(later(4)).caps["1"].cap_watts == 350.0
    assert levers.capped(own, 400.0, later(9))
    assert (levers.caps["1"].reason, levers.caps["1"].own) == ("asked for", True)
    assert levers.view(later(9)).caps == {}
    stored = json.loads(json.dumps(levers.to_json()))
    again = LeverState.from_json(stored, later(10), 10.0)
    assert again.caps["1"].own
    # A cap of ours that happens to be as low is seen again.
    same = SetCap(job_id="1", cap_watts=400.0, kind=LimitKind.ECONOMIC, reason="ours")
    assert not levers.capped(same, 400.0, later(11))
    assert "1" in levers.view(later(11)).caps


def test_holds_add_up_over_several_holds() -> None:
    state = LeverState()
    hold = HoldJob(job_id="7", seconds=60.0, reason="no room")
    assert state.held(hold, AT)
    assert not state.held(hold, later(30))
    assert state.view(later(40)).holds["7"].ends_in_seconds == 50.0
    state.released(ReleaseJob(job_id="7", reason="room"), later(50))
    assert state.held(hold, later(100))
    assert state.view(later(110)).holds["7"].held_seconds == 60.0
    assert state.held_seconds("7", later(110)) == 60.0


def test_a_hold_that_ran_out_counts_only_while_it_lasted() -> None:
    state = LeverState()
    state.held(HoldJob(job_id="7", seconds=20.0, reason="no room"), AT)
    state.expire(later(300))
    assert state.holds == {}
    assert state.held_seconds("7", later(300)) == 20.0


def test_a_successor_takes_over_what_still_holds_and_forgets_what_ran_out() -> None:
    state = LeverState()
    state.capped(cap(500.0, "1"), 650.0, AT)
    state.capped(cap(400.0, "2"), 650.0, later(-30))
    state.held(HoldJob(job_id="7", seconds=60.0, reason="no room"), AT)
    state.held(HoldJob(job_id="8", seconds=10.0, reason="no room"), later(-30))
    state.discharged(SetDischarge(ess="battery", discharge_watts=2500.0, reason="peak"))
    event_id = state.add_event(
        circuit="grid", limit_watts=9000.0, starts_at=AT, ends_at=later(600), reason="utility"
    )
    stored = json.loads(json.dumps(state.to_json()))
    successor = LeverState.from_json(stored, later(5), cap_lease_seconds=10.0)
    assert set(successor.caps) == {"1"}
    assert successor.caps["1"] == state.caps["1"]
    assert set(successor.holds) == {"7"}
    assert successor.held_seconds("8", later(5)) == 10.0
    assert successor.setpoints == {"battery": 2500.0}
    assert successor.events[event_id] == state.events[event_id]
    assert (
        successor.add_event(circuit="grid", limit_watts=1.0, starts_at=AT, ends_at=AT, reason="x") == "ev-2"
    )


def test_nothing_stored_is_a_fresh_start() -> None:
    assert LeverState.from_json(None, AT, 10.0).to_json() == LeverState().to_json()


def test_ended_jobs_and_past_events_are_dropped() -> None:
    state = LeverState()
    state.capped(cap(500.0), 650.0, AT)
    state.held(HoldJob(job_id="1", seconds=60.0, reason="x"), AT)
    state.add_event(circuit="grid", limit_watts=1.0, starts_at=AT, ends_at=later(10), reason="over")
    state.follow({"1": JobState.ENDED}, later(10))
    over = state.expire(later(10))
    assert [event.reason for event in over] == ["over"]
    assert state.to_json()["caps"] == state.to_json()["holds"] == state.to_json()["held_before"] == {}


def test_levers_follow_their_jobs() -> None:
    for state, kept in (
        (JobState.PENDING, (False, True)),  # requeued: its next run starts uncapped
        (JobState.STARTING, (True, False)),
        (JobState.RUNNING, (True, False)),
        (JobState.SUSPENDED, (True, True)),
        (JobState.ENDING, (False, True)),
        (JobState.ENDED, (False, False)),
    ):
        levers = LeverState()
        levers.capped(cap(500.0), 650.0, AT)
        levers.held(HoldJob(job_id="1", seconds=60.0, reason="x"), AT)
        levers.follow({"1": state}, later(5))
        assert ("1" in levers.caps, "1" in levers.holds) == kept, state
        assert levers.held_seconds("1", later(5)) == (0.0 if state is JobState.ENDED else 5.0)
    levers.held(HoldJob(job_id="2", seconds=60.0, reason="x"), AT)
    levers.follow({}, later(5))
    assert levers.to_json()["holds"] == levers.to_json()["held_before"] == {}


def test_giving_everything_back_leaves_what_jobs_have_waited_and_events() -> None:
    levers = LeverState()
    levers.capped(cap(500.0), 650.0, AT)
    levers.held(HoldJob(job_id="7", seconds=60.0, reason="x"), AT)
    levers.discharged(SetDischarge(ess="battery", discharge_watts=2500.0, reason="peak"))
    levers.add_event(circuit="grid", limit_watts=1.0, starts_at=AT, ends_at=later(99), reason="utility")
    levers.let_go(later(20))
    assert (levers.caps, levers.holds, levers.setpoints) == ({}, {}, {})
    assert levers.view(later(20)).held_before_seconds == {"7": 20.0}
    assert len(levers.events) == 1

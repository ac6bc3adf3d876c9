"""The switch as a state machine: rows of "so it was, so it looked, so it goes on"."""

from dataclasses import replace

import pytest

from slurm_power.gateway.members import (
    EndJob,
    Failed,
    JobSeen,
    Limits,
    Member,
    Phase,
    Sight,
    State,
    Submit,
    WarmUp,
    Wish,
)
from slurm_power.gateway.switch import Step, step

LIMITS = Limits(
    queue_seconds=100.0,
    ready_seconds=60.0,
    probation_seconds=10.0,
    drain_seconds=300.0,
    stop_seconds=20.0,
    renew_seconds=1000.0,
)
FULL = Wish(tier="full", may_start=True, fallbacks=("full",))
SMALL = Wish(tier="small", may_start=True, reason="power is short", fallbacks=("full",))
WELL = Sight(
    job=JobSeen.RUNNING, job_id="7", address="10.0.0.1:80", healthy=True, warmed=True, up=True, open_streams=0
)
ABSENT = Sight(job=JobSeen.ABSENT, up=False, open_streams=0)


def member(key: str, tier: str, phase: Phase, *, age: float = 0.0, order: int = 5, **more: object) -> Member:
    kept = Member(
        key=key,
        tier=tier,
        phase=phase,
        since_seconds=1000.0 - age,
        order=order,
        job_id=key,
        address="10.0.0.1:80",
        running_seconds=1000.0 - age,
    )
    return replace(kept, **more)  # type: ignore[arg-type]  # fields of Member


def one_step(members: list[Member], wish: Wish, **sights: Sight) -> Step:
    return after_failures({}, members, wish, **sights)


def after_failures(failed: dict[str, Failed], members: list[Member], wish: Wish, **sights: Sight) -> Step:
    state = State(members=tuple(members), failed=failed, next_order=4, last_served="full")
    return step(state, sights, wish, LIMITS, now=1000.0, fresh_key="new")


def phases(done: Step) -> dict[str, Phase]:
    return {found.key: found.phase for found in done.state.members}


SERVING = member("a", "full", Phase.SERVING, age=500.0)
NEW = member("b", "small", Phase.STARTING, age=5.0, order=3, address="")


@pytest.mark.parametrize(
    ("members", "wish", "sights", "expected"),
    [
        # Nothing yet: the wished tier is started, also where nobody has booked anything for it.
        ([], replace(SMALL, may_start=False), {}, {"new": Phase.SUBMITTING}),
        # A switch begins only where there is room for both.
        ([SERVING], SMALL, {"a": WELL}, {"a": Phase.SERVING, "new": Phase.SUBMITTING}),
        ([SERVING], replace(SMALL, may_start=False), {"a": WELL}, {"a": Phase.SERVING}),
        # powerctld is silent: nothing begins, what has begun goes on.
        ([SERVING], Wish(), {"a": WELL}, {"a": Phase.SERVING}),
        ([SERVING, NEW], Wish(), {"a": WELL, "b": WELL}, {"a": Phase.SERVING, "b": Phase.WARMING}),
        # Each phase waits for what it is named for.
        (
            [SERVING, NEW],
            SMALL,
            {"a": WELL, "b": replace(WELL, address="")},
            {"a": Phase.SERVING, "b": Phase.STARTING},
        ),
        (
            [SERVING, replace(NEW, phase=Phase.WARMING)],
            SMALL,
            {"a": WELL, "b": replace(WELL, warmed=False)},
            {"a": Phase.SERVING, "b": Phase.WARMING},
        ),
        (
            [SERVING, replace(NEW, phase=Phase.WARMING)],
            SMALL,
            {"a": WELL, "b": WELL},
            {"a": Phase.DRAINING, "b": Phase.SERVING},
        ),
        (
            [SERVING, replace(NEW, phase=Phase.READY)],
            SMALL,
            {"a": WELL, "b": replace(WELL, up=False)},
            {"a": Phase.SERVING, "b": Phase.READY},
        ),
        # Not wanted any more before it served: the old one has never stopped.
        ([SERVING, NEW], FULL, {"a": WELL, "b": WELL}, {"a": Phase.SERVING, "b": Phase.STOPPING}),
        # Its job ends, or it is not ready in time: rolled back.
        ([SERVING, NEW], SMALL, {"a": WELL, "b": ABSENT}, {"a": Phase.SERVING, "b": Phase.STOPPING}),
        (
            [SERVING, member("b", "small", Phase.STARTING, age=61.0, order=3)],
            SMALL,
            {"a": WELL, "b": replace(WELL, healthy=False)},
            {"a": Phase.SERVING, "b": Phase.STOPPING},
        ),
        (
            [SERVING, member("b", "small", Phase.STARTING, age=101.0, order=3, running_seconds=None)],
            SMALL,
            {"a": WELL, "b": Sight(job=JobSeen.PENDING, job_id="b")},
            {"a": Phase.SERVING, "b": Phase.STOPPING},
        ),
        # The one that served dies while the new one starts: nothing to wait for once that is ready.
        ([SERVING, NEW], SMALL, {"a": ABSENT, "b": WELL}, {"a": Phase.STOPPING, "b": Phase.WARMING}),
        (
            [SERVING, replace(NEW, phase=Phase.READY)],
            SMALL,
            {"a": ABSENT, "b": replace(WELL, up=None)},
            {"a": Phase.STOPPING, "b": Phase.SERVING},
        ),
        # Slurm does not answer: nothing is concluded.
        (
            [SERVING],
            SMALL,
            {"a": replace(WELL, job=JobSeen.UNKNOWN)},
            {"a": Phase.SERVING, "new": Phase.SUBMITTING},
        ),
        ([SERVING, NEW], SMALL, {"a": WELL, "b": Sight()}, {"a": Phase.SERVING, "b": Phase.STARTING}),
        # Slurm has lost it, it answers: it serves on.
        ([SERVING], FULL, {"a": replace(WELL, job=JobSeen.ABSENT)}, {"a": Phase.SERVING}),
    ],
)
def test_before_the_shift(
    members: list[Member], wish: Wish, sights: dict[str, Sight], expected: dict[str, Phase]
) -> None:
    assert phases(one_step(members, wish, **sights)) == expected


def shifted(old: Phase, *, age: float) -> list[Member]:
    """The small tier serves since ``age`` seconds, the full one is on its way out for as long."""
    return [member("a", "full", old, age=age), member("b", "small", Phase.SERVING, age=age, order=3)]


@pytest.mark.parametrize(
    ("members", "wish", "sights", "expected"),
    [
        # Probation: the old one stays, whatever it has.
        (
            shifted(Phase.DRAINING, age=5.0),
            SMALL,
            {"a": WELL, "b": WELL},
            {"a": Phase.DRAINING, "b": Phase.SERVING},
        ),
        (
            shifted(Phase.DRAINING, age=11.0),
            SMALL,
            {"a": WELL, "b": WELL},
            {"a": Phase.CLOSING, "b": Phase.SERVING},
        ),
        (
            shifted(Phase.DRAINING, age=11.0),
            SMALL,
            {"a": replace(WELL, open_streams=2), "b": WELL},
            {"a": Phase.DRAINING, "b": Phase.SERVING},
        ),
        # Not known is not none.
        (
            shifted(Phase.DRAINING, age=11.0),
            SMALL,
            {"a": replace(WELL, open_streams=None), "b": WELL},
            {"a": Phase.DRAINING, "b": Phase.SERVING},
        ),
        (
            shifted(Phase.CLOSING, age=11.0),
            SMALL,
            {"a": WELL, "b": WELL},
            {"a": Phase.STOPPING, "b": Phase.SERVING},
        ),
        # A stream of ten minutes: the deadline decides.
        (
            shifted(Phase.DRAINING, age=301.0),
            SMALL,
            {"a": replace(WELL, open_streams=1), "b": WELL},
            {"a": Phase.STOPPING, "b": Phase.SERVING},
        ),
        # The new one fails while the old one is there.
        (
            shifted(Phase.DRAINING, age=5.0),
            SMALL,
            {"a": WELL, "b": ABSENT},
            {"a": Phase.SERVING, "b": Phase.STOPPING},
        ),
        (
            shifted(Phase.CLOSING, age=15.0),
            SMALL,
            {"a": WELL, "b": replace(WELL, up=False)},
            {"a": Phase.SERVING, "b": Phase.STOPPING},
        ),
        # Both fail at once: the new one stays as long as its job is there.
        (
            shifted(Phase.DRAINING, age=5.0),
            SMALL,
            {"a": ABSENT, "b": replace(WELL, up=False)},
            {"a": Phase.STOPPING, "b": Phase.SERVING},
        ),
        # Wanted back before it is gone: nothing has to start.
        (
            shifted(Phase.DRAINING, age=5.0),
            FULL,
            {"a": WELL, "b": WELL},
            {"a": Phase.SERVING, "b": Phase.DRAINING},
        ),
        # A third tier waits.
        (
            shifted(Phase.DRAINING, age=5.0),
            replace(SMALL, tier="tiny"),
            {"a": WELL, "b": WELL},
            {"a": Phase.DRAINING, "b": Phase.SERVING},
        ),
        (
            [member("a", "full", Phase.STOPPING), member("b", "small", Phase.SERVING, order=3)],
            FULL,
            {"a": WELL, "b": WELL},
            {"a": Phase.STOPPING, "b": Phase.SERVING},
        ),
        # The old job's end is what frees its GPUs; completing is not over.
        (
            [member("a", "full", Phase.STOPPING), member("b", "small", Phase.SERVING, order=3)],
            SMALL,
            {"a": replace(ABSENT, job=JobSeen.ENDING), "b": WELL},
            {"a": Phase.STOPPING, "b": Phase.SERVING},
        ),
        (
            [member("a", "full", Phase.STOPPING), member("b", "small", Phase.SERVING, order=3)],
            SMALL,
            {"a": ABSENT, "b": WELL},
            {"b": Phase.SERVING},
        ),
    ],
)
def test_after_the_shift(
    members: list[Member], wish: Wish, sights: dict[str, Sight], expected: dict[str, Phase]
) -> None:
    assert phases(one_step(members, wish, **sights)) == expected


def test_acts_follow_from_what_is_seen() -> None:
    submitting = member("b", "small", Phase.SUBMITTING, order=3, job_id="")
    gone = Sight(job=JobSeen.ABSENT)
    assert one_step([SERVING, submitting], SMALL, a=WELL, b=gone).acts == (Submit(key="b", tier="small"),)
    assert one_step([SERVING, submitting], SMALL, a=WELL, b=replace(gone, refusal="no")).acts == ()
    warming = replace(NEW, phase=Phase.WARMING)
    assert one_step([SERVING, warming], SMALL, a=WELL, b=replace(WELL, warmed=False)).acts == (
        WarmUp(key="b"),
    )


def test_a_job_is_asked_first_and_ended_later() -> None:
    serving = member("b", "small", Phase.SERVING, order=3)
    running = Sight(job=JobSeen.RUNNING, job_id="a")
    asked = one_step([member("a", "full", Phase.STOPPING), serving], SMALL, a=running, b=WELL)
    assert asked.acts == (EndJob(key="a", job_id="a", hard=False),)
    again = step(asked.state, {"a": running, "b": WELL}, SMALL, LIMITS, now=1019.0, fresh_key="x")
    assert again.acts == ()
    late = step(asked.state, {"a": running, "b": WELL}, SMALL, LIMITS, now=1021.0, fresh_key="x")
    assert late.acts == (EndJob(key="a", job_id="a", hard=True),)
    pending = one_step(
        [member("a", "full", Phase.STOPPING), serving], SMALL, a=replace(running, job=JobSeen.PENDING)
    )
    assert pending.acts == (EndJob(key="a", job_id="a", hard=True),)


def test_a_tier_that_failed_waits_twice_as_long_each_time() -> None:
    failed = {"small": Failed(count=3, until_seconds=900.0)}
    done = after_failures(failed, [SERVING, NEW], SMALL, a=WELL, b=ABSENT)
    assert done.state.failed["small"] == Failed(count=4, until_seconds=1080.0)
    barred = step(done.state, {"a": WELL, "b": ABSENT}, SMALL, LIMITS, now=1001.0, fresh_key="x")
    assert phases(barred) == {"a": Phase.SERVING}
    assert (
        phases(step(barred.state, {"a": WELL}, SMALL, LIMITS, now=1081.0, fresh_key="x"))["x"]
        is Phase.SUBMITTING
    )


def test_the_only_one_dies_and_is_started_again_at_once_then_later() -> None:
    died = one_step([SERVING], FULL, a=ABSENT)
    assert phases(died) == {"a": Phase.STOPPING, "new": Phase.SUBMITTING}
    again = replace(died.state, members=(member("new", "full", Phase.SERVING, order=4),))
    twice = step(again, {"new": ABSENT}, FULL, LIMITS, now=1001.0, fresh_key="x")
    assert phases(twice) == {"new": Phase.STOPPING}
    assert twice.state.failed["full"].until_seconds == 1011.0


def test_a_tier_that_cannot_be_had_is_replaced_by_the_full_one_where_nothing_serves() -> None:
    failed = {"small": Failed(count=1, until_seconds=2000.0)}
    done = after_failures(failed, [], SMALL)
    assert [found.tier for found in done.state.members] == ["full"]


def test_one_that_hangs_or_nears_its_time_limit_gets_a_successor() -> None:
    hung = member("a", "full", Phase.SERVING, age=500.0, down_seconds=900.0)
    assert phases(one_step([hung], FULL, a=replace(WELL, up=False)))["new"] is Phase.SUBMITTING
    old = member("a", "full", Phase.SERVING, age=5000.0)
    assert phases(one_step([old], FULL, a=replace(WELL, left_seconds=999.0)))["new"] is Phase.SUBMITTING
    unbooked = replace(FULL, may_start=False)
    assert "new" not in phases(one_step([old], unbooked, a=replace(WELL, left_seconds=900.0)))
    assert "new" in phases(one_step([old], unbooked, a=replace(WELL, left_seconds=499.0)))
    # A job whose whole limit is short would be renewed for ever.
    young = member("a", "full", Phase.SERVING, age=5.0)
    assert "new" not in phases(one_step([young], FULL, a=replace(WELL, left_seconds=600.0)))
    lost = member("a", "full", Phase.SERVING, age=500.0, absent_seconds=980.0)
    assert phases(one_step([lost], FULL, a=replace(WELL, job=JobSeen.ABSENT))) == {
        "a": Phase.SERVING,
        "new": Phase.SUBMITTING,
    }


def test_times_from_before_a_reboot_count_from_now() -> None:
    old = replace(SERVING, since_seconds=5e6, running_seconds=5e6)
    new = replace(NEW, phase=Phase.STARTING, since_seconds=6e6, running_seconds=6e6)
    done = one_step([old, new], SMALL, a=WELL, b=replace(WELL, healthy=False))
    assert all(found.since_seconds == 1000.0 for found in done.state.members)

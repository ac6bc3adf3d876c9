"""Moves to lighter model tiers: only with consent, only for what lasts, once, and no more than is needed."""

from dataclasses import replace
from datetime import timedelta

import pytest

from slurm_power.model.action import ChangeTier, HoldJob
from slurm_power.model.grid_event import LimitEvent
from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.model.progress import JobProgress
from slurm_power.model.service import Backend, BackendState, Service
from slurm_power.model.snapshot import Lost, TierMove
from slurm_power.model.tier import PowerSource
from slurm_power.plan.loads import load_table
from slurm_power.plan.planner import guard_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import AT, pending, running
from tests.plan.tier_situations import (
    DIGITS,
    FULL,
    HALF,
    POLICY,
    catalog,
    consenting,
    event,
    facing,
    family,
    moves,
    planned,
    saves,
    tier,
)


def test_a_consenting_job_is_moved_before_an_event() -> None:
    (move,) = [one for one in planned(facing()).actions if isinstance(one, ChangeTier)]
    assert (move.job_id, move.tier, move.gpu_count, move.running) == ("1", "digits/half", 4, True)
    # Four GPUs at 600 W, each with 225 W of host, go back to 75 W of idling: 4 x 750 W.
    assert move.saved_watts == pytest.approx(3_000.0)
    assert "in 120 s, for 60 min" in move.reason
    assert "accuracy 0.98 instead of 0.98, on 4 instead of 8 GPUs" in move.reason


def test_the_guard_moves_nobody() -> None:
    assert moves(guard_cycle(facing(), POLICY)) == []


@pytest.mark.parametrize(
    "job",
    [
        consenting(tiers_ok=()),
        consenting(tiers_ok=("small",), min_quality=0.95),
        consenting(tiers_ok=("other",)),
        consenting(tier=""),
        consenting(tier="digits/unheard"),
        consenting(tier="elsewhere/full"),
        consenting(requeues=False),
        consenting(workload=Workload.TRAINING, tiers_ok=("any",)),
        consenting(time_limit_seconds=900.0),
        replace(consenting(), state=JobState.SUSPENDED),
        replace(consenting(), started=AT - timedelta(seconds=5.0)),
        replace(consenting(), finish_by=AT + timedelta(seconds=35_450.0)),
    ],
    ids=[
        "no consent",
        "not good enough for its user",
        "another tier",
        "no tier",
        "a tier nobody knows",
        "a family nobody knows",
        "may not be queued again",
        "a training job that names none",
        "will have ended",
        "suspended",
        "has just started",
        "would end too late",
    ],
)
def test_who_is_never_moved(job: Job) -> None:
    assert moves(planned(facing((job,)))) == []


@pytest.mark.parametrize(
    "half",
    [
        tier("half", 4, value=0.89),
        tier("half", 4, value=None),
        tier("half", 4, watts_per_gpu=None),
        tier("half", 4, source=PowerSource.PROXY),
        tier("half", 4, source=PowerSource.UNKNOWN),
        tier("half", 4, approved_by=""),
        tier("half", 8),
        tier("half", 16, watts_per_gpu=100.0),
        tier("half", 4, items_per_second=80.0),
        tier("half", 4, items_per_second=None),
    ],
    ids=[
        "below the floor",
        "never measured",
        "power unknown",
        "power guessed",
        "source unknown",
        "not approved",
        "saves nothing",
        "needs more GPUs",
        "too slow for flex1",
        "as slow as its GPUs are few",
    ],
)
def test_what_nobody_is_moved_to(half: object) -> None:
    seen = facing(catalog=catalog(family(FULL, half)))  # type: ignore[arg-type]  # a tier of the table
    assert moves(planned(seen)) == []


def test_a_users_own_family_is_nobody_elses_to_choose_from() -> None:
    assert moves(planned(facing(catalog=catalog(replace(DIGITS, owner="alice"))))) == []


def test_slower_tiers_are_for_those_who_promised_to_be_slowed() -> None:
    slower = catalog(family(FULL, tier("half", 4, items_per_second=80.0)))
    for flex, is_moved in ((Flex.FLEX0, False), (Flex.FLEX1, False), (Flex.FLEX2, True), (Flex.FLEX3, True)):
        # Neither caps nor anything else could do it: what is left is whether the promise allows it.
        seen = facing((consenting(flex=flex, time_limit_seconds=7_200.0),), catalog=slower)
        seen = replace(seen, events=(event(5_000.0),))
        assert bool(moves(planned(seen))) is is_moved, flex


def test_late_in_its_run_a_job_is_slowed_no_more_than_its_class_allows() -> None:
    """What a slower tier would cost it in all is within a tenth of its limit; a fifth of its speed is not."""
    slower = catalog(family(FULL, tier("half", 4, items_per_second=80.0)))
    late = replace(consenting(time_limit_seconds=3_600.0), started=AT - timedelta(seconds=2_500.0))
    seen = facing((late,), catalog=slower, events=(event(5_000.0, starts_in=60.0),))
    assert moves(planned(seen)) == []
    flexible = replace(seen, jobs=(replace(late, flex=Flex.FLEX2),))
    assert moves(planned(flexible)) == [("1", "digits/half")]


def test_flex0_is_moved_where_it_consents_and_loses_nothing() -> None:
    job = consenting(flex=Flex.FLEX0)
    assert moves(planned(facing((job,)))) == [("1", "digits/half")]
    lost = {"1": Lost(seconds=1_000.0)}
    assert moves(planned(facing((job,), lost=lost))) == [("1", "digits/half")]
    # It does not say that it saves itself: it would begin anew.
    assert moves(planned(facing((job,), progress={}))) == []


def test_training_is_moved_only_by_name_and_if_it_saves_itself() -> None:
    training = catalog(family(FULL, HALF, workload=Workload.TRAINING))
    job = consenting(workload=Workload.TRAINING)
    assert moves(planned(facing((job,), catalog=training))) == [("1", "digits/half")]
    assert moves(planned(facing((job,), catalog=training, progress={}))) == []
    stale = {"1": replace(saves("1")["1"], age_seconds=3_600.0)}
    assert moves(planned(facing((job,), catalog=training, progress=stale))) == []


def test_what_is_done_again_counts_against_the_promise() -> None:
    # 600 s done anew are within a tenth of ten hours, and beyond a tenth of an hour and a half.
    assert moves(planned(facing(progress={}))) == [("1", "digits/half")]
    short = consenting(time_limit_seconds=5_400.0)
    assert moves(planned(facing((short,), progress={}))) == []
    word = JobProgress(
        step=100, samples_per_second=50.0, age_seconds=2.0, global_batch=100, checkpoint_step=50
    )
    assert moves(planned(facing((short,), progress={"1": word}))) == [("1", "digits/half")]


@pytest.mark.parametrize(
    "coming",
    [
        event(starts_in=400.0),
        event(lasts=500.0),
        event(12_000.0),
        replace(event(), event_id="ramp-up"),
    ],
    ids=["too far off", "too short", "high enough", "the site's own ramp"],
)
def test_what_is_no_reason_to_move(coming: LimitEvent) -> None:
    assert moves(planned(facing(events=(coming,)))) == []


def test_a_standing_limit_counts_once_it_has_been_short_for_long() -> None:
    seen = facing(events=())
    grid = replace(seen.site.circuits["grid"], limit_watts=8_000.0)
    seen = replace(seen, site=replace(seen.site, circuits={**seen.site.circuits, "grid": grid}))
    assert moves(planned(seen)) == []
    assert moves(planned(replace(seen, short_seconds={"grid": 300.0}))) == []
    assert moves(planned(replace(seen, short_seconds={"grid": 900.0}))) == [("1", "digits/half")]


def test_caps_that_cost_less_come_first() -> None:
    """A tenth off a flex3 inference is nearly free; the quality of the light tier is not."""
    poor = catalog(family(FULL, tier("half", 4, value=0.91)))
    seen = facing((consenting(flex=Flex.FLEX3),), events=(event(9_000.0),), catalog=poor)
    assert moves(planned(seen)) == []
    assert moves(planned(seen, replace(POLICY, quality_weight=0.0))) == [("1", "digits/half")]


def test_only_as_many_move_as_are_needed() -> None:
    jobs = tuple(consenting(str(number), node) for number, node in enumerate(("c1", "c2", "c3", "c4")))
    seen = facing(jobs, import_watts=30_000.0, events=(event(26_000.0),))
    assert len(moves(planned(seen))) == 2
    deeper = replace(seen, events=(event(15_000.0),))
    assert len(moves(planned(deeper))) == 4
    assert len(moves(planned(deeper, replace(POLICY, tier_moves_at_once=1)))) == 1


def test_what_is_on_its_way_is_not_asked_for_again() -> None:
    jobs = tuple(consenting(str(number), node) for number, node in enumerate(("c1", "c2", "c3", "c4")))
    seen = facing(jobs, import_watts=30_000.0, events=(event(26_000.0),))
    asked = moves(planned(seen))
    under_way = {
        job_id: TierMove(job_id=job_id, tier=name, asked_seconds_ago=20.0, running=True)
        for job_id, name in asked
    }
    assert moves(planned(replace(seen, tier_moves=under_way))) == []


def test_a_job_that_was_moved_rests() -> None:
    def last(seconds: float, *, done: bool = True) -> dict[str, TierMove]:
        return {"1": TierMove(job_id="1", tier="digits/full", asked_seconds_ago=seconds, done=done)}

    assert moves(planned(facing(tier_moves=last(3_000.0)))) == []
    assert moves(planned(facing(tier_moves=last(3_700.0)))) == [("1", "digits/half")]
    # Moved for this event already, if a while ago: once is enough.
    long = event(starts_in=-5_000.0, lasts=20_000.0)
    assert moves(planned(facing(events=(long,), tier_moves=last(4_000.0)))) == []
    assert moves(planned(facing(events=(long,), tier_moves=last(6_000.0)))) == [("1", "digits/half")]


def test_the_job_of_a_service_is_its_gateways_to_move() -> None:
    service = Service(
        name="chat",
        user="alice",
        account="physics",
        family="digits",
        full_tier="full",
        tiers_ok=(),
        serving="full",
        backends=(Backend(tier="full", state=BackendState.SERVING, job_id="1"),),
    )
    assert moves(planned(facing(services={"chat": service}))) == []


def test_a_yielded_node_keeps_its_job() -> None:
    assert moves(planned(facing(yielded_nodes=frozenset({"c1"})))) == []


def test_a_site_that_moves_nobody() -> None:
    assert moves(planned(facing(), Policy(tier_moves=False))) == []


def test_a_moved_job_comes_back_into_the_room_it_has_left() -> None:
    """While it waits to go on it is not held, though its circuit has no room for anybody else."""
    waits = replace(
        pending("1", 4, workload=Workload.INFERENCE), tier="digits/half", tiers_ok=("half",), requeues=True
    )
    other = pending("2", 4, workload=Workload.INFERENCE)
    seen = facing((running("9", ("c1",)), waits, other), events=(event(starts_in=-5.0),))
    move = TierMove(job_id="1", tier="digits/half", asked_seconds_ago=60.0, running=True)
    held = [one.job_id for one in planned(seen).actions if isinstance(one, HoldJob)]
    assert held == ["1", "2"]
    seen = replace(seen, tier_moves={"1": move})
    held = [one.job_id for one in planned(seen).actions if isinstance(one, HoldJob)]
    assert held == ["2"]


def test_saved_watts_are_of_the_jobs_own_draw() -> None:
    seen = facing()
    assert load_table(seen, POLICY).uncapped_watts.tolist() == [600.0]

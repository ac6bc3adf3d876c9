"""Waiting jobs that are changed in place: instead of a hold, or before they make a shortage worse."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from slurm_power.model.action import ChangeTier, HoldJob
from slurm_power.model.expected_power import ExpectedPower
from slurm_power.model.job import Flex, Job, Workload
from slurm_power.model.snapshot import HoldLease, Snapshot, TierMove
from slurm_power.model.tier import Catalog, PowerSource
from slurm_power.plan.holds import added_watts
from slurm_power.plan.job_table import pending_jobs
from slurm_power.plan.loads import expected_watts, pending_watts, start_watts
from slurm_power.plan.policy import Policy
from tests.plan.situations import AT, pending, running
from tests.plan.tier_situations import FULL, POLICY, catalog, event, facing, family, moves, planned, tier

FIRM = running("9", ("c1",), flex=Flex.FLEX0)


def waiting(
    job_id: str = "5",
    *,
    tiers_ok: tuple[str, ...] = ("half", "small"),
    flex: Flex = Flex.FLEX3,
    expected_in: float | None = None,
) -> Job:
    return replace(
        pending(job_id, 8, flex=flex, workload=Workload.INFERENCE),
        tier="digits/full",
        tiers_ok=tiers_ok,
        expected_start=None if expected_in is None else AT + timedelta(seconds=expected_in),
    )


def held(
    job: Job, *, free_watts: float = 4_500.0, families: Catalog | None = None, **more: object
) -> Snapshot:
    """A job that would add 6 kW is held where ``free_watts`` are free."""
    seen = facing((FIRM, job), events=())
    grid = replace(seen.site.circuits["grid"], limit_watts=(10_000.0 + free_watts) / 0.98)
    seen = replace(
        seen,
        site=replace(seen.site, circuits={**seen.site.circuits, "grid": grid}),
        holds={job.job_id: HoldLease(job_id=job.job_id, held_seconds=30.0, ends_in_seconds=50.0)},
        catalog=catalog() if families is None else families,
    )
    return replace(seen, **more)  # type: ignore[arg-type]  # fields of the snapshot


def test_a_held_job_is_changed_to_the_best_tier_that_fits() -> None:
    plan = planned(held(waiting()))
    (change,) = [one for one in plan.actions if isinstance(one, ChangeTier)]
    assert (change.job_id, change.tier, change.gpu_count, change.running) == ("5", "digits/half", 4, False)
    assert change.saved_watts == pytest.approx(3_000.0)
    assert "would add 6.0 kW where grid has no room for it" in change.reason
    assert moves(planned(held(waiting(), free_watts=1_500.0))) == [("5", "digits/small")]
    assert moves(planned(held(waiting(), free_watts=500.0))) == []


def test_the_hold_stays_until_the_change_shows_and_then_the_job_starts() -> None:
    renew = held(waiting())
    lease = replace(renew.holds["5"], ends_in_seconds=5.0)
    plan = planned(replace(renew, holds={"5": lease}))
    assert [one.job_id for one in plan.actions if isinstance(one, HoldJob)] == ["5"]
    shown = replace(waiting(), tier="digits/half", gpu_count=4)
    move = TierMove(job_id="5", tier="digits/half", asked_seconds_ago=3.0)
    plan = planned(held(shown, tier_moves={"5": move}))
    assert moves(plan) == []
    assert not any(isinstance(one, HoldJob) for one in plan.actions)


@pytest.mark.parametrize(
    ("job", "families"),
    [
        (waiting(tiers_ok=()), None),
        (replace(waiting(), min_quality=0.99), None),
        (replace(waiting(), workload=Workload.TRAINING, tiers_ok=("any",)), None),
        (replace(waiting(), held_by_user=True), None),
        (waiting(flex=Flex.FLEX1), catalog(family(FULL, tier("half", 4, items_per_second=50.0)))),
        (waiting(), catalog(family(FULL, tier("half", 4, value=0.5)))),
        (waiting(), catalog(family(FULL, tier("half", 4, source=PowerSource.PROXY)))),
        (waiting(), Catalog()),
    ],
    ids=[
        "no consent",
        "not good enough",
        "a training job that names none",
        "held by its user",
        "too slow for flex1",
        "refused",
        "power guessed",
        "no catalog",
    ],
)
def test_who_is_left_waiting(job: Job, families: Catalog | None) -> None:
    assert moves(planned(held(job, families=families))) == []


def test_a_job_is_changed_once() -> None:
    for done in (False, True):
        move = TierMove(job_id="5", tier="digits/half", asked_seconds_ago=100.0, done=done)
        assert moves(planned(held(waiting(), tier_moves={"5": move}))) == []
    assert moves(planned(held(waiting()), Policy(tier_moves=False))) == []


def test_two_are_not_changed_into_the_room_of_one() -> None:
    jobs = (FIRM, waiting("5", tiers_ok=("half",)), waiting("6", tiers_ok=("half",)))
    leases = {
        job_id: HoldLease(job_id=job_id, held_seconds=30.0, ends_in_seconds=50.0) for job_id in ("5", "6")
    }
    seen = replace(held(waiting()), jobs=jobs, holds=leases)
    assert len(moves(planned(seen))) == 1


def test_a_job_about_to_start_before_an_event_starts_light() -> None:
    near = facing((FIRM, waiting(tiers_ok=("half",), expected_in=30.0)), events=(event(9_000.0),))
    assert moves(planned(near)) == [("5", "digits/half")]
    for later in (
        facing((FIRM, waiting(expected_in=4_000.0)), events=(event(9_000.0),)),
        facing((FIRM, waiting()), events=(event(9_000.0),)),
        facing((FIRM, waiting(expected_in=30.0)), events=(event(20_000.0),)),
    ):
        assert moves(planned(later)) == []


def test_a_job_with_a_known_tier_is_expected_to_draw_what_that_draws() -> None:
    seen = facing((FIRM, waiting()), events=())
    job = seen.jobs[1]
    assert expected_watts(seen, job, POLICY) == start_watts(seen, job, POLICY) == 600.0
    assert pending_watts(seen, job, POLICY) == pytest.approx(8 * 750.0)
    assert added_watts(seen, pending_jobs(seen), POLICY).tolist() == [750.0]
    guessed = catalog(family(tier("full", 8, source=PowerSource.PROXY)))
    assert expected_watts(replace(seen, catalog=guessed), job, POLICY) == POLICY.inference_gpu_watts
    assert expected_watts(seen, replace(job, tier=""), POLICY) == POLICY.inference_gpu_watts


def test_what_was_seen_of_the_job_itself_counts_more_until_it_changes_its_tier() -> None:
    seen = facing((FIRM, waiting()), events=())
    job = seen.jobs[1]
    like_it = ExpectedPower(mean_watts=333.0, p95_watts=350.0, known_from="bob's", jobs=9)
    assert expected_watts(replace(seen, expected={"5": like_it}), job, POLICY) == 600.0
    own = replace(like_it, own_seconds=120.0)
    known = replace(seen, expected={"5": own})
    assert expected_watts(known, job, POLICY) == 333.0
    assert np.allclose(added_watts(known, pending_jobs(known), POLICY), 333.0 - 75.0 + 225.0)
    move = TierMove(job_id="5", tier="digits/full", asked_seconds_ago=9.0, running=True)
    assert expected_watts(replace(known, tier_moves={"5": move}), job, POLICY) == 600.0

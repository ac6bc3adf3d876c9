"""Any made-up site: consent, floors and promises are kept, and no more is taken than needed."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from slurm_power.model.action import ChangeTier, Plan, SwitchService
from slurm_power.model.job import Job, JobState, Workload
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.tier import ANY_TIER, Catalog, refusals
from slurm_power.plan.lasting_needs import lasting_needs
from slurm_power.plan.loads import load_table
from slurm_power.plan.planner import guard_cycle, plan_cycle
from slurm_power.plan.prices import tier_slowdown_ratio
from slurm_power.plan.promises import spare_seconds
from slurm_power.plan.services import overlap_room
from tests.plan.tier_sites import situations
from tests.plan.tier_situations import POLICY

quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]


def plan(snapshot: Snapshot) -> Plan:
    return plan_cycle(snapshot, POLICY, hold_seconds=60.0)


def check(seen: Snapshot) -> None:
    """Everything that a plan promises about tiers, of one moment."""
    found = plan(seen)
    check_consent(seen, found)
    check_services(seen, found)
    check_enough(seen, found)


@settings(max_examples=500, deadline=None, suppress_health_check=quiet)
@given(situations())
def test_consent_floors_promises_and_room_are_kept_and_no_more_is_taken(seen: Snapshot) -> None:
    check(seen)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=4_000, deadline=None, suppress_health_check=quiet)
@given(situations())
def test_the_same_of_many_more_sites(seen: Snapshot) -> None:
    check(seen)


def check_consent(seen: Snapshot, found: Plan) -> None:
    """Nobody is moved without consent, below a floor, to an unknown power, or beyond a promise."""
    by_id = {job.job_id: job for job in seen.jobs}
    changes = [one for one in found.actions if isinstance(one, ChangeTier)]
    assert len({one.job_id for one in changes}) == len(changes)
    for change in changes:
        job = by_id[change.job_id]
        before, after = seen.catalog.find(job.tier), seen.catalog.find(change.tier)
        assert before is not None
        assert after is not None
        family, tier = after
        assert before[0] is family
        assert not family.owner
        assert not refusals(family, tier)
        assert tier.approved_by
        assert tier.watts is not None
        assert before[1].watts is not None
        assert tier.watts < before[1].watts
        assert change.gpu_count == tier.gpu_count <= job.gpu_count
        training = Workload.TRAINING in (job.workload, family.workload)
        assert tier.name in job.tiers_ok or (ANY_TIER in job.tiers_ok and not training)
        if job.min_quality is not None:
            assert tier.quality is not None
            assert tier.quality.value >= job.min_quality
        slower = tier_slowdown_ratio(before[1], tier)
        assert slower <= job.flex.max_slowdown_ratio
        if change.running:
            _check_running(seen, job, slower)
        else:
            assert job.state is JobState.PENDING


def _check_running(seen: Snapshot, job: Job, slower: float) -> None:
    word, last = seen.progress.get(job.job_id), seen.tier_moves.get(job.job_id)
    assert job.state is JobState.RUNNING
    assert job.requeues
    assert job.workload is not Workload.TRAINING or (word is not None and word.checkpoints)
    assert last is None or (last.done and last.asked_seconds_ago >= POLICY.tier_move_rest_seconds)
    assert not any(
        backend.job_id == job.job_id for service in seen.services.values() for backend in service.backends
    )
    if job.ends_by is not None:
        assert job.time_limit_seconds is not None
        assert job.started is not None
        rest = job.time_limit_seconds - (seen.at - job.started).total_seconds()
        spent = POLICY.tier_move_cost_seconds + rest * slower / (1.0 - slower)
        assert spent <= spare_seconds(seen, job) + 1e-6


def check_services(seen: Snapshot, found: Plan) -> None:
    """No service is asked for what it may not, or has no room for; none before it has stood a while."""
    switches = [one for one in found.actions if isinstance(one, SwitchService)]
    assert len({one.service for one in switches}) == len(switches)
    begun = []
    for switch in switches:
        lease = seen.service_leases.get(switch.service)
        if switch.tier is None or (lease is not None and lease.tier == switch.tier):
            continue
        begun.append(switch)
        service = seen.services[switch.service]
        family = seen.catalog.families[service.family]
        tier = family.tier(switch.tier)
        assert tier is not None
        assert tier.watts is not None
        assert not refusals(family, tier)
        assert tier.approved_by
        assert tier.name in service.tiers_ok or ANY_TIER in service.tiers_ok
        assert overlap_room(seen, POLICY, service, switch.tier) == 0.0
        assert lease is None or lease.asked_seconds_ago >= POLICY.service_dwell_seconds
    assert len(begun) <= 1


def check_enough(seen: Snapshot, found: Plan) -> None:
    """Whatever is begun, one of them less would not be enough for its circuit."""
    begun = [
        one
        for one in found.actions
        if (isinstance(one, ChangeTier) and one.running)
        or (
            isinstance(one, SwitchService) and one.tier is not None and one.service not in seen.service_leases
        )
    ]
    if not begun:
        return
    needs = lasting_needs(seen, load_table(seen, POLICY), POLICY, lead_seconds=POLICY.tier_move_lead_seconds)
    assert needs
    for need in needs:
        mine = [one.saved_watts for one in begun if need.why() in one.reason]
        # What is on its way may still come back as more: then more is needed, by what comes back.
        back = sum(
            600.0 * 16
            for move in seen.tier_moves.values()
            if move.running and not move.done and move.job_id not in load_table(seen, POLICY).placed.row
        )
        assert sum(mine) - max(mine, default=0.0) <= need.watts + 2.0 * back + 1e-6


@settings(max_examples=60, deadline=None, suppress_health_check=quiet)
@given(situations())
def test_the_same_moment_has_the_same_plan_and_without_a_catalog_none_of_this(seen: Snapshot) -> None:
    first = plan(seen)
    again = plan(replace(seen))
    assert first == again
    bare = replace(seen, catalog=Catalog(), services={}, service_leases={}, tier_moves={})
    plain = replace(bare, progress={}, short_seconds={})
    stripped = tuple(replace(job, tier="", tiers_ok=(), min_quality=None) for job in plain.jobs)
    assert plan(bare) == plan(replace(plain, jobs=stripped))
    assert not any(isinstance(one, ChangeTier | SwitchService) for one in plan(bare).actions)
    assert not any(isinstance(one, ChangeTier) for one in guard_cycle(seen, POLICY).actions)

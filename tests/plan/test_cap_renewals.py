"""Caps that stay: the actor is given the same action again, and another as soon as anything has changed."""

from dataclasses import replace
from datetime import timedelta

import pytest

from slurm_power.model.action import SetCap
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import CapLease, Snapshot
from slurm_power.plan.planner import guard_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import cap_lease, running, situation

POLICY = Policy()
JOBS = (running("1", ("c1",)), running("2", ("c3",)))
LEASE = cap_lease("1", 400.0)


def tight(lease: CapLease = LEASE, seconds: float = 0.0) -> Snapshot:
    """A second of a site that is just below its limit, with one of two jobs capped."""
    snapshot = situation(jobs=JOBS, gpu_watts={"1": 390.0, "2": 600.0}, caps={"1": lease})
    draw_watts = {name: reading.watts for name, reading in snapshot.circuits.items()}["grid"]
    assert draw_watts is not None
    circuits = dict(snapshot.site.circuits)
    circuits["grid"] = replace(circuits["grid"], limit_watts=draw_watts / (1.0 - POLICY.margin_ratio))
    site = replace(snapshot.site, circuits=circuits)
    return replace(snapshot, site=site, at=snapshot.at + timedelta(seconds=seconds))


def renewed(snapshot: Snapshot) -> SetCap:
    (action,) = [one for one in guard_cycle(snapshot, POLICY).actions if isinstance(one, SetCap)]
    return action


def test_a_cap_that_stays_is_the_same_action_again() -> None:
    first = tight()
    later = replace(first, at=first.at + timedelta(seconds=1), caps={"1": LEASE})
    action = renewed(first)
    assert (action.cap_watts, action.reason) == (400.0, "still needed")
    assert renewed(later) is action


@pytest.mark.parametrize(
    "changed",
    [
        replace(LEASE, kind=LimitKind.SAFETY),
        replace(LEASE, uncapped_watts=640.0),
        replace(LEASE, cap_watts=410.0),
    ],
)
def test_nothing_of_a_changed_lease_is_taken_from_the_cycle_before(changed: CapLease) -> None:
    first = tight()
    renewed(first)
    found = renewed(replace(first, caps={"1": changed}))
    alone = renewed(tight(changed))
    assert found == alone
    assert (found.kind, found.cap_watts) == (changed.kind, changed.cap_watts)
    assert found.saved_watts == pytest.approx(8 * (changed.uncapped_watts - changed.cap_watts))


def test_another_list_of_jobs_is_looked_through_anew() -> None:
    first = tight()
    renewed(first)
    moved = replace(first, jobs=(JOBS[1], JOBS[0]))
    assert renewed(moved) == renewed(tight())

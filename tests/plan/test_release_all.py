"""Giving everything back: nothing that stands is left out, and what holds a breaker is."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.action import (
    AdviseBatch,
    ReleaseJob,
    RelocateJob,
    ResumeJob,
    SetCap,
    SetDischarge,
    SwitchService,
)
from slurm_power.model.service import ServiceLease
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import (
    CapLease,
    HoldLease,
    PauseLease,
    Relocation,
    Snapshot,
    TierMove,
)
from slurm_power.plan.release_all import release_all
from tests.plan.situations import site, situation

KINDS = st.sampled_from(LimitKind)
IDS = st.sets(st.integers(1, 9).map(str), max_size=5)


def cap(job_id: str, kind: LimitKind) -> CapLease:
    return CapLease(job_id=job_id, cap_watts=400.0, kind=kind, uncapped_watts=600.0, changed_seconds_ago=9.0)


@st.composite
def snapshots(draw: Any) -> Snapshot:
    base = situation(import_watts=20_000.0)
    kind = draw(KINDS)
    return replace(
        base,
        site=site(grid_kind=kind),
        caps={one: cap(one, draw(KINDS)) for one in draw(IDS)},
        pauses={
            one: PauseLease(job_id=one, kind=draw(KINDS), drawn_watts=500.0, paused_seconds=5.0)
            for one in draw(IDS)
        },
        holds={one: HoldLease(job_id=one, held_seconds=1.0, ends_in_seconds=9.0) for one in draw(IDS)},
        relocations={
            one: Relocation(job_id=one, asked_seconds_ago=9.0, given_back=draw(st.booleans()))
            for one in draw(IDS)
        },
        micro_batches=dict.fromkeys(draw(IDS), 8),
        service_leases={
            one: ServiceLease(service=one, tier="f/small", kind=LimitKind.ECONOMIC, asked_seconds_ago=1.0)
            for one in draw(IDS)
        },
        setpoints={"battery": draw(st.sampled_from([-5000.0, 0.0, 5000.0]))},
    )


@given(snapshots(), st.booleans())
def test_each_lever_is_given_back_or_kept_for_a_breaker(snapshot: Snapshot, safety_too: bool) -> None:
    found = release_all(snapshot, "r", safety_too=safety_too)
    caps = {one.job_id for one in found.actions if isinstance(one, SetCap)}
    kept = {one for one, lease in snapshot.caps.items() if lease.kind is LimitKind.SAFETY and not safety_too}
    assert caps == set(snapshot.caps) - kept
    assert all(one.cap_watts is None for one in found.actions if isinstance(one, SetCap))
    resumed = {one.job_id for one in found.actions if isinstance(one, ResumeJob)}
    assert resumed == {
        one for one, lease in snapshot.pauses.items() if safety_too or lease.kind is LimitKind.ECONOMIC
    }
    assert {one.job_id for one in found.actions if isinstance(one, ReleaseJob)} == set(snapshot.holds)
    back = {one.job_id for one in found.actions if isinstance(one, RelocateJob)}
    away = {one for one, move in snapshot.relocations.items() if not move.given_back}
    assert back == away - set(snapshot.holds)
    assert {one.job_id for one in found.actions if isinstance(one, AdviseBatch)} == set(
        snapshot.micro_batches
    )
    assert {one.service for one in found.actions if isinstance(one, SwitchService)} == set(
        snapshot.service_leases
    )
    rests = [one for one in found.actions if isinstance(one, SetDischarge)]
    watts = snapshot.setpoints["battery"]
    breaker = snapshot.site.root.limit_kind is LimitKind.SAFETY and not safety_too
    assert len(rests) == (watts != 0.0 and not (watts > 0.0 and breaker))
    assert all(one.discharge_watts == 0.0 for one in rests)
    standing = len(found.kept_for_safety) + sum(found.counts.values())
    assert standing == len(found.actions) + len(found.kept_for_safety)
    # Each job is called for once: two calls at a time would be one too many.
    called = [one.job_id for one in found.actions if isinstance(one, ReleaseJob | RelocateJob)]
    assert len(called) == len(set(called))


def test_moves_under_way_are_counted_and_done_ones_are_not() -> None:
    moves = {
        "1": TierMove(job_id="1", tier="f/small", asked_seconds_ago=5.0),
        "2": TierMove(job_id="2", tier="f/small", asked_seconds_ago=5.0, done=True),
    }
    found = release_all(replace(situation(import_watts=1.0), tier_moves=moves), "r")
    assert found.counts["tier_moves"] == 1

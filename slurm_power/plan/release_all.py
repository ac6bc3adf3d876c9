"""Give everything back that an operator may have given back: all but what a safety limit holds on to."""

from collections.abc import Mapping
from dataclasses import dataclass

from slurm_power.model.action import (
    Action,
    AdviseBatch,
    ReleaseJob,
    RelocateJob,
    ResumeJob,
    SetCap,
    SetDischarge,
    SwitchService,
)
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What is given back, by lever, and what stays because a safety limit needs it."""

    actions: tuple[Action, ...]
    counts: Mapping[str, int]
    kept_for_safety: tuple[str, ...]


def release_all(snapshot: Snapshot, reason: str, *, safety_too: bool = False) -> Released:
    """Everything that stands in ``snapshot``, taken back.

    A cap or a pause made for a safety limit stays, and so does what a battery feeds in behind one: the next
    cycle would set it again, and a breaker does not wait for that. ``safety_too`` gives these back as well.
    """
    kept: list[str] = []
    caps: list[Action] = []
    for job_id, cap in snapshot.caps.items():
        if cap.kind is LimitKind.SAFETY and not safety_too:
            kept.append(f"cap on job {job_id}")
        else:
            caps.append(SetCap(job_id=job_id, cap_watts=None, kind=cap.kind, reason=reason))
    pauses: list[Action] = []
    for job_id, pause in snapshot.pauses.items():
        if pause.kind is LimitKind.SAFETY and not safety_too:
            kept.append(f"pause of job {job_id}")
        else:
            pauses.append(ResumeJob(job_id=job_id, reason=reason))
    setpoints: list[Action] = []
    for name, watts in snapshot.setpoints.items():
        if watts > 0.0 and not safety_too and _before_a_breaker(snapshot, name):
            kept.append(f"discharge of {name}")
        elif watts:
            setpoints.append(SetDischarge(ess=name, discharge_watts=0.0, reason=reason))
    holds: list[Action] = [ReleaseJob(job_id=job_id, reason=reason) for job_id in snapshot.holds]
    moved: list[Action] = [
        RelocateJob(job_id=job_id, avoid=(), reason=reason)
        for job_id, one in snapshot.relocations.items()
        # Both are noted in the same record of the job: its hold goes first, its nodes by the next plan.
        if not one.given_back and job_id not in snapshot.holds
    ]
    batches: list[Action] = [
        AdviseBatch(job_id=job_id, micro_batch=None, kind=LimitKind.ECONOMIC, reason=reason)
        for job_id in snapshot.micro_batches
    ]
    services: list[Action] = [
        SwitchService(service=name, tier=None, kind=LimitKind.ECONOMIC, reason=reason)
        for name in snapshot.service_leases
    ]
    levers = {
        "caps": caps,
        "holds": holds,
        "pauses": pauses,
        "setpoints": setpoints,
        "relocations": moved,
        "micro_batches": batches,
        "services": services,
    }
    counts = {key: len(actions) for key, actions in levers.items()}
    counts["tier_moves"] = sum(not move.done for move in snapshot.tier_moves.values())
    actions = tuple(action for some in levers.values() for action in some)
    return Released(actions=actions, counts=counts, kept_for_safety=tuple(kept))


def _before_a_breaker(snapshot: Snapshot, ess: str) -> bool:
    """Whether a battery feeds in behind a circuit whose limit is a breaker's."""
    known = snapshot.site.ess.get(ess)
    if known is None:
        return False
    circuits = snapshot.site.circuits
    return any(circuits[name].limit_kind is LimitKind.SAFETY for name in snapshot.site.path(known.circuit))

"""A job as pictures of the site show it: what it asked for, what it draws, what is done about it and why."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from slurm_power.controller.answers.expect_answer import expected_row
from slurm_power.model.job import Job
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import JobLoad

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller


def job_row(controller: "Controller", snapshot: Snapshot, job: Job, load: JobLoad | None) -> dict[str, Any]:
    """One job of a snapshot, with what is done about it."""
    cap = controller.levers.caps.get(job.job_id)
    hold = snapshot.holds.get(job.job_id)
    pause = snapshot.pauses.get(job.job_id)
    record = controller.recorder.job_record(job.job_id)
    held = controller.levers.holds.get(job.job_id)
    return {
        "job_id": job.job_id,
        "user": job.user,
        "account": job.account,
        "name": job.name,
        "state": job.state.value,
        "workload": job.workload.value,
        "flex": job.flex.value,
        "max_hold_seconds": job.max_hold_seconds,
        "finish_by": None if job.finish_by is None else job.finish_by.isoformat(),
        "deadline": None if job.deadline is None else job.deadline.isoformat(),
        "own_cap_watts": job.own_cap_watts,
        "tier": job.tier or None,
        "tiers_ok": list(job.tiers_ok),
        "progress": _progress(snapshot, job),
        "min_quality": job.min_quality,
        "gpu_count": job.gpu_count,
        "nodes": list(job.nodes),
        "gpu_watts": load.gpu_watts * job.gpu_count if load is not None and load.reachable else None,
        "energy_joules": record.get("energy_joules"),
        "coverage_ratio": record.get("coverage_ratio"),
        "cap_watts": cap.cap_watts if cap else None,
        "lock_hertz": cap.lock_hertz if cap else None,
        "cap_kind": cap.kind.value if cap else None,
        "cap_reason": cap.reason if cap else "",
        "cap_is_own": cap.own if cap else False,
        "slowdown_ratio": cap.slowdown_ratio if cap else 0.0,
        "held_seconds": controller.levers.held_seconds(job.job_id, snapshot.at),
        "hold_ends_in_seconds": hold.ends_in_seconds if hold else None,
        "hold_reason": held.reason if held else "",
        "paused_seconds": pause.paused_seconds if pause else None,
        "pause_reason": controller.levers.paused.reason(job.job_id),
        "pending_reason": job.pending_reason,
        **expected_row(snapshot.expected.get(job.job_id)),
    }


def _progress(snapshot: Snapshot, job: Job) -> dict[str, Any] | None:
    """What a job tells of itself, None where it tells nothing."""
    word = snapshot.progress.get(job.job_id)
    return None if word is None else asdict(word)

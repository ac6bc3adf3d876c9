"""Answers about model tiers: to gateways, to who advises a running job, and which runs a job had."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from slurm_power import clock
from slurm_power.controller.answers.asked import number
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.controller.jobs.lineage import runs_of
from slurm_power.controller.tiers.advice_book import Word
from slurm_power.model.job import Job, JobState
from slurm_power.wire import Message

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller

_ACTIONS = ("run", "pause", "checkpoint")
_MOST_BATCH = 1 << 30
_LONGEST_SECONDS = 7 * 86_400.0
_USUAL_SECONDS = 3600.0
_LONGEST_REASON = 200


def service(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Take a gateway's word, and answer what its service is to serve with; raises RefusedError."""
    # Hundreds of gateways ask every two seconds: what was planned on is a second old at most.
    snapshot = controller.planned_on or controller.snapshot()
    return controller.tiers.services.answer(
        snapshot, request, caller, clock.monotonic(), enabled=controller.mode == "control"
    )


def service_rows(controller: "Controller", user: str | None) -> list[dict[str, Any]]:
    """The services of a user; None for all."""
    return controller.tiers.services.rows(clock.monotonic(), user=user)


def advise(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Say a word to a running job, in place of the one before; raises RefusedError with all that is wrong.

    With ``clear``, or neither ``micro_batch`` nor ``action``, the word before is taken back.
    """
    job = _job(controller, request, caller)
    problems: list[str] = []
    micro_batch, action = request.get("micro_batch"), request.get("action")
    if request.get("clear") is True:
        micro_batch = action = None
    if micro_batch is not None and (type(micro_batch) is not int or not 1 <= micro_batch <= _MOST_BATCH):
        problems.append(f"micro_batch: not a whole number from 1 to {_MOST_BATCH}")
    if action is not None and action not in _ACTIONS:
        problems.append(f"action: not one of {', '.join(_ACTIONS)}")
    seconds = number(request, "seconds")
    if seconds is not None and not 0.0 < seconds <= _LONGEST_SECONDS:
        problems.append("seconds: for how long it holds, up to a week")
    progress = controller.telemetry.progress(clock.monotonic()).get(job.job_id)
    if action == "checkpoint" and progress is not None and not progress.checkpoints:
        problems.append(f"action: job {job.job_id} does not save itself when asked")
    if problems:
        raise RefusedError("; ".join(problems))
    word = _word(request, caller, micro_batch, action, _USUAL_SECONDS if seconds is None else seconds)
    details = {"micro_batch": micro_batch, "action": action, "seconds": seconds}
    controller.tiers.advise(job, caller.user, word, details)
    return {"progress": None if progress is None else asdict(progress)}


def lineage(controller: "Controller", request: Message, caller: Caller) -> Message:
    """The runs of a job, also of one that has ended; empty for what is unknown or somebody else's."""
    job_id = str(request.get("job_id"))
    record = dict(controller.recorder.job_record(job_id)) or controller.store.job(job_id)
    if not record or not (caller.sees_all or record.get("user") == caller.user):
        return {"job": None, "runs": []}
    keys = ("job_id", "user", "name", "state", "workload", "tier", "started", "ended")
    return {"job": {key: record.get(key) for key in keys}, "runs": runs_of(record)}


def _job(controller: "Controller", request: Message, caller: Caller) -> Job:
    job_id = request.get("job_id")
    jobs = {job.job_id: job for job in controller.snapshot().jobs}
    job = jobs.get(job_id) if isinstance(job_id, str) else None
    user = caller.user
    # Whether somebody else's job is there is nobody's business.
    if job is None or not (caller.operator or job.user == user):
        raise RefusedError(f"job_id: you have no job {str(job_id)[:20]}")
    if job.state not in (JobState.RUNNING, JobState.SUSPENDED):
        raise RefusedError(f"job_id: job {job.job_id} does not run: it is {job.state.value}")
    return job


def _word(
    request: Message, caller: Caller, micro_batch: object, action: object, seconds: float
) -> Word | None:
    if micro_batch is None and action in (None, "run"):
        return None
    said = str(request.get("reason") or "").strip()[:_LONGEST_REASON]
    reason = f"{caller.user} asks for it" + (f": {said}" if said.isprintable() and said else "")
    return Word(
        reason=reason,
        until_seconds=clock.monotonic() + seconds,
        micro_batch=micro_batch if isinstance(micro_batch, int) else None,
        action=action if isinstance(action, str) and action != "run" else None,
    )

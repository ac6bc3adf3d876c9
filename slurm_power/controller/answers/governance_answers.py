"""Deeds of operators on the automation as a whole, the site's policy in words, and appeals against it."""

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from slurm_power.controller.answers.asked import need_operator, number, text
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.controller.governance.appeal_desk import AppealError
from slurm_power.controller.governance.operators import actor_of
from slurm_power.model.appeal import MOST_TEXT
from slurm_power.model.job import Job
from slurm_power.plan.policy_words import PolicyLine, policy_lines
from slurm_power.plan.release_all import release_all as what_is_released
from slurm_power.plan.weights import WEIGHT_KEYS, WeightsError, weights_of
from slurm_power.wire import Message

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller

_LONGEST_PAUSE_SECONDS = 31 * 86_400.0
_WHY = "it is what users and auditors will read"
_MOST_KEPT_TOLD = 20


def iso_or_none(moment: datetime | None) -> str | None:
    """A moment as answers carry it."""
    return None if moment is None else moment.isoformat()


def _refuse(problems: list[str]) -> None:
    if problems:
        raise RefusedError("; ".join(problems))


def control(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Switch acting on or off, for good or for a time; all problems are said at once."""
    need_operator(caller, "switch the control on or off")
    problems: list[str] = []
    enabled = request.get("enabled")
    if not isinstance(enabled, bool):
        problems.append("enabled: must be true or false")
    seconds = None
    try:
        seconds = number(request, "for_seconds")
    except RefusedError as error:
        problems.append(str(error))
    if seconds is not None and not 1.0 <= seconds <= _LONGEST_PAUSE_SECONDS:
        problems.append("for_seconds: must be between 1 second and 31 days; leave it out for no end")
    reason = text(request, "reason", problems, why=_WHY)
    _refuse(problems)
    controller.control.switch(
        enabled=bool(enabled), seconds=seconds, actor=actor_of(caller.who), reason=reason
    )
    return {
        "mode": controller.mode,
        "paused_until": iso_or_none(controller.control.paused_until),
        "ends_at": iso_or_none(controller.control.ends_at),
    }


def release_all(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Give everything back in the next cycle; what a safety limit needs stays unless ``safety_too``."""
    need_operator(caller, "give everything back")
    problems: list[str] = []
    safety_too = request.get("safety_too", False)
    if not isinstance(safety_too, bool):
        problems.append("safety_too: must be true or false")
    reason = text(request, "reason", problems, why=_WHY)
    _refuse(problems)
    released = what_is_released(controller.snapshot(), reason, safety_too=bool(safety_too))
    controller.control.release_all(
        released, actor=actor_of(caller.who), reason=reason, safety_too=bool(safety_too)
    )
    return {
        "mode": controller.mode,
        "released": dict(released.counts),
        "kept_for_safety": list(released.kept_for_safety[:_MOST_KEPT_TOLD]),
        "kept_for_safety_count": len(released.kept_for_safety),
    }


def weights(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Without ``weights``: what is in force, for anybody. With them: put them in place of site.toml's."""
    desk = controller.governance.policy
    if "weights" in request:
        need_operator(caller, "set weights")
        problems: list[str] = []
        given: Any = request["weights"]
        if given is not None and not isinstance(given, dict):
            problems.append("weights: must be a table of weights, or null for those of site.toml")
        elif given == {}:
            problems.append("weights: name at least one, or give null for those of site.toml")
        reason = text(request, "reason", problems, why=_WHY)
        if isinstance(given, dict):
            problems += _weight_problems(controller, given)
        _refuse(problems)
        controller.use_policy(desk.set_weights(given, actor=actor_of(caller.who), reason=reason))
    return {
        "weights": weights_of(desk.policy),
        "overridden": desk.override_row(),
        "known": list(WEIGHT_KEYS),
    }


def _weight_problems(controller: "Controller", given: dict[str, Any]) -> list[str]:
    try:
        controller.governance.policy.with_weights(given)
    except WeightsError as error:
        return error.problems
    return []


def policy(controller: "Controller", _request: Message, _caller: Caller) -> Message:
    """The site's policy in words and numbers, for anybody."""
    config, desk = controller.config, controller.governance.policy
    table = config.governance
    lines = policy_lines(config.policy, config.site, admission=config.admission.enabled)
    return {
        "site": config.site.name,
        "mode": controller.mode,
        "paused_until": iso_or_none(controller.control.paused_until),
        "lines": [line_row(line) for line in lines],
        "owner": table.owner,
        "contact": table.contact,
        "appeals": table.appeals,
        "answer_days": table.answer_days,
        "most_open_appeals": table.most_open_appeals,
        "review_by": None if table.review_by is None else table.review_by.isoformat(),
        "overdue": table.review_by is not None and table.review_by < controller.now().date(),
        "text": desk.text,
        "weights_overridden": desk.override_row(),
        **desk.row(),
    }


def line_row(line: PolicyLine) -> Message:
    """One rule as an answer carries it."""
    row = asdict(line)
    return {**row, "flexes": list(line.flexes), "workloads": list(line.workloads)}


def policy_for(controller: "Controller", job: Job) -> Message:
    """What of the policy concerns a job that is asked about before it is submitted, and where to appeal."""
    config = controller.config
    lines = policy_lines(config.policy, config.site, admission=config.admission.enabled)
    table = config.governance
    return {
        "lines": [line.text for line in lines if line.topic != "limits" and line.concerns(job)],
        "mode": controller.mode,
        "paused_until": iso_or_none(controller.control.paused_until),
        "owner": table.owner,
        "contact": table.contact,
        "appeals": table.appeals,
    }


def policy_sign(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Put the caller's name and a reason to the changes of the policy that nobody stands for yet."""
    need_operator(caller, "sign changes of the policy")
    problems: list[str] = []
    reason = text(request, "reason", problems, why=_WHY)
    _refuse(problems)
    signed = controller.governance.policy.sign(actor=actor_of(caller.who), who=caller.who, reason=reason)
    if not signed:
        raise RefusedError("no change of the policy waits for a signature")
    return {"signed": signed}


def appeal(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Take an appeal of the job's own user."""
    problems: list[str] = []
    job_id = request.get("job_id")
    job_id = job_id if isinstance(job_id, str) and 0 < len(job_id) <= 64 else ""
    if not job_id:
        problems.append("job_id: missing; it is the number of a job of yours")
    words = text(request, "text", problems, most=MOST_TEXT, why="say what was wrong")
    _refuse(problems)
    record = dict(controller.recorder.job_record(job_id)) or controller.store.job(job_id)
    here = next((job.user for job in controller.snapshot().jobs if job.job_id == job_id), None)
    user = caller.user
    if user not in (here, record.get("user")):
        raise RefusedError(f"job_id: no job {job_id} of yours is known; only a job's own user may appeal")
    try:
        made = controller.governance.appeals.appeal(job_id=job_id, user=user, who=caller.who, text=words)
    except AppealError as error:
        raise RefusedError(str(error)) from None
    table = controller.config.governance
    return {"appeal_id": made.appeal_id, "answer_days": table.answer_days, "contact": table.contact}


def appeal_answer(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Take an operator's answer to an appeal."""
    need_operator(caller, "answer an appeal")
    problems: list[str] = []
    appeal_id = text(request, "appeal_id", problems, most=40)
    words = text(request, "text", problems, most=MOST_TEXT, why="it is what its user will read")
    _refuse(problems)
    try:
        done = controller.governance.appeals.answer(appeal_id, actor=actor_of(caller.who), text=words)
    except AppealError as error:
        raise RefusedError(str(error)) from None
    return {"appeal_id": done.appeal_id, "job_id": done.job_id, "user": done.user}


def appeals(controller: "Controller", caller: Caller) -> Message:
    """The appeals that wait and the last that were answered; a user's own, all for operators."""
    rows = controller.governance.appeals.rows(None if caller.operator else caller.user)
    return {"appeals": rows}

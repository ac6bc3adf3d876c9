"""What may be asked of a job before it is submitted: what it will draw, and whether it would be held."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from slurm_power.controller.user_socket import Caller, RefusedError
from slurm_power.forecast.job_power import Submission
from slurm_power.model.expected_power import ExpectedPower
from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.job_table import latest_start_at, longest_hold_seconds
from slurm_power.plan.loads import pending_watts
from slurm_power.plan.planner import hold_of
from slurm_power.wire import Message

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller

_MOST_GPUS = 1_000_000
_MOST_CAP_WATTS = 100_000
_LAST_EPOCH_SECONDS = 253_402_300_799
_LONGEST_SECONDS = 1e9
_LONGEST_WORD = 200
# No job of Slurm's has such an id.
_ASKED = "asked"


def expect(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Answer `expect`: only operators may ask about somebody else's jobs."""
    problems: list[str] = []
    asker = caller.user
    user = _word(request, "user", problems) or asker
    workload = _one_of(request, "workload", Workload, Workload.TRAINING, problems)
    flex = _one_of(request, "flex", Flex, Flex.FLEX0, problems)
    gpus = int(_number(request, "gpus", _MOST_GPUS, problems) or 0)
    limit_seconds = _number(request, "time_limit_seconds", _LONGEST_SECONDS, problems)
    most_hold_seconds = _number(request, "max_hold_seconds", _LONGEST_SECONDS, problems)
    own_cap_watts = _number(request, "cap_watts", _MOST_CAP_WATTS, problems)
    finish_by, deadline = (_moment(request, key, problems) for key in ("finish_by", "deadline"))
    told = {key: _word(request, key, problems) for key in ("name", "account", "tier", "gpu_type")}
    if problems:
        raise RefusedError("; ".join(problems))
    if user != asker and not caller.operator:
        raise RefusedError(f"{asker} may not ask what jobs of {user} draw")
    snapshot = controller.snapshot()
    own = any(job.user == user and job.account == told["account"] for job in snapshot.jobs)
    if not caller.operator and not own:
        # What an account's jobs draw may be what one other user's draw.
        told["account"] = ""
    submission = Submission(user=user, workload=workload.value, gpus=float(gpus or 1), **told)
    found = controller.expectations.expect(submission)
    job = Job(
        job_id=_ASKED,
        user=user,
        account=told["account"],
        name=told["name"],
        state=JobState.PENDING,
        gpu_count=gpus,
        workload=workload,
        flex=flex,
        time_limit_seconds=limit_seconds,
        max_hold_seconds=most_hold_seconds,
        own_cap_watts=own_cap_watts or None,
        finish_by=finish_by,
        deadline=deadline,
    )
    policy = controller.config.policy
    asked = controller.expectations.with_one(snapshot, _ASKED, found)
    hold_seconds = controller.config.controller.hold_lease_seconds
    hold = hold_of(asked, job, policy, hold_seconds=hold_seconds) if gpus else None
    return {
        "expected": {"workload": workload.value, "flex": flex.value, "gpus": gpus, **expected_row(found)},
        "site_watts": round(pending_watts(asked, job, policy)) if gpus else None,
        "held": hold is not None,
        "hold_reason": "" if hold is None else hold.reason,
        "longest_hold_seconds": round(_longest_hold_seconds(snapshot, job)),
    }


def _longest_hold_seconds(snapshot: Snapshot, job: Job) -> float:
    left_seconds = latest_start_at(job) - snapshot.at.timestamp()
    return max(0.0, min(longest_hold_seconds(job), left_seconds))


def expected_row(found: ExpectedPower | None) -> dict[str, Any]:
    """An expectation as an answer carries it; all null for a job of which no more than its class is known."""
    if found is None:
        return dict.fromkeys(_ROW)
    values = (getattr(found, name) for name in _FIELDS)
    rounded = (round(value, 1) if isinstance(value, float) else value for value in values)
    return dict(zip(_ROW, rounded, strict=True))


_FIELDS = (
    "mean_watts",
    "p95_watts",
    "start_step_watts",
    "ramp_seconds",
    "swing_watts",
    "known_from",
    "jobs",
    "own_seconds",
)
_ROW = tuple(f"expected_{name}" for name in _FIELDS)


def _word(request: Message, key: str, problems: list[str]) -> str:
    value = request.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST_WORD:
        problems.append(f"{key}: must be a text of {_LONGEST_WORD} letters at most")
        return ""
    return value


def _number(request: Message, key: str, most: float, problems: list[str]) -> float | None:
    value = request.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= most:
        problems.append(f"{key}: {str(value)[:40]!r} is not between 0 and {most:g}")
        return None
    return float(value)


def _moment(request: Message, key: str, problems: list[str]) -> datetime | None:
    seconds = _number(request, key, _LAST_EPOCH_SECONDS, problems)
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _one_of(request: Message, key: str, words: Any, default: Any, problems: list[str]) -> Any:
    value = request.get(key)
    if value is None:
        return default
    if value not in list(words):
        problems.append(f"{key}: {str(value)[:40]!r} is not one of {', '.join(words)}")
        return default
    return words(value)

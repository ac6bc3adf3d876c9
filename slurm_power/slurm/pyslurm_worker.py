"""``python -m slurm_power.slurm.pyslurm_worker``: Slurm through pyslurm, a line of JSON each way.

A process of its own, for three reasons: ``import pyslurm`` ends the process where there is no slurm.conf;
pyslurm holds the interpreter's lock while it waits for slurmctld, which may take minutes; and what ends badly
in Slurm's library ends this process alone. It ends by itself when its standard input does.
"""

import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Answer = dict[str, Any]
_GONE = "Invalid job id"


def answered(pyslurm: Any, request: dict[str, Any]) -> Answer:
    """Do what is asked; whatever goes wrong there is an answer."""
    operation = _OPERATIONS.get(str(request.get("op")))
    if operation is None:
        return {"error": f"unknown request {request.get('op')!r}"}
    try:
        return operation(pyslurm, request)
    except Exception as error:  # noqa: BLE001  # what pyslurm raises differs from version to version
        text = " ".join(str(error).split()) or type(error).__name__
        return {"gone": True} if _GONE in text else {"error": text}


def _version(pyslurm: Any, _request: dict[str, Any]) -> Answer:
    return {"version": str(pyslurm.__version__)}


def _record(pyslurm: Any, request: dict[str, Any]) -> Answer:
    """One job by the names of squeue's fields. ``other``: of an array or a het job, for others to tell."""
    job = pyslurm.Job.load(int(request["job_id"]))
    if job.id != int(request["job_id"]) or job.array_id is not None or job.heterogeneous_id:
        return {"other": True}
    return {"fields": _fields(job), "excluded": job.excluded_nodes or ""}


def _fields(job: Any) -> dict[str, str]:
    minutes = job.time_limit
    return {
        "JobID": str(job.id),
        "UserName": _user_name(job),
        "Account": job.account or "",
        "Name": job.name or "",
        "State": job.state or "",
        "Reason": job.state_reason or "",
        "NodeList": job.allocated_nodes or "",
        "NumNodes": str(job.num_nodes or 1),
        "NumTasks": str(job.ntasks or 1),
        "SubmitTime": _time(job.submit_time),
        "StartTime": _time(job.start_time),
        "EligibleTime": _time(job.eligible_time),
        "Deadline": _time(job.deadline),
        "TimeLimit": "" if minutes is None else f"{minutes}:00",
        "PriorityLong": "" if job.priority is None else str(job.priority),
        "admin_comment": job.admin_comment or "",
        "SchedNodes": job.scheduled_nodes or "",
        "Partition": job.partition or "",
        "ReqNodes": job.required_nodes or "",
        "Feature": ",".join(job.constraints or ()),
        "Requeue": str(int(bool(getattr(job, "is_requeueable", False)))),
        "BatchFlag": str(int(bool(getattr(job, "is_batch_job", False)))),
    }


def _user_name(job: Any) -> str:
    try:
        return job.user_name or str(job.user_id)
    except Exception:  # noqa: BLE001  # a user that this host does not know
        return str(job.user_id)


def _time(epoch_seconds: int | None) -> str:
    if not epoch_seconds:
        return ""
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _update(pyslurm: Any, request: dict[str, Any]) -> Answer:
    changes = pyslurm.JobSubmitDescription(**request["changes"])
    pyslurm.Job(int(request["job_id"])).modify(changes)
    return {}


def _suspend(pyslurm: Any, request: dict[str, Any]) -> Answer:
    pyslurm.Job(int(request["job_id"])).suspend()
    return {}


def _resume(pyslurm: Any, request: dict[str, Any]) -> Answer:
    pyslurm.Job(int(request["job_id"])).unsuspend()
    return {}


_OPERATIONS: dict[str, Callable[[Any, dict[str, Any]], Answer]] = {
    "version": _version,
    "record": _record,
    "update": _update,
    "suspend": _suspend,
    "resume": _resume,
}


def main() -> int:
    """Answer line by line until the input ends; exit status 1 and one line of reason where that is no use."""
    configuration = os.environ.get("SLURM_CONF")
    if configuration and not Path(configuration).is_file():
        print(f"pyslurm: there is no {configuration}", file=sys.stderr)
        return 1
    # Slurm's library writes its complaints to standard output or error as it likes: answers have their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        import pyslurm  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415  # optional; ends the process at times
    except Exception as error:  # noqa: BLE001  # built against another Slurm it may fail in any way
        print(f"pyslurm: cannot be imported: {error}", file=sys.stderr)
        return 1
    for line in sys.stdin:
        answers.write(json.dumps(answered(pyslurm, json.loads(line))) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Turns what ``squeue`` prints into jobs. Pure text work, safe against what users write into job names.

Job names and comments may hold anything, line ends and ``JobState=RUNNING`` included, so the one-line form
of scontrol can be forged by its users. squeue ends each field with a text we choose: a mark that is random
for each call cannot be forged, and a field that a version does not know is simply missing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.slurm import admin_comment
from slurm_power.slurm.hostlist import expand
from slurm_power.slurm.node_note import node_note

FIELDS = (
    "JobID", "ArrayJobID", "ArrayTaskID", "HetJobID", "UserName", "Account", "Name", "State", "Reason",
    "NodeList", "NumNodes", "NumTasks", "tres-alloc", "tres-per-job", "tres-per-node", "tres-per-socket",
    "tres-per-task", "SubmitTime", "StartTime", "EligibleTime", "TimeLimit", "PriorityLong", "admin_comment",
    "SchedNodes", "Partition", "ReqNodes", "Feature", "Deadline", "Requeue", "BatchFlag",
)  # fmt: skip
_MARK = "\0"
# A job is whole with this field: what comes behind it is worth having, no more.
_LAST = "admin_comment"

_STATES = {
    "PENDING": JobState.PENDING,
    "REQUEUED": JobState.PENDING,
    "REQUEUE_FED": JobState.PENDING,
    "REQUEUE_HOLD": JobState.PENDING,
    "SPECIAL_EXIT": JobState.PENDING,
    "CONFIGURING": JobState.STARTING,
    "POWER_UP_NODE": JobState.STARTING,
    "RUNNING": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "SUSPENDED": JobState.SUSPENDED,
    "STOPPED": JobState.SUSPENDED,
    "COMPLETING": JobState.ENDING,
    "STAGE_OUT": JobState.ENDING,
    "BOOT_FAIL": JobState.ENDED,
    "CANCELLED": JobState.ENDED,
    "COMPLETED": JobState.ENDED,
    "DEADLINE": JobState.ENDED,
    "FAILED": JobState.ENDED,
    "LAUNCH_FAILED": JobState.ENDED,
    "NODE_FAIL": JobState.ENDED,
    "OUT_OF_MEMORY": JobState.ENDED,
    "PREEMPTED": JobState.ENDED,
    "RECONFIG_FAIL": JobState.ENDED,
    "REVOKED": JobState.ENDED,
    "TIMEOUT": JobState.ENDED,
}
_NOTHING = {"", "N/A", "(null)", "None", "Unknown", "NONE"}
_GPUS = re.compile(r"(?:gres[:/])?gpu(?::(?P<type>[^:=,()]+?))?(?:[:=](?P<count>\d+))?(?:\(.*\))?")
_TIME_LETTERS = len("2026-01-02T03:04:05")
# A queue of ten thousand jobs has some dozens of ways to ask for GPUs and time.
_KEPT = 4096
_LIMIT = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job as Slurm tells it, with what holding and releasing need beside the port's ``Job``.

    ``update_id`` is what scontrol is to be told, ``shared`` whether that is no number of one job alone: what
    waits of an array, a task of it, or a ``het`` job.
    """

    job: Job
    admin_comment: str
    eligible: datetime | None
    update_id: str
    shared: bool = False
    het: bool = False


def squeue_format(mark: str) -> str:
    """Return the ``--Format`` argument whose output :func:`parse_squeue` reads with the same mark.

    squeue takes leading digits for a field width and commas for the end of a field.
    """
    if mark[:1].isdigit() or mark[-1:].isdigit() or "," in mark:
        raise ValueError(f"{mark!r} cannot mark the end of a field")
    return ",".join(f"{name}:{mark}{index};" for index, name in enumerate(FIELDS))


def parse_squeue(text: str, mark: str) -> tuple[JobRecord, ...]:
    """Parse all jobs; raises ValueError if the text is cut short or is no such output."""
    return JobReader().read(text, mark)


class JobReader:
    """Reads one list after the other: a job of which squeue prints the very same is the same object.

    Of a queue's thousands of jobs few change from one look to the next.
    """

    def __init__(self) -> None:
        self._known: dict[str, JobRecord] = {}

    def read(self, text: str, mark: str) -> tuple[JobRecord, ...]:
        """Parse all jobs; raises ValueError if the text is cut short or is no such output."""
        # No text of a user's holds a zero, so it can stand for a mark that is another one each time.
        if _MARK in text:
            raise ValueError("holds a zero, which squeue never prints")
        text = text.replace(mark, _MARK)
        end = _end_of_job(text)
        *whole, rest = text.split(end) if end else [text]
        known = self._known
        new = [piece for piece in whole if piece not in known]
        names, rows = _rows(end.join([*new, rest]))
        fresh = iter([record_of(dict(zip(names, row, strict=True))) for row in rows])
        self._known = {piece: known.get(piece) or next(fresh) for piece in whole}
        return (*self._known.values(), *fresh)


def _end_of_job(text: str) -> str:
    """What each job of a list ends with, by its first one; empty where there is no second."""
    second = text.find(f"{_MARK}0;", text.find(f"{_MARK}0;") + 1)
    last = text.rfind(_MARK, 0, max(second, 0))
    end = text[last : text.find(";", last) + 2] if last >= 0 else ""
    return end if end.endswith(";\n") else ""


def _rows(text: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """Split a list into the names of its fields and a row of values for each job."""
    pieces = re.split(rf"{_MARK}(\d+);", text)
    values, indexes = pieces[0::2], pieces[1::2]
    if values.pop().strip():
        raise ValueError(f"ends in the middle of a job: {pieces[-1][-60:]!r}")
    if not indexes:
        return [], []
    # All jobs have the fields that this version knows, in our order: one look tells which.
    count = indexes.index("0", 1) if "0" in indexes[1:] else len(indexes)
    known, jobs = indexes[:count], -(-len(indexes) // count)
    if known != sorted(set(known), key=int) or known[0] != "0" or int(known[-1]) >= len(FIELDS):
        raise ValueError(f"unexpected fields {','.join(known)}")
    names = [FIELDS[int(index)] for index in known]
    if (known * jobs)[: len(indexes)] != indexes:
        raise ValueError("its jobs differ in their fields")
    if len(indexes) % count:
        # The last job may lack what is only worth having.
        whole = len(indexes) % count
        if _LAST not in names[:whole]:
            raise ValueError("ends in the middle of a job")
        values += [""] * (count - whole)
    if _LAST not in names:
        raise ValueError("ends in the middle of a job")
    columns = [values[place::count] for place in range(count)]
    columns[0] = [value.strip() for value in columns[0]]  # a line's end stands before each job but the first
    return names, list(zip(*columns, strict=True))


def record_of(fields: Mapping[str, str]) -> JobRecord:
    """One job from squeue's fields by their names; raises ValueError for what is none."""
    job_id = fields["JobID"]
    if not job_id.isdigit():
        raise ValueError(f"{job_id!r} is no job id")
    comment = fields.get("admin_comment", "")
    state = _state(fields)
    submitted, eligible = _time(fields, "SubmitTime"), _time(fields, "EligibleTime")
    asked = admin_comment.user_tags(comment)
    note = node_note(comment) if state is JobState.PENDING and '"avoid"' in comment else None
    own_begin = eligible is not None and (submitted is None or eligible > submitted)
    reason = fields.get("Reason", "")
    job = Job(
        job_id=job_id,
        user=fields.get("UserName", ""),
        account=_text(fields, "Account"),
        name=fields.get("Name", ""),
        state=state,
        gpu_count=_gpu_count(fields),
        workload=asked.workload or Workload.TRAINING,
        flex=asked.flex or Flex.FLEX0,
        nodes=expand(_text(fields, "NodeList")),
        submitted=submitted,
        started=None if state is JobState.PENDING else _time(fields, "StartTime"),
        begin=eligible if state is JobState.PENDING and own_begin else None,
        expected_start=_time(fields, "StartTime") if state is JobState.PENDING else None,
        time_limit_seconds=time_limit_seconds(fields.get("TimeLimit", "")),
        held_by_user=state is JobState.PENDING
        and (fields.get("PriorityLong") == "0" or reason.startswith(("JobHeldUser", "JobHeldAdmin"))),
        pending_reason=reason if state is JobState.PENDING and reason not in _NOTHING else "",
        task_count=task_count(_text(fields, "ArrayTaskID")),
        gpu_type=_gpu_type(fields),
        planned_nodes=expand(_text(fields, "SchedNodes")) if state is JobState.PENDING else (),
        priority=_priority(fields),
        pools=tuple(_text(fields, "Partition").split(",")) if _text(fields, "Partition") else (),
        node_count=_number(fields, "NumNodes"),
        # The components of a het job have one list of nodes to avoid, and may want different ones.
        pinned=any(_text(fields, key) not in ("", "0") for key in ("ReqNodes", "Feature", "HetJobID")),
        avoids=frozenset() if note is None else note.nodes,
        max_hold_seconds=asked.max_hold_seconds,
        finish_by=asked.finish_by,
        deadline=_time(fields, "Deadline"),
        own_cap_watts=asked.own_cap_watts,
        tier=asked.tier,
        tiers_ok=asked.tiers_ok,
        min_quality=asked.min_quality,
        requeues=_requeues(fields),
    )
    return JobRecord(
        job=job,
        admin_comment=comment,
        eligible=eligible,
        update_id=_update_id(fields, job.task_count),
        shared=any(_text(fields, key) not in ("", "0") for key in ("HetJobID", "ArrayTaskID")),
        het=_text(fields, "HetJobID") not in ("", "0"),
    )


def _requeues(fields: Mapping[str, str]) -> bool:
    """Whether Slurm may queue it again: batch jobs that allow it. A het job would go back as a whole: no."""
    if _text(fields, "HetJobID") not in ("", "0"):
        return False
    return fields.get("BatchFlag") == "1" and fields.get("Requeue") == "1"


def _state(fields: Mapping[str, str]) -> JobState:
    """Map Slurm's state; one it may learn later means hands off: neither to be held nor to be capped."""
    state = _STATES.get(fields.get("State", "").split("+")[0].split(" ")[0], JobState.ENDING)
    if state is JobState.RUNNING and fields.get("Reason") == "Prolog":
        return JobState.STARTING
    return state


def _update_id(fields: Mapping[str, str], tasks: int) -> str:
    """How scontrol is to be told of this job: a task, or all that wait, of an array; a het job's leader."""
    leader = _text(fields, "HetJobID")
    if leader not in ("", "0"):
        return leader
    if tasks > 1:
        # scontrol reads no steps such as 1-19:2 here, although it prints them.
        return f"{fields['ArrayJobID']}_[{','.join(map(str, _task_ids(fields['ArrayTaskID'])))}]"
    # An array's number is that of its last task as well: said alone it means all tasks, those that run too.
    task = _text(fields, "ArrayTaskID")
    return f"{fields['ArrayJobID']}_{task}" if task.isdigit() else fields["JobID"]


def task_count(task_ids: str) -> int:
    """Count the tasks in an array's ``1-19:2,30%4``; 1 for anything that is no array."""
    if not task_ids or task_ids.isdigit():
        return 1
    return max(len(_task_ids(task_ids)), 1)


def _task_ids(text: str) -> list[int]:
    found: list[int] = []
    for part in text.partition("%")[0].split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::([1-9]\d*))?)?", part)
        if match is not None:
            first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
            found.extend(range(first, last + 1, step))
    return found


@lru_cache(maxsize=_KEPT)
def time_limit_seconds(text: str) -> float | None:
    """Read ``2-00:00:00``, ``10:00`` (minutes:seconds); None for UNLIMITED, NOT_SET and the like."""
    match = _LIMIT.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _gpu_count(fields: Mapping[str, str]) -> int:
    """GPUs of the whole job (of one task, for an array): what is allocated, else what is asked for.

    A cluster without accounting keeps no gres/gpu in its TRES, so the request has to do there. GPUs asked
    for by socket count as if each node had one socket, the least it can be.
    """
    for key in ("tres-alloc", "tres-per-job"):
        if (count := _gpus(fields.get(key, ""))) is not None:
            return count
    nodes, tasks = _number(fields, "NumNodes"), _number(fields, "NumTasks")
    for key, times in (("tres-per-node", nodes), ("tres-per-socket", nodes), ("tres-per-task", tasks)):
        if (count := _gpus(fields.get(key, ""))) is not None:
            return count * times
    return 0


def gpus_of_tres(text: str) -> tuple[int, str]:
    """Count the GPUs in a node's ``gpu:h100:8(S:0-1)``, with their type; "" for none or several."""
    bare = re.sub(r"\([^)]*\)", "", text)
    return _gpus(bare) or 0, _gpu_type({"tres-per-node": bare})


def _gpu_type(fields: Mapping[str, str]) -> str:
    """The type of the job's GPUs as allocated, else as asked for; empty for none or several."""
    for key in ("tres-alloc", "tres-per-job", "tres-per-node", "tres-per-socket", "tres-per-task"):
        found = _gpu_types(fields.get(key, ""))
        if found:
            return found[0] if len(found) == 1 else ""
    return ""


@lru_cache(maxsize=_KEPT)
def _gpu_types(tres: str) -> tuple[str, ...]:
    matches = (_GPUS.fullmatch(part) for part in tres.split(","))
    kinds = {match["type"] for match in matches if match is not None and match["type"]}
    return tuple(sorted(kind for kind in kinds if not kind.isdigit()))


@lru_cache(maxsize=_KEPT)
def _gpus(tres: str) -> int | None:
    """Sum the GPUs in ``gres:gpu:h100:2,gres/gpu=4``; an untyped TRES total counts alone."""
    typed, total = None, None
    for part in tres.split(","):
        match = _GPUS.fullmatch(part)
        if match is None:
            continue
        kind, number = match["type"], match["count"]
        if kind is not None and number is None and kind.isdigit():
            kind, number = None, kind
        count = int(number or 1)
        if kind is None:
            total = (total or 0) + count
        else:
            typed = (typed or 0) + count
    if total is not None and typed is not None and "=" not in tres:
        return total + typed
    return total if total is not None else typed


def _number(fields: Mapping[str, str], key: str) -> int:
    text = fields.get(key, "")
    if text.isdigit():
        return int(text)
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 1


def _priority(fields: Mapping[str, str]) -> int | None:
    value = fields.get("PriorityLong", "")
    return int(value) if value.isdigit() else None


def _text(fields: Mapping[str, str], key: str) -> str:
    value = fields.get(key, "")
    return "" if value in _NOTHING else value


def _time(fields: Mapping[str, str], key: str) -> datetime | None:
    """Read a time; the commands run with TZ=UTC, so what they call local is UTC."""
    text = fields.get(key, "")
    if len(text) != _TIME_LETTERS:
        return None
    try:
        return datetime.fromisoformat(f"{text}+00:00")
    except ValueError:
        return None

"""What nodes say of the jobs on them, and how it completes the workload manager's list."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar

from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.model.tier_words import tier_of, tiers_of
from slurm_power.wire import Message

Value = TypeVar("Value")

_WORKLOADS = {word.value: word for word in Workload}
_FLEXES = {word.value: word for word in Flex}
# What an option may say at most; more is nothing that a node daemon of ours would send.
_MOST_HOLD_SECONDS = 30 * 86_400.0
_MOST_CAP_WATTS = 100_000.0
_MOST_EPOCH_SECONDS = float(1 << 32)
_MOST_QUALITY = 1e9


@dataclass(frozen=True, slots=True)
class Words:
    """What one node says of a job on it."""

    user: str
    workload: Workload | None
    flex: Flex | None
    gpus: tuple[str, ...]
    max_hold_seconds: float | None = None
    finish_by: datetime | None = None
    own_cap_watts: float | None = None
    tier: str = ""
    tiers_ok: tuple[str, ...] | None = None
    min_quality: float | None = None
    told_tier: str = ""
    restart_count: int = 0


@dataclass(slots=True)
class NodeJob:
    """A job as its nodes registered it in the prolog, the first of them at ``since_seconds``."""

    since_seconds: float
    nodes: dict[str, Words] = field(default_factory=dict)


def words_of(message: Message) -> Words:
    """What a node's message says of a job; nothing where it makes no sense."""
    uuids, finish_by = message.get("gpus"), _number(message, "finish_by", 1.0, _MOST_EPOCH_SECONDS)
    workload, flex = message.get("workload"), message.get("flex")
    return Words(
        user=str(message.get("user") or ""),
        workload=_WORKLOADS.get(workload) if isinstance(workload, str) else None,
        flex=_FLEXES.get(flex) if isinstance(flex, str) else None,
        gpus=tuple(str(uuid) for uuid in uuids) if isinstance(uuids, list) else (),
        max_hold_seconds=_number(message, "max_hold_seconds", 0.0, _MOST_HOLD_SECONDS),
        finish_by=None if finish_by is None else datetime.fromtimestamp(finish_by, UTC),
        own_cap_watts=_number(message, "own_cap_watts", 1.0, _MOST_CAP_WATTS),
        tier=tier_of(message.get("tier")),
        tiers_ok=None if message.get("tiers_ok") is None else tiers_of(message["tiers_ok"]),
        min_quality=_number(message, "min_quality", -_MOST_QUALITY, _MOST_QUALITY),
        told_tier=tier_of(message.get("told_tier")),
        restart_count=int(_number(message, "restart_count", 0.0, float(1 << 31)) or 0),
    )


def _number(message: Message, key: str, least: float, most: float) -> float | None:
    value = message.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        return None
    return float(value)


def _first(values: Iterable[Value | None], otherwise: Value | None) -> Value | None:
    return next((value for value in values if value is not None), otherwise)


def _tier(told: Iterable[Words]) -> str:
    """What a node has told the job counts before what was submitted, whichever node says it."""
    words = list(told)
    return next((one.told_tier for one in words if one.told_tier), "") or next(
        (one.tier for one in words if one.tier), ""
    )


def unlisted(job_id: str, known: NodeJob, starting: bool) -> Job:
    """A job that only its nodes know."""
    return Job(
        job_id=job_id,
        user=next((words.user for words in known.nodes.values() if words.user), ""),
        account="",
        name="",
        state=JobState.STARTING if starting else JobState.RUNNING,
        gpu_count=sum(len(words.gpus) for words in known.nodes.values()),
    )


def merged(job: Job, known: NodeJob, starting: bool) -> Job:
    """A job with what its nodes say; a job that the list has elsewhere, or still waiting, is not theirs."""
    state = JobState.STARTING if job.state is JobState.PENDING and starting else job.state
    told = {node: words for node, words in known.nodes.items() if not job.nodes or node in job.nodes}
    if state is JobState.PENDING:
        told = {}
    return replace(
        job,
        state=state,
        workload=next((words.workload for words in told.values() if words.workload), job.workload),
        flex=next((words.flex for words in told.values() if words.flex), job.flex),
        max_hold_seconds=_first((words.max_hold_seconds for words in told.values()), job.max_hold_seconds),
        finish_by=_first((words.finish_by for words in told.values()), job.finish_by),
        own_cap_watts=_first((words.own_cap_watts for words in told.values()), job.own_cap_watts),
        tier=_tier(told.values()) or job.tier,
        tiers_ok=_first((words.tiers_ok for words in told.values()), job.tiers_ok) or (),
        min_quality=_first((words.min_quality for words in told.values()), job.min_quality),
        nodes=job.nodes or tuple(told),
        gpus_by_node=tuple((node, words.gpus) for node, words in told.items()),
    )

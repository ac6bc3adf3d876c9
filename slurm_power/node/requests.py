"""What hooks and the controller say, checked field by field before anything is done with it."""

import math
from collections.abc import Collection

from slurm_power.model.lease import Lever
from slurm_power.model.site import LimitKind
from slurm_power.model.tier_words import tier_of, tiers_of_option
from slurm_power.node.frames import Grant, Pause
from slurm_power.node.jobs import NodeJob
from slurm_power.node.pauses import JOB_ID
from slurm_power.wire import Message, WireError

MAX_TTL_SECONDS = 3600.0
MAX_YIELD_SECONDS = 7 * 86_400.0
MAX_PROLOG_WAIT_SECONDS = 60.0
LEAST_SAMPLE_SECONDS = 0.1
MAX_SAMPLE_SECONDS = 60.0
MAX_SAMPLING_SECONDS = 600.0
MAX_TEXT = 200
MAX_HOLD_SECONDS = 30 * 86_400
MAX_CAP_WATTS = 100_000
# Past every moment that the option allows, for eighty years.
MAX_EPOCH_SECONDS = (1 << 32) - 1
MAX_QUALITY = 1e9
MAX_SLOTS = 64
# Seven instances on each of 64 GPUs.
MAX_MIG = 7 * MAX_SLOTS


def job_of_prolog(request: Message) -> NodeJob:
    """The job a prolog announces; raises WireError with what is wrong."""
    slots = request.get("gpu_slots") or []
    if not isinstance(slots, list) or len(slots) > MAX_SLOTS or not all(_whole(slot) for slot in slots):
        raise WireError("gpu_slots: not a list of slots")
    parts = request.get("mig_uuids") or []
    if not isinstance(parts, list) or len(parts) > MAX_MIG or not all(_mig_name(part) for part in parts):
        raise WireError("mig_uuids: not a list of names of MIG instances")
    return NodeJob(
        job_id=job_id_of(request),
        user=_text(request, "user") or "",
        uid=_number(request, "uid"),
        gpu_slots=tuple(dict.fromkeys(int(str(slot)) for slot in slots)),
        mig_uuids=tuple(dict.fromkeys(str(part) for part in parts)),
        workload=_text(request, "workload"),
        flex=_text(request, "flex"),
        max_hold_seconds=_bounded(request, "max_hold_seconds", 0, MAX_HOLD_SECONDS),
        finish_by=_bounded(request, "finish_by", 1, MAX_EPOCH_SECONDS),
        own_cap_watts=_bounded(request, "own_cap_watts", 1, MAX_CAP_WATTS),
        tier=_tier(request),
        tiers_ok=_tiers_ok(request),
        min_quality=_quality(request),
        restart_count=_number(request, "restart_count"),
    )


def job_id_of(request: Message) -> str:
    """The job a request is about; raises WireError."""
    job_id = _text(request, "job_id")
    if not job_id:
        raise WireError("job_id: missing")
    return job_id


def grants_of(message: Message, known: Collection[str]) -> tuple[list[Grant], list[str]]:
    """The usable grants of a message, and what is wrong with the others."""
    rows = message.get("leases")
    if not isinstance(rows, list):
        return [], ["leases: not a list"]
    grants, problems = [], []
    for row in rows:
        try:
            grants.append(_grant(row, known))
        except WireError as error:
            problems.append(str(error))
    return grants, problems


def seconds_of_yield(message: Message) -> float:
    """For how long a node is yielded, 0 for not any more; raises WireError."""
    if message.get("seconds") == 0:
        return 0.0
    seconds = _positive(message, "seconds")
    if seconds > MAX_YIELD_SECONDS:
        raise WireError(f"seconds: a node is yielded for {MAX_YIELD_SECONDS:g} at most")
    return seconds


def pause_of(message: Message) -> Pause:
    """Which job is to go on after how long, 0.0 for not to be looked after any more; raises WireError."""
    job_id = job_id_of(message)
    if not JOB_ID.fullmatch(job_id):
        raise WireError("job_id: not a number")
    seconds = 0.0 if message.get("seconds") == 0 else _positive(message, "seconds")
    if seconds > MAX_TTL_SECONDS:
        raise WireError(f"seconds: a pause is leased for {MAX_TTL_SECONDS:g} at most")
    return Pause(job_id=job_id, seconds=seconds)


def seconds_of_prolog_wait(message: Message) -> float:
    """For how long a prolog waits at most, 0.0 for not at all or not any more; raises WireError."""
    seconds = 0.0 if message.get("seconds") == 0 else _positive(message, "seconds")
    if seconds > MAX_PROLOG_WAIT_SECONDS:
        raise WireError(f"seconds: a prolog waits for {MAX_PROLOG_WAIT_SECONDS:g} at most")
    return seconds


def sampling_of(message: Message) -> tuple[float, float]:
    """The interval that is wished for and for how long; raises WireError."""
    sample_seconds, for_seconds = _positive(message, "sample_seconds"), _positive(message, "for_seconds")
    if not LEAST_SAMPLE_SECONDS <= sample_seconds <= MAX_SAMPLE_SECONDS:
        raise WireError(f"sample_seconds: not between {LEAST_SAMPLE_SECONDS:g} and {MAX_SAMPLE_SECONDS:g}")
    if for_seconds > MAX_SAMPLING_SECONDS:
        raise WireError(f"for_seconds: {MAX_SAMPLING_SECONDS:g} at most")
    return sample_seconds, for_seconds


def _grant(row: object, known: Collection[str]) -> Grant:
    if not isinstance(row, dict):
        raise WireError("a lease is no object")
    lease_id, uuid = _text(row, "lease_id"), _text(row, "uuid")
    if not lease_id or uuid not in known:
        raise WireError(f"lease {lease_id}: this node has no GPU {uuid}")
    lever = Lever.CLOCK_LOCK if "lock_hertz" in row else Lever.POWER_CAP
    bound = _positive(row, "lock_hertz" if lever is Lever.CLOCK_LOCK else "cap_watts")
    ttl_seconds = _positive(row, "ttl_seconds")
    if ttl_seconds > MAX_TTL_SECONDS:
        raise WireError(f"lease {lease_id}: ttl_seconds above {MAX_TTL_SECONDS:g}")
    try:
        kind = LimitKind(str(row.get("kind")))
    except ValueError:
        raise WireError(f"lease {lease_id}: kind is neither economic nor safety") from None
    return Grant(
        lease_id=lease_id,
        uuid=str(uuid),
        lever=lever,
        bound=bound,
        ttl_seconds=ttl_seconds,
        kind=kind,
        job_id=_text(row, "job_id"),
        reason=_text(row, "reason") or "no reason given",
    )


def lease_ids_of_release(message: Message) -> list[str]:
    """The leases a release names."""
    ids = message.get("lease_ids")
    return [lease_id for lease_id in ids if isinstance(lease_id, str)] if isinstance(ids, list) else []


def _text(row: Message, key: str) -> str | None:
    value = row.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise WireError(f"{key}: not a short text")
    return value


def _whole(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


def _number(row: Message, key: str) -> int:
    value = row.get(key) or 0
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise WireError(f"{key}: not a whole number")
    return value


def _bounded(row: Message, key: str, least: int, most: int) -> int | None:
    value = row.get(key)
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise WireError(f"{key}: not a whole number from {least} to {most}")
    return value


def _tier(row: Message) -> str:
    value = row.get("tier")
    if value is not None and not tier_of(value):
        raise WireError("tier: not FAMILY/TIER")
    return tier_of(value)


def _tiers_ok(row: Message) -> str | None:
    value = _text(row, "tiers_ok")
    if value is not None and tiers_of_option(value) is None:
        raise WireError("tiers_ok: not names of tiers, any or none")
    return value


def _quality(row: Message) -> float | None:
    value = row.get("min_quality")
    if value is None:
        return None
    # A comparison with what is not finite is false.
    if type(value) not in (int, float) or not abs(float(str(value))) <= MAX_QUALITY:
        raise WireError("min_quality: not a finite number")
    return float(str(value))


def _mig_name(value: object) -> bool:
    return isinstance(value, str) and value.startswith("MIG-") and len(value) <= MAX_TEXT


def _positive(row: Message, key: str) -> float:
    value = row.get(key)
    if type(value) not in (int, float) or not math.isfinite(float(str(value))) or float(str(value)) <= 0.0:
        raise WireError(f"{key}: {value!r} is not a number above 0")
    return float(str(value))

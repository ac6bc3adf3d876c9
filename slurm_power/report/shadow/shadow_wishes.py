"""What shadow mode wished for, by the ledger's sums: of each job, each user, each lever."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from slurm_power.model.ledger import LedgerEntry
from slurm_power.model.units import JOULES_PER_KWH

HOUR_KIND, JOB_KIND = "shadow hour", "would have"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDelay:
    """What one job would have met, all its entries together; seconds of wall time, ``kwh`` at the grid."""

    job_id: str
    user: str
    gpu_count: int
    capped_seconds: float
    slowed_seconds: float
    held_seconds: float
    paused_seconds: float
    lowest_cap_watts: float | None
    kwh: float

    @property
    def delay_seconds(self) -> float:
        """By how much it would have ended later, if nothing else had changed."""
        return self.slowed_seconds + self.held_seconds + self.paused_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDelay:
    """A user's jobs: how many there were and were wished for, and what they would have lost.

    ``slowdown_ratio``: lost GPU time over all GPU time of the user's jobs, None where that is not known.
    """

    user: str
    jobs: int
    touched: int
    delay_seconds: float
    longest_delay_seconds: float
    lost_gpu_hours: float
    slowdown_ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """One kind of wish: for how long anybody would have met it, how much it would have taken."""

    kind: str
    seconds: float
    kwh: float
    most_watts: float
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastRight:
    """The near forecast of the grid connection, judged by itself: means over the hours that told a score."""

    hours: int
    coverage_ratio: float
    mae_watts: float
    naive_mae_watts: float
    hours_beaten_by_naive: int


def job_delays(entries: Iterable[LedgerEntry]) -> tuple[JobDelay, ...]:
    """What each job would have met, the longest delay first; entries that do not read right are left out."""
    found: dict[str, JobDelay] = {}
    for entry in entries:
        if entry.kind != JOB_KIND or entry.job_id is None:
            continue
        numbers = _numbers(entry.details)
        if numbers is None:
            continue
        cap = entry.details.get("lowest_cap_watts")
        lowest = float(cap) if isinstance(cap, int | float) else None
        before = found.get(entry.job_id)
        if before is None:
            before = JobDelay(
                job_id=entry.job_id,
                user=entry.user or "",
                gpu_count=int(numbers["gpu_count"]),
                capped_seconds=0.0,
                slowed_seconds=0.0,
                held_seconds=0.0,
                paused_seconds=0.0,
                lowest_cap_watts=None,
                kwh=0.0,
            )
        caps = [watts for watts in (before.lowest_cap_watts, lowest) if watts is not None]
        found[entry.job_id] = replace(
            before,
            gpu_count=max(before.gpu_count, int(numbers["gpu_count"])),
            capped_seconds=before.capped_seconds + numbers["capped_seconds"],
            slowed_seconds=before.slowed_seconds + numbers["slowed_seconds"],
            held_seconds=before.held_seconds + numbers["held_seconds"],
            paused_seconds=before.paused_seconds + numbers["paused_seconds"],
            lowest_cap_watts=min(caps, default=None),
            kwh=before.kwh + numbers["withheld_joules"] / JOULES_PER_KWH,
        )
    return tuple(sorted(found.values(), key=lambda job: (-job.delay_seconds, job.job_id)))


_NUMBERS = (
    "gpu_count",
    "capped_seconds",
    "slowed_seconds",
    "held_seconds",
    "paused_seconds",
    "withheld_joules",
)


def _numbers(details: Mapping[str, object]) -> dict[str, float] | None:
    values = {key: details.get(key) for key in _NUMBERS}
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values.values()):
        return None
    return {key: float(str(value)) for key, value in values.items()}


def user_delays(
    delays: Sequence[JobDelay], records: Mapping[str, Mapping[str, object]]
) -> tuple[UserDelay, ...]:
    """Delays by user, who would have lost most first; ``records``: all jobs of the time."""
    gpu_seconds: dict[str, float] = {}
    jobs: dict[str, set[str]] = {}
    for job_id, record in records.items():
        user, seconds, count = str(record.get("user", "")), record.get("seconds"), record.get("gpu_count")
        jobs.setdefault(user, set()).add(job_id)
        if isinstance(seconds, int | float) and isinstance(count, int | float):
            gpu_seconds[user] = gpu_seconds.get(user, 0.0) + seconds * count
    by_user: dict[str, list[JobDelay]] = {}
    for delay in delays:
        by_user.setdefault(delay.user, []).append(delay)
    rows = []
    for user in jobs.keys() | by_user.keys():
        own = by_user.get(user, [])
        lost = sum((delay.slowed_seconds + delay.paused_seconds) * delay.gpu_count for delay in own)
        had = gpu_seconds.get(user, 0.0)
        rows.append(
            UserDelay(
                user=user,
                jobs=len(jobs.get(user, set()) | {delay.job_id for delay in own}),
                touched=len(own),
                delay_seconds=sum(delay.delay_seconds for delay in own),
                longest_delay_seconds=max((delay.delay_seconds for delay in own), default=0.0),
                lost_gpu_hours=lost / 3600.0,
                slowdown_ratio=lost / had if had > 0.0 else None,
            )
        )
    return tuple(sorted(rows, key=lambda row: (-row.lost_gpu_hours, -row.delay_seconds, row.user)))


def levers(entries: Iterable[LedgerEntry]) -> tuple[Lever, ...]:
    """The kinds of wishes of all hours together; a job of several hours counts in each of them."""
    found: dict[str, Lever] = {}
    for entry in entries:
        kinds = entry.details.get("kinds") if entry.kind == HOUR_KIND else None
        for kind, sums in kinds.items() if isinstance(kinds, dict) else ():
            before = found.get(kind) or Lever(kind=str(kind), seconds=0.0, kwh=0.0, most_watts=0.0, jobs=0)
            found[kind] = Lever(
                kind=before.kind,
                seconds=before.seconds + float(sums["seconds"]),
                kwh=before.kwh + float(sums["joules"]) / JOULES_PER_KWH,
                most_watts=max(before.most_watts, float(sums["most_watts"])),
                jobs=max(before.jobs, int(sums["jobs"])),
            )
    return tuple(sorted(found.values(), key=lambda lever: -lever.kwh))


def forecast_right(entries: Iterable[LedgerEntry]) -> ForecastRight | None:
    """How the forecast did, by the scores in the hours' entries; None where no hour has one."""
    scores = [
        score
        for entry in entries
        if entry.kind == HOUR_KIND and isinstance(score := entry.details.get("forecast"), dict)
        if score.get("forecasts")
    ]
    if not scores:
        return None

    def mean(key: str) -> float:
        return sum(float(score[key]) for score in scores) / len(scores)

    return ForecastRight(
        hours=len(scores),
        coverage_ratio=mean("coverage_ratio"),
        mae_watts=mean("mae_watts"),
        naive_mae_watts=mean("best_naive_mae_watts"),
        hours_beaten_by_naive=sum(score["mae_watts"] > score["best_naive_mae_watts"] for score in scores),
    )


def usable_kwh(entries: Iterable[LedgerEntry]) -> float:
    """What was in all batteries above their reserve at the first hour that tells; 0.0 without one."""
    for entry in entries:
        batteries = entry.details.get("batteries") if entry.kind == HOUR_KIND else None
        if isinstance(batteries, dict) and batteries:
            return sum(
                max(0.0, float(each["soc_ratio"]) - float(each["reserve_soc_ratio"]))
                * float(each["energy_rating_kwh"])
                for each in batteries.values()
            )
    return 0.0


def open_entries(kept: object, at: datetime) -> list[LedgerEntry]:
    """What a controller was still adding up when it last kept it, as the entries that it will become."""
    if not isinstance(kept, dict):
        return []
    jobs, details = kept.get("jobs"), kept.get("hour_details")
    found = [
        LedgerEntry(
            at=at,
            actor="controller",
            kind=JOB_KIND,
            subject=f"job:{job_id}",
            reason="",
            job_id=str(job_id),
            user=str(sums.get("user") or ""),
            details=sums,
        )
        for job_id, sums in (jobs.items() if isinstance(jobs, dict) else ())
        if isinstance(sums, dict)
    ]
    if isinstance(details, dict):
        found.append(
            LedgerEntry(at=at, actor="controller", kind=HOUR_KIND, subject="site", reason="", details=details)
        )
    return found

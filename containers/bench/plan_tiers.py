"""``python -m containers.bench.plan_tiers``: what model tiers add to a plan, where everybody consents.

A made-up site of 10,000 nodes under an event, in which each job that runs or waits names a tier and consents
to two lighter ones, each training tells its own curve, and a hundred services run; against the same site
without any of it. Times are one thread's processor time. Exits with 1 when a promise is missed.
"""

import gc
import statistics
import sys
import time
from dataclasses import replace

from containers.bench.big_site import BigSite
from containers.bench.figure import Figure, markdown
from slurm_power.model.grid_event import LimitEvent
from slurm_power.model.job import Job, JobState, Workload
from slurm_power.model.job_curve import CurvePoint, JobCurve
from slurm_power.model.progress import JobProgress
from slurm_power.model.service import Backend, BackendState, Service
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.tier import Catalog, Family, PowerSource, Quality, Tier
from slurm_power.plan.planner import guard_cycle, plan_cycle
from slurm_power.plan.policy import Policy

NODES, CYCLES, SERVICES = 10_000, 12, 100
_SIZES = (1, 2, 4, 8, 16, 32, 64, 256)
_PLANNER_P50_SECONDS, _GUARD_SECONDS = 0.3, 0.020
_CURVE = JobCurve(
    points=tuple(
        CurvePoint(gpu_watts=watts, samples_per_second=rate, count=16)
        for watts, rate in ((300.0, 60.0), (360.0, 75.0), (420.0, 88.0), (480.0, 97.0), (540.0, 100.0))
    )
)
_WORD = JobProgress(step=100, samples_per_second=100.0, age_seconds=2.0, checkpoints=True)


def _tier(name: str, gpus: int, watts: float, quality: float) -> Tier:
    return Tier(
        name=name,
        gpu_count=gpus,
        watts_per_gpu=watts,
        power_source=PowerSource.NVML,
        items_per_second=100.0,
        approved_by="site",
        quality=Quality(value=quality),
    )


def _catalog() -> Catalog:
    return Catalog(
        families={
            f"of{gpus}": Family(
                name=f"of{gpus}",
                task="t",
                workload=Workload.INFERENCE,
                metric="accuracy",
                tiers=(
                    _tier("full", gpus, 550.0, 0.98),
                    _tier("half", max(1, gpus // 2), 500.0, 0.97),
                    _tier("small", max(1, gpus // 4), 300.0, 0.95),
                ),
            )
            for gpus in _SIZES
        }
    )


class Consenting:
    """The same jobs with a tier each, made once for one list of them."""

    def __init__(self) -> None:
        self._listed: tuple[Job, ...] = ()
        self._jobs: tuple[Job, ...] = ()
        self._learned: dict[str, JobCurve] = {}
        self._words: dict[str, JobProgress] = {}
        self._services: dict[str, Service] = {}
        self._catalog = _catalog()

    def onto(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with all that tiers add to it."""
        if snapshot.jobs is not self._listed:
            self._listed = snapshot.jobs
            self._jobs = tuple(
                replace(
                    job,
                    tier=f"of{job.gpu_count}/full",
                    tiers_ok=("half", "small"),
                    requeues=True,
                    # Jobs of this site run on after their limits.
                    time_limit_seconds=None if job.nodes else job.time_limit_seconds,
                )
                for job in snapshot.jobs
            )
            running = [job for job in snapshot.jobs if job.state is JobState.RUNNING]
            self._words = {job.job_id: _WORD for job in running}
            self._learned = {job.job_id: _CURVE for job in running if job.workload is Workload.TRAINING}
            self._services = {
                f"s{number:03d}": _service(f"s{number:03d}", job)
                for number, job in enumerate(running[:SERVICES])
            }
        return replace(
            snapshot,
            jobs=self._jobs,
            catalog=self._catalog,
            progress=self._words,
            learned=self._learned,
            services=self._services,
        )


def _service(name: str, job: Job) -> Service:
    return Service(
        name=name,
        user=job.user,
        account=job.account,
        family=f"of{job.gpu_count}",
        full_tier="full",
        tiers_ok=("half", "small"),
        serving="full",
        backends=(Backend(tier="full", state=BackendState.SERVING, job_id=job.job_id),),
    )


def measure(*, tiers: bool) -> tuple[list[float], list[float], int]:
    """Times of the whole planner and of the guard, and how many tiers the last plan has moved."""
    policy, site, consenting = Policy(), BigSite(nodes=NODES, limit_watts=None), Consenting()
    planner: list[float] = []
    guard: list[float] = []
    moved = 0
    gc.collect()
    for second in range(-1, CYCLES):
        snapshot = site.step()
        load = snapshot.circuits["grid"].watts or 0.0
        event = LimitEvent(
            event_id="dr",
            circuit="grid",
            limit_watts=0.8 * load,
            starts_in_seconds=200.0,
            ends_in_seconds=8_000.0,
            reason="the utility asks",
        )
        # A battery that carries half of the site for hours would leave nothing to do.
        snapshot = replace(snapshot, events=(event,), ess={})
        seen = consenting.onto(snapshot) if tiers else snapshot
        began = time.thread_time()
        plan = plan_cycle(seen, policy, hold_seconds=60.0)
        planned = time.thread_time()
        guard_cycle(replace(seen, at=seen.at), policy)
        if second >= 0:
            planner.append(planned - began)
            guard.append(time.thread_time() - planned)
        moved = sum(type(one).__name__ in ("ChangeTier", "SwitchService") for one in plan.actions)
    return planner, guard, moved


def main() -> int:
    """Print the table; 1 where a promise is missed."""
    rows: list[Figure] = []
    for tiers in (False, True):
        planner, guard, moved = measure(tiers=tiers)
        name = f"{NODES:,} nodes before an event, {'all consent to tiers' if tiers else 'no tiers'}"
        for what, times, target in (
            ("planner p50", planner, _PLANNER_P50_SECONDS),
            ("guard p50", guard, _GUARD_SECONDS),
        ):
            value = statistics.median(times)
            rows.append(
                Figure(
                    what=f"{name}: {what}",
                    value=f"{1000.0 * value:.1f} ms (n = {len(times)}; {moved} moved)",
                    target=f"{1000.0 * target:.0f} ms",
                    ratio=value / target,
                )
            )
    print(markdown(rows))
    return int(any(row.ratio is not None and row.ratio > 1.0 for row in rows))


if __name__ == "__main__":
    sys.exit(main())

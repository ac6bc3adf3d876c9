"""Write down what happened: ledger entries worth reading, one row of series a cycle, a record per job."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, assert_never

from slurm_power.act import Outcome
from slurm_power.controller.jobs.job_rates import Rates
from slurm_power.controller.jobs.job_records import JobRecords
from slurm_power.controller.levers.levers import LeverState
from slurm_power.controller.records.series_values import series_values
from slurm_power.model.action import (
    AdviseBatch,
    ChangeTier,
    HoldJob,
    PauseJob,
    Plan,
    ReleaseJob,
    RelocateJob,
    ResumeJob,
    SetCap,
    SetDischarge,
    SwitchService,
)
from slurm_power.model.job import Job
from slurm_power.model.ledger import LedgerEntry
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.policy import Policy
from slurm_power.ports import Store
from slurm_power.store.background import BackgroundSeries

# A battery follows the load every second; its ledger gets a line when it moves by this share of its power.
_WORTH_WRITING_RATIO = 0.2

_JobAction = SetCap | HoldJob | ReleaseJob | PauseJob | ResumeJob | RelocateJob | ChangeTier | AdviseBatch


class Recorder:
    """The controller's pen. It decides what is worth a ledger entry; it never decides anything else."""

    def __init__(self, store: Store, policy: Policy, series: BackgroundSeries | None = None) -> None:
        """Without ``series`` none are kept."""
        self._store = store
        self._series = series
        self._broken_stores: set[str] = set()
        self._policy = policy
        self._written_discharge: dict[str, float] = {}
        self._written_errors: dict[str, str] = {}
        self.short_since: dict[str, datetime] = {}
        self._jobs = JobRecords(store, policy)

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._policy = policy
        self._jobs.use_policy(policy)

    def note(self, at: datetime, actor: str, kind: str, subject: str, reason: str, **more: Any) -> None:
        """Write one ledger entry."""
        self._store.append(LedgerEntry(at=at, actor=actor, kind=kind, subject=subject, reason=reason, **more))

    def outcome(
        self, outcome: Outcome, snapshot: Snapshot, jobs: Mapping[str, Job], *, changed: bool, shadow: bool
    ) -> None:
        """Write what became of an action, if it is news. ``shadow``: it was only planned."""
        action, at = outcome.action, snapshot.at
        verb = "would " if shadow else ""
        match action:
            case SetDischarge():
                self._discharge(action, outcome.error, snapshot, shadow=shadow)
            case SetCap():
                self._error(at, f"job:{action.job_id}", outcome.error, jobs.get(action.job_id))
                if changed:
                    self._cap(action, at, jobs.get(action.job_id), verb)
            case HoldJob() | ReleaseJob():
                self._error(at, f"job:{action.job_id}", outcome.error, jobs.get(action.job_id))
                if changed:
                    self._hold(action, at, jobs.get(action.job_id), verb)
            case PauseJob() | ResumeJob():
                self._error(at, f"job:{action.job_id}", outcome.error, jobs.get(action.job_id))
                if changed:
                    self._pause(action, at, jobs.get(action.job_id), verb)
            case RelocateJob():
                self._error(at, f"job:{action.job_id}", outcome.error, jobs.get(action.job_id))
                if changed:
                    self._relocate(action, at, jobs.get(action.job_id), verb)
            case ChangeTier() | AdviseBatch() | SwitchService():
                self._slow(outcome, snapshot, jobs, verb, changed=changed)
            case _:
                assert_never(action)

    def _error(self, at: datetime, subject: str, error: str, job: Job | None = None) -> None:
        if error and self._written_errors.get(subject) != error:
            # What is about a job carries it, or every user could read it.
            about = {} if job is None else {"job_id": job.job_id, "user": job.user}
            self.note(at, "guard", "failed", subject, error, **about)
        if error:
            self._written_errors[subject] = error
        else:
            self._written_errors.pop(subject, None)

    def _discharge(self, action: SetDischarge, error: str, snapshot: Snapshot, *, shadow: bool) -> None:
        subject = f"ess:{action.ess}"
        self._error(snapshot.at, subject, error)
        reading = snapshot.ess.get(action.ess)
        if error or reading is None:
            return
        full_watts = max(reading.max_discharge_watts, reading.max_charge_watts, 1.0)
        last_watts = self._written_discharge.get(action.ess, 0.0)
        watts = action.discharge_watts
        moved = abs(watts - last_watts) >= _WORTH_WRITING_RATIO * full_watts
        turned = (watts > 0.0) != (last_watts > 0.0) or (watts < 0.0) != (last_watts < 0.0)
        if not (moved or turned):
            return
        self._written_discharge[action.ess] = watts
        kind = "discharge" if watts > 0.0 else "charge" if watts < 0.0 else "rest"
        self.note(
            snapshot.at,
            "guard",
            f"would {kind}" if shadow else kind,
            subject,
            action.reason,
            saved_watts=watts,
            details={"discharge_watts": watts, "soc_ratio": reading.soc_ratio},
        )

    def _cap(self, action: SetCap, at: datetime, job: Job | None, verb: str) -> None:
        kind = "uncap" if action.cap_watts is None else "own cap" if action.own else "cap"
        self._job(
            at,
            "guard",
            verb + kind,
            action,
            job,
            saved_watts=action.saved_watts,
            details={
                "cap_watts": action.cap_watts,
                **({} if action.lock_hertz is None else {"lock_hertz": action.lock_hertz}),
                "gpu_count": job.gpu_count if job else None,
                "slowdown_ratio": round(action.slowdown_ratio, 4),
                "limit_kind": action.kind.value,
            },
        )

    def _hold(self, action: HoldJob | ReleaseJob, at: datetime, job: Job | None, verb: str) -> None:
        if isinstance(action, ReleaseJob):
            self._job(at, "planner", verb + "release", action, job)
            return
        more = {"saved_watts": action.saved_watts, "details": {"seconds": action.seconds}}
        self._job(at, "planner", verb + "hold", action, job, **more)

    def _pause(self, action: PauseJob | ResumeJob, at: datetime, job: Job | None, verb: str) -> None:
        if isinstance(action, ResumeJob):
            self._job(at, "guard", verb + "resume", action, job)
            return
        details = {"drawn_watts": round(action.drawn_watts, 1), "limit_kind": action.kind.value}
        self._job(at, "guard", verb + "pause", action, job, saved_watts=action.saved_watts, details=details)

    def _relocate(self, action: RelocateJob, at: datetime, job: Job | None, verb: str) -> None:
        self._job(
            at,
            "planner",
            verb + ("relocate" if action.avoid else "give nodes back"),
            action,
            job,
            saved_watts=action.saved_watts if action.avoid else None,
            details={"avoided_nodes": len(action.avoid), "pools": list(job.pools) if job else []},
        )

    def _slow(
        self, outcome: Outcome, snapshot: Snapshot, jobs: Mapping[str, Job], verb: str, *, changed: bool
    ) -> None:
        """Write of model tiers and of advice."""
        action = outcome.action
        if isinstance(action, SwitchService):
            if changed:
                self._switch(action, snapshot, verb)
        elif isinstance(action, ChangeTier | AdviseBatch):
            job = jobs.get(action.job_id)
            self._error(snapshot.at, f"job:{action.job_id}", outcome.error, job)
            if changed:
                self._tier(action, snapshot.at, job, verb)

    def _tier(self, action: ChangeTier | AdviseBatch, at: datetime, job: Job | None, verb: str) -> None:
        details: dict[str, Any] = {"limit_kind": action.kind.value}
        if isinstance(action, ChangeTier):
            details |= {"tier": action.tier, "gpu_count": action.gpu_count, "running": action.running}
            kind = "change tier"
        else:
            details |= {"micro_batch": action.micro_batch, "slowdown_ratio": round(action.slowdown_ratio, 4)}
            kind = "advise batch" if action.micro_batch is not None else "batch as before"
        self._job(at, "planner", verb + kind, action, job, saved_watts=action.saved_watts, details=details)

    def _switch(self, action: SwitchService, snapshot: Snapshot, verb: str) -> None:
        service = snapshot.services.get(action.service)
        tier = action.tier or (service.full_tier if service is not None else None)
        self.note(
            snapshot.at,
            "planner",
            verb + "switch service",
            f"service:{action.service}",
            action.reason,
            user=service.user if service is not None else None,
            saved_watts=action.saved_watts,
            details={"tier": tier, "limit_kind": action.kind.value, "booked_watts": action.booked_watts},
        )

    def _job(
        self, at: datetime, actor: str, kind: str, action: _JobAction, job: Job | None, **more: Any
    ) -> None:
        """Write what was done to a job, where its user finds it."""
        subject, user = f"job:{action.job_id}", job.user if job else None
        self.note(at, actor, kind, subject, action.reason, job_id=action.job_id, user=user, **more)

    def shortfalls(self, plan: Plan, at: datetime) -> None:
        """Write when a limit cannot be met, and when it can again; what is foreseen goes with its event."""
        short = [shortfall for shortfall in plan.shortfalls if shortfall.from_seconds <= 0.0]
        now_short = {shortfall.circuit for shortfall in short}
        for shortfall in short:
            if shortfall.circuit not in self.short_since:
                self.short_since[shortfall.circuit] = at
                text = f"{kilowatts_text(shortfall.watts)} above what can be held: {shortfall.reason}"
                self.note(at, "guard", "shortfall", f"circuit:{shortfall.circuit}", text)
        for circuit in self.short_since.keys() - now_short:
            del self.short_since[circuit]
            self.note(at, "guard", "shortfall over", f"circuit:{circuit}", "the levers reach again")

    def series(
        self,
        snapshot: Snapshot,
        rates: Rates | None = None,
        more: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Hand on one tick of the series, ``more`` in it; write when a store fails or is well again."""
        if self._series is not None:
            self._series.add(snapshot.at, {**series_values(snapshot, self._policy, rates), **more})
            self.store_fault(snapshot.at, "store:series", self._series.problem, "it takes series again")
        self.store_fault(snapshot.at, "store:copy", self._store.copy_problem, "it is up to date again")

    def store_fault(self, at: datetime, subject: str, problem: str, well: str) -> None:
        """Write when a store fails, and when it is well again."""
        if bool(problem) != (subject in self._broken_stores):
            self._broken_stores ^= {subject}
            self.note(at, "controller", "fault" if problem else "fault over", subject, problem or well)

    def jobs(
        self, snapshot: Snapshot, levers: LeverState, energy_joules: Mapping[str, float], cycle_seconds: float
    ) -> None:
        """Keep the jobs' records up to date; see `JobRecords.look`."""
        about_jobs = [key for key in self._written_errors if key.startswith("job:")]
        if about_jobs:
            here = {job.job_id for job in snapshot.jobs}
            for subject in about_jobs:
                if subject.removeprefix("job:") not in here:
                    del self._written_errors[subject]
        self._jobs.look(snapshot, levers, energy_joules, cycle_seconds)

    def keep_jobs(self) -> None:
        """Write what is known of jobs and has not been written yet."""
        self._jobs.keep()

    def job_energy(self, job_id: str, figures: Mapping[str, object]) -> None:
        """Note how sure a job's energy is and what else it has used, as its nodes tell."""
        self._jobs.touch(job_id, figures)

    def job_record(self, job_id: str) -> Mapping[str, Any]:
        """What is known of a job so far."""
        return self._jobs.of(job_id)

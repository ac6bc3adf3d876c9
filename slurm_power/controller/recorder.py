"""Write down what happened: ledger entries worth reading, one row of series a cycle, a record per job."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import is_
from typing import Any, assert_never

from slurm_power.act import Outcome
from slurm_power.controller.job_gains import note_gains
from slurm_power.controller.levers import LeverState
from slurm_power.controller.series_values import series_values
from slurm_power.model.action import HoldJob, Plan, ReleaseJob, RelocateJob, SetCap, SetDischarge
from slurm_power.model.expected_power import ExpectedPower
from slurm_power.model.job import Job, JobState
from slurm_power.model.ledger import LedgerEntry
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.loads import job_loads
from slurm_power.plan.policy import Policy
from slurm_power.ports import Store
from slurm_power.store.background import BackgroundSeries

# A battery follows the load every second; its ledger gets a line when it moves by this share of its power.
_WORTH_WRITING_RATIO = 0.2


@dataclass(slots=True)
class _JobRecord:
    """Running figures of one job; GPU watts are per job, all its GPUs together.

    ``seen`` is what the record of a job that only waits was last made from.
    """

    record: dict[str, Any]
    stored: str = ""
    watt_seconds: float = 0.0
    seconds: float = 0.0
    running_seconds: float = 0.0
    seen: tuple[object, ...] = ()

    def only_waits(self, job: Job, expected: ExpectedPower | None, levers: LeverState) -> bool:
        """Whether the job waits untouched, and nothing is new about it since this was asked before."""
        touched = job.state is not JobState.PENDING or job.job_id in levers.holds or job.job_id in levers.caps
        seen = () if touched else (job, expected, levers.held_before.get(job.job_id))
        same = len(seen) > 0 and len(seen) == len(self.seen) and all(map(is_, seen, self.seen))
        self.seen = seen
        return same


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
        self._jobs: dict[str, _JobRecord] = {}

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
            case RelocateJob():
                self._error(at, f"job:{action.job_id}", outcome.error, jobs.get(action.job_id))
                if changed:
                    self._relocate(action, at, jobs.get(action.job_id), verb)
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
        kind = "uncap" if action.cap_watts is None else "cap"
        self.note(
            at,
            "guard",
            verb + kind,
            f"job:{action.job_id}",
            action.reason,
            job_id=action.job_id,
            user=job.user if job else None,
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
        held = isinstance(action, HoldJob)
        self.note(
            at,
            "planner",
            verb + ("hold" if held else "release"),
            f"job:{action.job_id}",
            action.reason,
            job_id=action.job_id,
            user=job.user if job else None,
            saved_watts=action.saved_watts if isinstance(action, HoldJob) else None,
            details={"seconds": action.seconds} if isinstance(action, HoldJob) else {},
        )

    def _relocate(self, action: RelocateJob, at: datetime, job: Job | None, verb: str) -> None:
        self.note(
            at,
            "planner",
            verb + ("relocate" if action.avoid else "give nodes back"),
            f"job:{action.job_id}",
            action.reason,
            job_id=action.job_id,
            user=job.user if job else None,
            saved_watts=action.saved_watts if action.avoid else None,
            details={"avoided_nodes": len(action.avoid), "pools": list(job.pools) if job else []},
        )

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

    def series(self, snapshot: Snapshot) -> None:
        """Hand on one tick of the series, and write when a store fails or is well again."""
        if self._series is not None:
            self._series.add(snapshot.at, series_values(snapshot, self._policy))
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
        """Keep each job's record up to date; one that has not changed is not written again.

        Jobs that are no longer known stay in the store alone.
        """
        here = {job.job_id for job in snapshot.jobs}
        for job_id in self._jobs.keys() - here:
            del self._jobs[job_id]
        for subject in [key for key in self._written_errors if key.startswith("job:")]:
            if subject.removeprefix("job:") not in here:
                del self._written_errors[subject]
        changed = {}
        loads = {load.job.job_id: load for load in job_loads(snapshot, self._policy)}
        for job in snapshot.jobs:
            known = self._known(job.job_id)
            expected = snapshot.expected.get(job.job_id)
            if job.job_id not in energy_joules and known.only_waits(job, expected, levers):
                continue  # tens of thousands may
            record = known.record
            _describe(record, job)
            _note_expected(record, job, expected)
            load = loads.get(job.job_id)
            if job.state in (JobState.STARTING, JobState.RUNNING) and job.gpu_count > 0:
                known.running_seconds += cycle_seconds
                record["running_seconds"] = known.running_seconds
            if load is not None and load.covered and job.state is not JobState.SUSPENDED:
                watts = load.gpu_watts * job.gpu_count
                known.watt_seconds += watts * cycle_seconds
                known.seconds += cycle_seconds
                record["peak_watts"] = max(float(record.get("peak_watts") or 0.0), watts)
                record["mean_watts"] = known.watt_seconds / known.seconds
                record["watt_seconds"], record["seconds"] = known.watt_seconds, known.seconds
            if known.running_seconds > 0.0:
                record["coverage_ratio"] = round(min(1.0, known.seconds / known.running_seconds), 4)
            if job.job_id in energy_joules:
                record["energy_joules"] = energy_joules[job.job_id]
            note_gains(record, job, levers, snapshot.at, cycle_seconds)
            record["held_seconds"] = max(
                float(record.get("held_seconds") or 0.0), levers.held_seconds(job.job_id, snapshot.at)
            )
            text = json.dumps(record)
            if text != known.stored:
                changed[job.job_id], known.stored = record, text
        if changed:
            self._store.put_jobs(changed)

    def job_energy(self, job_id: str, figures: Mapping[str, float | None]) -> None:
        """Note how sure a job's energy is and what else it has used, as its nodes tell."""
        if job_id in self._jobs:
            self._jobs[job_id].record.update(figures)
            self._jobs[job_id].seen = ()

    def _known(self, job_id: str) -> _JobRecord:
        """A job's running figures, those of an earlier controller included."""
        known = self._jobs.get(job_id)
        if known is None:
            record = self._store.job(job_id)
            known = _JobRecord(
                record,
                json.dumps(record),
                _number(record.get("watt_seconds")),
                _number(record.get("seconds")),
                _number(record.get("running_seconds")),
            )
            self._jobs[job_id] = known
        return known

    def job_record(self, job_id: str) -> Mapping[str, Any]:
        """What is known of a job so far."""
        known = self._jobs.get(job_id)
        return known.record if known else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _note_expected(record: dict[str, Any], job: Job, expected: ExpectedPower | None) -> None:
    """What was expected of a job, and from whose jobs, stays as it was when the job started."""
    if expected is None or (job.state is not JobState.PENDING and "expected_mean_watts" in record):
        return
    if expected.jobs == 0 or expected.own_seconds > 0.0:
        return
    record.update(
        expected_mean_watts=round(expected.mean_watts, 1),
        expected_p95_watts=round(expected.p95_watts, 1),
        expected_start_step_watts=round(expected.start_step_watts, 1),
        expected_ramp_seconds=round(expected.ramp_seconds, 1),
        expected_swing_watts=round(expected.swing_watts, 1),
        expected_known_from=expected.known_from,
        expected_jobs=expected.jobs,
    )


def _describe(record: dict[str, Any], job: Job) -> None:
    record.update(
        job_id=job.job_id,
        user=job.user,
        account=job.account or record.get("account", ""),
        name=job.name or record.get("name", ""),
        state=job.state.value,
        workload=job.workload.value,
        flex=job.flex.value,
        gpu_count=job.gpu_count,
        nodes=list(job.nodes) or record.get("nodes", []),
    )
    for key, moment in (("submitted", job.submitted), ("started", job.started)):
        if moment is not None:
            record[key] = moment.isoformat()

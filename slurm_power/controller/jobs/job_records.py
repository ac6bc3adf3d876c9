"""A record per job of what it drew, what our levers did to it, and how long it waited for us.

What a record needs every second is added up as columns (`job_draws`), or is what stood all the
while: a cap, a hold. So each record need not be looked at every second: those about which something is new
are at once, the others in turn, some hundreds a second. With fewer jobs than that the store is up to date
every second; a controller that is killed loses what its jobs drew since their last turn, one that stops
loses nothing.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from slurm_power.controller.jobs.job_draws import JobDraws
from slurm_power.controller.jobs.job_gains import note_cap, note_hold, note_pause, number
from slurm_power.controller.levers.levers import CapRecord, HoldRecord, LeverState, changed_keys
from slurm_power.model.expected_power import ExpectedPower
from slurm_power.model.job import Job, JobState
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import load_table
from slurm_power.plan.policy import Policy
from slurm_power.ports import Store

# Records whose turn it is in one cycle, beside those about which something is new.
_TURNS = 200


@dataclass(slots=True)
class _JobRecord:
    """What is known of one job. ``stored`` is the record as it was last written.

    ``cap`` and ``hold`` are what has stood on it since ``clock_seconds``, which its record has seen.
    """

    job: Job
    record: dict[str, Any]
    stored: dict[str, Any]
    clock_seconds: float
    expected: ExpectedPower | None = None
    cap: CapRecord | None = None
    hold: HoldRecord | None = None


class JobRecords:
    """The records of all jobs that the controller knows; those of others stay in the store alone."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self._store = store
        self._policy = policy
        self._jobs: dict[str, _JobRecord] = {}
        self._draws = JobDraws()
        # Seconds that records have counted, and until when.
        self._clock_seconds = 0.0
        self._at: datetime | None = None
        self._levers = LeverState()
        self._caps: dict[str, CapRecord] = {}
        self._holds: dict[str, HoldRecord] = {}
        self._energy_joules: Mapping[str, float] = {}
        self._listed: tuple[Job, ...] = ()
        self._expected: Mapping[str, ExpectedPower] = {}
        self._news: set[str] = set()
        self._turns: deque[str] = deque()

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._policy = policy

    def look(
        self, snapshot: Snapshot, levers: LeverState, energy_joules: Mapping[str, float], cycle_seconds: float
    ) -> None:
        """Take one cycle: what stands now stood, and what is drawn now was drawn, for ``cycle_seconds``."""
        gone = self._follow_list(snapshot, levers)
        self._write(gone)  # as they were in the last cycle that knew them
        for job_id in gone:
            del self._jobs[job_id]
        self._follow_levers(levers)
        self._levers, self._energy_joules, self._at = levers, energy_joules, snapshot.at
        self._draws.add(load_table(snapshot, self._policy), cycle_seconds)
        self._clock_seconds += cycle_seconds
        for job_id, pause in levers.paused.pauses.items():
            if job_id in self._jobs:
                note_pause(self._jobs[job_id].record, pause, cycle_seconds)
                self._news.add(job_id)
        self._write({*self._news, *self._turn()})
        self._news.clear()

    def keep(self) -> None:
        """Write all that has not been written yet."""
        self._write(self._jobs)

    def touch(self, job_id: str, figures: Mapping[str, object]) -> None:
        """Put figures into the record of a job, if it is known."""
        if job_id in self._jobs:
            self._jobs[job_id].record.update(figures)
            self._news.add(job_id)

    def of(self, job_id: str) -> Mapping[str, Any]:
        """What is known of a job so far."""
        known = self._jobs.get(job_id)
        if known is None:
            return {}
        self._bring_up(job_id, known)
        return known.record

    def _follow_list(self, snapshot: Snapshot, levers: LeverState) -> list[str]:
        """Note which jobs are new or not the same; return those that are known no more."""
        expected, before = snapshot.expected, self._expected
        if expected is not before:
            self._expected = expected
            for job_id in [key for key, value in expected.items() if before.get(key) is not value]:
                if job_id in self._jobs:
                    self._jobs[job_id].expected = expected[job_id]
                    self._news.add(job_id)
            for job_id in before.keys() - expected.keys():
                if job_id in self._jobs:
                    self._jobs[job_id].expected = None
        if snapshot.jobs is self._listed:
            return []
        same = set(map(id, self._listed))
        self._listed = snapshot.jobs
        for job in [job for job in snapshot.jobs if id(job) not in same]:
            known = self._jobs.get(job.job_id)
            if known is None:
                self._jobs[job.job_id] = self._taken_over(job, levers)
            elif known.job == job:
                known.job = job
                continue
            else:
                self._settle(known)
                known.job = job
            self._news.add(job.job_id)
        here = {job.job_id for job in snapshot.jobs}
        return [job_id for job_id in self._jobs if job_id not in here]

    def _taken_over(self, job: Job, levers: LeverState) -> _JobRecord:
        """A job's record, with what an earlier controller wrote."""
        record = self._store.job(job.job_id)
        return _JobRecord(
            job,
            record,
            dict(record),
            self._clock_seconds,
            self._expected.get(job.job_id),
            levers.caps.get(job.job_id),
            levers.holds.get(job.job_id),
        )

    def _follow_levers(self, levers: LeverState) -> None:
        """Where a cap or hold is not what it was, count what it was until now; go on with what it is."""
        for job_id in {*changed_keys(self._caps, levers.caps), *changed_keys(self._holds, levers.holds)}:
            known = self._jobs.get(job_id)
            if known is not None:
                self._settle(known)
                known.cap, known.hold = levers.caps.get(job_id), levers.holds.get(job_id)
        for job_id in (self._caps.keys() ^ levers.caps.keys()) | (self._holds.keys() ^ levers.holds.keys()):
            if job_id in self._jobs:
                self._news.add(job_id)
        self._caps, self._holds = dict(levers.caps), dict(levers.holds)

    def _turn(self) -> Iterable[str]:
        """Whose turn it is, of all about which something may be new every second."""
        if len(self._turns) < _TURNS:
            active = [job.job_id for job in self._listed if job.state is not JobState.PENDING]
            self._turns += dict.fromkeys(chain(active, self._caps, self._holds, self._energy_joules))
        return [self._turns.popleft() for _ in range(min(_TURNS, len(self._turns)))]

    def _write(self, job_ids: Iterable[str]) -> None:
        """Bring records up to date, and write those that have changed."""
        changed = {}
        for job_id in job_ids:
            known = self._jobs.get(job_id)
            if known is None:
                continue
            self._bring_up(job_id, known)
            if known.record != known.stored:
                changed[job_id], known.stored = known.record, dict(known.record)
        if changed:
            self._store.put_jobs(changed)

    def _settle(self, known: _JobRecord) -> None:
        """Count what has stood on a job since this was last done."""
        seconds = self._clock_seconds - known.clock_seconds
        known.clock_seconds = self._clock_seconds
        if seconds <= 0.0 or self._at is None:
            return
        if known.cap is not None:
            note_cap(known.record, known.job, known.cap, self._at, seconds)
        if known.hold is not None:
            note_hold(known.record, known.hold, seconds)

    def _bring_up(self, job_id: str, known: _JobRecord) -> None:
        """Make a record what it is to be after the last cycle."""
        record, job = known.record, known.job
        self._settle(known)
        _describe(record, job)
        _note_expected(record, job, known.expected)
        drawn = self._draws.taken(job_id)
        running_seconds = number(record.get("running_seconds")) + drawn.running_seconds
        seconds = number(record.get("seconds")) + drawn.seconds
        if drawn.running_seconds > 0.0:
            record["running_seconds"] = running_seconds
        if drawn.seconds > 0.0:
            watt_seconds = number(record.get("watt_seconds")) + drawn.watt_seconds
            record["peak_watts"] = max(number(record.get("peak_watts")), drawn.peak_watts)
            record["mean_watts"] = watt_seconds / seconds
            record["watt_seconds"], record["seconds"] = watt_seconds, seconds
        if running_seconds > 0.0:
            record["coverage_ratio"] = round(min(1.0, seconds / running_seconds), 4)
        if job_id in self._energy_joules:
            record["energy_joules"] = self._energy_joules[job_id]
        held_seconds = 0.0 if self._at is None else self._levers.held_seconds(job_id, self._at)
        record["held_seconds"] = max(number(record.get("held_seconds")), held_seconds)


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
    # What a node has told the job stands: the list knows its submission alone.
    if job.tier and record.get("tier_told_at_start") is None:
        record["tier"] = job.tier
    wishes = {"max_hold_seconds": job.max_hold_seconds, "own_cap_watts": job.own_cap_watts}
    record.update({key: value for key, value in wishes.items() if value is not None})
    moments = {"submitted": job.submitted, "started": job.started, "finish_by": job.finish_by}
    for key, moment in (moments | {"deadline": job.deadline}).items():
        if moment is not None:
            record[key] = moment.isoformat()

"""What each job is expected to draw: learned from those that ended, refined while it runs, stored."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from slurm_power.controller.governance.operators import Note
from slurm_power.forecast.job_power import JobPowers, LearnedLevel, Submission
from slurm_power.forecast.job_profile import JobProfile
from slurm_power.model.expected_power import ExpectedPower
from slurm_power.model.job import Job, JobState, Workload
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.curves import expected_gpu_watts
from slurm_power.plan.loads import JobLoad
from slurm_power.plan.policy import Policy
from slurm_power.ports import Store

POWERS, PROFILES = "job_powers", "job_profiles"
# A job that was seen for less teaches nothing; one that was seen for so long counts half.
_LEAST_SECONDS = 10.0
_HALF_WEIGHT_SECONDS = 30.0
_LEAST_COVERED_RATIO = 0.5
# After a cap has gone a GPU and its readings take this long to show what the job wants.
_AFTER_CAP_SECONDS = 5.0
# One cycle gives so many jobs a new expectation, so that a queue of 50,000 costs milliseconds in each.
_MOST_A_CYCLE = 250
# What is written is megabytes on a big site, and takes its time: what was learned now and then (ends that a
# crash may forget), and who runs in parts, one after the other.
_KEEP_POWERS_SECONDS = 600.0
_KEEP_PART_SECONDS, _PARTS = 4.0, 16
_OVER = (JobState.ENDING, JobState.ENDED)
_NEVER = float("-inf")


@dataclass(slots=True)
class _Running:
    """A job that is being watched."""

    submission: Submission
    started: datetime
    profile: JobProfile
    lasted_seconds: float = 0.0
    capped_at_seconds: float = _NEVER


class JobExpectations:
    """Learns and tells. Nothing here moves a lever; a job nobody knows is left to its class default."""

    def __init__(self, store: Store, policy: Policy, note: Note) -> None:
        """Goes on from what the store has; what is damaged is refused as a whole, and said."""
        self._store = store
        self._policy = policy
        classes = {workload.value: expected_gpu_watts(workload, policy) for workload in Workload}
        self._powers = JobPowers(classes, policy.training_gpu_watts, idle_watts=policy.idle_gpu_watts)
        self._running: dict[str, _Running] = {}
        self._expected: dict[str, ExpectedPower] = {}
        # In the order in which they are to be told anew.
        self._waiting: dict[str, int] = {}
        self._kept_seconds = self._kept_part_seconds = _NEVER
        self._part = 0
        self._kept_taught = 0
        self._empty_parts: set[int] = set()
        self._from_records: set[str] = set()
        parts = [(part_key(part), self._take_profiles) for part in range(_PARTS)]
        for key, take in [(POWERS, self._take_powers), *parts]:
            try:
                take(store.state(key))
            except ValueError as error:
                note("controller", "fault", f"state:{key}", f"{error}; it is left out, and learned anew")
                if key == POWERS:
                    self._take_powers(None)

    # --- telling ----------------------------------------------------------------------------------------

    def onto(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with what is known of its jobs beyond their class."""
        return replace(snapshot, expected=self._expected)

    @staticmethod
    def with_one(snapshot: Snapshot, job_id: str, expected: ExpectedPower) -> Snapshot:
        """The snapshot with one more word, on a job that somebody asks about."""
        return replace(snapshot, expected={**snapshot.expected, job_id: expected})

    def expect(self, submission: Submission) -> ExpectedPower:
        """What a job would draw per GPU that were submitted now."""
        return self._expect(submission, None)

    def learned(self) -> tuple[int, Iterator[LearnedLevel]]:
        """How many jobs have taught so far, and what is known of each kind; the kind used last comes last."""
        return self._powers.taught, self._powers.learned()

    def _expect(self, told: Submission, watched: _Running | None) -> ExpectedPower:
        """By jobs on GPUs of the same type; where none of them is known, of any type."""
        shape, seconds = None, 0.0
        if watched is not None:
            shape, seconds = watched.profile.shape(), watched.profile.seconds
        found = self._powers.expect(told, shape, seconds)
        if found.jobs == 0 and told.gpu_type:
            return self._powers.expect(replace(told, gpu_type=""), shape, seconds)
        return found

    # --- learning ---------------------------------------------------------------------------------------

    def observe(self, snapshot: Snapshot, loads: Sequence[JobLoad], cycle_seconds: float) -> None:
        """Take one cycle: watch who runs, learn from who has ended, tell some jobs' expectation anew."""
        now_seconds = snapshot.at.timestamp()
        for load in loads:
            self._watch(snapshot, load, min(cycle_seconds, 2.0), now_seconds)
        if snapshot.jobs_age_seconds is not None:
            # A node knows of a start before the list does, but not of the job's name.
            live = {
                job.job_id: job
                for job in snapshot.jobs
                if job.gpu_count > 0 and job.name and job.state not in _OVER
            }
            for job_id in [job_id for job_id in self._running if job_id not in live]:
                self._ended(self._running.pop(job_id))
            self._tell(live)
        self._keep_some(now_seconds)

    def _watch(self, snapshot: Snapshot, load: JobLoad, seconds: float, now_seconds: float) -> None:
        job = load.job
        if job.state is not JobState.RUNNING or job.started is None or not job.name:
            return
        known = self._running.get(job.job_id)
        if known is not None and known.started != job.started:
            # Requeued: what runs now is another run of it.
            self._ended(known)
            known = None
        if known is None:
            profile = JobProfile(idle_watts=self._policy.idle_gpu_watts)
            known = self._running[job.job_id] = _Running(submission_of(job), job.started, profile)
        known.lasted_seconds += seconds
        if load.cap_watts is not None or job.own_cap_watts is not None:
            known.capped_at_seconds = now_seconds
        if not (load.covered and load.reachable):
            return
        capped = 0.0 <= now_seconds - known.capped_at_seconds < _AFTER_CAP_SECONDS
        since_start = (snapshot.at - job.started).total_seconds()
        known.profile.tick(since_start, load.gpu_watts, seconds=seconds, capped=capped)

    def _ended(self, known: _Running) -> None:
        profile = known.profile
        seen = profile.seconds
        shape = profile.shape()
        # Time under a cap was seen as well, it only says nothing of what the job wants.
        covered = seen + profile.capped_seconds >= _LEAST_COVERED_RATIO * known.lasted_seconds
        if shape is not None and seen >= _LEAST_SECONDS and covered:
            weight = seen / (seen + _HALF_WEIGHT_SECONDS)
            told = known.submission
            self._powers.ended(told, shape.mean_watts, shape, weight=weight)
            if told.gpu_type:
                # Many ask for GPUs of any type: what they will get is not known before they start.
                self._powers.ended(replace(told, gpu_type=""), shape.mean_watts, shape, weight=weight)

    def _tell(self, live: Mapping[str, Job]) -> None:
        """New jobs first; then those that were told longest ago, as far as this cycle goes."""
        # Snapshots have been given the old one, and do not change.
        told = dict(self._expected)
        for job_id in [job_id for job_id in self._waiting if job_id not in live]:
            del self._waiting[job_id]
            told.pop(job_id, None)
        new = list(islice((job_id for job_id in live if job_id not in self._waiting), _MOST_A_CYCLE))
        oldest = list(islice(self._waiting, _MOST_A_CYCLE - len(new)))
        for job_id in [*new, *oldest]:
            taught = self._waiting.pop(job_id, -1)
            # What a job itself has drawn must not count in the first word on it: that one goes on record.
            watched = self._running.get(job_id) if taught >= 0 else None
            if watched is not None or taught != self._powers.taught:
                found = self._expect(submission_of(live[job_id]), watched)
                if found.jobs > 0 or found.own_seconds > 0.0:
                    told[job_id] = found
            self._waiting[job_id] = self._powers.taught
        self._expected = told

    # --- keeping ----------------------------------------------------------------------------------------

    def _keep_some(self, now_seconds: float) -> None:
        """Write down what is due; a clock that was set back makes it due."""
        if not 0.0 <= now_seconds - self._kept_seconds < _KEEP_POWERS_SECONDS:
            self._kept_seconds = now_seconds
            self._keep_powers()
        if not 0.0 <= now_seconds - self._kept_part_seconds < _KEEP_PART_SECONDS:
            self._kept_part_seconds = now_seconds
            self._part = (self._part + 1) % _PARTS
            self._keep_part(self._part)

    def keep(self) -> None:
        """Write down all that was learned and who is being watched."""
        self._keep_powers()
        for part in range(_PARTS):
            self._keep_part(part)

    def _keep_powers(self) -> None:
        if self._powers.taught != self._kept_taught:
            self._kept_taught = self._powers.taught
            self._store.put_state(POWERS, self._powers.to_json())

    def _keep_part(self, part: int) -> None:
        found = {key: _to_json(known) for key, known in self._running.items() if _part_of(key) == part}
        if found or part not in self._empty_parts:
            self._store.put_state(part_key(part), found)
        (self._empty_parts.discard if found else self._empty_parts.add)(part)

    def _take_powers(self, value: object) -> None:
        if value is None:
            self._learn_from_records(self._store.jobs())
        else:
            self._powers.take_json(value)

    def _take_profiles(self, value: object) -> None:
        if value is None:
            return
        if not isinstance(value, dict):
            raise ValueError("the profiles of running jobs are damaged")
        running = {str(job_id): _from_json(row) for job_id, row in value.items()}
        # What has been learned from its record must not end a second time.
        self._running |= {job_id: one for job_id, one in running.items() if job_id not in self._from_records}

    def _learn_from_records(self, records: Mapping[str, Mapping[str, object]]) -> None:
        """Learn from the means of jobs that ran before anybody learned; capped ones say too little."""
        for job_id, record in sorted(records.items(), key=lambda row: str(row[1].get("started", ""))):
            watts, seconds, gpus = (record.get(key) for key in ("mean_watts", "seconds", "gpu_count"))
            if record.get("state") != JobState.ENDED.value or record.get("lowest_cap_watts") is not None:
                continue
            if not (isinstance(watts, int | float) and isinstance(seconds, int | float)):
                continue
            if not isinstance(gpus, int) or gpus < 1 or seconds < _LEAST_SECONDS or not 0.0 <= watts < 1e9:
                continue
            words = {key: str(record.get(key, "")) for key in ("user", "account", "name", "workload")}
            submission = Submission(gpus=float(gpus), **words)
            weight = seconds / (seconds + _HALF_WEIGHT_SECONDS)
            self._powers.ended(submission, watts / gpus, weight=weight)
            self._from_records.add(job_id)


def part_key(part: int) -> str:
    """Under which key a part of the profiles is stored."""
    return f"{PROFILES}.{part}"


def _part_of(job_id: str) -> int:
    return zlib.crc32(job_id.encode()) % _PARTS


def submission_of(job: Job) -> Submission:
    """What a job's record tells of it."""
    return Submission(
        user=job.user,
        account=job.account,
        name=job.name,
        workload=job.workload.value,
        gpu_type=job.gpu_type,
        gpus=float(job.gpu_count),
    )


def _to_json(known: _Running) -> dict[str, Any]:
    told = known.submission
    return {
        "user": told.user,
        "account": told.account,
        "name": told.name,
        "workload": told.workload,
        "gpu_type": told.gpu_type,
        "gpus": told.gpus,
        "started": known.started.isoformat(),
        "lasted_seconds": round(known.lasted_seconds, 1),
        "profile": known.profile.to_json(),
    }


def _from_json(row: object) -> _Running:
    """Read one back; raises ValueError for what is none."""
    try:
        assert isinstance(row, dict)
        words = {key: str(row[key]) for key in ("user", "account", "name", "workload", "gpu_type")}
        return _Running(
            submission=Submission(gpus=float(row["gpus"]), **words),
            started=datetime.fromisoformat(row["started"]),
            profile=JobProfile.from_json(row["profile"]),
            lasted_seconds=float(row["lasted_seconds"]),
        )
    except (AssertionError, KeyError, TypeError) as error:
        raise ValueError(f"the profiles of running jobs are damaged: {error!r}") from None

"""What running jobs tell of their work, and what is learned from it: each job's own power and throughput.

A word covers the time since the one before, so it is held against the job's mean draw over the same time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from slurm_power.model.job import Job, JobState
from slurm_power.model.job_curve import JobCurve
from slurm_power.model.progress import JobProgress
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.learned_curve import LearnedCurve
from slurm_power.plan.loads import JobLoad

# Before that a job loads, compiles and warms up.
_WARM_SECONDS = 60.0
# A word says something about a cap only if that stood all the time.
_STEADY_SECONDS = 5.0


@dataclass(slots=True)
class _Following:
    """One job: its curve, its last word, and its draw since then."""

    started: object
    curve: LearnedCurve
    known: JobCurve
    word: JobProgress | None = None
    joules: float = 0.0
    seconds: float = 0.0
    setting: tuple[object, ...] = ()
    steady_seconds: float = 0.0


class ProgressBook:
    """All jobs that tell of themselves."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Following] = {}
        self._learned: dict[str, JobCurve] = {}

    def onto(self, snapshot: Snapshot, progress: Mapping[str, JobProgress]) -> Snapshot:
        """The snapshot with the words of jobs that run, and the curves that are known."""
        if not progress and not self._jobs:
            return snapshot
        learned = {
            job_id: one.known for job_id, one in self._jobs.items() if one.known.points or one.known.batches
        }
        if learned != self._learned:
            # The planner keeps what it makes of a mapping as long as it is the same object.
            self._learned = learned
        return replace(snapshot, progress=dict(progress), learned=self._learned)

    def observe(self, snapshot: Snapshot, loads: Sequence[JobLoad], cycle_seconds: float) -> None:
        """Learn from what jobs have told since the cycle before."""
        if not snapshot.progress and not self._jobs:
            return
        by_job = {load.job.job_id: load for load in loads if load.job.job_id in snapshot.progress}
        self._jobs = {job_id: one for job_id, one in self._jobs.items() if job_id in by_job}
        for job_id, load in by_job.items():
            one = self._jobs.get(job_id)
            if one is None or one.started != load.job.started:
                one = _Following(started=load.job.started, curve=LearnedCurve(), known=JobCurve())
                self._jobs[job_id] = one
            self._look(one, snapshot, load, snapshot.progress[job_id], cycle_seconds)

    def _look(
        self,
        one: _Following,
        snapshot: Snapshot,
        load: JobLoad,
        word: JobProgress,
        cycle_seconds: float,
    ) -> None:
        job, last = load.job, one.word
        setting = (load.cap_watts, word.micro_batch, job.job_id in snapshot.pauses, job.state)
        if setting != one.setting:
            # What a job tells next is in part of the time before: it is not learned from.
            one.setting, one.steady_seconds = setting, 0.0
            one.joules = one.seconds = 0.0
            one.word = word
            return
        one.steady_seconds += cycle_seconds
        one.joules += load.gpu_watts * cycle_seconds
        one.seconds += cycle_seconds
        if last is not None and word.step == last.step:
            return
        if last is not None and one.seconds >= _STEADY_SECONDS and self._counts(one, snapshot, load, word):
            one.curve.add(
                gpu_watts=one.joules / one.seconds,
                samples_per_second=word.samples_per_second,
                micro_batch=word.micro_batch,
                capped=load.cap_watts is not None,
            )
            one.known = one.curve.curve()
        one.word = word
        one.joules = one.seconds = 0.0

    @staticmethod
    def _counts(one: _Following, snapshot: Snapshot, load: JobLoad, word: JobProgress) -> bool:
        """Whether a word tells of a job at its ordinary work, all of the time since the one before."""
        job: Job = load.job
        if job.started is None or job.state is not JobState.RUNNING or job.job_id in snapshot.pauses:
            return False
        warm = (snapshot.at - job.started).total_seconds() >= _WARM_SECONDS
        return (
            warm and load.covered and word.age_seconds < _STEADY_SECONDS and one.steady_seconds >= one.seconds
        )

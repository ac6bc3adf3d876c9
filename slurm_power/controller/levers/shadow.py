"""What was wished for in shadow mode: each wish is news once, and what it would have done is added up.

In shadow mode no lever moves, so each cycle wishes anew for what stands wrong then: wishes do not build upon
each other. What is added up is what would have been taken in each second if it had been done just then.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from slurm_power.controller.levers.shadow_effects import Effects, kind_of
from slurm_power.model.action import (
    Action,
    AdviseBatch,
    HoldJob,
    PauseJob,
    ReleaseJob,
    ResumeJob,
    SetCap,
    SetDischarge,
    SwitchService,
)
from slurm_power.model.forecast import CircuitForecast, Reach
from slurm_power.model.job import Job
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.loads import JobLoad

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller

HOUR_KIND, JOB_KIND = "shadow hour", "would have"
_KEY = "shadow"
_HOUR_SECONDS, _KEEP_SECONDS = 3600, 10.0
# Each job costs some microseconds to keep; thousands are kept less often.
_KEEP_SECONDS_PER_JOB = 0.01
# A job that runs for weeks is accounted for at least so often.
_LONGEST_SECONDS = 86_400.0
# A cycle that came later than this was no cycle: nobody knows what would have been wished meanwhile.
_LONGEST_CYCLE_SECONDS = 10.0
_WORTH_TELLING_WATTS = 100.0


class States(Protocol):
    """Where small JSON values are kept."""

    def state(self, key: str, default: object = None) -> object:
        """What was remembered under a key."""
        ...

    def put_state(self, key: str, value: object) -> None:
        """Remember a value."""
        ...


class ShadowNews:
    """Remembers wishes: ``seen`` are their kinds and jobs.

    A wish is news when it is made first, and again when it would take twice of what was written last: a cap
    of a few watts as a job starts is not all that its user should read. So it is told some ten times at most.
    """

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()
        self._told_watts: dict[tuple[str, str], float] = {}

    def is_new(self, action: Action) -> bool:
        """Whether it is news; from now on it is none."""
        job_id = "" if isinstance(action, SetDischarge | SwitchService) else action.job_id
        key = (type(action).__name__, job_id)
        watts = 0.0 if isinstance(action, SetDischarge | ReleaseJob | ResumeJob) else action.saved_watts
        told_watts = self._told_watts.get(key, 0.0)
        news = key not in self.seen or watts >= max(2.0 * told_watts, told_watts + _WORTH_TELLING_WATTS)
        if news:
            self._told_watts[key] = watts
        self.seen.add(key)
        return news

    def keep(self, job_ids: Iterable[str]) -> None:
        """Forget jobs that are gone."""
        known = {"", *job_ids}
        self.seen = {key for key in self.seen if key[1] in known}
        self._told_watts = {key: watts for key, watts in self._told_watts.items() if key[1] in known}


@dataclass(slots=True)
class _JobSums:
    """What would have been done to one job since ``since_seconds`` (Unix time).

    ``slowed_seconds``: of its full speed, what caps and smaller batches would have taken.
    """

    user: str | None
    gpu_count: int
    since_seconds: float
    capped_seconds: float = 0.0
    slowed_seconds: float = 0.0
    held_seconds: float = 0.0
    paused_seconds: float = 0.0
    withheld_joules: float = 0.0
    lowest_cap_watts: float | None = None

    def add(self, action: Action, relief_watts: float, seconds: float) -> None:
        """Take one wish that stood for ``seconds``; ``relief_watts``: what the grid would have seen of it."""
        if isinstance(action, SetCap) and action.cap_watts is not None:
            self.capped_seconds += seconds
            self.slowed_seconds += 0.0 if action.own else action.slowdown_ratio * seconds
            lowest = self.lowest_cap_watts
            self.lowest_cap_watts = action.cap_watts if lowest is None else min(lowest, action.cap_watts)
        elif isinstance(action, AdviseBatch):
            self.slowed_seconds += action.slowdown_ratio * seconds
        elif isinstance(action, HoldJob):
            self.held_seconds += seconds
        elif isinstance(action, PauseJob):
            self.paused_seconds += seconds
        self.withheld_joules += relief_watts * seconds

    @property
    def text(self) -> str:
        """All of it as one sentence."""
        parts = [
            f"{word} {seconds:.0f} s"
            for word, seconds in (
                ("capped for", self.capped_seconds),
                ("held for", self.held_seconds),
                ("paused for", self.paused_seconds),
            )
            if seconds >= 0.5
        ]
        slower = f", {self.slowed_seconds:.0f} s slower for it" if self.slowed_seconds >= 0.5 else ""
        return "it would have been " + (" and ".join(parts) or "touched for a moment") + slower


_JOB_FIELDS = tuple(item.name for item in fields(_JobSums))


@dataclass(slots=True)
class _Hour:
    """Sums of one hour: by kind of wish, how long, how much and for how many jobs."""

    began_seconds: float
    seconds: float = 0.0
    kinds: dict[str, list[float]] = field(default_factory=dict)  # seconds, joules, most watts
    jobs: dict[str, set[str]] = field(default_factory=dict)
    most_watts: float = 0.0
    batteries: dict[str, dict[str, float]] = field(default_factory=dict)  # as the hour began
    forecast: dict[str, Any] | None = None

    def details(self) -> dict[str, Any]:
        """What its ledger entry holds."""
        return {
            "from_seconds": round(self.began_seconds, 1),
            "seconds": round(self.seconds, 1),
            "kinds": {
                kind: {
                    "seconds": round(seconds, 1),
                    "joules": round(joules, 1),
                    "most_watts": round(most, 1),
                    "jobs": len(self.jobs.get(kind, ())),
                }
                for kind, (seconds, joules, most) in sorted(self.kinds.items())
            },
            "batteries": self.batteries,
            "forecast": self.forecast,
        }


class ShadowBook(ShadowNews):
    """News of wishes, and their sums: a ledger entry an hour, and one for each job that was wished for.

    The ledger grows by at most 24 entries a day and one per job and day. What is being added up is kept in
    the store every ten seconds, with thousands of jobs every minute, so that a restart goes on with it.
    """

    def __init__(self, store: States, note: Callable[..., None]) -> None:
        """``store`` keeps small values, ``note`` writes a ledger entry."""
        super().__init__()
        self._store = store
        self._note = note
        self._jobs: dict[str, _JobSums] = {}
        self._hour: _Hour | None = None
        self._keep_at_seconds = 0.0
        self.values: Mapping[str, float] = {}
        self._restore(store.state(_KEY))

    def _restore(self, stored: object) -> None:
        if not isinstance(stored, dict):
            return
        try:
            self._jobs = {str(key): _JobSums(**sums) for key, sums in stored["jobs"].items()}
            hour = stored["hour"]
            if hour is not None:
                jobs = {kind: set(job_ids) for kind, job_ids in hour["jobs"].items()}
                self._hour = _Hour(**{**hour, "jobs": jobs})
        except (KeyError, TypeError, AttributeError):
            # Another version's: what it had not written down yet is at most an hour's sums.
            self._jobs, self._hour = {}, None

    def look(
        self, controller: "Controller", snapshot: Snapshot, loads: Sequence[JobLoad], cycle_seconds: float
    ) -> None:
        """Take the cycle that a controller has just planned; see `observe`."""
        root = controller.config.site.root.name
        self.observe(
            controller.plan.actions,
            snapshot,
            loads,
            cycle_seconds,
            shadow=controller.mode == "off",
            forecast=controller.forecasts.forecast(root, Reach.NEAR, snapshot.at.timestamp()),
        )

    def observe(
        self,
        actions: Sequence[Action],
        snapshot: Snapshot,
        loads: Sequence[JobLoad],
        cycle_seconds: float,
        *,
        shadow: bool,
        forecast: CircuitForecast | None = None,
    ) -> None:
        """Take one cycle; ``shadow``: nothing was done, else what is open is closed.

        ``forecast`` is the grid connection's, whose score goes into the hour.
        """
        now_seconds = snapshot.at.timestamp()
        if not shadow:
            self.values = {}
            self._end(snapshot.at)
            return
        jobs = {job.job_id: job for job in snapshot.jobs}
        if snapshot.jobs_age_seconds is not None:
            self._close_jobs(jobs, snapshot.at, now_seconds)
        if (
            self._hour is not None
            and now_seconds // _HOUR_SECONDS != self._hour.began_seconds // _HOUR_SECONDS
        ):
            self._close_hour(snapshot.at)
        effects = Effects(actions, snapshot, loads)
        self.values = effects.values()
        self._add(actions, effects, jobs, snapshot, min(max(0.0, cycle_seconds), _LONGEST_CYCLE_SECONDS))
        if self._hour is not None and forecast is not None and forecast.score is not None:
            self._hour.forecast = {"source": forecast.source, **asdict(forecast.score)}
        wait_seconds = _KEEP_SECONDS + _KEEP_SECONDS_PER_JOB * len(self._jobs)
        if not self._keep_at_seconds - wait_seconds <= now_seconds < self._keep_at_seconds:
            self._keep_at_seconds = now_seconds + wait_seconds
            self.keep_sums()

    def _add(
        self,
        actions: Sequence[Action],
        effects: Effects,
        jobs: Mapping[str, Job],
        snapshot: Snapshot,
        seconds: float,
    ) -> None:
        now_seconds = snapshot.at.timestamp()
        hour = self._hour = self._hour or _Hour(began_seconds=now_seconds)
        # Just after a start no battery has answered yet.
        hour.batteries = hour.batteries or _batteries(snapshot)
        hour.seconds += seconds
        hour.most_watts = max(hour.most_watts, effects.relief_watts)
        seen: set[str] = set()
        for action, relief_watts in zip(actions, effects.each_watts, strict=True):
            kind = kind_of(action)
            if kind is None:
                continue
            sums = hour.kinds.setdefault(kind, [0.0, 0.0, 0.0])
            # A kind's seconds are those in which anybody would have met it.
            sums[0] += seconds if kind not in seen else 0.0
            sums[1] += relief_watts * seconds
            seen.add(kind)
            if isinstance(action, SetDischarge | SwitchService):
                continue
            hour.jobs.setdefault(kind, set()).add(action.job_id)
            job = jobs.get(action.job_id)
            if action.job_id not in self._jobs:
                self._jobs[action.job_id] = _JobSums(
                    user=None if job is None else job.user,
                    gpu_count=0 if job is None else job.gpu_count,
                    since_seconds=now_seconds,
                )
            self._jobs[action.job_id].add(action, relief_watts, seconds)
        for kind, watts in effects.kind_watts.items():
            hour.kinds[kind][2] = max(hour.kinds[kind][2], watts)

    def _close_jobs(self, jobs: Mapping[str, Job], at: datetime, now_seconds: float) -> None:
        for job_id in list(self._jobs):
            sums = self._jobs[job_id]
            if job_id not in jobs or now_seconds - sums.since_seconds > _LONGEST_SECONDS:
                self._close_job(job_id, at)

    def _close_job(self, job_id: str, at: datetime) -> None:
        sums = self._jobs.pop(job_id)
        details = {item: getattr(sums, item) for item in _JOB_FIELDS if item != "user"}
        rounded = {
            key: round(value, 3) if isinstance(value, float) else value for key, value in details.items()
        }
        self._note(
            at,
            "controller",
            JOB_KIND,
            f"job:{job_id}",
            sums.text,
            job_id=job_id,
            user=sums.user,
            details=rounded,
        )

    def _close_hour(self, at: datetime) -> None:
        hour, self._hour = self._hour, None
        if hour is None:
            return
        taken = (
            f"at most {kilowatts_text(hour.most_watts)} would have been taken"
            if hour.kinds
            else "nothing would have been done"
        )
        text = f"{hour.seconds:.0f} s only watched; {taken}"
        self._note(at, "controller", HOUR_KIND, "site", text, details=hour.details())

    def _end(self, at: datetime) -> None:
        """Write what is open: levers are moved from now on."""
        if self._hour is None and not self._jobs:
            return
        self._close_hour(at)
        for job_id in list(self._jobs):
            self._close_job(job_id, at)
        self.keep_sums()

    def keep_sums(self) -> None:
        """Keep what is open in the store, readable for reports too."""
        hour, details = None, None
        if self._hour is not None:
            jobs = {kind: sorted(job_ids) for kind, job_ids in self._hour.jobs.items()}
            hour, details = {**asdict(self._hour), "jobs": jobs}, self._hour.details()
        sums = {
            job_id: {item: getattr(sums, item) for item in _JOB_FIELDS} for job_id, sums in self._jobs.items()
        }
        self._store.put_state(_KEY, {"jobs": sums, "hour": hour, "hour_details": details})


def _batteries(snapshot: Snapshot) -> dict[str, dict[str, float]]:
    return {
        name: {
            "soc_ratio": round(ess.soc_ratio, 4),
            "energy_rating_kwh": round(ess.energy_rating_kwh * ess.soh_ratio, 3),
            "reserve_soc_ratio": snapshot.site.ess[name].reserve_soc_ratio,
        }
        for name, ess in snapshot.ess.items()
        if name in snapshot.site.ess
    }

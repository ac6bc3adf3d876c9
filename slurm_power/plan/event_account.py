"""What an event has delivered: 1-minute means against baseline and target, and what it cost each job.

Moments are seconds from the event's start; its ramp has negative ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from slurm_power.model.units import kwh_from_joules

_MINUTE_SECONDS = 60.0
# A minute of which less was seen says nothing.
_LEAST_SEEN_SECONDS = 20.0
# A minute's mean this far above its target is above it; less is what a meter cannot tell.
_ABOVE_RATIO = 0.01
# Minutes kept of each part of an event; what is longer goes on in the sums alone.
_MOST_MINUTES = 1440
_GPU_HOUR_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTouched:
    """What an event does to one job at a moment: the share of performance a cap takes, or a hold."""

    job_id: str
    user: str
    gpu_count: int
    slowdown_ratio: float = 0.0
    held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One cycle. ``watts`` is the metered draw, None while unknown; ``seconds`` for how long it stands.

    ``discharge_watts`` is what the batteries behind the circuit feed in, ``running_gpus`` how many GPUs of it
    run jobs.
    """

    at_seconds: float
    seconds: float
    watts: float | None
    target_watts: float
    discharge_watts: float = 0.0
    running_gpus: int = 0
    touched: Sequence[JobTouched] = ()


@dataclass(slots=True)
class _Minute:
    watt_seconds: float = 0.0
    target_watt_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def mean_watts(self) -> float:
        return self.watt_seconds / self.seconds

    @property
    def mean_target_watts(self) -> float:
        return self.target_watt_seconds / self.seconds


@dataclass(slots=True)
class _JobLoss:
    user: str
    gpu_count: int
    lost_gpu_seconds: float = 0.0
    capped_seconds: float = 0.0
    held_seconds: float = 0.0
    worst_slowdown_ratio: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventResult:
    """What came of an event. Points are per cent of the baseline; None where something was not known.

    ``delivered_watts`` is the mean reduction against the baseline over the event, ``promised_watts`` what was
    asked. ``over_curtailment_points`` is the mean of what 1-minute means lay below the target,
    ``worst_over_curtailment_points`` the most. ``above_target_ratio`` is the most that a minute after
    the target was reached lay above it, ``minutes_above_target`` how many did by more than 1 %.
    ``time_to_target_seconds``: from the start until the draw was at or below the target and no later minute
    above it. ``rebound_watts``: the most that a minute after the end lay above the baseline;
    ``steepest_rise_watts``: the most that one minute then lay above the one before. ``coverage_ratio`` is
    the share of the event that was metered, ``performance_ratio`` the share of the GPU time of running jobs
    that caps left.
    """

    delivered_watts: float | None
    promised_watts: float | None
    delivered_kwh: float | None
    delivered_ratio: float | None
    over_curtailment_watts: float | None
    over_curtailment_points: float | None
    worst_over_curtailment_points: float | None
    above_target_watts: float | None
    above_target_ratio: float | None
    minutes_above_target: int
    time_to_target_seconds: float | None
    rebound_watts: float | None
    steepest_rise_watts: float | None
    coverage_ratio: float
    ess_discharged_kwh: float
    ess_charged_kwh: float
    lost_gpu_hours: float
    held_gpu_hours: float
    performance_ratio: float | None


class EventAccount:
    """The running account of one event of ``duration_seconds``; it can be kept and taken up again."""

    def __init__(self, duration_seconds: float) -> None:
        self.duration_seconds = duration_seconds
        self._ramp: dict[int, _Minute] = {}
        self._event: dict[int, _Minute] = {}
        self._recovery: dict[int, _Minute] = {}
        self._jobs: dict[str, _JobLoss] = {}
        self._reached_seconds: float | None = None
        self._seen_seconds = 0.0
        self._discharged_joules = 0.0
        self._charged_joules = 0.0
        self._running_gpu_seconds = 0.0

    def add(self, sample: Sample) -> None:
        """Take one cycle."""
        # What a meter shows is the mean of the time before it was read.
        middle_seconds = sample.at_seconds - 0.5 * sample.seconds
        self._take_jobs(sample)
        energy_joules = sample.discharge_watts * sample.seconds
        if energy_joules > 0.0:
            self._discharged_joules += energy_joules
        else:
            self._charged_joules -= energy_joules
        if sample.watts is None:
            return
        during = 0.0 <= middle_seconds < self.duration_seconds
        if during:
            self._seen_seconds += sample.seconds
        if self._reached_seconds is None and during and sample.watts <= sample.target_watts:
            self._reached_seconds = max(0.0, sample.at_seconds)
        part, since_seconds = self._part(middle_seconds)
        index = int(since_seconds // _MINUTE_SECONDS)
        if index not in part and len(part) >= _MOST_MINUTES:
            return
        minute = part.setdefault(index, _Minute())
        minute.watt_seconds += sample.watts * sample.seconds
        minute.target_watt_seconds += sample.target_watts * sample.seconds
        minute.seconds += sample.seconds

    def _part(self, at_seconds: float) -> tuple[dict[int, _Minute], float]:
        if at_seconds < 0.0:
            return self._ramp, at_seconds
        if at_seconds < self.duration_seconds:
            return self._event, at_seconds
        return self._recovery, at_seconds - self.duration_seconds

    def _take_jobs(self, sample: Sample) -> None:
        self._running_gpu_seconds += sample.running_gpus * sample.seconds
        for touched in sample.touched:
            loss = self._jobs.setdefault(
                touched.job_id, _JobLoss(user=touched.user, gpu_count=touched.gpu_count)
            )
            if touched.held:
                loss.held_seconds += sample.seconds
                continue
            loss.capped_seconds += sample.seconds
            loss.lost_gpu_seconds += touched.slowdown_ratio * touched.gpu_count * sample.seconds
            loss.worst_slowdown_ratio = max(loss.worst_slowdown_ratio, touched.slowdown_ratio)

    def result(self, *, limit_watts: float, baseline_watts: float | None) -> EventResult:
        """What has come of it so far."""
        minutes = _seen(self._event)
        over_watts = [max(0.0, one.mean_target_watts - one.mean_watts) for one in minutes.values()]
        weights = [one.seconds for one in minutes.values()]
        mean_watts = _weighted([one.mean_watts for one in minutes.values()], weights)
        over_mean_watts = _weighted(over_watts, weights)
        promised_watts = None if baseline_watts is None else baseline_watts - limit_watts
        delivered_watts = (
            None if baseline_watts is None or mean_watts is None else baseline_watts - mean_watts
        )
        later = self._after_reached(minutes)
        above = [(one.mean_watts - one.mean_target_watts, one.mean_target_watts) for one in later.values()]
        recovery = _seen(self._recovery)
        lost_gpu_seconds = sum(loss.lost_gpu_seconds for loss in self._jobs.values())
        running = self._running_gpu_seconds
        return EventResult(
            delivered_watts=delivered_watts,
            promised_watts=promised_watts,
            delivered_kwh=None
            if delivered_watts is None
            else kwh_from_joules(delivered_watts * sum(weights)),
            delivered_ratio=delivered_watts / promised_watts
            if delivered_watts is not None and promised_watts is not None and promised_watts > 0.0
            else None,
            over_curtailment_watts=over_mean_watts,
            over_curtailment_points=_points(over_mean_watts, baseline_watts),
            worst_over_curtailment_points=_points(max(over_watts, default=None), baseline_watts),
            above_target_watts=max((max(0.0, watts) for watts, _ in above), default=None),
            above_target_ratio=max(
                (max(0.0, watts) / target for watts, target in above if target > 0.0), default=None
            ),
            minutes_above_target=sum(_is_above(one) for one in later.values()),
            time_to_target_seconds=self._time_to_target(later),
            rebound_watts=None
            if baseline_watts is None
            else max((max(0.0, one.mean_watts - baseline_watts) for one in recovery.values()), default=None),
            steepest_rise_watts=_steepest(list(minutes.values())[-1:] + list(recovery.values())),
            coverage_ratio=min(1.0, self._seen_seconds / self.duration_seconds)
            if self.duration_seconds > 0.0
            else 0.0,
            ess_discharged_kwh=kwh_from_joules(self._discharged_joules),
            ess_charged_kwh=kwh_from_joules(self._charged_joules),
            lost_gpu_hours=lost_gpu_seconds / _GPU_HOUR_SECONDS,
            held_gpu_hours=sum(loss.held_seconds * loss.gpu_count for loss in self._jobs.values())
            / _GPU_HOUR_SECONDS,
            performance_ratio=1.0 - lost_gpu_seconds / running if running > 0.0 else None,
        )

    def _after_reached(self, minutes: Mapping[int, _Minute]) -> dict[int, _Minute]:
        """The minutes that begin after the target was first reached; none while it was not."""
        reached = self._reached_seconds
        if reached is None:
            return {}
        return {index: one for index, one in minutes.items() if index * _MINUTE_SECONDS >= reached - 1.0}

    def _time_to_target(self, later: Mapping[int, _Minute]) -> float | None:
        above = [index for index, one in later.items() if _is_above(one)]
        if not above:
            return self._reached_seconds
        last = max(above)
        return (last + 1) * _MINUTE_SECONDS if last < max(later) else None

    def jobs(self) -> list[dict[str, Any]]:
        """What each job that was touched has lost, the most first."""
        rows = [
            {
                "job_id": job_id,
                "user": loss.user,
                "gpu_count": loss.gpu_count,
                "lost_gpu_hours": loss.lost_gpu_seconds / _GPU_HOUR_SECONDS,
                "capped_seconds": loss.capped_seconds,
                "held_seconds": loss.held_seconds,
                "worst_slowdown_ratio": loss.worst_slowdown_ratio,
            }
            for job_id, loss in self._jobs.items()
        ]
        return sorted(rows, key=lambda row: (-float(str(row["lost_gpu_hours"])), str(row["job_id"])))

    def minutes(self) -> list[dict[str, Any]]:
        """The 1-minute means: ramp, event and recovery, each with its own count of minutes."""
        return [
            {
                "part": name,
                "minute": index,
                "mean_watts": one.mean_watts,
                "target_watts": one.mean_target_watts,
                "seconds": one.seconds,
            }
            for name, part in self._parts().items()
            for index, one in sorted(part.items())
            if one.seconds > 0.0
        ]

    def _parts(self) -> dict[str, dict[int, _Minute]]:
        return {"ramp": self._ramp, "event": self._event, "recovery": self._recovery}

    def to_json(self) -> dict[str, Any]:
        """Everything that must survive a restart."""
        return {
            "duration_seconds": self.duration_seconds,
            "parts": {
                name: [[index, *asdict(one).values()] for index, one in part.items()]
                for name, part in self._parts().items()
            },
            "jobs": {job_id: asdict(loss) for job_id, loss in self._jobs.items()},
            "reached_seconds": self._reached_seconds,
            "seen_seconds": self._seen_seconds,
            "discharged_joules": self._discharged_joules,
            "charged_joules": self._charged_joules,
            "running_gpu_seconds": self._running_gpu_seconds,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "EventAccount":
        """Take an account up again; raises KeyError, TypeError or ValueError for what is none."""
        account = cls(float(stored["duration_seconds"]))
        for name, part in account._parts().items():
            for index, watt_seconds, target_watt_seconds, seconds in stored["parts"][name]:
                part[int(index)] = _Minute(watt_seconds, target_watt_seconds, seconds)
        account._jobs = {job_id: _JobLoss(**loss) for job_id, loss in stored["jobs"].items()}
        account._reached_seconds = stored["reached_seconds"]
        account._seen_seconds = stored["seen_seconds"]
        account._discharged_joules = stored["discharged_joules"]
        account._charged_joules = stored["charged_joules"]
        account._running_gpu_seconds = stored["running_gpu_seconds"]
        return account


def _seen(part: Mapping[int, _Minute]) -> dict[int, _Minute]:
    """The minutes of which enough was seen, in order."""
    return {index: one for index, one in sorted(part.items()) if one.seconds >= _LEAST_SEEN_SECONDS}


def _is_above(minute: _Minute) -> bool:
    return minute.mean_watts > minute.mean_target_watts * (1.0 + _ABOVE_RATIO)


def _weighted(values: Sequence[float], weights: Sequence[float]) -> float | None:
    total = sum(weights)
    if total <= 0.0:
        return None
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / total


def _points(watts: float | None, baseline_watts: float | None) -> float | None:
    if watts is None or baseline_watts is None or baseline_watts <= 0.0:
        return None
    return 100.0 * watts / baseline_watts


def _steepest(minutes: Sequence[_Minute]) -> float | None:
    rises = [later.mean_watts - before.mean_watts for before, later in pairwise(minutes)]
    return max((max(0.0, rise) for rise in rises), default=None)

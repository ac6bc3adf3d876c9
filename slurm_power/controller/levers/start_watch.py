"""Massive starts and swings as they are seen: announced before, recognised when they come, written down."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from slurm_power.controller.governance.operators import Note
from slurm_power.forecast.labels import START_SECONDS, WINDOW_SECONDS, Started, label
from slurm_power.model.forecast import ComingStart, LoadLabel
from slurm_power.model.job import JobState
from slurm_power.model.site import Site
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.policy import Policy

_MOST_TICKS = 400
# A lead time is told again when it has changed by so much: a plan that moves is no news each minute.
_MOVED_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class _Announced:
    start: ComingStart
    at_seconds: float


class StartWatch:
    """Follows coming and started jobs, and each circuit's last minute."""

    def __init__(self, site: Site, policy: Policy, note: Note) -> None:
        self.note = note
        self._site = site
        self._policy = policy
        self._ticks: dict[str, deque[tuple[float, float]]] = {
            name: deque(maxlen=_MOST_TICKS) for name in site.circuits
        }
        self._announced: dict[str, _Announced] = {}
        self._started: dict[str, dict[str, Started]] = {}
        self._told: set[str] = set()

    def look(
        self, snapshot: Snapshot, watts: Mapping[str, float | None], starts: Sequence[ComingStart]
    ) -> None:
        """Take one cycle's loads and coming starts."""
        now_seconds = snapshot.at.timestamp()
        for name, value in watts.items():
            ticks = self._ticks[name]
            while ticks and not now_seconds - WINDOW_SECONDS - START_SECONDS < ticks[0][0] <= now_seconds:
                ticks.popleft()
            if value is not None:
                ticks.append((now_seconds, value))
        self._announce(starts, now_seconds)
        self._find_started(snapshot, now_seconds)
        self._tell_arrived(now_seconds)

    def label(self, circuit: str) -> LoadLabel:
        """What kind of load the circuit has now."""
        started = [steps[circuit] for steps in self._started.values() if circuit in steps]
        ceiling = self._site.circuits[circuit].ceiling_watts
        return label(tuple(self._ticks[circuit]), started, ceiling_watts=ceiling)

    def _announce(self, starts: Sequence[ComingStart], now_seconds: float) -> None:
        """Write down each massive start once, as soon as it is known when it comes; again if that moves."""
        root = self._site.root.name
        for start in starts:
            if not start.massive or start.lead_seconds is None or start.job_id in self._started:
                continue
            known = self._announced.get(start.job_id)
            if known is not None and known.start.earliest is not None and start.earliest is not None:
                moved = abs((start.earliest - known.start.earliest).total_seconds())
                if moved < _MOVED_SECONDS:
                    # The step may be known better by now, what was announced first stays the lead time.
                    self._announced[start.job_id] = replace(
                        known, start=replace(known.start, step_watts=start.step_watts, placed=start.placed)
                    )
                    continue
            self._announced[start.job_id] = _Announced(start, now_seconds)
            step = kilowatts_text(start.step_watts.get(root, 0.0))
            comes = (
                f"it will add about {step} at {root}, in {start.lead_seconds:.0f} s at the earliest"
                if start.lead_seconds > 0.0
                else f"it adds about {step} at {root} now"
            )
            self.note(
                "forecast",
                "massive start ahead",
                f"job:{start.job_id}",
                f"{comes} ({start.known_from})",
                job_id=start.job_id,
                user=start.user,
                details={
                    "step_watts": {name: round(value) for name, value in start.step_watts.items()},
                    "lead_seconds": round(start.lead_seconds, 1),
                    "known_from": start.known_from,
                },
            )

    def _find_started(self, snapshot: Snapshot, now_seconds: float) -> None:
        """Note the loads just before a massive job began to draw."""
        states = {job.job_id: job for job in snapshot.jobs}
        for job_id, announced in list(self._announced.items()):
            job = states.get(job_id)
            if job is None or job.state in (JobState.ENDING, JobState.ENDED):
                del self._announced[job_id]
            elif job.state in (JobState.STARTING, JobState.RUNNING) and job_id not in self._started:
                began = now_seconds if job.started is None else job.started.timestamp()
                self._started[job_id] = {
                    name: Started(
                        job_id=job_id,
                        at_seconds=began,
                        step_watts=step,
                        before_watts=self._before(name, began),
                    )
                    for name, step in announced.start.step_watts.items()
                    if self._ticks.get(name)
                }
        for job_id in [job_id for job_id in self._started if job_id not in states]:
            del self._started[job_id]
            self._told.discard(job_id)

    def _before(self, circuit: str, seconds: float) -> float:
        """The mean of the last seconds before a moment, else the first value there is."""
        ticks = self._ticks[circuit]
        before = [watts for at, watts in ticks if seconds - 5.0 <= at < seconds]
        return sum(before) / len(before) if before else ticks[0][1]

    def _tell_arrived(self, now_seconds: float) -> None:
        """When a massive start is over, write down what was expected of it and what came."""
        root = self._site.root.name
        for job_id, steps in self._started.items():
            step = steps.get(root)
            announced = self._announced.get(job_id)
            if step is None or announced is None or job_id in self._told:
                continue
            if now_seconds - step.at_seconds < self._policy.start_expected_seconds:
                continue
            self._told.add(job_id)
            recent = [watts for at, watts in self._ticks[root] if at >= now_seconds - 5.0]
            came = (sum(recent) / len(recent) if recent else step.before_watts) - step.before_watts
            ahead = step.at_seconds - announced.at_seconds
            others = self._beside(job_id, step, now_seconds)
            expected = step.step_watts + sum(self._started[other][root].step_watts for other in others)
            beside = f" together with job {', '.join(others)}" if others else ""
            self.note(
                "forecast",
                "massive start",
                f"job:{job_id}",
                f"{kilowatts_text(expected)} were expected at {root}{beside}, {kilowatts_text(came)} came;"
                f" announced {max(0.0, ahead):.0f} s before",
                job_id=job_id,
                user=announced.start.user,
                details={
                    "expected_watts": round(expected),
                    "came_watts": round(came),
                    "announced_seconds": round(ahead, 1),
                    "together_with": others,
                },
            )

    def _beside(self, job_id: str, step: Started, now_seconds: float) -> list[str]:
        """Other massive starts whose steps came at the same time: a meter cannot tell them apart."""
        root = self._site.root.name
        since = step.at_seconds - self._policy.start_expected_seconds
        return [
            other
            for other, steps in self._started.items()
            if other != job_id and root in steps and since < steps[root].at_seconds <= now_seconds
        ]

"""The forecast as the controller has it: fed and kept, with a naive one while the worker is away."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

from slurm_power.config import SiteConfig
from slurm_power.config.forecast import QUARTER_SECONDS
from slurm_power.controller.governance.operators import Note
from slurm_power.controller.jobs.job_feed import JobFeed
from slurm_power.controller.jobs.run_times import stored_run_times
from slurm_power.controller.levers.start_watch import StartWatch
from slurm_power.controller.planning.forecast_process import ForecastProcess
from slurm_power.controller.sensing.load_feed import StepMeans, circuit_loads
from slurm_power.forecast.experts import Values
from slurm_power.forecast.messages import forecast_from
from slurm_power.forecast.naive import fall_back
from slurm_power.model.forecast import CircuitForecast, ComingStart, LoadLabel, Reach
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import job_loads
from slurm_power.plan.policy import Policy
from slurm_power.plan.starts import coming_starts, rooms
from slurm_power.wire import Message

# How many steps of what was are kept for charts and for the naive forecast.
_KEPT_STEPS = {Reach.NEAR: 120, Reach.FAR: 7 * 96}
# A forecast that is older than this many steps is late...
_LATE_STEPS = {Reach.NEAR: 2.0, Reach.FAR: 1.0}
# ... and another step, at most so long: the worker has to read and to think.
_GRACE_SECONDS = 10.0
_STARTS_EVERY_SECONDS = 2.0
_STARTING, _NEVER = "it has only just been started", float("-inf")


@dataclass(slots=True)
class Course:
    """What a circuit's load has been, step by step; ``end_seconds`` is when the last one ended."""

    step_seconds: float
    values: deque[float | None] = field(default_factory=deque)
    end_seconds: float = _NEVER

    def add(self, end_seconds: float, watts: float | None) -> None:
        """Add a step; steps that were missed are gaps, and a clock that was set back starts anew."""
        missed = round((end_seconds - self.end_seconds) / self.step_seconds) - 1 if self.values else 0
        if missed < 0:
            self.values.clear()
        for _ in range(min(max(missed, 0), self.values.maxlen or 0)):
            self.values.append(None)
        self.values.append(watts)
        self.end_seconds = end_seconds


class ForecastDesk:
    """Feeds the worker, keeps what it says, and answers for it while it does not."""

    def __init__(
        self,
        config: SiteConfig,
        *,
        note: Note,
        fault: Callable[[str, str], None],
        command: tuple[str, ...] = (),
    ) -> None:
        self._config = config
        self._fault = fault
        self._settings = config.forecast
        self._steps = {
            Reach.NEAR: self._settings.near_step_seconds,
            Reach.FAR: QUARTER_SECONDS,
        }
        self._horizons = {
            Reach.NEAR: round(self._settings.near_horizon_seconds / self._settings.near_step_seconds),
            Reach.FAR: round(self._settings.far_horizon_hours * 3600.0 / QUARTER_SECONDS),
        }
        self._means = {reach: StepMeans(seconds) for reach, seconds in self._steps.items()}
        self._courses = {
            (name, reach): Course(self._steps[reach], deque(maxlen=_KEPT_STEPS[reach]))
            for name in config.site.circuits
            for reach in Reach
        }
        self._said: dict[tuple[str, Reach], CircuitForecast] = {}
        self._residuals: dict[str, Values] = {}
        self._fallen_back: dict[tuple[str, Reach], tuple[tuple[float, str], CircuitForecast | None]] = {}
        self._jobs = JobFeed(stored_run_times(config.controller.state_directory))
        self.run_times = self._jobs.run_times
        self._watch = StartWatch(config.site, config.policy, note)
        self._rooms = rooms(config.site, {})
        self._rooms_of: dict[str, int] = {}
        self._starts: tuple[ComingStart, ...] = ()
        self._starts_at: datetime | None = None
        self._ending = _STARTING if self._settings.enabled else "forecast.enabled is false"
        self._problem = ""
        self.worker_words: dict[str, str] = {}
        more = {"command": command} if command else {}
        self._process = ForecastProcess(
            self._hello(), on_message=self._take, on_end=self._worker_ended, **more
        )

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._config = replace(self._config, policy=policy)

    def _hello(self) -> Message:
        site = self._config.site
        stored = self._config.store.series_url is None
        return {
            "type": "hello",
            "circuits": list(site.circuits),
            # A battery's reserve is sized by whole paths, where one hangs.
            "with_paths": sorted({site.root.name, *(ess.circuit for ess in site.ess.values())}),
            "fitted": _largest(self._config, self._settings.fitted_circuits),
            "state_directory": str(self._config.controller.state_directory),
            "stored_here": stored,
            "near_step_seconds": self._steps[Reach.NEAR],
            "near_steps": self._horizons[Reach.NEAR],
            "far_steps": self._horizons[Reach.FAR],
        }

    async def run(self) -> None:
        """Keep the worker running until cancelled."""
        if self._settings.enabled:
            await self._process.run()
        else:
            await asyncio.Event().wait()

    # --- from the cycle ---------------------------------------------------------------------------------

    def observe(self, snapshot: Snapshot) -> None:
        """Take one cycle's view of the site."""
        at_seconds = snapshot.at.timestamp()
        loads = job_loads(snapshot, self._config.policy)
        watts = circuit_loads(snapshot, loads)
        self._jobs.follow(snapshot)
        self._look_ahead(snapshot)
        self._watch.look(snapshot, watts, self._starts)
        for reach, means in self._means.items():
            finished = means.add(at_seconds, watts)
            if finished is None:
                continue
            end_seconds, values = finished
            for name, value in values.items():
                self._courses[name, reach].add(end_seconds, value)
            if reach is Reach.NEAR and self._settings.enabled:
                jobs = self._jobs.message(
                    snapshot,
                    self._config.policy,
                    loads,
                    self._starts,
                    within_seconds=self._settings.near_horizon_seconds,
                )
                self._process.send(
                    {"type": "step", "end_seconds": end_seconds, "loads": values, "jobs": jobs}
                )
        self._tell_lateness(at_seconds)

    def _look_ahead(self, snapshot: Snapshot) -> None:
        if self._starts_at is not None:
            age = (snapshot.at - self._starts_at).total_seconds()
            if 0.0 <= age < _STARTS_EVERY_SECONDS:
                return
        gpus = {name: len(node.gpus) for name, node in snapshot.nodes.items()}
        if gpus != self._rooms_of:
            self._rooms, self._rooms_of = rooms(self._config.site, gpus), gpus
        self._starts = coming_starts(snapshot, self._config.policy, self._rooms)
        self._starts_at = snapshot.at

    def _tell_lateness(self, at_seconds: float) -> None:
        """Write down once that nobody forecasts and who speaks instead, and once that all is well again."""
        root = self._config.site.root.name
        if not self._settings.enabled or not self._courses[root, Reach.NEAR].values:
            return
        problem = self._late(root, Reach.NEAR, at_seconds)
        if problem == _STARTING or bool(problem) == bool(self._problem):
            return
        self._problem = problem
        naive = self.forecast(root, Reach.NEAR, at_seconds)
        speaker = "nobody" if naive is None else naive.source
        self._fault("forecast", f"{problem}; meanwhile {speaker} speaks" if problem else "")

    # --- from the worker --------------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        kind = message.get("type")
        if kind == "forecast":
            found = forecast_from(message)
            if (found.circuit, found.reach) not in self._courses:
                raise ValueError(f"there is no circuit {found.circuit!r}")
            self._said[found.circuit, found.reach] = found
            self._ending = ""
        elif kind == "paths":
            self._take_paths(message)
        elif kind == "words":
            self.worker_words[str(message.get("about"))] = str(message.get("text"))
            self._watch.note("forecast", "worker", str(message.get("about")), str(message.get("text")))
        else:
            raise ValueError(f"a message of type {kind!r}")

    def _take_paths(self, message: Message) -> None:
        circuit = str(message.get("circuit"))
        paths = np.array(message.get("watts"), dtype=np.float64).reshape(-1, self._horizons[Reach.FAR])
        if (circuit, Reach.FAR) not in self._courses or not np.isfinite(paths).all():
            raise ValueError(f"residual paths of {circuit!r} that cannot be")
        self._residuals[circuit] = paths

    def _worker_ended(self, reason: str) -> None:
        self._ending = f"the forecast worker is away: {reason}"

    # --- for answers and plans --------------------------------------------------------------------------

    def _late(self, circuit: str, reach: Reach, at_seconds: float) -> str:
        """Why the worker's forecast is not to be used; "" if it is."""
        said = self._said.get((circuit, reach))
        step = self._steps[reach]
        most_seconds = (1.0 + _LATE_STEPS[reach]) * step + min(step, _GRACE_SECONDS)
        if said is not None and at_seconds < said.issued_seconds + most_seconds:
            return ""
        if self._ending:
            return self._ending
        if said is None:
            return "the forecast worker is still learning"
        return "the forecast worker is late"

    def forecast(self, circuit: str, reach: Reach, at_seconds: float) -> CircuitForecast | None:
        """The forecast of a circuit: the worker's, else a naive one that says why; None before any value."""
        problem = self._late(circuit, reach, at_seconds)
        if not problem:
            return self._said[circuit, reach]
        course = self._courses[circuit, reach]
        known = self._fallen_back.get((circuit, reach))
        if known is not None and known[0] == (course.end_seconds, problem):
            return known[1]
        found = fall_back(
            circuit,
            reach,
            tuple(course.values),
            end_seconds=course.end_seconds,
            step_seconds=course.step_seconds,
            steps=self._horizons[reach],
            reason=problem,
        )
        self._fallen_back[circuit, reach] = (course.end_seconds, problem), found
        return found

    def said(self) -> tuple[CircuitForecast, ...]:
        """The last that the worker has said of each circuit, late or not."""
        return tuple(self._said.values())

    def course(self, circuit: str, reach: Reach) -> Course:
        """What the circuit's load has been."""
        return self._courses[circuit, reach]

    def residual_paths(self, circuit: str) -> Values:
        """How past far forecasts went: outcome less forecast in watts, one a row; none before it was judged.

        Kept of the grid connection and of circuits with a battery.
        """
        return self._residuals.get(circuit, np.empty((0, self._horizons[Reach.FAR])))

    @property
    def starts(self) -> tuple[ComingStart, ...]:
        """Every start that can come, the soonest first."""
        return self._starts

    def label(self, circuit: str) -> LoadLabel:
        """What kind of load the circuit has now."""
        return self._watch.label(circuit)

    def worker(self, at_seconds: float) -> dict[str, Any]:
        """How the worker does, for answers."""
        root = self._config.site.root.name
        said = self._said.get((root, Reach.NEAR))
        late = self._late(root, Reach.NEAR, at_seconds)
        running = self._process.process_id is not None
        if not self._settings.enabled:
            state = "off"
        elif running and not late:
            state = "running"
        else:
            state = "starting" if running and said is None else "away"
        return {
            "state": state,
            "reason": late,
            "age_seconds": None if said is None else round(at_seconds - said.issued_seconds, 1),
            "process_id": self._process.process_id,
            "words": dict(self.worker_words),
        }


def _largest(config: SiteConfig, count: int) -> list[str]:
    """The circuits that may draw most, the grid connection first."""
    circuits = sorted(config.site.circuits.values(), key=lambda circuit: -circuit.ceiling_watts)
    root = config.site.root.name
    return [root, *(circuit.name for circuit in circuits if circuit.name != root)][:count]

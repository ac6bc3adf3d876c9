"""Reads what it is told, learns, and says what comes; circuits are learned one after the other meanwhile."""

import logging
import os
import select
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slurm_power.config.forecast import QUARTER_SECONDS
from slurm_power.forecast.days import STATE_SPACE
from slurm_power.forecast.fit_state_space import is_installed
from slurm_power.forecast.messages import forecast_message
from slurm_power.forecast.run_times import RunTimes
from slurm_power.forecast.state_space import Parameters
from slurm_power.forecaster.circuit import CircuitModels
from slurm_power.forecaster.history import History
from slurm_power.forecaster.jobs import JobsAhead, learn_ended
from slurm_power.forecaster.refit import Fitted, Refits
from slurm_power.forecaster.skew import SkewCheck
from slurm_power.forecaster.state_files import StateFiles
from slurm_power.model.forecast import CircuitForecast
from slurm_power.ports import StoreError
from slurm_power.wire import LineDecoder, Message, WireError, decode, encode

log = logging.getLogger(__name__)

_MOST_LINE_BYTES = 64 << 20
_READ_BYTES = 1 << 20
_IDLE_SECONDS = 1.0
_DAY_SECONDS = 86_400.0
# How far back it pays to read: what the models remember.
_FAR_DAYS, _NEAR_DAYS = 35.0, 3.0
# Fine steps are only stored raw, which is a lot to read.
_NEAR_RAW_SECONDS = 3600.0
_SKEW_SECONDS = 3600.0
_SAVE_SECONDS = 6.0 * 3600.0
_MOST_WAITING_STEPS = 1_000
DIRECTORY = "forecast"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What the worker has to know before anything else; raises ValueError for what is malformed."""

    circuits: tuple[str, ...]
    fitted: tuple[str, ...]
    with_paths: tuple[str, ...]
    state_directory: Path
    stored_here: bool
    near_step_seconds: float
    near_steps: int
    far_steps: int

    @classmethod
    def from_message(cls, message: Message) -> "Hello":
        """Read the first message."""
        found: Any = message
        try:
            if found["type"] != "hello":
                raise ValueError(f"the first message is {found['type']!r} and not hello")
            return cls(
                circuits=tuple(map(str, found["circuits"])),
                fitted=tuple(map(str, found["fitted"])),
                with_paths=tuple(map(str, found["with_paths"])),
                state_directory=Path(str(found["state_directory"])),
                stored_here=bool(found["stored_here"]),
                near_step_seconds=float(found["near_step_seconds"]),
                near_steps=int(found["near_steps"]),
                far_steps=int(found["far_steps"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no hello: {type(error).__name__}: {error}") from None


class Worker:
    """All circuits of a site. ``say`` sends a message."""

    def __init__(self, hello: Hello, say: Callable[[Message], None]) -> None:
        self._hello = hello
        self._say = say
        self._files = StateFiles(hello.state_directory / DIRECTORY)
        self._models: dict[str, CircuitModels] = {}
        # Steps of circuits that are not learned yet.
        self._waiting: dict[str, list[tuple[float, float]]] = {name: [] for name in hello.circuits}
        self._steps_seconds = hello.near_step_seconds * np.arange(1.0, hello.near_steps + 1.0)
        self.run_times = RunTimes()
        self._saved_at_seconds: float | None = None
        self._now_seconds: float | None = None
        self._jobs: JobsAhead | None = None
        self._due_near: list[str] = []
        self._due_far: list[str] = []
        self._refits = Refits(hello.fitted if is_installed() else ())
        self._parameters: dict[str, Parameters] = {}
        if hello.fitted and not is_installed():
            self.words("fits", "statsmodels is not installed: no state-space model joins the blend")
        self._skew = SkewCheck(hello.near_step_seconds)
        self._skew_due_seconds: float | None = None
        self._skew_turn = 0
        self._learn_run_times()

    def _learn_run_times(self) -> None:
        try:
            state = self._files.load_run_times()
            if state is not None:
                self.run_times.restore(state)
        except ValueError as error:
            self.words("run times", f"{error}; they are learned anew")

    def words(self, about: str, text: str) -> None:
        """Tell the controller something for its ledger."""
        log.info("%s: %s", about, text)
        self._say({"type": "words", "about": about, "text": text})

    # --- messages ---------------------------------------------------------------------------------------

    def take(self, message: Message) -> None:
        """Take one message; raises ValueError for what is malformed."""
        if message.get("type") != "step":
            raise ValueError(f"a message of type {message.get('type')!r}")
        try:
            self._take_step(message)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no step: {type(error).__name__}: {error}") from None

    def _take_step(self, found: Any) -> None:
        end_seconds = float(found["end_seconds"])
        first = self._now_seconds is None
        self._now_seconds = end_seconds
        learn_ended(self.run_times, found["jobs"])
        self._jobs = JobsAhead(
            found["jobs"], self.run_times, end_seconds=end_seconds, steps_seconds=self._steps_seconds
        )
        if first:
            self._saved_at_seconds = end_seconds
        self._due_near = []
        for name in self._hello.circuits:
            watts = found["loads"].get(name)
            value = float("nan") if watts is None else float(watts)
            self._skew.fed(name, end_seconds, value)
            models = self._models.get(name)
            if models is None:
                steps = self._waiting[name]
                steps.append((end_seconds, value))
                del steps[:-_MOST_WAITING_STEPS]
                continue
            if models.take(end_seconds, value) and name not in self._due_far:
                self._due_far.append(name)
            self._due_near.append(name)

    def speak(self) -> None:
        """Forecast everything that has got a new value."""
        near, self._due_near = self._due_near, []
        for name in near:
            self._say_near(self._models[name])
        far, self._due_far = self._due_far, []
        for name in far:
            self._say_far(self._models[name])

    def _say_near(self, models: CircuitModels) -> None:
        changes = None if self._jobs is None else self._jobs.on(models.name)
        self._say_forecast(models.near_forecast(changes))

    def _say_far(self, models: CircuitModels) -> None:
        forecast = models.far_forecast()
        self._say_forecast(forecast)
        if forecast is None or models.name not in self._hello.with_paths:
            return
        paths = models.far.residual_paths()
        self._say(
            {
                "type": "paths",
                "circuit": models.name,
                "issued_seconds": forecast.issued_seconds,
                "watts": np.round(paths, 0).tolist(),
            }
        )

    def _say_forecast(self, forecast: CircuitForecast | None) -> None:
        if forecast is not None:
            self._say({"type": "forecast", **forecast_message(forecast)})

    # --- learning ---------------------------------------------------------------------------------------

    @property
    def has_news(self) -> bool:
        """Whether something has come that nothing has been said of yet."""
        return bool(self._due_near or self._due_far)

    @property
    def idle(self) -> bool:
        """Whether every circuit has been learned, or nobody has said yet what time it is."""
        return self._now_seconds is None or not self._waiting

    def learn_next(self) -> None:
        """Learn one circuit: what was saved, then what was stored since, then what came meanwhile."""
        if self._now_seconds is None:
            return
        name = next(iter(self._waiting))
        models = self._restored(name)
        if self._hello.stored_here:
            try:
                self._catch_up(models)
            except StoreError as error:
                self.words(f"circuit:{name}", f"what was stored cannot be learned from: {error}")
        for end_seconds, watts in self._waiting.pop(name):
            models.take(end_seconds, watts)
        self._models[name] = models
        self._say_near(models)
        self._say_far(models)

    def _new(self, name: str) -> CircuitModels:
        hello = self._hello
        return CircuitModels(
            name,
            near_step_seconds=hello.near_step_seconds,
            near_steps=hello.near_steps,
            far_steps=hello.far_steps,
            fitted=name in hello.fitted,
        )

    def _restored(self, name: str) -> CircuitModels:
        models = self._new(name)
        try:
            state = self._files.load(name)
            if state is not None:
                models.restore(state)
        except ValueError as error:
            self.words(f"circuit:{name}", f"its saved state is not used: {error}; it is learned anew")
            return self._new(name)
        return models

    def _catch_up(self, models: CircuitModels) -> None:
        """Learn what was stored after the state was saved."""
        assert self._now_seconds is not None
        steps = self._waiting[models.name]
        until = steps[0][0] - self._hello.near_step_seconds if steps else self._now_seconds
        history = History(self._hello.state_directory)
        try:
            since = max(models.far_end_seconds or 0.0, until - _FAR_DAYS * _DAY_SECONDS)
            quarter_start = np.floor(until / QUARTER_SECONDS) * QUARTER_SECONDS
            stored = history.quarters(models.name, since, quarter_start)
            if stored is not None:
                models.learn_far(*stored)
            step = self._hello.near_step_seconds
            back = _NEAR_DAYS * _DAY_SECONDS if step >= 60.0 else _NEAR_RAW_SECONDS
            since = max(models.near_end_seconds or 0.0, until - back)
            fine = history.fine(models.name, since, until, step)
            if fine is not None:
                first, values = fine
                for at, value in enumerate(values):
                    models.take(first + at * step, float(value))
        finally:
            history.close()

    def refit(self) -> None:
        """See whether a fit has come to its end, or one is due."""
        now = self._now_seconds
        if now is None:
            return
        done = self._refits.ended(now)
        if done is not None:
            self._adopt(done)
        name = self._refits.due(now)
        models = self._models.get(name) if name is not None else None
        if name is not None and models is not None:
            self._refits.start(
                name,
                models.far.values,
                models.far.seasons.day_steps,
                self._parameters.get(name),
                now_seconds=now,
            )

    def _adopt(self, done: Fitted) -> None:
        models = self._models.get(done.circuit)
        if done.parameters is None or models is None:
            self.words(f"circuit:{done.circuit}", f"its state-space model was not fitted: {done.reason}")
            return
        self._parameters[done.circuit] = done.parameters
        models.far.adopt(STATE_SPACE, done.parameters.arrays())
        trial = "is on trial beside the old one" if models.far.on_trial(STATE_SPACE) else "is used at once"
        self.words(
            f"circuit:{done.circuit}", f"its state-space model was fitted in {done.seconds:.1f} s and {trial}"
        )

    def check_skew(self) -> None:
        """Now and then compare what one circuit was fed with what was stored of it, each in its turn."""
        now = self._now_seconds
        if now is None or not self._hello.stored_here:
            return
        if self._skew_due_seconds is None or now < self._skew_due_seconds - 2.0 * _SKEW_SECONDS:
            self._skew_due_seconds = now + _SKEW_SECONDS
        if now < self._skew_due_seconds:
            return
        self._skew_due_seconds = now + _SKEW_SECONDS
        name = self._hello.circuits[self._skew_turn % len(self._hello.circuits)]
        self._skew_turn += 1
        try:
            history = History(self._hello.state_directory)
            try:
                problem = self._skew.problem(name, history)
            finally:
                history.close()
        except StoreError as error:
            problem = f"what was stored cannot be read: {error}"
        if problem:
            self.words(f"circuit:{name}", problem)

    # --- keeping ----------------------------------------------------------------------------------------

    def save_if_due(self) -> None:
        """Save now and then, so that little is lost with the machine."""
        if self._now_seconds is None or self._saved_at_seconds is None:
            return
        if abs(self._now_seconds - self._saved_at_seconds) >= _SAVE_SECONDS:
            self.save()

    def close(self) -> None:
        """Save, and end what is being fitted."""
        self._refits.close()
        self.save()

    def save(self) -> None:
        """Save what has been learned; a disk that refuses costs only what it would have kept."""
        self._saved_at_seconds = self._now_seconds
        try:
            for name, models in self._models.items():
                self._files.save(name, models.state())
            self._files.save_run_times(self.run_times.state())
        except OSError as error:
            log.warning("nothing was saved: %s", error)


class _Service:
    """The worker between its two pipes."""

    def __init__(self, source: int, target: int) -> None:
        self._source, self._target = source, target
        self._decoder = LineDecoder(_MOST_LINE_BYTES)
        self._worker: Worker | None = None

    def run(self) -> None:
        """Serve until the source ends; raises ValueError and WireError for nonsense, OSError for a pipe."""
        while True:
            worker = self._worker
            learning = worker is not None and not worker.idle
            busy = worker is not None and (learning or worker.has_news)
            ready, _, _ = select.select([self._source], [], [], 0.0 if busy else _IDLE_SECONDS)
            if ready:
                data = os.read(self._source, _READ_BYTES)
                if not data:
                    break
                for line in self._decoder.feed(data):
                    self._take(decode(line))
            elif worker is not None:
                # All that is there has been read: only now is a forecast the newest one.
                worker.speak()
                if learning:
                    worker.learn_next()
                worker.refit()
                worker.check_skew()
                worker.save_if_due()
        if self._worker is not None:
            self._worker.close()

    def _take(self, message: Message) -> None:
        if self._worker is None:
            self._worker = Worker(Hello.from_message(message), self._say)
        else:
            self._worker.take(message)

    def _say(self, message: Message) -> None:
        data = memoryview(encode(message))
        while data:
            data = data[os.write(self._target, data) :]


def serve(source: int, target: int) -> int:
    """Serve two file descriptors until the first one ends; returns the exit status."""
    try:
        _Service(source, target).run()
    except (WireError, ValueError) as error:
        log.error("it was told nonsense: %s", error)
        return 1
    except BrokenPipeError:
        return 0  # nobody listens any more
    return 0

"""Fits in a process of their own, one at a time, now and then; what they take ends with them."""

import json
import logging
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from slurm_power import clock
from slurm_power.forecast.fit_state_space import LEAST_DAYS
from slurm_power.forecast.state_space import Parameters
from slurm_power.forecaster.fit import parameters_of, request

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "slurm_power.forecaster.fit")
EVERY_SECONDS = 86_400.0
# One that failed is tried again sooner, with more of the series.
AGAIN_SECONDS = 6.0 * 3600.0
MOST_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of a fit: ``parameters``, None with the ``reason`` why not."""

    circuit: str
    parameters: Parameters | None
    reason: str
    seconds: float


class Refits:
    """Keeps to its schedule by the time it is told; raises nothing that a fit may do."""

    def __init__(self, circuits: tuple[str, ...], command: tuple[str, ...] = COMMAND) -> None:
        self._due_seconds = dict.fromkeys(circuits, 0.0)
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._answer: BinaryIO | None = None
        self._circuit = ""
        self._began_seconds = 0.0

    @property
    def running(self) -> bool:
        """Whether one is being fitted."""
        return self._process is not None

    def due(self, now_seconds: float) -> str | None:
        """The circuit whose turn it is, None if nobody's is."""
        if self.running:
            return None
        return next((name for name, due in self._due_seconds.items() if now_seconds >= due), None)

    def start(
        self, circuit: str, values: Any, day_steps: int, before: Parameters | None, *, now_seconds: float
    ) -> None:
        """Begin to fit a circuit, unless too little of it is known yet."""
        self._due_seconds[circuit] = now_seconds + AGAIN_SECONDS
        if np.isfinite(values).sum() < LEAST_DAYS * day_steps:
            return
        self._circuit, self._began_seconds = circuit, clock.monotonic()
        # Through files: a pipe could fill while nobody reads it.
        asked = tempfile.TemporaryFile()  # noqa: SIM115  # the child keeps it
        self._answer = tempfile.TemporaryFile()  # noqa: SIM115  # read when the child has ended
        asked.write(json.dumps(request(values, day_steps, before)).encode())
        asked.seek(0)
        try:
            self._process = subprocess.Popen(self._command, stdin=asked, stdout=self._answer)
        except OSError as error:
            log.warning("no fit can be started: %s", error)
            self._answer.close()
        finally:
            asked.close()

    def ended(self, now_seconds: float) -> Fitted | None:
        """What came of the fit, once it has ended; one that takes too long is ended."""
        if self._process is None or self._answer is None:
            return None
        spent = clock.monotonic() - self._began_seconds
        status = self._process.poll()
        if status is None and spent < MOST_SECONDS:
            return None
        if status is None:
            self._process.kill()
            self._process.wait()
        parameters, reason = None, f"it took longer than {MOST_SECONDS:g} s" if status is None else ""
        if status == 0:
            parameters, reason = self._read()
        elif status is not None:
            reason = f"it ended with status {status}"
        self._answer.close()
        self._process = None
        if parameters is not None:
            self._due_seconds[self._circuit] = now_seconds + EVERY_SECONDS
        return Fitted(self._circuit, parameters, reason, spent)

    def _read(self) -> tuple[Parameters | None, str]:
        assert self._answer is not None
        self._answer.seek(0)
        try:
            found = json.load(self._answer)
            return parameters_of(found["parameters"]), str(found["reason"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return None, f"it said nonsense: {error}"

    def close(self) -> None:
        """End what is being fitted."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._answer is not None:
            self._answer.close()

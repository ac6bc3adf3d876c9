"""What a model costs to run in processor time and latency, measured quickly: for trials that are compared."""

import time

import torch
from torch import Tensor, nn

from slurm_power import clock

_REPEATS = 5
_LEAST_SECONDS = 0.01
_SINGLE_CALLS = 30


def cpu_seconds_per_row(model: nn.Module, inputs: Tensor) -> float:
    """Return this process's processor time for one row of a batch: a proxy of its energy on a CPU.

    The least of several runs, since what others do on the machine only ever adds to it.
    """
    model.eval()
    with torch.inference_mode():
        model(inputs)
        times: list[float] = []
        needed = 1
        while len(times) < _REPEATS:
            started = time.process_time()
            for _ in range(needed):
                model(inputs)
            seconds = time.process_time() - started
            if seconds < _LEAST_SECONDS:
                needed *= 2
                continue
            times.append(seconds / needed)
    return min(times) / len(inputs)


def latency_seconds(model: nn.Module, inputs: Tensor) -> float:
    """Return how long one row alone takes, by the clock: the least of thirty calls, for the same reason."""
    model.eval()
    times: list[float] = []
    with torch.inference_mode():
        model(inputs[:1])
        for _ in range(_SINGLE_CALLS):
            started = clock.monotonic()
            model(inputs[:1])
            times.append(clock.monotonic() - started)
    return min(times)

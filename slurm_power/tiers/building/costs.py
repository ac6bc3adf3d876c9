"""What a model costs to run in processor time, measured quickly: for trials that are compared."""

import time

import torch
from torch import Tensor, nn

_REPEATS = 5
_LEAST_SECONDS = 0.01


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

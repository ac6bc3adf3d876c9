"""How fast a model answers: latency of single items, throughput of batches, processor time, memory."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from slurm_power import clock

BATCHES = (1, 8, 64)
_WARM_UP = 5
_LEAST_CALLS = 30
"""Below that many calls a 99th percentile is a mere maximum; the time wished for is exceeded rather."""
_MOST_CALLS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What batches of so many items gave."""

    size: int
    items_per_second: float
    cpu_seconds_per_item: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Latencies are of one item alone; ``batches`` come in rising size. For memory see `peak_memory`."""

    latency_p50_seconds: float
    latency_p99_seconds: float
    batches: tuple[Batch, ...]
    memory_bytes: int | None

    @property
    def best(self) -> Batch:
        """The batch size with the highest throughput."""
        return max(self.batches, key=lambda batch: batch.items_per_second)


def measure_speed(model: nn.Module, inputs: Tensor, *, seconds: float, device: str) -> Speed:
    """Time a model on rows of ``inputs``; takes about ``seconds`` in all, and a few calls at least.

    Times are of the model alone, with inputs that are on the device already.
    """
    model.eval()
    start_peak_memory(device)
    share = seconds / (len(BATCHES) + 1)
    with torch.inference_mode():
        single, _, _ = _times(model, _batches(inputs, 1, device), share, device)
        batches = []
        for size in BATCHES:
            walls, cpu_seconds, items = _times(model, _batches(inputs, size, device), share, device)
            batches.append(
                Batch(
                    size=size,
                    items_per_second=items / float(walls.sum()),
                    cpu_seconds_per_item=cpu_seconds / items,
                )
            )
    return Speed(
        latency_p50_seconds=float(np.percentile(single, 50)),
        latency_p99_seconds=float(np.percentile(single, 99)),
        batches=tuple(batches),
        memory_bytes=peak_memory(device),
    )


def settle(device: str) -> None:
    """Wait until a GPU has done what it was given; CPUs have."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _batches(inputs: Tensor, size: int, device: str) -> Sequence[Tensor]:
    """Different rows for each call; a split smaller than a batch fills it by repeating."""
    if len(inputs) < size:
        inputs = inputs.repeat(-(-size // len(inputs)), *([1] * (inputs.dim() - 1)))
    most = min(len(inputs) // size, 64)
    return [inputs[number * size : (number + 1) * size].to(device) for number in range(most)]


def _times(
    model: nn.Module, batches: Sequence[Tensor], seconds: float, device: str
) -> tuple[np.ndarray, float, int]:
    """Wall seconds of each call, processor seconds of all of them, and the items they had."""
    for batch in batches[:_WARM_UP]:
        model(batch)
    settle(device)
    walls: list[float] = []
    items = 0
    began, cpu_began = clock.monotonic(), time.process_time()
    while len(walls) < _MOST_CALLS and (len(walls) < _LEAST_CALLS or clock.monotonic() - began < seconds):
        batch = batches[len(walls) % len(batches)]
        at = clock.monotonic()
        model(batch)
        settle(device)
        walls.append(clock.monotonic() - at)
        items += len(batch)
    return np.asarray(walls), time.process_time() - cpu_began, items


def start_peak_memory(device: str) -> None:
    """Forget peaks of before."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak of the resident set
    except OSError:
        return  # then the peak is that of the whole process so far, which is still no less than needed


def peak_memory(device: str) -> int | None:
    """Bytes at the peak: of a GPU what torch had taken, else of the whole process with all libraries."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0][1]) * 1024 if lines else None

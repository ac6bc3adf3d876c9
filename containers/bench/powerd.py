"""What powerd costs its node, and how steadily it samples.

One node of eight simulated GPUs with a job on all of them, a real powerd and a controller that listens.
"""

import math
import os
import random
import signal
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from containers.bench.figure import Figure, memory, share
from containers.bench.measures import percentile
from containers.bench.processes import usage
from containers.faults.controller import FakeController, Munged
from containers.faults.node import NodeBench, ask, wait_until
from containers.plant.nvml_control import build_library

GPUS = 8
COST_SECONDS = 60.0
SLOW_SECONDS = 60.0
FAST_SECONDS = 20.0
PAIRS = 100
# A powerd that stands still for 10 s is ended by its watchdog: a run must be shorter.
WORK_ROUNDS = 12_000_000


class TimedMessages(list[Any]):
    """Messages with the moment at which each telemetry arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.at_seconds: list[float] = []

    def append(self, message: Any) -> None:
        """Take a message; only its time is kept."""
        if message["type"] == "telemetry":
            self.at_seconds.append(time.monotonic())


def jitter(messages: TimedMessages, interval_seconds: float, seconds: float) -> str:
    """How far intervals between reports are from what they should be."""
    messages.at_seconds.clear()
    time.sleep(seconds)
    times = list(messages.at_seconds)
    errors = [abs(b - a - interval_seconds) for a, b in pairwise(times)]
    return (
        f"p50 {1000 * percentile(errors, 0.5):.2f}, p99 {1000 * percentile(errors, 0.99):.2f},"
        f" max {1000 * max(errors):.2f} ms (n = {len(errors)})"
    )


def work() -> float:
    """Seconds that a fixed piece of arithmetic takes on this core now."""
    began = time.perf_counter()
    total = 0
    for number in range(WORK_ROUNDS):
        total += number & 7
    return time.perf_counter() - began


def slowdown(pids: list[int]) -> str:
    """Paired runs on powerd's own core, with powerd running and standing still, in random order."""
    core = max(os.sched_getaffinity(0))
    for pid in [0, *pids]:
        for task in Path(f"/proc/{pid or os.getpid()}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})
    order = random.Random(1)  # noqa: S311  # the order of a measurement, no secret
    ratios = []
    work()
    for _ in range(PAIRS):
        took: dict[bool, float] = {}
        for stopped in order.sample([False, True], 2):
            for pid in pids if stopped else ():
                os.kill(pid, signal.SIGSTOP)
            try:
                took[stopped] = work()
            finally:
                for pid in reversed(pids) if stopped else ():
                    os.kill(pid, signal.SIGCONT)
            time.sleep(0.2)
        ratios.append(took[False] / took[True] - 1.0)
    mean = statistics.fmean(ratios)
    half = 1.98 * statistics.stdev(ratios) / math.sqrt(len(ratios))  # Student's t for 100 pairs, 95 %
    # The median's interval by order statistics takes no harm from the few runs that others disturbed.
    low, high = (sorted(ratios)[round(len(ratios) * at)] for at in (0.40, 0.60))
    median = statistics.median(ratios)
    return (
        f"mean {mean:+.2%} +- {half:.2%}, median {median:+.2%} ({low:+.2%} to {high:+.2%}),"
        f" 95 %, {len(ratios)} pairs"
    )


def measured(bench: NodeBench, controller: FakeController) -> list[Figure]:
    """All figures of one powerd."""
    messages = TimedMessages()
    controller.messages = messages
    keeper = bench.start()
    wait_until(lambda: controller.connected, "the connection")
    for slot in range(GPUS):
        bench.gpus.set_load(
            slot, demand_watts=500.0, static_watts=80.0, compute_bound_ratio=0.5, lease_seconds=None
        )
    request = {"op": "prolog", "job_id": "1", "user": "a", "uid": 1, "gpu_slots": list(range(GPUS))}
    ask(bench.socket, request)
    watchdog, front = bench.watchdog(keeper), bench.front(keeper)
    assert watchdog is not None and front is not None
    pids = [watchdog, keeper.pid, front]
    time.sleep(5.0)
    figures = [*_cost(pids), Figure(what="interval error at 1 Hz", value=jitter(messages, 1.0, SLOW_SECONDS))]
    controller.send({"type": "sampling", "sample_seconds": 0.1, "for_seconds": FAST_SECONDS + 5.0})
    time.sleep(1.0)
    figures.append(Figure(what="interval error at 10 Hz", value=jitter(messages, 0.1, FAST_SECONDS)))
    time.sleep(5.0)
    what = "a CPU job on powerd's core, slower by"
    figures.append(Figure(what=what, value=slowdown(pids), target="0 inside the interval"))
    return figures


def _cost(pids: list[int]) -> list[Figure]:
    before, began = usage(pids), time.monotonic()
    time.sleep(COST_SECONDS)
    after = usage(pids)
    ratio = (after.cpu_seconds - before.cpu_seconds) / (time.monotonic() - began)
    what = f"powerd, {GPUS} GPUs at 1 Hz, energy every 5 s ({COST_SECONDS:.0f} s)"
    return [
        share(what, ratio, 0.003),
        memory(f"powerd, all {len(pids)} processes", after.pss_bytes, 35e6),
    ]


def powerd_figures() -> list[Figure]:
    """Everything about one powerd."""
    with tempfile.TemporaryDirectory(prefix="sp-", dir="/tmp") as folder:  # sockets need it short
        root = Path(folder)
        root.chmod(0o755)
        (root / "node").mkdir()
        munge = Munged(root / "munge")
        bench = NodeBench(root / "node", build_library(root / "lib"), gpu_count=GPUS)
        controller = FakeController(str(munge.socket))
        bench.settings |= {
            "controller": controller.address,
            "ca_file": str(controller.ca_file),
            "munge_socket": str(munge.socket),
        }
        try:
            return measured(bench, controller)
        finally:
            bench.close()
            controller.discard()
            munge.close()

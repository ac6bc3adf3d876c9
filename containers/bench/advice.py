"""``python -m containers.bench.advice``: what a training pays for each call of ``Advice.step()``.

Alone with nothing asked, with a micro-batch asked, in a job with a powerd that listens or hangs, and with two
ranks that agree. Exits 1 where a figure is worse than promised.
"""

import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from containers.bench.figure import Figure, markdown
from slurm_power.advice import Advice

STEPS, RANK_STEPS = 200_000, 400
STEP_SECONDS = 0.005
MEDIAN_MICROSECONDS = 10.0


def step_microseconds(advice: Advice, steps: int, pause_seconds: float = 0.0) -> list[float]:
    """How long each call took."""
    spent = []
    for _ in range(steps):
        if pause_seconds:
            time.sleep(pause_seconds)
        start = time.perf_counter_ns()
        advice.step()
        spent.append((time.perf_counter_ns() - start) / 1e3)
    return spent


def row(what: str, spent: list[float], *, promised: bool = True) -> Figure:
    """A row of the table: median against the promise, with mean and the 99.9th percentile."""
    median = statistics.median(spent)
    tail = sorted(spent)[int(len(spent) * 0.999)]
    return Figure(
        what=f"Advice.step(), {what}",
        value=f"{median:.2f} us median, {statistics.fmean(spent):.2f} us mean, {tail:.0f} us p99.9",
        target=f"{MEDIAN_MICROSECONDS:g} us median" if promised else "",
        ratio=median / MEDIAN_MICROSECONDS if promised else None,
    )


def alone(folder: Path) -> list[Figure]:
    """One rank; the file is looked at once a second, so the loops last longer than that."""
    with Advice(global_batch=256, file=folder / "none") as advice:
        figures = [row("nothing asked", step_microseconds(advice, STEPS * 10))]
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + 600.0
    (folder / "advice").write_text(json.dumps({"micro_batch": 64, "until_boottime": until}))
    with Advice(global_batch=256, file=folder / "advice") as advice:
        figures.append(row("a micro-batch asked", step_microseconds(advice, STEPS * 10)))
    with Advice(global_batch=256, file=folder / "advice", look_seconds=0.0) as advice:
        figures.append(
            row("the file looked at in each step", step_microseconds(advice, STEPS // 10), promised=False)
        )
    return figures


def telling(folder: Path) -> list[Figure]:
    """With a powerd's socket to tell the progress to; `Advice.saved` tells it in each step here."""
    figures = []
    for name, hangs in (("listens", False), ("hangs", True)):
        os.environ |= {"SLURM_POWER_SOCKET": str(folder / name), "SLURM_JOB_ID": "1"}
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / name))
            server.listen(128)
            if not hangs:
                threading.Thread(target=_answer, args=(server,), daemon=True).start()
            with Advice(global_batch=256) as advice:
                advice.step()
                spent = []
                for step in range(2000):
                    start = time.perf_counter_ns()
                    advice.saved(step)
                    spent.append((time.perf_counter_ns() - start) / 1e3)
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
        figures.append(
            Figure(
                what=f"One word of progress to a powerd that {name} (every 5 s)",
                value=f"{statistics.median(spent):.0f} us median, {max(spent):.0f} us at most",
            )
        )
    del os.environ["SLURM_POWER_SOCKET"], os.environ["SLURM_JOB_ID"]
    return figures


def _answer(server: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(b'{"ok":true}\n')


def two_ranks(folder: Path) -> list[Figure]:
    """Two ranks over gloo, in steps of 5 ms."""
    import torch.distributed as dist  # noqa: PLC0415 - the other figures need no torch

    pid = os.fork()
    rank = 1 if pid == 0 else 0
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    with Advice(global_batch=256, world_size=2) as advice:
        spent = step_microseconds(advice, RANK_STEPS, STEP_SECONDS)
    dist.destroy_process_group()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return [row(f"two ranks agreeing, steps of {STEP_SECONDS * 1e3:g} ms", spent, promised=False)]


def main() -> int:
    """Measure and print the table; returns 1 where a promise is not kept."""
    with tempfile.TemporaryDirectory(prefix="sp-") as name:
        folder = Path(name)
        figures = alone(folder) + telling(folder) + two_ranks(folder)
    print(markdown(figures))
    return int(any(figure.ratio is not None and figure.ratio > 1.0 for figure in figures))


if __name__ == "__main__":
    sys.exit(main())

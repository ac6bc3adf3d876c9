"""What becomes of the shared state when its processes die, fork or live in other PID namespaces."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from containers.plant.nvml_control import NodeGpus
from tests.plant.nvml_bench import Bench

HAMMER = """
import sys
from pathlib import Path
from containers.plant.nvml_control import NodeGpus
gpus = NodeGpus(Path(sys.argv[1]), Path(sys.argv[2]))
print("ready", flush=True)
limit = 200.0
while True:
    gpus.truth(0)
    gpus.write_foreign_limit(0, limit)
    gpus.set_load(0, demand_watts=600.0, static_watts=100.0, compute_bound_ratio=0.5)
    limit = 200.0 if limit >= 700.0 else limit + 1.0
"""
FORK_AND_DIE = """
import os, sys, threading, time
from pathlib import Path
from containers.plant.nvml_control import NodeGpus
gpus = NodeGpus(Path(sys.argv[1]), Path(sys.argv[2]))
for _ in range(2):
    threading.Thread(target=lambda: [gpus.truth(0) for _ in iter(int, 1)], daemon=True).start()
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""
COUNT_WRITES = """
import sys, threading
import pynvml
pynvml.nvmlInit()
gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
sys.stdin.readline()
def write():
    for step in range(int(sys.argv[1])):
        pynvml.nvmlDeviceSetPowerManagementLimit(gpu, 300_000 + step)
threads = [threading.Thread(target=write) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


def start(code: str, bench: Bench) -> subprocess.Popen[str]:
    """Start a process on the bench and wait for its first line."""
    return subprocess.Popen(
        [sys.executable, "-c", code, str(bench.library), str(bench.state)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_killed_processes_leave_no_lock_and_no_torn_state(bench: Bench) -> None:
    bench.gpus.start_clock()
    chance = random.Random(7)
    for _ in range(15):
        hammers = [start(HAMMER, bench) for _ in range(2)]
        try:
            for hammer in hammers:
                assert hammer.stdout is not None
                assert hammer.stdout.readline() == "ready\n"
            time.sleep(
                chance.uniform(0.0, 0.02)
            )  # not to wait for something: the moment of death is the subject
        finally:
            for hammer in hammers:
                hammer.send_signal(signal.SIGKILL)
                hammer.wait(10)
                assert hammer.stdout is not None
                hammer.stdout.close()
        begin = time.monotonic()
        truth = bench.gpus.truth(0)
        assert time.monotonic() - begin < 1.0
        assert 200.0 <= truth.limit_requested_watts <= 700.0
        assert truth.limit_requested_watts == truth.limit_enforced_watts
        assert 69.9 <= truth.instant_watts <= 700.0
    bench.gpus.pass_time(10.0)
    assert not bench.gpus.truth(0).load_active


def test_orphan_of_a_killed_process_holds_no_lock(bench: Bench) -> None:
    """A forked child would share its parent's file description, and with it the parent's lock."""
    for _ in range(10):
        parent = start(FORK_AND_DIE, bench)
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
        try:
            parent.kill()
            parent.wait(10)
            with NodeGpus(bench.library, bench.state) as gpus:
                begin = time.monotonic()
                gpus.truth(0)
                assert time.monotonic() - begin < 1.0
        finally:
            parent.stdout.close()
            os.kill(orphan, signal.SIGKILL)


@needs_root
def test_state_is_shared_between_pid_namespaces(bench: Bench) -> None:
    apart = ("unshare", "--pid", "--fork", "--kill-child")
    bench.train()
    with bench.process(wrapper=apart) as first, bench.process(wrapper=apart) as second:
        for limit in range(300_000, 310_000, 1000):
            first.call("nvmlDeviceSetPowerManagementLimit", 0, limit)
            assert second.number("nvmlDeviceGetPowerManagementLimit", 0) == limit
            second.call("nvmlDeviceSetPowerManagementLimit", 0, limit + 500)
            assert first.number("nvmlDeviceGetPowerManagementLimit", 0) == limit + 500
        bench.gpus.pass_time(5.0)
        assert first.number("nvmlDeviceGetPowerUsage", 0) == pytest.approx(0.97 * 309_500, rel=1e-6)


@needs_root
def test_killed_in_another_pid_namespace(bench: Bench) -> None:
    bench.gpus.start_clock()
    for _ in range(5):
        hammer = subprocess.Popen(
            [
                "unshare",
                "--pid",
                "--fork",
                "--kill-child",
                sys.executable,
                "-c",
                HAMMER,
                str(bench.library),
                str(bench.state),
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert hammer.stdout is not None
        assert hammer.stdout.readline() == "ready\n"
        hammer.kill()
        hammer.wait(10)
        hammer.stdout.close()
        begin = time.monotonic()
        bench.gpus.truth(0)
        assert time.monotonic() - begin < 1.0


@needs_root
def test_no_write_is_lost_between_processes_threads_and_namespaces(bench: Bench) -> None:
    """Each write reads, changes and publishes the whole GPU: without mutual exclusion some would vanish."""
    writes, apart = 4000, ["unshare", "--pid", "--fork", "--kill-child"]
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(bench.library.parent),
        "PLANT_NVML_STATE": str(bench.state),
    }
    writers = [
        subprocess.Popen(
            [*wrapper, sys.executable, "-c", COUNT_WRITES, str(writes)],
            stdin=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for wrapper in ([], [], apart)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.close()
    try:
        assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait(10)
    assert bench.gpus.truth(0).set_count == len(writers) * 2 * writes

"""A prolog that waits for the ramp: a real hook, a real powerd, and a controller that says what it likes."""

import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from containers.faults.controller import FakeController
from containers.faults.node import NodeBench, wait_until
from tests.node.test_hooks import HOOKS, hook

# What a busy machine may add to a hook's own time.
SLACK_SECONDS = 1.5


def started(bench: NodeBench, **environment: str) -> "subprocess.Popen[str]":
    """A prolog that runs; nothing of it is waited for."""
    return subprocess.Popen(
        [str(HOOKS / "prolog")],
        env={
            "SLURM_CONF": f"{bench.folder}/slurm.conf",
            "SLURMD_NODENAME": "c1",
            "SLURM_JOB_ID": "17",
            "SLURM_JOB_USER": "alice",
            "SLURM_JOB_UID": "20001",
            "SLURM_JOB_GPUS": "0",
            "SPANK_POWER_FLEX": "flex2",
            **environment,
        },
        stderr=subprocess.PIPE,
        text=True,
    )


def ready(bench: NodeBench, controller: FakeController) -> "subprocess.Popen[bytes]":
    """A powerd whose controller wants to be asked."""
    powerd = bench.start()
    wait_until(lambda: controller.connected, "the connection")
    controller.send({"type": "prolog_waits", "seconds": 60})
    # Messages are taken in order: what comes after the wish shows that it has been taken.
    before = bench.caps()
    controller.grant("first", bench.uuids[3], 400.0)
    wait_until(lambda: bench.cap(3) == 400.0, "the cap")
    controller.send({"type": "release", "lease_ids": ["first"]})
    wait_until(lambda: bench.caps() == before, "the release")
    return powerd


def told_to_wait(
    bench: NodeBench, controller: FakeController, seconds: float
) -> "tuple[subprocess.Popen[str], float]":
    """A prolog that waits, and since when."""
    process = started(bench)
    wait_until(lambda: bool(controller.said("prolog", job_id="17")), "the question")
    at_seconds = time.monotonic()
    controller.send({"type": "prolog_wait", "job_id": "17", "seconds": seconds})
    return process, at_seconds


def ended(process: "subprocess.Popen[str]", most_seconds: float) -> tuple[int, str]:
    _, errors = process.communicate(timeout=most_seconds)
    return process.returncode, errors


def test_it_waits_until_the_bound_is_over(bench: NodeBench, controller: FakeController) -> None:
    ready(bench, controller)
    process, at_seconds = told_to_wait(bench, controller, 2.0)
    assert ended(process, 10.0) == (0, "")
    assert 1.5 < time.monotonic() - at_seconds < 2.0 + SLACK_SECONDS


def test_go_ends_it_at_once(bench: NodeBench, controller: FakeController) -> None:
    ready(bench, controller)
    process, at_seconds = told_to_wait(bench, controller, 30.0)
    time.sleep(1.0)  # it is to be in its wait
    assert process.poll() is None
    controller.send({"type": "prolog_wait", "job_id": "17", "seconds": 0})
    assert ended(process, 10.0) == (0, "")
    assert time.monotonic() - at_seconds < 2.0 + SLACK_SECONDS


def test_a_wait_is_never_made_longer(bench: NodeBench, controller: FakeController) -> None:
    ready(bench, controller)
    process, at_seconds = told_to_wait(bench, controller, 2.0)
    time.sleep(0.5)
    controller.send({"type": "prolog_wait", "job_id": "17", "seconds": 60})
    assert ended(process, 10.0) == (0, "")
    assert time.monotonic() - at_seconds < 2.0 + SLACK_SECONDS


def test_the_bound_of_node_toml_comes_first(bench: NodeBench, controller: FakeController) -> None:
    bench.settings["prolog_timeout_seconds"] = 11.5
    ready(bench, controller)
    process, at_seconds = told_to_wait(bench, controller, 60.0)
    assert ended(process, 10.0) == (0, "")
    assert time.monotonic() - at_seconds < 1.5 + SLACK_SECONDS


@pytest.mark.parametrize("seconds", [61, -1, "soon", None])
def test_a_senseless_word_lets_it_go(bench: NodeBench, controller: FakeController, seconds: object) -> None:
    ready(bench, controller)
    process = started(bench)
    wait_until(lambda: bool(controller.said("prolog", job_id="17")), "the question")
    controller.send({"type": "prolog_wait", "job_id": "17", "seconds": seconds})
    assert ended(process, 1.0 + SLACK_SECONDS) == (0, "")


def test_without_an_answer_it_goes_on_after_a_second(bench: NodeBench, controller: FakeController) -> None:
    ready(bench, controller)
    done, seconds = hook(bench, "prolog", SLURM_JOB_GPUS="0", SPANK_POWER_FLEX="flex2")
    assert (done.returncode, done.stderr) == (0, "")
    assert 0.9 < seconds < 1.0 + SLACK_SECONDS
    # A word that comes too late begins nothing.
    controller.send({"type": "prolog_wait", "job_id": "17", "seconds": 60})
    process = started(bench, SLURM_JOB_ID="18")
    assert ended(process, 1.0 + SLACK_SECONDS) == (0, "")


@pytest.mark.parametrize("asks", [{"SPANK_POWER_FLEX": "flex0"}, {"SLURM_JOB_GPUS": ""}])
def test_who_cannot_wait_is_not_asked_about(
    bench: NodeBench, controller: FakeController, asks: dict[str, str]
) -> None:
    ready(bench, controller)
    assert ended(started(bench, **asks), 5.0) == (0, "")
    wait_until(lambda: bool(controller.said("job_start", job_id="17")), "the news of the start")
    assert controller.said("prolog") == []


def test_nobody_is_asked_without_the_controller_s_wish(bench: NodeBench, controller: FakeController) -> None:
    bench.start()
    wait_until(lambda: controller.connected, "the connection")
    assert ended(started(bench), 5.0) == (0, "")
    wait_until(lambda: bool(controller.said("job_start", job_id="17")), "the news of the start")
    assert controller.said("prolog") == []


def test_a_lost_controller_ends_every_wait(bench: NodeBench, controller: FakeController) -> None:
    ready(bench, controller)
    process, at_seconds = told_to_wait(bench, controller, 60.0)
    time.sleep(1.0)
    assert process.poll() is None
    controller.close()
    assert ended(process, 10.0) == (0, "")
    assert time.monotonic() - at_seconds < 2.0 + SLACK_SECONDS


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_daemon_that_hangs_or_dies_ends_the_wait(
    bench: NodeBench, controller: FakeController, number: signal.Signals
) -> None:
    powerd = ready(bench, controller)
    process, _ = told_to_wait(bench, controller, 60.0)
    time.sleep(1.0)
    assert process.poll() is None
    front = bench.front(powerd)
    assert front is not None
    at_seconds = time.monotonic()
    os.kill(front, number)
    status, _ = ended(process, 10.0)
    assert status == 0
    # A step, and the two seconds that an answer may take.
    assert time.monotonic() - at_seconds < 2.5 + SLACK_SECONDS
    if number == signal.SIGSTOP:
        os.kill(front, signal.SIGCONT)


def test_a_terminated_wait_exits_0(bench: NodeBench, controller: FakeController) -> None:
    ready(bench, controller)
    process, _ = told_to_wait(bench, controller, 60.0)
    time.sleep(1.0)
    process.terminate()
    assert ended(process, 5.0)[0] == 0


@pytest.mark.parametrize("word", ["1e400", "nan", "-5", '"x"', "null", "{}"])
def test_a_mad_daemon_s_word_does_no_harm(bench: NodeBench, word: str) -> None:
    """A small server in powerd's place says anything once, and then nothing more."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(bench.socket))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b'{"ok":true,"wait_seconds":' + word.encode() + b"}\n")
        listener.close()

    thread = threading.Thread(target=serve)
    thread.start()
    process = started(bench)
    status, _ = ended(process, 4.0 + SLACK_SECONDS)
    thread.join()
    assert status == 0

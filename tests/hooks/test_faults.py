"""Each hook where a daemon, a file or a disk fails: exit 0, in time, one line at most."""

import ast
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from containers.faults.node import wait_until
from tests.hooks.running import (
    FOLDER,
    HOOKS,
    ON_CONTROLLER,
    ON_NODE,
    Answer,
    Done,
    installed,
    pipe_nobody_reads,
    run,
    run_all,
    said,
    served,
    start,
    write_conf,
)

# What a busy machine takes to start five interpreters at once.
START_SECONDS = 1.5
MOST_SECONDS = dict.fromkeys(ON_NODE, 2.0) | dict.fromkeys((*ON_CONTROLLER, "task_prolog"), 0.6)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with the hooks and slurm-power.conf, open to all; each daemon's socket is `sock` in it."""
    with tempfile.TemporaryDirectory(prefix="sp-hooks-") as name:
        path = Path(name)
        path.chmod(0o755)
        write_conf(path, path / "sock", path / "sock")
        yield path


def assert_harmless(done: dict[str, Done]) -> None:
    for name, one in done.items():
        assert (name, one.status, one.output) == (name, 0, "")
        assert one.seconds < MOST_SECONDS[name] + START_SECONDS, name
        assert re.fullmatch(rf"(slurm-power {name}: .*\n)?", one.error), name
    if "task_prolog" in done:
        assert done["task_prolog"].error == "", "its user would read it"


def assert_told(done: dict[str, Done], *names: str) -> None:
    """Those hooks say what was wrong, and nothing is silently lost."""
    assert {name for name, one in done.items() if one.error} == set(names)


@pytest.mark.parametrize("there", ["nothing", "a file", "a folder", "a socket nobody listens at"])
def test_no_daemon(folder: Path, there: str) -> None:
    if there == "a file":
        (folder / "sock").write_text("")
    elif there == "a folder":
        (folder / "sock").mkdir()
    elif there == "a socket nobody listens at":
        socket.socket(socket.AF_UNIX).bind(str(folder / "sock"))
    done = run_all(folder, HOOKS)
    assert_harmless(done)
    assert_told(done, *ON_NODE, *ON_CONTROLLER)


def test_a_daemon_that_hangs(folder: Path) -> None:
    """As one that is stopped: the kernel connects and takes the request, and nobody answers."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "sock"))
    listener.listen()
    done = run_all(folder, HOOKS)
    listener.close()
    assert_harmless(done)
    assert_told(done, *ON_NODE)


def test_a_daemon_whose_queue_is_full(folder: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "sock"))
    listener.listen(0)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(str(folder / "sock"))
    done = run_all(folder, HOOKS)
    listener.close()
    waiting.close()
    assert_harmless(done)
    assert_told(done, *ON_NODE, *ON_CONTROLLER)


def drip(connection: socket.socket, _request: bytes) -> None:
    with suppress(OSError):
        for _ in range(40):
            connection.sendall(b"S")
            time.sleep(0.1)  # as slow as that


ANSWERS: dict[str, Answer] = {
    "hangs up": said(b""),
    "garbage": said(b"\x00\xff garbage\n"),
    "too much": said(b"x" * 200_000),
    "half": said(b'{"ok":tr'),
    "refusal": said(b'{"ok":false,"error":"nobody\\nknows"}\n'),
    "drip": drip,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_mad_daemon(folder: Path, name: str) -> None:
    with served(folder / "sock", ANSWERS[name]):
        done = run_all(folder, HOOKS)
    assert_harmless(done)
    assert_told(done, *ON_NODE)


HALF_ANSWERS = [
    b"SLURM_POWER_A=1\n",
    b"LD_PRELOAD=/tmp/x.so\n.\n",
    b"SLURM_POWER_A=1\nLD_PRELOAD=x\n.\n",
    b"SLURM_POWER_A=\xc3\n.\n",
]


@pytest.mark.parametrize("answer", HALF_ANSWERS)
def test_a_task_gets_nothing_of_an_answer_that_is_not_whole_and_good(folder: Path, answer: bytes) -> None:
    with served(folder / "sock", said(answer)):
        assert_harmless({"task_prolog": run(folder, "task_prolog")})


def test_a_socket_that_may_not_be_opened(folder: Path) -> None:
    """As it would be for a user; root itself may open each."""
    (folder / "closed").mkdir(mode=0o700)
    write_conf(folder, folder / "closed/sock", folder / "closed/sock")
    with served(folder / "closed/sock", said(b'{"ok":true}\n')) as server:
        done = run_all(folder, HOOKS, user=65534)
    assert server.requests == []
    assert_harmless(done)
    assert_told(done, *ON_NODE, *ON_CONTROLLER)
    assert "PermissionError" in done["prolog"].error


@pytest.mark.parametrize(
    "broken", ["missing", "a folder", "no text", "no such key", "a path that is too long"]
)
def test_a_broken_slurm_power_conf(folder: Path, broken: str) -> None:
    conf = folder / "slurm-power.conf"
    conf.unlink()
    if broken == "a folder":
        conf.mkdir()
    elif broken == "no text":
        conf.write_bytes(b"\xff\xfe\x00=\n")
    elif broken == "no such key":
        conf.write_text("nothing=1\n")
    elif broken == "a path that is too long":
        write_conf(folder, Path("/" + "x" * 300), Path("/" + "x" * 300))
    done = run_all(folder, HOOKS)
    assert_harmless(done)
    assert_told(done, *ON_NODE, *ON_CONTROLLER)


@pytest.mark.parametrize("name", HOOKS)
def test_a_full_disk_or_a_pipe_nobody_reads(folder: Path, name: str) -> None:
    """Where its one line would go; the reason for the line is that there is no daemon."""
    reading, writing = pipe_nobody_reads()
    full = os.open("/dev/full", os.O_WRONLY)
    for target in (full, writing):
        process = start(folder, name, error=target)
        assert process.wait(START_SECONDS + 1.0) == 0
        assert process.stdout is not None
        process.stdout.close()
        os.close(target)
    os.close(reading)


def test_a_task_whose_output_cannot_be_written(folder: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with served(folder / "sock", said(b"SLURM_POWER_A=1\n.\n")):
        done = subprocess.run(
            [str(installed(folder, "task_prolog"))],
            env={"SLURM_CONF": f"{folder}/slurm.conf", "SLURM_JOB_ID": "1"},
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=5,
            check=False,
        )
    os.close(full)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_environment_that_makes_no_sense(folder: Path) -> None:
    words = {
        "SLURM_JOB_ID": "\udcff" * 10,
        "SLURM_JOB_UID": "٣",
        "SLURM_JOB_GPUS": "0-99999999999,x,,-",
        "CUDA_VISIBLE_DEVICES": "MIG-" + "x" * 10_000,
        "SPANK_POWER_MAX_HOLD": "s",
        "SPANK_POWER_FINISH_BY": "@" + "9" * 100,
        "SPANK_POWER_CAP": "-1",
        "SPANK_POWER_FLEX": '"}\n{',
        "SPANK_POWER_TIER": '"/\udcff' * 100,
        "SPANK_POWER_TIERS_OK": '",' * 100,
        "SPANK_POWER_MIN_QUALITY": "1" * 12 + "." + "9" * 400,
    }
    with served(folder / "sock", said(b'{"ok":true}\n')):
        assert_harmless(run_all(folder, HOOKS, words))
        assert_harmless(run_all(folder, HOOKS, {"SLURM_JOB_ID": "", "SLURMD_NODENAME": ""}))


@pytest.mark.parametrize("name", ON_NODE)
def test_a_hook_that_is_ended_exits_0(folder: Path, name: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "sock"))
    listener.listen()
    process = start(folder, name)
    handled = Path(f"/proc/{process.pid}/status")
    term_bit = 1 << (signal.SIGTERM - 1)
    wait_until(
        lambda: bool(int(re.findall(r"SigCgt:\s*(\w+)", handled.read_text())[0], 16) & term_bit),
        "the handler",
    )
    process.terminate()
    output, error = process.communicate(timeout=5)
    listener.close()
    assert (process.returncode, output) == (0, b"")
    assert error in (b"", f"slurm-power {name}: ended by a signal\n".encode())


def test_all_hooks_are_one_file_that_old_interpreters_can_read() -> None:
    """On a node whose Python does not understand it, it would end with status 1 and drain the node."""
    text = (FOLDER / "slurm_power_hook").read_text()
    assert text.startswith("#!/usr/bin/python3 -IS\n")
    ast.parse(text, feature_version=(3, 6))
    assert {name: (FOLDER / name).read_text() for name in HOOKS} == dict.fromkeys(HOOKS, text)
    assert all(os.access(FOLDER / name, os.X_OK) for name in HOOKS)

"""prolog and epilog as Slurm runs them: real processes, no PATH, and powerd alive, dead, hung or mad."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from containers.faults.controller import FakeController
from containers.faults.node import PROJECT, NodeBench, ask, wait_until

HOOKS = PROJECT / "prolog_epilog"


def hook(bench: NodeBench, name: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run a hook with nothing in its environment but what Slurm gives it."""
    given = {
        "SLURM_CONF": f"{bench.folder}/slurm.conf",
        "SLURMD_NODENAME": "c1",
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_USER": "alice",
        "SLURM_JOB_UID": "20001",
        **environment,
    }
    start = time.monotonic()
    done = subprocess.run(
        [str(HOOKS / name)], env=given, capture_output=True, text=True, timeout=10, check=False
    )
    return done, time.monotonic() - start


def test_a_job_is_announced_measured_and_ended(bench: NodeBench, controller: FakeController) -> None:
    bench.start()
    wait_until(lambda: controller.connected, "the connection")
    bench.gpus.set_load(
        2, demand_watts=500.0, static_watts=100.0, compute_bound_ratio=0.5, lease_seconds=None
    )
    classes = {"SPANK_POWER_WORKLOAD": "training", "SPANK_POWER_FLEX": "flex2"}
    done, _ = hook(bench, "prolog", SLURM_JOB_GPUS="0,2-3", **classes)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wait_until(lambda: bool(controller.said("job_start", job_id="17")), "the news of the start")
    told = controller.said("job_start", job_id="17")[0]
    assert told["gpus"] == [bench.uuids[slot] for slot in (0, 2, 3)]
    assert (told["user"], told["uid"], told["workload"], told["flex"]) == (
        "alice",
        20001,
        "training",
        "flex2",
    )
    before_joules = bench.gpus.truth(2).energy_joules
    time.sleep(1.0)  # the time over which energy is measured
    used_joules = bench.gpus.truth(2).energy_joules - before_joules
    done, _ = hook(bench, "epilog")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wait_until(lambda: bool(controller.said("job_end", job_id="17")), "the news of the end")
    energy_joules = controller.said("job_end", job_id="17")[0]["energy_joules"]
    assert energy_joules[bench.uuids[2]] == pytest.approx(used_joules, rel=0.3)
    assert bench.status()["jobs"] == []


def test_the_hook_names_the_instances_of_a_job_on_a_parted_gpu(bench: NodeBench) -> None:
    """A small server in powerd's place shows the very request."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(bench.socket))
    listener.listen()
    listener.settimeout(5.0)
    said: list[bytes] = []

    def answer() -> None:
        connection, _ = listener.accept()
        said.append(connection.recv(4096))
        connection.sendall(b'{"ok":true}\n')
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    done, _ = hook(
        bench, "prolog", SLURM_JOB_GPUS="9", CUDA_VISIBLE_DEVICES='MIG-1/2,MIG-"odd",3,GPU-4, MIG-5'
    )
    thread.join()
    listener.close()
    assert (done.returncode, done.stderr) == (0, "")
    request = json.loads(said[0])
    assert request["gpu_slots"] == [9]
    assert request["mig_uuids"] == ["MIG-1/2", 'MIG-"odd"', "MIG-5"]


def test_the_epilog_ends_the_job_s_economic_cap(bench: NodeBench, controller: FakeController) -> None:
    bench.start()
    before = bench.caps()
    wait_until(lambda: controller.connected, "the connection")
    hook(bench, "prolog", SLURM_JOB_GPUS="1")
    controller.grant("L", bench.uuids[1], 400.0, job_id="17", ttl_seconds=60.0)
    wait_until(lambda: bench.cap(1) == 400.0, "the cap")
    hook(bench, "epilog")
    wait_until(lambda: bench.caps() == before, "the restoration")


def test_the_prolog_heals_what_an_interrupted_job_left(bench: NodeBench, controller: FakeController) -> None:
    bench.start()
    before = bench.caps()
    wait_until(lambda: controller.connected, "the connection")
    hook(bench, "prolog", SLURM_JOB_GPUS="1", SLURM_JOB_ID="16")
    controller.grant("L", bench.uuids[1], 400.0, job_id="16", ttl_seconds=60.0)
    wait_until(lambda: bench.cap(1) == 400.0, "the cap")
    hook(bench, "prolog", SLURM_JOB_GPUS="1", SLURM_JOB_ID="17")
    wait_until(lambda: bench.caps() == before, "the restoration")
    assert controller.said("job_end", job_id="16")


def test_the_prolog_heals_all_gpus_of_a_job_that_ended_unseen_while_powerd_was_gone(
    bench: NodeBench, controller: FakeController
) -> None:
    """Its node's daemon is killed, no epilog comes, and the next job gets one of its two GPUs alone."""
    powerd = bench.start()
    before = bench.caps()
    wait_until(lambda: controller.connected, "the connection")
    hook(bench, "prolog", SLURM_JOB_GPUS="1,2", SLURM_JOB_ID="16")
    for slot, cap_watts in ((1, 400.0), (2, 450.0)):
        controller.grant(f"L{slot}", bench.uuids[slot], cap_watts, job_id="16", ttl_seconds=600.0)
    wait_until(lambda: (bench.cap(1), bench.cap(2)) == (400.0, 450.0), "the caps")
    wait_until(lambda: '"16"' in jobs_file(bench), "the record")
    powerd.kill()
    powerd.wait()
    bench.start()
    hook(bench, "prolog", SLURM_JOB_GPUS="1", SLURM_JOB_ID="17")
    wait_until(lambda: bench.caps() == before, "the restoration")
    wait_until(lambda: [job["job_id"] for job in bench.status()["jobs"]] == ["17"], "the one job")
    wait_until(lambda: bool(controller.said("job_end", job_id="16")), "the news of the end")


def test_jobs_survive_powerd_and_are_told_again(bench: NodeBench, controller: FakeController) -> None:
    powerd = bench.start()
    hook(bench, "prolog", SLURM_JOB_GPUS="0")
    wait_until(lambda: '"17"' in jobs_file(bench), "the record")
    powerd.kill()
    powerd.wait()
    bench.start()
    wait_until(lambda: len(controller.said("job_start", job_id="17")) >= 2, "the job told again")
    assert bench.status()["jobs"][0]["gpus"] == [bench.uuids[0]]


def jobs_file(bench: NodeBench) -> str:
    file = bench.state / "front" / "jobs.json"
    return file.read_text() if file.exists() else ""


@pytest.mark.parametrize("name", ["prolog", "epilog"])
def test_a_stopped_daemon_costs_two_seconds_at_most(bench: NodeBench, name: str) -> None:
    front = bench.front(bench.start())
    assert front is not None
    os.kill(front, signal.SIGSTOP)
    done, seconds = hook(bench, name)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (0, "", 1)
    assert seconds < 2.5  # two seconds, and what a busy machine takes to start an interpreter
    os.kill(front, signal.SIGCONT)
    assert bench.status()["ok"]


def test_only_root_may_announce_jobs(bench: NodeBench) -> None:
    bench.start()
    hook(bench, "prolog", SLURM_JOB_GPUS="0")
    code = (
        "import socket,sys;s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1]);"
        "s.sendall(sys.argv[2].encode()+b'\\n');print(s.makefile().readline())"
    )
    answers = {}
    for request in ('{"op":"prolog","job_id":"9"}', '{"op":"epilog","job_id":"17"}', '{"op":"status"}'):
        done = subprocess.run(
            ["/usr/bin/python3", "-IS", "-c", code, str(bench.socket), request],
            user=65534,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        answers[request] = done.stdout
    told = list(answers.values())
    assert '"ok":false' in told[0] and "root alone" in told[0]
    assert '"ok":false' in told[1] and "root alone" in told[1]
    assert '"ok":true' in told[2] and '"jobs":[]' in told[2]
    assert [job["job_id"] for job in bench.status()["jobs"]] == ["17"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"x" * (1 << 20) + b"\n",
        b"[" * 60_000 + b"\n",
        b"\xff\xfe\n",
        b'{"op":"prolog"}\n',
        b'{"op":"prolog","job_id":"1","gpu_slots":"all"}\n',
        b'{"op":"prolog","job_id":"1","gpu_slots":[-1]}\n',
        b'{"op":"prolog","job_id":"1","mig_uuids":"MIG-1"}\n',
        b'{"op":"prolog","job_id":"1","mig_uuids":["GPU-1"]}\n',
        b'{"op":"prolog","job_id":"1","uid":1e400}\n',
        b'{"op":"prolog","job_id":{"a":1}}\n',
        b'{"op":["prolog"]}\n',
        b"7\n",
    ],
)
def test_a_malformed_request_is_refused_and_survived(bench: NodeBench, request_bytes: bytes) -> None:
    bench.start()
    try:
        answer = ask(bench.socket, request_bytes)
        assert answer["ok"] is False
    except (BrokenPipeError, ConnectionResetError):
        pass  # hung up in the middle of an endless request
    assert bench.status()["jobs"] == []


def test_idle_callers_block_nobody(bench: NodeBench) -> None:
    bench.start()
    idle = []
    for _ in range(60):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(bench.socket))
        connection.sendall(b'{"op":')
        idle.append(connection)
    done, seconds = hook(bench, "prolog", SLURM_JOB_GPUS="0")
    assert (done.stderr, seconds < 1.0) == ("", True)
    for connection in idle:
        connection.settimeout(5)
        assert connection.recv(10) == b""
        connection.close()


def test_the_node_side_imports_nothing_heavy() -> None:
    heavy = ("numpy", "statsmodels", "torch", "scipy", "pandas", "click", "rich", "asyncio", "matplotlib")
    modules = ["slurm_power.cli.powerd", "slurm_power.devices.nvml", "pynvml"]
    modules += [f"slurm_power.node.{file.stem}" for file in (PROJECT / "slurm_power/node").glob("*.py")]
    code = f"import sys\nfor name in {modules!r}: __import__(name)\n"
    code += f"print(sorted(set({heavy!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT, env=os.environ
    )
    assert done.stdout.strip() == "[]"

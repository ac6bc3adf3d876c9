"""What powerd hands out for a job's environment, and what its user said on the way to the controller."""

import subprocess
from pathlib import Path

from containers.faults.controller import FakeController
from containers.faults.node import NodeBench, ask, wait_until
from slurm_power.node.job_environment import environment_lines
from tests.node.test_hooks import hook, jobs_file

ALICE, BOB = 20001, 20002
WORDS = {
    "SPANK_POWER_WORKLOAD": "training",
    "SPANK_POWER_FLEX": "flex2",
    "SPANK_POWER_MAX_HOLD": "1800s",
    "SPANK_POWER_FINISH_BY": "@1800000000",
    "SPANK_POWER_CAP": "400",
}
ASK = (
    "import socket,sys;s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1]);"
    "s.sendall(sys.argv[2].encode()+b'\\n');print(s.makefile().read(),end='')"
)


def environment(bench: NodeBench, job_id: str, uid: int = 0) -> str:
    """The answer as it comes."""
    request = f'{{"op":"environment","job_id":"{job_id}"}}'
    done = subprocess.run(
        ["/usr/bin/python3", "-IS", "-c", ASK, str(bench.socket), request],
        user=uid,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return done.stdout


def test_a_job_s_environment_is_for_root_and_its_user(bench: NodeBench, controller: FakeController) -> None:
    bench.start()
    wait_until(lambda: controller.connected, "the connection")
    hook(bench, "prolog", SLURM_JOB_GPUS="1,2", SLURM_JOB_RESTART_COUNT="3", **WORDS)
    lines = [
        f"SLURM_POWER_SOCKET={bench.socket}",
        f"SLURM_POWER_ADVICE_FILE={bench.socket.with_suffix('.advice')}/17.json",
        "SLURM_POWER_RESTART=3",
        "SLURM_POWER_WORKLOAD=training",
        "SLURM_POWER_FLEX=flex2",
        "SLURM_POWER_MAX_HOLD=1800s",
        "SLURM_POWER_FINISH_BY=@1800000000",
        "SLURM_POWER_CAP=400",
    ]
    for uid in (0, ALICE):
        assert environment(bench, "17", uid).splitlines() == [*lines, "."]
    for job_id, uid in (("17", BOB), ("18", ALICE), ("18", 0), ("", 0)):
        assert environment(bench, job_id, uid).startswith('{"ok":false,')
    controller.grant("L", bench.uuids[1], 450.0, job_id="17", ttl_seconds=60.0)
    controller.grant("M", bench.uuids[2], 420.0, job_id="17", ttl_seconds=60.0)
    wait_until(lambda: (bench.cap(1), bench.cap(2)) == (450.0, 420.0), "the caps")
    wait_until(lambda: len(bench.status()["leases"]) == 2, "the caps known")
    assert environment(bench, "17").splitlines() == [*lines, "SLURM_POWER_CAP_WATTS=420", "."]
    told = controller.said("job_start", job_id="17")[0]
    said = ("workload", "flex", "max_hold_seconds", "finish_by", "own_cap_watts")
    assert [told[key] for key in said] == ["training", "flex2", 1800, 1_800_000_000, 400]


def test_words_survive_powerd_and_are_none_where_nothing_was_said(
    bench: NodeBench, controller: FakeController
) -> None:
    powerd = bench.start()
    hook(bench, "prolog", SLURM_JOB_GPUS="0", **WORDS)
    hook(bench, "prolog", SLURM_JOB_GPUS="1", SLURM_JOB_ID="18")
    assert environment(bench, "18").splitlines() == [
        f"SLURM_POWER_SOCKET={bench.socket}",
        f"SLURM_POWER_ADVICE_FILE={bench.socket.with_suffix('.advice')}/18.json",
        "SLURM_POWER_RESTART=0",
        ".",
    ]
    wait_until(lambda: '"18"' in jobs_file(bench), "the record")
    before = environment(bench, "17")
    powerd.kill()
    powerd.wait()
    bench.start()
    assert environment(bench, "17") == before
    wait_until(lambda: len(controller.said("job_start", job_id="17")) >= 2, "the job told again")
    assert controller.said("job_start", job_id="17")[-1]["own_cap_watts"] == 400
    assert controller.said("job_start", job_id="18")[-1]["own_cap_watts"] is None


def test_the_hook_for_tasks_prints_it(bench: NodeBench) -> None:
    bench.start()
    hook(bench, "prolog", SLURM_JOB_GPUS="0", **WORDS)
    done, _ = hook(bench, "task_prolog")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"export SLURM_POWER_SOCKET={bench.socket}"
    assert "export SLURM_POWER_CAP=400" in done.stdout.splitlines()
    hook(bench, "prolog", SLURM_JOB_ID="19", SPANK_POWER_TIER="digits/int8")
    for before, forgets in (("digits/full", True), ("digits/int8", False)):
        done, _ = hook(bench, "task_prolog", SLURM_JOB_ID="19", SLURM_POWER_TIER=before)
        assert "export SLURM_POWER_TIER=digits/int8" in done.stdout.splitlines()
        assert ("unset SLURM_GPUS_PER_NODE" in done.stdout.splitlines()) == forgets, "as a moved job's"
    done, _ = hook(bench, "task_prolog", SLURM_JOB_ID="18")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


WRONG = [
    *('"max_hold_seconds":-1', '"max_hold_seconds":2592001', '"max_hold_seconds":"1800s"'),
    *('"max_hold_seconds":true', '"finish_by":0', '"finish_by":1e12', '"finish_by":99999999999'),
    *('"own_cap_watts":0', '"own_cap_watts":100001', '"own_cap_watts":400.5', '"own_cap_watts":[400]'),
]


def test_words_out_of_bounds_are_refused_by_name(bench: NodeBench) -> None:
    bench.start()
    for wrong in WRONG:
        answer = ask(bench.socket, f'{{"op":"prolog","job_id":"1",{wrong}}}\n'.encode())
        assert answer["ok"] is False
        assert str(answer["error"]).startswith(wrong.partition(":")[0].strip('"') + ": "), wrong
    assert bench.status()["jobs"] == []


def test_what_the_plugin_would_refuse_is_left_out() -> None:
    good = {"SLURM_POWER_A": "1", "SLURM_POWER_B": "x" * 256}
    bad = {"SLURM_POWER_C": "ä", "SLURM_POWER_D": "x" * 257, "LD_PRELOAD": "1", "SLURM_POWER_E": "a\nb"}
    assert environment_lines({**good, **bad}) == f"SLURM_POWER_A=1\nSLURM_POWER_B={'x' * 256}\n.\n".encode()
    assert environment_lines({}) == b".\n"
    many = {f"SLURM_POWER_{letter}": "1" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    assert environment_lines(many).count(b"\n") == 17


def test_a_node_whose_socket_has_a_strange_name_still_hands_out_the_rest(tmp_path: Path) -> None:
    lines = environment_lines({"SLURM_POWER_SOCKET": f"{tmp_path}/ü.sock", "SLURM_POWER_RESTART": "0"})
    assert lines == b"SLURM_POWER_RESTART=0\n.\n"

"""Words to jobs and from them: a real powerd, real hooks, processes of users, a fake controller."""

import json
import os
import pwd
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from containers.faults.controller import FakeController
from containers.faults.node import NodeBench, ask, wait_until
from slurm_power import clock
from tests.node.test_hooks import hook, jobs_file

ALICE, BOB = 20001, 20002
ASK = (
    "import socket,sys;s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1]);"
    "s.sendall(sys.argv[2].encode()+b'\\n');print(s.makefile().read(),end='')"
)
PROGRESS = {
    "op": "progress",
    "job_id": "17",
    "step": 12,
    "samples_per_second": 100.5,
    "global_batch": 256,
    "micro_batch": 64,
    "max_micro_batch": 128,
    "checkpoints": True,
    "checkpoint_step": 10,
}


def file_of(bench: NodeBench, job_id: str = "17") -> Path:
    return bench.socket.with_suffix(".advice") / f"{job_id}.json"


def advised(bench: NodeBench, job_id: str = "17") -> dict[str, Any]:
    """What a job reads; {} without a file."""
    try:
        found: dict[str, Any] = json.loads(file_of(bench, job_id).read_text())
    except FileNotFoundError:
        return {}
    return found


def say(controller: FakeController, **more: object) -> None:
    word = {"type": "advice", "job_id": "17", "micro_batch": 64, "action": None, "reason": "a peak"}
    controller.send({**word, "ttl_seconds": 60.0, **more})


def tell(bench: NodeBench, uid: int = ALICE, **more: object) -> dict[str, Any]:
    """Send a progress word as a user would; returns the answer."""
    words = ["/usr/bin/python3", "-IS", "-c", ASK, str(bench.socket), json.dumps({**PROGRESS, **more})]
    done = subprocess.run(words, user=uid, capture_output=True, text=True, timeout=10, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def progress(bench: NodeBench) -> Any:
    return next((job["progress"] for job in bench.status()["jobs"] if job["job_id"] == "17"), None)


def started(bench: NodeBench, controller: FakeController, **environment: str) -> "subprocess.Popen[bytes]":
    """A powerd with a job of alice's on it."""
    powerd = bench.start()
    wait_until(lambda: controller.connected, "the connection")
    hook(bench, "prolog", SLURM_JOB_GPUS="0", **environment)
    return powerd


def test_a_word_is_a_file_that_the_job_s_user_can_read(bench: NodeBench, controller: FakeController) -> None:
    started(bench, controller)
    before_boottime = clock.boottime()
    say(controller, action="pause")
    wait_until(lambda: bool(advised(bench)), "the file")
    word = advised(bench)
    assert before_boottime < word.pop("until_boottime") - 60.0 <= clock.boottime()
    assert word == {"micro_batch": 64, "action": "pause", "reason": "a peak", "restart_count": 0}
    assert file_of(bench).stat().st_mode & 0o777 == 0o644
    read = subprocess.run(["cat", file_of(bench)], user=ALICE, capture_output=True, check=True)
    assert b"a peak" in read.stdout
    for words in (["rm", str(file_of(bench))], ["touch", str(file_of(bench, "18"))]):
        assert subprocess.run(words, user=ALICE, capture_output=True, check=False).returncode != 0
    say(controller, micro_batch=None)
    wait_until(lambda: advised(bench).get("micro_batch", 0) is None, "the next word")
    assert advised(bench)["action"] == "run"
    say(controller, ttl_seconds=0)
    wait_until(lambda: not advised(bench), "the file gone")


def test_a_word_ends_with_its_lease_and_with_its_job(bench: NodeBench, controller: FakeController) -> None:
    started(bench, controller)
    say(controller, ttl_seconds=0.5)
    wait_until(lambda: bool(advised(bench)), "the file")
    wait_until(lambda: not advised(bench), "its end")
    say(controller)
    wait_until(lambda: bool(advised(bench)), "the file")
    assert tell(bench) == {"ok": True}
    hook(bench, "epilog")
    assert (advised(bench), bench.status()["jobs"]) == ({}, [])
    hook(bench, "prolog", SLURM_JOB_GPUS="0")
    assert progress(bench) is None


def test_a_word_to_one_start_of_a_job_is_none_to_the_next(
    bench: NodeBench, controller: FakeController
) -> None:
    started(bench, controller)
    say(controller, action="checkpoint")
    wait_until(lambda: bool(advised(bench)), "the file")
    tell(bench)
    # A node that was cut off never had the epilog.
    hook(bench, "prolog", SLURM_JOB_GPUS="0", SLURM_JOB_RESTART_COUNT="1")
    assert (advised(bench), progress(bench)) == ({}, None)
    say(controller, restart_count=0)
    say(controller, restart_count=1, reason="for this start")
    wait_until(lambda: advised(bench).get("reason") == "for this start", "the right word")
    assert "restart_count: job 17 is in its start 1" in bench.log_text()


def test_a_powerd_that_starts_again_keeps_what_holds_and_removes_the_rest(
    bench: NodeBench, controller: FakeController
) -> None:
    powerd = started(bench, controller)
    hook(bench, "prolog", SLURM_JOB_GPUS="1", SLURM_JOB_ID="18")
    say(controller)
    say(controller, job_id="18", ttl_seconds=1.0)
    wait_until(lambda: bool(advised(bench) and advised(bench, "18")), "the files")
    wait_until(lambda: '"18"' in jobs_file(bench), "the record")
    powerd.kill()
    powerd.wait()
    wait_until(lambda: clock.boottime() > advised(bench, "18")["until_boottime"], "the end of its lease")
    nobody = {**advised(bench), "until_boottime": clock.boottime() + 60.0}
    file_of(bench, "19").write_text(json.dumps(nobody))
    file_of(bench, "20").write_text("{")
    (file_of(bench).parent / "17.new").write_text("half a wo")
    bench.start()
    wait_until(lambda: [file.name for file in file_of(bench).parent.iterdir()] == ["17.json"], "order")
    wait_until(lambda: controller.connected, "the connection")
    say(controller, ttl_seconds=0)
    wait_until(lambda: not advised(bench), "the word taken back")


WRONG: list[tuple[dict[str, object], str]] = [
    ({"job_id": "../../17"}, "job_id: not a number"),
    ({"job_id": "99"}, "job_id: no job 99 is here"),
    ({"micro_batch": 0}, "micro_batch: not a whole number"),
    ({"micro_batch": 64.0}, "micro_batch: not a whole number"),
    ({"action": "kill"}, "action: not run, pause, checkpoint"),
    ({"ttl_seconds": 1e9}, "ttl_seconds: not a number"),
    ({"ttl_seconds": None}, "ttl_seconds: not a number"),
    ({"ttl_seconds": True}, "ttl_seconds: not a number"),
]


def test_orders_that_are_none_change_nothing(bench: NodeBench, controller: FakeController) -> None:
    started(bench, controller)
    for wrong, _ in WRONG:
        say(controller, **wrong)
    say(controller, reason="last\x1b[2J")
    wait_until(lambda: advised(bench).get("reason") == "last[2J", "the good one")
    log = bench.log_text()
    assert [text for _, text in WRONG if text not in log] == []
    assert [file.name for file in file_of(bench).parent.iterdir()] == ["17.json"]


def test_ranks_are_added_up_and_reported(bench: NodeBench, controller: FakeController) -> None:
    started(bench, controller)
    assert tell(bench, rank=0) == tell(bench, rank=1, step=11, samples_per_second=50) == {"ok": True}
    assert tell(bench, rank=0, step=13, checkpoint_step=13) == {"ok": True}
    row = progress(bench)
    assert 0.0 <= row.pop("age_seconds") < 10.0
    wanted = {key: value for key, value in PROGRESS.items() if key not in ("op", "job_id")}
    assert row == {**wanted, "step": 11, "samples_per_second": 150.5, "checkpoint_step": 13}

    def reported() -> bool:
        rows = [message["progress"] for message in controller.said("telemetry")]
        return any(row.get("17", {}).get("samples_per_second") == 150.5 for row in rows)

    wait_until(reported, "the report")
    tell(bench, rank=1, checkpoints=False, max_micro_batch=None)
    assert (progress(bench)["checkpoints"], progress(bench)["max_micro_batch"]) == (False, None)


def test_only_a_job_s_own_user_tells_its_progress(bench: NodeBench, controller: FakeController) -> None:
    started(bench, controller)
    for refused in (tell(bench, BOB), tell(bench, job_id="18"), tell(bench, job_id="")):
        assert refused["ok"] is False
        assert str(refused["error"]).startswith("job_id: ")
    assert progress(bench) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("step", -1), ("step", None), ("step", 1 << 60), ("step", "1"), ("step", True)),
        *(("samples_per_second", -1), ("samples_per_second", None), ("samples_per_second", 1e300)),
        *(("samples_per_second", float("nan")), ("micro_batch", 0), ("rank", -1), ("global_batch", [])),
        *(("checkpoint_step", 1.5), ("max_micro_batch", 1 << 31)),
    ],
)
def test_numbers_out_of_bounds_are_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    from slurm_power.node.advice import AdviceDesk
    from slurm_power.node.jobs import NodeJob, NodeJobs
    from slurm_power.wire import WireError

    jobs = NodeJobs(tmp_path, "boot")
    job = NodeJob(job_id="17", user="alice", uid=ALICE, gpu_slots=(), workload=None, flex=None)
    jobs.start(job)
    desk = AdviceDesk(tmp_path / "powerd.sock", jobs)
    with pytest.raises(WireError, match=f"^{key}: "):
        desk.progress({**PROGRESS, key: value}, ALICE, 0.0)
    assert desk.rows(0.0) == {}


def test_a_rank_that_fell_silent_counts_no_more(tmp_path: Path) -> None:
    from slurm_power.node.advice import AdviceDesk
    from slurm_power.node.jobs import NodeJob, NodeJobs

    jobs = NodeJobs(tmp_path, "boot")
    jobs.start(NodeJob(job_id="17", user="alice", uid=ALICE, gpu_slots=(), workload=None, flex=None))
    desk = AdviceDesk(tmp_path / "powerd.sock", jobs)
    desk.progress({**PROGRESS, "rank": 0}, ALICE, 100.0)
    desk.progress({**PROGRESS, "rank": 1, "step": 500}, ALICE, 150.0)
    assert desk.rows(151.0)["17"]["samples_per_second"] == 201.0  # type: ignore[index] # rows are messages
    desk.progress({**PROGRESS, "rank": 1, "step": 500}, 0, 170.0)
    row = desk.rows(171.0)["17"]
    assert isinstance(row, dict)
    assert (row["samples_per_second"], row["step"], row["age_seconds"]) == (100.5, 500, 1.0)


def test_what_is_no_file_of_ours_holds_no_powerd(tmp_path: Path) -> None:
    """Who had the folder before ``user`` of node.toml changed may have left a pipe: reading it never ends."""
    from slurm_power.node.advice import AdviceDesk
    from slurm_power.node.jobs import NodeJobs

    folder = tmp_path / "powerd.advice"
    folder.mkdir()
    os.mkfifo(folder / "17.json")
    word = {"until_boottime": clock.boottime() + 60.0, "restart_count": 0}
    (tmp_path / "elsewhere").write_text(json.dumps(word))
    (folder / "18.json").symlink_to(tmp_path / "elsewhere")
    desk = AdviceDesk(tmp_path / "powerd.sock", NodeJobs(tmp_path, "boot"))
    loading = threading.Thread(target=desk.load, daemon=True)
    loading.start()
    loading.join(10.0)
    assert not loading.is_alive()
    assert list(folder.iterdir()) == []
    assert (tmp_path / "elsewhere").exists()


def test_what_ranks_say_together_is_within_what_the_controller_takes(tmp_path: Path) -> None:
    from slurm_power.node.advice import AdviceDesk
    from slurm_power.node.jobs import NodeJob, NodeJobs
    from slurm_power.telemetry.progress import progress_of

    jobs = NodeJobs(tmp_path, "boot")
    jobs.start(NodeJob(job_id="17", user="alice", uid=ALICE, gpu_slots=(), workload=None, flex=None))
    desk = AdviceDesk(tmp_path / "powerd.sock", jobs)
    for rank in range(3):
        desk.progress({**PROGRESS, "rank": rank, "samples_per_second": 1e12}, ALICE, 0.0)
    two_years = 2 * 366 * 86_400.0
    for now_seconds in (0.0, two_years):
        assert progress_of({"progress": desk.rows(now_seconds)})["17"].samples_per_second == 1e12


def test_a_front_that_is_killed_keeps_the_words_to_jobs(bench: NodeBench, controller: FakeController) -> None:
    powerd = started(bench, controller)
    say(controller)
    wait_until(lambda: bool(advised(bench)), "the file")
    wait_until(lambda: '"17"' in jobs_file(bench), "the record")
    front = bench.front(powerd)
    assert front is not None
    os.kill(front, signal.SIGKILL)
    wait_until(lambda: bench.front(powerd) not in (None, front), "another front")
    wait_until(lambda: controller.connections == 2, "its connection")
    assert advised(bench)["micro_batch"] == 64
    hook(bench, "epilog")
    assert advised(bench) == {}


def test_a_stopped_powerd_holds_no_job_that_tells_its_progress(
    bench: NodeBench, controller: FakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slurm_power.advice.report import ProgressLine

    powerd = started(bench, controller)
    line = ProgressLine(str(bench.socket), "17", 0)
    word = {key: value for key, value in PROGRESS.items() if key not in ("op", "job_id")}
    assert line.tell(word)
    wait_until(lambda: progress(bench) is not None, "the word")
    front = bench.front(powerd)
    assert front is not None
    os.kill(front, signal.SIGSTOP)
    start = time.monotonic()
    taken = [line.tell(word) for _ in range(300)]
    assert time.monotonic() - start < 2.0  # 300 words; one that waited would wait for ever
    assert taken[0]
    assert not taken[-1]  # its backlog is full
    os.kill(front, signal.SIGCONT)
    wait_until(lambda: bool(bench.status()), "it goes on")
    line.close()
    assert ask(bench.socket, {"op": "status"})["ok"]


def test_the_folder_belongs_to_the_half_without_privileges(
    bench: NodeBench, controller: FakeController
) -> None:
    """And is given over when ``user`` changes: words are for everybody to read, for nobody else to write."""
    bench.settings["user"] = "nobody"
    powerd = started(bench, controller)
    say(controller)
    wait_until(lambda: bool(advised(bench)), "the file")
    nobody = pwd.getpwnam("nobody").pw_uid
    folder = file_of(bench).parent
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (nobody, 0o755)
    assert (file_of(bench).stat().st_uid, file_of(bench).stat().st_mode & 0o777) == (nobody, 0o644)
    powerd.terminate()
    powerd.wait()
    del bench.settings["user"]
    bench.start()
    wait_until(lambda: controller.connections == 2, "the connection")
    assert (folder.stat().st_uid, file_of(bench).stat().st_uid) == (0, 0)
    say(controller, reason="as root")
    wait_until(lambda: advised(bench).get("reason") == "as root", "the next word")

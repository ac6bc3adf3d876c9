"""The process that speaks through pyslurm, bounded whatever it does; and who speaks to Slurm."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm_power.config.site import SchedulerKind
from slurm_power.ports import SchedulerError
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.parse import record_of
from slurm_power.slurm.pyslurm_worker import answered
from slurm_power.slurm.scheduler_choice import chosen_scheduler, pyslurm_problem, release_of
from slurm_power.slurm.scheduler_cli import CliScheduler
from slurm_power.slurm.scheduler_pyslurm import WORKER, PyslurmScheduler, PyslurmWorker
from tests.slurm.bench import Bench, adapters, blocked

ECHO = """
import json, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    time.sleep(asked.get("after", 0))
    print(json.dumps({"version": VERSION} if asked["op"] == "version" else asked), flush=True)
"""


def worker(program: str, timeout_seconds: float = 5.0, version: str = "22.5.3") -> PyslurmWorker:
    command = (sys.executable, "-c", program.replace("VERSION", repr(version)))
    return PyslurmWorker(None, timeout_seconds=timeout_seconds, command=command)


@pytest.fixture
def echo() -> Iterator[PyslurmWorker]:
    made = worker(ECHO)
    yield made
    made.close()


def test_one_process_answers_one_question_after_the_other(echo: PyslurmWorker) -> None:
    assert echo.ask("record", job_id="7") == {"op": "record", "job_id": "7"}
    first = echo._process
    assert echo.ask("record", job_id="8")["job_id"] == "8"
    assert echo._process is first


def test_long_answers_come_whole(echo: PyslurmWorker) -> None:
    text = "x" * 3_000_000
    assert echo.ask("record", text=text)["text"] == text


def test_a_worker_that_does_not_answer_is_killed_in_time_and_another_one_started() -> None:
    echo = worker(ECHO, timeout_seconds=1.0)
    echo.ask("record")
    hung = echo._process
    assert hung is not None
    began = time.monotonic()
    with pytest.raises(SchedulerError, match=r"pyslurm: no answer within 1 s"):
        echo.ask("record", after=60)
    assert time.monotonic() - began < 3.0
    assert hung.poll() is not None
    echo.timeout_seconds = 5.0
    assert echo.ask("record", job_id="7")["job_id"] == "7"
    echo.close()


@pytest.mark.parametrize("program", ["", "import sys; sys.stdin.readline()", "import os; os.abort()"])
def test_a_worker_that_ends_is_an_error(program: str) -> None:
    with pytest.raises(SchedulerError, match=r"pyslurm: "):
        worker(program).ask("record")


def test_a_worker_that_cannot_be_started_is_an_error() -> None:
    with pytest.raises(SchedulerError, match=r"pyslurm: No such file"):
        PyslurmWorker(None, command=("/no/such/python",)).ask("record")


def test_what_pyslurm_refuses_is_an_error(echo: PyslurmWorker) -> None:
    with pytest.raises(SchedulerError, match=r"pyslurm: Job is no longer pending"):
        echo.ask("record", error="Job is no longer pending")


def test_without_a_slurm_conf_it_says_so_and_ends(tmp_path: Path) -> None:
    environment = {**os.environ, "SLURM_CONF": str(tmp_path / "slurm.conf")}
    done = subprocess.run(WORKER, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"pyslurm: there is no {tmp_path}/slurm.conf\n"


def test_it_imports_nothing_heavy() -> None:
    """It starts with the first hold after each time-out."""
    program = "import sys, slurm_power.slurm.pyslurm_worker; print(*sys.modules)"
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, timeout=20, check=True
    )
    assert not {"numpy", "click", "asyncio", "pyslurm"} & set(done.stdout.split())


class Refused(Exception):  # noqa: N818  # as pyslurm's own, in all but its name
    pass


class Pyslurm:
    """What of pyslurm is used, with a job whose attributes are given."""

    def __init__(self, **attributes: object) -> None:
        asked: list[tuple[str, object]] = []
        self.asked = asked

        class Job:
            array_id = heterogeneous_id = constraints = deadline = required_nodes = scheduled_nodes = None
            account = allocated_nodes = excluded_nodes = admin_comment = partition = start_time = None
            state, state_reason, user_name, user_id, name = "PENDING", "Priority", "alice", 1000, "a"
            num_nodes, ntasks, time_limit, priority = 2, 4, 90, 17
            submit_time = eligible_time = 1_767_323_045

            def __init__(self, job_id: int) -> None:
                self.id = job_id

            @staticmethod
            def load(job_id: int) -> "Job":
                if job_id == 404:
                    raise Refused("Invalid job id specified")
                found = Job(job_id)
                for key, value in attributes.items():
                    setattr(found, key, value)
                return found

            def modify(self, changes: object) -> None:
                asked.append(("modify", changes))

            def suspend(self) -> None:
                raise Refused("Job is\nnot running")

        self.Job = Job
        self.JobSubmitDescription = dict
        self.__version__ = "22.5.3"


def told(module: Any, op: str, **words: object) -> dict[str, Any]:
    answer = answered(module, {"op": op, **words})
    assert json.loads(json.dumps(answer)) == answer
    return answer


def test_a_jobs_attributes_become_squeues_fields() -> None:
    module = Pyslurm(
        admin_comment='{"power":{"flex":"flex3","cap_watts":300}}',
        deadline=1_767_330_000,
        excluded_nodes="c[1-2]",
        is_batch_job=True,
        is_requeueable=True,
    )
    answer = told(module, "record", job_id="7")
    job = record_of(answer["fields"]).job
    assert (job.job_id, job.user, job.flex.value, job.own_cap_watts) == ("7", "alice", "flex3", 300.0)
    assert (job.time_limit_seconds, job.priority, job.node_count) == (5400.0, 17, 2)
    assert job.deadline is not None and job.deadline.timestamp() == 1_767_330_000
    assert answer["excluded"] == "c[1-2]"
    assert job.requeues
    assert job.begin is None
    begun = record_of(told(Pyslurm(eligible_time=1_767_340_000), "record", job_id="7")["fields"]).job
    assert not begun.requeues
    assert begun.begin is not None and begun.begin.timestamp() == 1_767_340_000


@pytest.mark.parametrize("attributes", [{"array_id": 7}, {"heterogeneous_id": 6}, {"id": 8}])
def test_arrays_and_het_jobs_are_for_others(attributes: dict[str, object]) -> None:
    assert told(Pyslurm(**attributes), "record", job_id="7") == {"other": True}


def test_whatever_goes_wrong_is_an_answer() -> None:
    module = Pyslurm()
    assert told(module, "record", job_id="404") == {"gone": True}
    assert told(module, "suspend", job_id="7") == {"error": "Job is not running"}
    assert "unknown request" in told(module, "dance")["error"]
    assert "job_id" in told(module, "record")["error"]


def test_only_what_is_given_is_written() -> None:
    module = Pyslurm()
    assert told(module, "update", job_id="7", changes={"begin_time": 5}) == {}
    assert module.asked == [("modify", {"begin_time": 5})]


# --- who speaks to Slurm ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "release"),
    [("slurm-wlm 22.05.8", (22, 5)), ("22.5.3", (22, 5)), ("slurm 24.11.5\n", (24, 11)), ("", None)],
)
def test_releases(text: str, release: tuple[int, int] | None) -> None:
    assert release_of(text) == release


def commands(tmp_path: Path, version: str) -> CommandRunner:
    """An scontrol that only knows its version."""
    program = tmp_path / "scontrol"
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    return CommandRunner(None, search_path=f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("pyslurm", "slurm", "problem"),
    [
        ("22.5.3", "slurm-wlm 22.05.8", ""),
        ("25.11.2", "slurm 26.05.5", "pyslurm 25.11.2 is for another Slurm than slurm 26.05.5"),
        ("none", "slurm 26.05.5", "pyslurm none is for another Slurm than slurm 26.05.5"),
    ],
)
def test_pyslurm_is_used_only_with_the_slurm_it_is_for(
    tmp_path: Path, pyslurm: str, slurm: str, problem: str
) -> None:
    made = worker(ECHO, version=pyslurm)
    assert asyncio.run(pyslurm_problem(made, commands(tmp_path, slurm))) == problem
    made.close()


def test_a_pyslurm_that_ends_its_process_is_not_used(tmp_path: Path) -> None:
    problem = asyncio.run(pyslurm_problem(worker("raise SystemExit(1)"), commands(tmp_path, "slurm 22.05.8")))
    assert problem.startswith("no pyslurm that can be used (pyslurm: ")


def test_without_pyslurm_the_commands_are_chosen_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    conf, holds = tmp_path / "slurm.conf", tmp_path / "holds.json"

    async def choose(kind: SchedulerKind) -> object:
        return await chosen_scheduler(kind, conf, hold_file=holds)

    with caplog.at_level(logging.INFO):
        # There is no such slurm.conf, so pyslurm cannot be used, installed or not.
        assert isinstance(asyncio.run(choose(SchedulerKind.AUTO)), CliScheduler)
        assert isinstance(asyncio.run(choose(SchedulerKind.CLI)), CliScheduler)
    assert "no pyslurm that can be used" in caplog.text
    assert "as the site says" in caplog.text
    with pytest.raises(SchedulerError, match="no pyslurm that can be used"):
        asyncio.run(choose(SchedulerKind.PYSLURM))


@pytest.mark.slurm
@pytest.mark.skipif("pyslurm" not in adapters(), reason="no pyslurm is installed here")
@pytest.mark.skipif(os.geteuid() != 0, reason="a real Slurm as plain processes needs root")
class TestInstalled:
    def test_it_is_chosen_and_needs_no_command_for_a_hold(self, bench: Bench, tmp_path: Path) -> None:
        found = asyncio.run(
            chosen_scheduler(SchedulerKind.AUTO, bench.cluster.conf, hold_file=tmp_path / "holds.json")
        )
        assert isinstance(found, PyslurmScheduler)
        asyncio.run(found.close())
        job_id = blocked(bench)
        tags = '{"power":{"flex":"flex3"}}'
        bench.cluster.run("scontrol", "update", f"job={job_id}", f"AdminComment={tags}")
        nothing = CommandRunner(bench.cluster.conf, search_path=str(tmp_path))

        async def hold_and_release() -> str:
            port = PyslurmScheduler(PyslurmWorker(bench.cluster.conf), nothing, hold_file=tmp_path / "h.json")
            try:
                await port.hold(job_id, 600, "full")
                held = bench.comment(job_id)
                await port.release(job_id)
                return held
            finally:
                await port.close()

        assert "hold" in json.loads(asyncio.run(hold_and_release()))["power"]
        assert json.loads(bench.comment(job_id)) == json.loads(tags)

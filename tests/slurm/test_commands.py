"""Commands are bounded in time and number, and leave nothing behind."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from slurm_power.ports import SchedulerError
from slurm_power.slurm.commands import CommandRunner
from tests.slurm.cluster import eventually


def test_times_out_and_kills_the_whole_group(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    runner = CommandRunner(None, timeout_seconds=0.3)
    started = time.monotonic()
    with pytest.raises(SchedulerError, match=r"sh: no answer within 0\.3 s"):
        asyncio.run(runner.run("sh", "-c", f"sleep 60 & echo $! > {pid_file}; wait"))
    assert time.monotonic() - started < 2
    deadline = time.monotonic() + 2
    while _alive(int(pid_file.read_text())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(int(pid_file.read_text()))


def test_the_error_says_what_the_command_said() -> None:
    with pytest.raises(SchedulerError, match="sh: two lines"):
        asyncio.run(CommandRunner(None).run("sh", "-c", "echo two >&2; echo lines >&2; exit 3"))


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(SchedulerError, match="no-such-command: cannot be started"):
        asyncio.run(CommandRunner(None).run("no-such-command"))


def test_the_environment_is_ours_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    printed = asyncio.run(CommandRunner(tmp_path / "slurm.conf").run("env"))
    names = dict(line.split("=", 1) for line in printed.splitlines())
    assert names["TZ"] == "UTC"
    assert names["SLURM_CONF"] == str(tmp_path / "slurm.conf")
    assert "SQUEUE_FORMAT" not in names


def test_no_more_at_once_than_allowed(tmp_path: Path) -> None:
    async def many() -> None:
        runner = CommandRunner(None, concurrency=2)
        script = f"touch {tmp_path}/$$; ls {tmp_path} | wc -l; sleep 0.05; rm {tmp_path}/$$"
        counts = await asyncio.gather(*(runner.run("sh", "-c", script) for _ in range(8)))
        assert max(int(count) for count in counts) <= 2

    asyncio.run(many())


def test_a_cancelled_command_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    async def cancelled() -> None:
        task = asyncio.create_task(
            CommandRunner(None).run("sh", "-c", f"echo $$ > {pid_file}; exec sleep 60")
        )
        await asyncio.to_thread(
            eventually, lambda: pid_file.exists() and pid_file.read_text() != "", 5, "a pid"
        )
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert not _alive(int(pid_file.read_text()))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

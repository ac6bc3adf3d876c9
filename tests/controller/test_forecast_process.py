"""The forecast worker as a child process: fed, listened to, missed when it dies, started again."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest

from slurm_power.controller.planning import forecast_process
from slurm_power.controller.planning.forecast_process import ForecastProcess
from slurm_power.wire import Message

# Answers each line with what it was told; says first who it is.
ECHO = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"told": json.loads(line)}), flush=True)
"""
DEAF = "import time; print('{}', flush=True); time.sleep(60)"


class Life:
    def __init__(self, script: str) -> None:
        self.heard: list[Message] = []
        self.ends: list[str] = []
        self.process = ForecastProcess(
            {"type": "hello"},
            on_message=self.heard.append,
            on_end=self.ends.append,
            command=(sys.executable, "-c", script),
        )

    async def until(self, happened: Callable[[], object]) -> None:
        async with asyncio.timeout(10.0):
            while not happened():  # noqa: ASYNC110  # polls what has no event
                await asyncio.sleep(0.01)


def lived(script: str, check: Callable[[Life], object]) -> Life:
    async def run() -> Life:
        life = Life(script)
        task = asyncio.create_task(life.process.run())
        try:
            await check(life)  # type: ignore[misc]
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert life.process.process_id is None
        return life

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_process, "_FIRST_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(forecast_process, "_FAREWELL_SECONDS", 0.5)


def test_it_is_greeted_and_fed() -> None:
    async def check(life: Life) -> None:
        assert not life.process.send({"n": 0}), "nobody is there yet"
        await life.until(lambda: life.heard)
        assert life.process.send({"n": 1})
        await life.until(lambda: len(life.heard) == 2)

    life = lived(ECHO, check)
    assert life.heard == [{"told": {"type": "hello"}}, {"told": {"n": 1}}]
    assert life.ends == []


def test_one_that_is_killed_is_missed_by_name_and_replaced() -> None:
    async def check(life: Life) -> None:
        await life.until(lambda: life.heard)
        assert life.process.process_id is not None
        os.kill(life.process.process_id, signal.SIGKILL)
        await life.until(lambda: len(life.heard) == 2)

    assert lived(ECHO, check).ends == ["it was killed by SIGKILL"]


def test_one_that_cannot_be_started_is_tried_again() -> None:
    async def run() -> list[str]:
        ends: list[str] = []
        process = ForecastProcess(
            {}, on_message=lambda _: None, on_end=ends.append, command=("/nowhere/worker",)
        )
        task = asyncio.create_task(process.run())
        async with asyncio.timeout(5.0):
            while len(ends) < 2:  # noqa: ASYNC110  # polls what has no event
                await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return ends

    assert asyncio.run(run())[0].startswith("it cannot be started: ")


@pytest.mark.parametrize("said", ["no json", "[1]", "{"])
def test_one_that_talks_nonsense_is_ended(said: str) -> None:
    async def check(life: Life) -> None:
        await life.until(lambda: life.ends)

    assert (
        lived(f"print({said!r}, flush=True); import time; time.sleep(60)", check)
        .ends[0]
        .startswith("it sent nonsense: ")
    )


def test_one_that_does_not_listen_is_fed_no_more_and_stops_nobody() -> None:
    async def check(life: Life) -> None:
        await life.until(lambda: life.heard)
        message: Message = {"text": "x" * 1_000_000}
        sent = [life.process.send(message) for _ in range(40)]
        assert sent[0] and not sent[-1]
        assert life.process.dropped == sent.count(False)

    lived(DEAF, check)


def test_it_may_save_before_it_ends() -> None:
    """It gets the end of its stdin first, and is killed only if that does not help."""
    script = "import sys; print('{}', flush=True); sys.stdin.read(); open(sys.argv[1], 'w').write('saved')"

    async def run(file: str) -> None:
        heard: list[Message] = []
        process = ForecastProcess(
            {}, on_message=heard.append, on_end=lambda _: None, command=(sys.executable, "-c", script, file)
        )
        task = asyncio.create_task(process.run())
        async with asyncio.timeout(5.0):
            while not heard:  # noqa: ASYNC110  # polls what has no event
                await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(f"{folder}/saved"))
        assert Path(f"{folder}/saved").read_text() == "saved"

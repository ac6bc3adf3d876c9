"""Pollers outlive their sources' failures, the unforeseen ones included, and do not let hints flood Slurm."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import pytest

from slurm_power.controller.sensing.pollers import poll_meter, poll_scheduler
from slurm_power.model.job import Job
from slurm_power.ports import DeviceError
from slurm_power.telemetry import SiteTelemetry
from tests.controller.quiet_queue import QuietQueue
from tests.plan.situations import site


class Meter:
    """Answers with what it is given: watts, or an error to raise."""

    def __init__(self, *answers: float | Exception) -> None:
        self._answers: Iterator[float | Exception] = iter(answers)
        self.opened = 0

    async def open(self) -> None:
        self.opened += 1

    async def read_watts(self) -> float:
        answer = next(self._answers, 20_000.0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None: ...


class Queue(QuietQueue):
    def __init__(self) -> None:
        self.listed_at: list[float] = []

    async def jobs(self) -> tuple[Job, ...]:
        self.listed_at.append(time.monotonic())
        return ()


def telemetry() -> SiteTelemetry:
    return SiteTelemetry(site(), {"grid": ("meter", 3.0)})


def run_until(poller: Callable[[], Awaitable[None]], condition: Callable[[], bool], seconds: float) -> None:
    async def run() -> None:
        task = asyncio.ensure_future(poller())
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition() and not task.done():  # noqa: ASYNC110  # any condition, not only an event
                    await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert condition()

    asyncio.run(run())


@pytest.mark.parametrize("error", [DeviceError("meter: no answer"), ValueError("a register it never had")])
def test_a_failing_driver_is_a_fault_that_ends(error: Exception) -> None:
    said: list[tuple[str, str]] = []
    meter = Meter(10_000.0, error, error)
    site_now = telemetry()
    run_until(
        lambda: poll_meter("grid", meter, site_now, seconds=0.01, on_fault=lambda *one: said.append(one)),
        lambda: len(said) == 2,
        5.0,
    )
    assert [subject for subject, _ in said] == ["circuit:grid"] * 2
    assert str(error) in said[0][1] and said[1][1] == ""
    assert meter.opened == 2


def test_hints_do_not_flood_the_workload_manager() -> None:
    queue, hint = Queue(), asyncio.Event()

    def flooded() -> bool:
        hint.set()
        return len(queue.listed_at) >= 3

    run_until(
        lambda: poll_scheduler(
            queue, telemetry(), hint, seconds=60.0, on_fault=lambda *_: None, on_read=lambda: None
        ),
        flooded,
        8.0,
    )
    gaps = [after - before for before, after in zip(queue.listed_at, queue.listed_at[1:], strict=False)]
    assert min(gaps) > 0.95

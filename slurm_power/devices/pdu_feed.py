"""Many PDUs through one process: each of them is a power meter here, whose value comes when it is due."""

import asyncio
import contextlib
import json
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from slurm_power.config.devices import SnmpPdu
from slurm_power.ports import DeviceError

log = logging.getLogger(__name__)

_END_SECONDS = 5.0
_START_SECONDS = 20.0
_FIRST_ANSWER_SECONDS = 0.03


class PduFeed:
    """The process and what it said last. It runs while at least one of its meters is open."""

    def __init__(self, configs: Sequence[SnmpPdu]) -> None:
        self._meters = {config.name: FedPdu(self, config, len(configs)) for config in configs}
        self._configs = list(configs)
        self._open: set[str] = set()
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    def meter(self, name: str) -> "FedPdu":
        """The meter of one PDU."""
        return self._meters[name]

    async def want(self, name: str) -> None:
        """Have the process running for a meter; raises DeviceError if it cannot be started."""
        self._open.add(name)
        async with self._lock:
            if self._listener is not None and not self._listener.done():
                return
            tables = json.dumps([asdict(config) for config in self._configs], default=str)
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "slurm_power.devices.pdu_process"),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                )
            except OSError as error:
                raise DeviceError(f"{name}: the reader of PDUs does not start: {error}") from error
            assert self._process.stdin is not None
            self._process.stdin.write(tables.encode() + b"\n")
            self._listener = asyncio.create_task(self._listen(self._process))

    async def leave(self, name: str) -> None:
        """End the process with the last meter."""
        self._open.discard(name)
        if self._open:
            return
        async with self._lock:
            process, self._process = self._process, None
            if process is None or process.stdin is None:
                return
            process.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                try:
                    await asyncio.wait_for(process.wait(), _END_SECONDS)
                except TimeoutError:
                    process.kill()
                    await process.wait()
            if self._listener is not None:
                await self._listener

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._take(line)
        code = await process.wait()
        if self._open:
            log.error("the reader of PDUs ended with %d", code)
        for meter in self._meters.values():
            meter.take(f"{meter.name}: the reader of PDUs ended with {code}")

    def _take(self, line: bytes) -> None:
        try:
            answer: dict[str, Any] = json.loads(line)
            meter = self._meters[answer["name"]]
            watts = answer.get("watts")
        except (ValueError, KeyError, TypeError, AttributeError):
            log.error("the reader of PDUs said %r", line[:200])
            return
        if isinstance(watts, float | int) and math.isfinite(watts):
            meter.take(float(watts))
        else:
            meter.take(str(answer.get("error") or f"{meter.name}: no value"))


class FedPdu:
    """Implements ``ports.PowerMeter``: a reading is the next answer that has not been given out yet."""

    def __init__(self, feed: PduFeed, config: SnmpPdu, count: int) -> None:
        self.name = config.name
        self._feed = feed
        # In the first round each PDU is made known to us (SNMP v3), which costs several answers.
        self.first_round_seconds = _START_SECONDS + config.poll_seconds + count * _FIRST_ANSWER_SECONDS
        self._patience_seconds = self.first_round_seconds + config.timeout_seconds
        self._answer: float | str | None = None
        self._came = asyncio.Event()

    async def open(self) -> None:
        """Have the process running, and wait for the first answer; raises DeviceError."""
        watts = await self.read_watts()
        self.take(watts)  # for the first reading

    async def read_watts(self) -> float:
        """Return the next value in watts, towards the loads; raises DeviceError."""
        await self._feed.want(self.name)
        try:
            await asyncio.wait_for(self._came.wait(), self._patience_seconds)
        except TimeoutError:
            raise DeviceError(f"{self.name}: the reader of PDUs says nothing about it") from None
        self._came.clear()
        answer = self._answer
        if isinstance(answer, float):
            return answer
        raise DeviceError(str(answer))

    async def close(self) -> None:
        """Need it no more."""
        await self._feed.leave(self.name)

    def take(self, answer: float | str) -> None:
        """The latest value, or what is wrong."""
        self._answer = answer
        self._came.set()

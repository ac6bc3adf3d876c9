"""Energy of one item: by powerd's account of the job, by RAPL, or processor time in its place."""

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from slurm_power import clock
from slurm_power.model.tier import PowerSource
from slurm_power.tiers.evaluating.speed import settle

POLL_SECONDS = 0.2
_ANSWER_SECONDS = 2.0
_MOST_ANSWER_BYTES = 1 << 20


class MeterError(Exception):
    """An energy account cannot be read; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What an energy account says at a moment; ``gpu_count`` 0 where it has no GPUs in it."""

    joules: float
    gpu_count: int = 0
    estimated_joules: float = 0.0


class EnergyMeter(Protocol):
    """An energy account that grows. ``covers`` says whose energy it is."""

    @property
    def source(self) -> PowerSource:
        """How it is known."""

    @property
    def covers(self) -> str:
        """Whose energy it is, in words."""

    def read(self) -> Account:
        """Read it; raises MeterError."""


class PowerdMeter:
    """The job's account at the node's powerd, read by its own user through the ``status`` request."""

    source = PowerSource.NVML
    covers = "the job's GPUs, all they draw"

    def __init__(self, path: Path, job_id: str) -> None:
        self._path = path
        self._job_id = job_id

    def read(self) -> Account:
        """Ask powerd; raises MeterError: it does not answer, or knows no such job with GPUs of this user."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_ANSWER_SECONDS)
                connection.connect(str(self._path))
                connection.sendall(b'{"op":"status"}\n')
                answer = b""
                while (more := connection.recv(65536)) and len(answer) <= _MOST_ANSWER_BYTES:
                    answer += more
            said = json.loads(answer)
            jobs = said["jobs"]
            job = next((row for row in jobs if row.get("job_id") == self._job_id), None)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise MeterError(f"powerd at {self._path} does not answer as it should: {error}") from error
        if job is None or not job.get("gpus") or not isinstance(job.get("energy_joules"), int | float):
            raise MeterError(f"powerd has no GPU of job {self._job_id} on this node")
        return Account(
            joules=float(job["energy_joules"]),
            gpu_count=len(job["gpus"]),
            estimated_joules=float(job.get("estimated_joules") or 0.0),
        )


class CounterMeter:
    """A counter of this host's processors, such as RAPL's; ``read_joules`` raises what ``errors`` are."""

    source = PowerSource.RAPL
    covers = "the whole host's processors and memory, others' work included"

    def __init__(self, read_joules: Callable[[], float], errors: type[Exception]) -> None:
        self._read_joules = read_joules
        self._errors = errors

    def read(self) -> Account:
        """Read the counter; raises MeterError."""
        try:
            return Account(joules=self._read_joules())
        except self._errors as error:
            raise MeterError(str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemEnergy:
    """What one item took. ``joules_per_item`` is None by proxy: processor time is no energy.

    ``resolution_joules`` is how far off ``joules`` may be by the moments at which the account moves.
    ``watts_per_gpu`` is None unless the account is of GPUs that computed the items.
    """

    source: PowerSource
    covers: str
    items: int
    seconds: float
    cpu_seconds_per_item: float
    joules: float | None = None
    joules_per_item: float | None = None
    resolution_joules: float | None = None
    estimated_ratio: float | None = None
    watts_per_gpu: float | None = None
    note: str = ""


def powerd_meter(environment: Mapping[str, str] = os.environ) -> PowerdMeter | None:
    """Return the meter of the job that we are in; None outside of jobs that powerd knows."""
    path, job_id = environment.get("SLURM_POWER_SOCKET", ""), environment.get("SLURM_JOB_ID", "")
    return PowerdMeter(Path(path), job_id) if path and job_id else None


def measure_energy(
    model: nn.Module, batch: Tensor, meters: list[EnergyMeter], *, seconds: float, device: str
) -> ItemEnergy:
    """Let the model work on ``batch`` for ``seconds``, again and again, and read the first meter there is.

    Accounts move now and then: powerd's once a second. Only what lies between the first and the last move
    that were seen is counted, so the error is what two polls hide, and not two seconds of power.
    """
    notes = []
    for meter in meters:
        try:
            return _by_account(model, batch, meter, seconds, device)
        except MeterError as error:
            notes.append(f"{meter.source}: {error}")
    began, cpu_began, items = clock.monotonic(), time.process_time(), 0
    with torch.inference_mode():
        while not items or clock.monotonic() - began < min(seconds, 2.0):
            model(batch)
            items += len(batch)
        settle(device)
    return ItemEnergy(
        source=PowerSource.PROXY,
        covers="processor time of this process",
        items=items,
        seconds=clock.monotonic() - began,
        cpu_seconds_per_item=(time.process_time() - cpu_began) / items,
        note="; ".join([*notes, "no joules: processor time compares tiers, and is no power to plan with"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Move:
    """The account had moved when it was read at this moment, and so many items were done."""

    at_seconds: float
    cpu_seconds: float
    items: int
    account: Account


def _by_account(
    model: nn.Module, batch: Tensor, meter: EnergyMeter, seconds: float, device: str
) -> ItemEnergy:
    began = clock.monotonic()
    last, moves, items = meter.read(), list[_Move](), 0
    polled = began
    with torch.inference_mode():
        while (now := clock.monotonic()) - began < seconds:
            model(batch)
            settle(device)
            items += len(batch)
            if now - polled < POLL_SECONDS:
                continue
            polled, account = now, meter.read()
            if account.joules != last.joules:
                last = account
                moves.append(
                    _Move(
                        at_seconds=clock.monotonic(),
                        cpu_seconds=time.process_time(),
                        items=items,
                        account=account,
                    )
                )
    if len(moves) < 3:
        raise MeterError(f"its account moved {len(moves)} times in {seconds:g} s: measure longer (--seconds)")
    return _between(moves[0], moves[-1], meter, device)


def _between(first: _Move, last: _Move, meter: EnergyMeter, device: str) -> ItemEnergy:
    items, seconds = last.items - first.items, last.at_seconds - first.at_seconds
    joules = last.account.joules - first.account.joules
    if joules <= 0.0 or items <= 0:
        raise MeterError("its account went backwards: was the job requeued?")
    gpus, on_gpu = last.account.gpu_count, device.startswith("cuda")
    estimated = max(0.0, last.account.estimated_joules - first.account.estimated_joules)
    idle = gpus and not on_gpu
    return ItemEnergy(
        source=meter.source,
        covers=meter.covers,
        items=items,
        seconds=seconds,
        cpu_seconds_per_item=(last.cpu_seconds - first.cpu_seconds) / items,
        joules=joules,
        joules_per_item=joules / items,
        resolution_joules=joules / seconds * 2.0 * POLL_SECONDS,
        estimated_ratio=min(1.0, estimated / joules),
        watts_per_gpu=joules / seconds / gpus if gpus and on_gpu else None,
        note="the GPUs were held by the job but computed none of it: the model ran on the CPU"
        if idle
        else "",
    )


def as_document(energy: ItemEnergy) -> dict[str, Any]:
    """As it stands in ``evaluation.json``."""
    return {
        "source": energy.source.value,
        "covers": energy.covers,
        "joules_per_item": energy.joules_per_item,
        "cpu_seconds_per_item": energy.cpu_seconds_per_item,
        "items": energy.items,
        "seconds": energy.seconds,
        "joules": energy.joules,
        "resolution_joules": energy.resolution_joules,
        "estimated_ratio": energy.estimated_ratio,
        "watts_per_gpu": energy.watts_per_gpu,
        "note": energy.note,
    }

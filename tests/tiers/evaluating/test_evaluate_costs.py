"""Multiply-adds against arithmetic, speed, and energy accounts that move now and then."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from slurm_power import clock
from slurm_power.model.tier import PowerSource
from slurm_power.tiers.building.quantizers import quantized
from slurm_power.tiers.evaluating.energy import (
    Account,
    CounterMeter,
    MeterError,
    PowerdMeter,
    measure_energy,
    powerd_meter,
)
from slurm_power.tiers.evaluating.multiply_adds import count_multiply_adds
from slurm_power.tiers.evaluating.speed import measure_speed


class Attends(nn.Module):
    """Attention that no module of torch's does."""

    def forward(self, rows: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(rows, rows, rows)


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        (nn.Linear(6, 2), (1, 6), 12),
        (nn.Conv2d(3, 8, 3, padding=1), (1, 3, 8, 8), 8 * 8 * 8 * 3 * 9),
        (nn.Conv1d(4, 8, 3, groups=2), (1, 4, 10), 8 * 8 * 2 * 3),
        (nn.GRU(16, 32, batch_first=True), (1, 5, 16), 5 * (16 * 96 + 32 * 96)),
        (nn.LSTM(16, 32, batch_first=True), (1, 5, 16), 5 * (16 * 128 + 32 * 128)),
        (Attends(), (1, 2, 10, 8), 2 * 2 * 10 * 10 * 8),
        (
            nn.TransformerEncoderLayer(64, 4, 256, batch_first=True),
            (1, 10, 64),
            10 * (4 * 64 * 64 + 2 * 64 * 256) + 2 * 10 * 10 * 64,
        ),
    ],
    ids=["dense", "conv2d", "conv1d", "gru", "lstm", "attention", "transformer"],
)
def test_multiply_adds(model: nn.Module, shape: tuple[int, ...], expected: int) -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, inputs: Tensor) -> Tensor:
            outputs = self.inner(inputs)
            found: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
            return found

    assert count_multiply_adds(First(), torch.randn(*shape)) == expected


def test_quantized_layers_are_counted() -> None:
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    item = torch.randn(1, 32)
    assert count_multiply_adds(quantized(model, "int8"), item) == count_multiply_adds(model, item) == 2688


def test_nothing_to_count_is_unknown_and_not_zero() -> None:
    assert count_multiply_adds(nn.ReLU(), torch.randn(1, 4)) is None


class Sleeps(nn.Module):
    """Takes 2 ms of wall time for each call, whatever the batch."""

    def forward(self, rows: Tensor) -> Tensor:
        threading.Event().wait(0.002)
        return rows


def test_speed_has_latency_of_one_and_throughput_of_batches() -> None:
    speed = measure_speed(Sleeps(), torch.zeros(10, 2), seconds=0.4, device="cpu")
    assert 0.002 <= speed.latency_p50_seconds <= speed.latency_p99_seconds
    assert [batch.size for batch in speed.batches] == [1, 8, 64]
    assert speed.best.size == 64  # ten rows fill a batch of 64 by repeating
    assert speed.batches[0].items_per_second <= 500.0
    assert speed.best.cpu_seconds_per_item < 0.002
    assert speed.memory_bytes is not None and speed.memory_bytes > 10_000_000


class Steps:
    """A counter that moves 5 J at a time, each half second, as powerd's does once a second."""

    source = PowerSource.NVML
    covers = "a made-up GPU"

    def __init__(self, gpus: int = 2) -> None:
        self.began = clock.monotonic()
        self.gpus = gpus

    def read(self) -> Account:
        steps = int((clock.monotonic() - self.began) / 0.5)
        return Account(joules=100.0 + 5.0 * steps, gpu_count=self.gpus, estimated_joules=steps * 1.0)


def test_energy_is_taken_between_moves_of_the_account() -> None:
    energy = measure_energy(Sleeps(), torch.zeros(4, 2), [Steps()], seconds=2.6, device="cpu")
    assert energy.source is PowerSource.NVML
    assert energy.joules is not None and energy.joules % 5.0 == 0.0
    assert energy.joules_per_item == pytest.approx(energy.joules / energy.items)
    # Whatever the machine does meanwhile, the account is 10 W: within what two polls hide.
    assert energy.resolution_joules is not None
    assert abs(energy.joules - 10.0 * energy.seconds) <= energy.resolution_joules + 1.0
    assert energy.estimated_ratio == pytest.approx(0.2)
    assert energy.watts_per_gpu is None
    assert "computed none of it" in energy.note


def test_an_account_that_stands_still_or_is_away_gives_the_proxy() -> None:
    class Still(Steps):
        def read(self) -> Account:
            return Account(joules=7.0, gpu_count=1)

    class Away(Steps):
        def read(self) -> Account:
            raise MeterError("nobody is there")

    energy = measure_energy(Sleeps(), torch.zeros(1, 2), [Still(), Away()], seconds=0.5, device="cpu")
    assert energy.source is PowerSource.PROXY
    assert energy.joules is energy.joules_per_item is energy.watts_per_gpu is None
    assert energy.items > 0
    assert "moved 0 times in 0.5 s" in energy.note
    assert "nobody is there" in energy.note
    assert "no power to plan with" in energy.note


def test_counters_of_the_host_are_used_where_they_can_be_read() -> None:
    meter = Steps()
    counter = CounterMeter(lambda: meter.read().joules, OSError)
    energy = measure_energy(Sleeps(), torch.zeros(1, 2), [counter], seconds=1.9, device="cpu")
    assert (energy.source, energy.note) == (PowerSource.RAPL, "")


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """A socket that gives everybody the same answer."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    caller, _ = listener.accept()
                except OSError:
                    return
                with caller:
                    caller.recv(4096)
                    caller.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_what_powerd_says_of_the_job(tmp_path: Path) -> None:
    row = {"job_id": "17", "gpus": ["GPU-a", "GPU-b"], "energy_joules": 12.5, "estimated_joules": 2.0}
    with answering(tmp_path / "powerd", json.dumps({"ok": True, "jobs": [row]}).encode() + b"\n"):
        account = PowerdMeter(tmp_path / "powerd", "17").read()
        assert account == Account(joules=12.5, gpu_count=2, estimated_joules=2.0)
        with pytest.raises(MeterError, match="no GPU of job 18"):
            PowerdMeter(tmp_path / "powerd", "18").read()


@pytest.mark.parametrize("answer", [b"", b"[]\n", b'{"ok":false,"error":"x"}\n', b'{"jobs":[7]}\n', b"{"])
def test_a_powerd_that_makes_no_sense_is_a_meter_that_fails(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path / "powerd", answer), pytest.raises(MeterError, match="does not answer"):
        PowerdMeter(tmp_path / "powerd", "17").read()
    with pytest.raises(MeterError, match="does not answer"):
        PowerdMeter(tmp_path / "nobody", "17").read()


def test_outside_of_jobs_there_is_no_powerd_to_ask() -> None:
    assert powerd_meter({}) is None
    assert powerd_meter({"SLURM_JOB_ID": "17"}) is None
    assert powerd_meter({"SLURM_JOB_ID": "17", "SLURM_POWER_SOCKET": "/run/x"}) is not None

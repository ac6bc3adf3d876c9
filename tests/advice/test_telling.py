"""What a loop tells powerd of its progress, and what that may cost it: nothing."""

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from slurm_power.advice import Advice
from tests.advice.test_loop import in_thread, outside, until

__all__ = ["outside"]


class Listener:
    """A socket in powerd's place."""

    def __init__(self, path: Path, answer: bytes = b'{"ok":true}\n') -> None:
        self.words: list[dict[str, Any]] = []
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = in_thread(self._serve)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                line = connection.makefile().readline()
                if line:
                    self.words.append(json.loads(line))
                connection.sendall(self._answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


def test_what_a_loop_counts_in_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Scalars of numpy's and tensors alike are no numbers to JSON."""
    numpy = pytest.importorskip("numpy")
    monkeypatch.setenv("SLURM_POWER_SOCKET", str(tmp_path / "s"))
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    listener = Listener(tmp_path / "s")
    with Advice(global_batch=96, max_micro=48, look_seconds=0.0, ranks="alone") as advice:
        advice.start_at(numpy.int64(100))
        advice.step(samples=numpy.float32(90.0))  # as a mask is summed up
        until(lambda: len(listener.words) == 1)
        advice.step(samples=numpy.arange(3))  # no number at all
        advice.saved(102)
        advice.saved(102)
    listener.close()
    assert (listener.words[0]["step"], len(listener.words)) == (101, 1)
    assert listener.words[0]["samples_per_second"] > 0.0
    assert caplog.text.count("progress cannot be told") == 1


def test_progress_is_told_with_its_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_POWER_SOCKET", str(tmp_path / "s"))
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_PROCID", "3")
    listener = Listener(tmp_path / "s")
    start = time.monotonic()
    with Advice(global_batch=96, max_micro=48, look_seconds=0.0, ranks="alone") as advice:
        advice.start_at(100)
        advice.step(samples=90)
        until(lambda: len(listener.words) == 1)
        for _ in range(50):
            advice.step()
        advice.saved(151)
        until(lambda: len(listener.words) == 2)
    longest_seconds = time.monotonic() - start
    listener.close()
    first, second = listener.words
    assert first.pop("samples_per_second") >= 90 / longest_seconds * 0.99
    assert second.pop("samples_per_second") >= 50 * 96 / longest_seconds * 0.99
    same = {"op": "progress", "job_id": "17", "rank": 3, "global_batch": 96, "micro_batch": 48}
    same |= {"max_micro_batch": 48, "checkpoints": True}
    assert first == {**same, "step": 101, "checkpoint_step": None}
    assert second == {**same, "step": 151, "checkpoint_step": 151}


def test_what_powerd_refuses_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLURM_POWER_SOCKET", str(tmp_path / "s"))
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    listener = Listener(tmp_path / "s", b'{"ok":false,"error":"job_id: no job of yours"}\n')
    with Advice() as advice:
        advice.step()
        for count in range(1, 4):
            advice.saved(count)
            until(lambda count=count: len(listener.words) == count)  # type: ignore[misc] # bound by default
            time.sleep(0.02)  # lets the answer come: one that does not is no matter
    listener.close()
    assert caplog.text.count("job_id: no job of yours") == 1


def test_a_dead_powerd_is_no_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_POWER_SOCKET", str(tmp_path / ("long" * 40)))
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with Advice(look_seconds=0.0) as advice:
        assert [advice.step() for _ in range(3)] == [False] * 3
        advice.saved(3)

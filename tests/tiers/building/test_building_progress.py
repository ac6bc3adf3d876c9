"""Bars on terminals, lines elsewhere; torch's threads in a job."""

import io

import pytest
import torch

from slurm_power.tiers.building.build import use_threads
from slurm_power.tiers.building.progress import progress_on


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO) -> str:
    with progress_on(stream) as progress:
        progress.begin("epoch", 3, 1)
        progress.step(0.5)
        progress.part("loss 0.25")
        progress.note("a [note]")
    return stream.getvalue()


def test_lines_where_nobody_watches() -> None:
    assert shown(io.StringIO()) == "epoch 2/3: loss 0.25\na [note]\n"


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    text = shown(Terminal())
    assert "2/3" in text
    assert "loss 0.25" in text
    assert "a [note]" in text
    assert "\x1b[" in text


def test_a_job_uses_its_processors_unless_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
        assert use_threads() == 2
        torch.set_num_threads(1)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert use_threads() == 1
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "")
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        assert use_threads() == 1
    finally:
        torch.set_num_threads(before)

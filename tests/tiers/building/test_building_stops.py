"""A build that a signal stops goes on with the same command, and ends with the weights of one left alone."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm_power.tiers.building.artifact import read_description
from slurm_power.tiers.building.fit import Recipe
from slurm_power.tiers.building.full import full
from tests.tiers.building.conftest import BLOBS, order_in

BUILD = [sys.executable, "-c", "from slurm_power.cli.commands.tiers.tiers_build import build; build()"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(folder: Path, method: str, tier: str, *more: str) -> list[str]:
    output = str(folder / tier)
    return [*BUILD, method, BLOBS, "--family=blobs", f"--tier={tier}", f"--output={output}", *more]


def begun(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(words, env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def until_said(process: subprocess.Popen[str], what: str, seconds: float = 60.0) -> list[str]:
    """Read what it says, line by line, until a line begins with ``what``."""
    assert process.stderr is not None
    lines, end = [], time.monotonic() + seconds
    for line in process.stderr:
        lines.append(line)
        if line.startswith(what):
            return lines
        assert time.monotonic() < end, lines
    raise AssertionError(f"it ended without {what!r}: {lines}")


def done(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR2, 85)]
)
def test_what_a_signal_asks_for(number: signal.Signals, status: int) -> None:
    """The second signal does not wait for the next step."""
    program = (
        "import sys\nfrom slurm_power.tiers.building.ending import Stopped, StopWish\n"
        "with StopWish() as stop:\n print('ready', file=sys.stderr, flush=True)\n try:\n"
        "  while True: stop.check()\n"
        " except Stopped as stopped:\n  print(stopped.exit_status, file=sys.stderr, flush=True)\n"
        "  while True: pass\n"
    )
    process = begun([sys.executable, "-c", program])
    until_said(process, "ready")
    process.send_signal(number)
    until_said(process, str(status))
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == -number


def test_a_stopped_build_ends_as_one_left_alone(tmp_path: Path) -> None:
    options = ("--epochs=40", "--batch-size=16")
    process = begun(command(tmp_path, "full", "a", *options))
    until_said(process, "epoch 2/40")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped by SIGINT: the same command goes on" in said
    assert not (tmp_path / "a").exists()
    resumed = done(command(tmp_path, "full", "a", *options))
    assert resumed.returncode == 0, resumed.stderr
    found = re.search(r"goes on after epoch (\d+) of 40", resumed.stderr)
    assert found is not None
    assert int(found[1]) >= 2
    alone = full(order_in(tmp_path, "b"), recipe=Recipe(epochs=40, batch_size=16))
    assert len((tmp_path / "a" / "training.jsonl").read_text().splitlines()) == 40
    sums = {read_description(folder).weights_sha256 for folder in (tmp_path / "a", alone.directory)}
    assert len(sums) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_stopped_search_keeps_its_trials(tmp_path: Path) -> None:
    words = command(
        tmp_path, "search", "nas", "--floor=0.5", "--trials=5", "--trial-epochs=30", "--epochs=30"
    )
    process = begun(words)
    until_said(process, "trial 2/5")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    resumed = done(words)
    assert resumed.returncode == 0, resumed.stderr
    assert "trial 2/5" not in resumed.stderr
    assert "trial 5/5" in resumed.stderr


@pytest.mark.slow
def test_processes_share_a_search(tmp_path: Path) -> None:
    """One is killed in a trial, two go on: one of them trains the result, and no trial is lost."""
    words = command(
        tmp_path, "search", "nas", "--floor=0.5", "--trials=7", "--trial-epochs=30", "--epochs=30", "--shared"
    )
    killed = begun(words)
    until_said(killed, "trial 1/7")
    killed.kill()
    killed.communicate(timeout=60)
    both = [begun(words) for _ in range(2)]
    said = [process.communicate(timeout=100)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert (tmp_path / "nas" / "tier.json").is_file()
    log = (tmp_path / "nas" / "training.jsonl").read_text()
    assert log.count('"state": "complete"') + log.count('"state": "pruned"') >= 7
    late = done(words)
    assert (late.returncode, late.stdout) == (0, f"blobs/nas is in {tmp_path / 'nas'} already\n")

"""There is always a whole checkpoint, whenever and however its writer ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm_power.advice import atomic_file

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from slurm_power.advice import atomic_file
number = 1
while True:
    with atomic_file(sys.argv[1]) as file:
        for _ in range(64):
            file.write(bytes([number % 256]) * 65536)
    print(number, flush=True)
    number += 1
"""


def test_killed_in_the_middle_of_writing_the_old_one_stays_whole(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    for trial in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE, cwd=ROOT, text=True
        )
        assert writer.stdout is not None
        whole = int(writer.stdout.readline())
        deadline = time.monotonic() + 0.01 * trial
        while time.monotonic() < deadline:
            time.sleep(0.001)
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate()
        whole = int(rest.split()[-1]) if rest.split() else whole
        data = target.read_bytes()
        assert len(data) == 64 * 65536
        # The one it has told of, or the next: that may have been in place already.
        assert set(data) in ({whole % 256}, {(whole + 1) % 256})
        assert len(list(tmp_path.iterdir())) <= 2, "one unfinished file at most, however often it is killed"
    with atomic_file(target) as file:
        file.write(b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]


def test_a_block_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="no memory"), atomic_file(target) as file:
        file.write(b"half")
        raise RuntimeError("no memory")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("checkpoint", b"old")]


def test_two_ranks_with_one_path_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "checkpoint"
    with atomic_file(target) as first:
        first.write(b"1" * 10)
        monkeypatch.setenv("SLURM_PROCID", "1")
        with atomic_file(target) as second:
            second.write(b"2" * 20)
        assert target.read_bytes() == b"2" * 20
    assert target.read_bytes() == b"1" * 10


def test_a_folder_that_takes_nothing_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError), atomic_file(tmp_path / "missing" / "checkpoint"):
        pass
    full = Path("/dev/full")
    if full.exists() and os.geteuid() == 0:
        (tmp_path / ".checkpoint.0.new").symlink_to(full)
        with pytest.raises(OSError, match="No space left"), atomic_file(tmp_path / "checkpoint") as file:
            file.write(b"x" * 1_000_000)
        assert not (tmp_path / "checkpoint").exists()

"""Files that commands write: whole or not at all, with the rights that their user's files have."""

import os
import resource
import signal
from pathlib import Path

import pytest

from slurm_power.cli.commands.out_file import out_problems, whole_file


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with whole_file(out) as file:
        file.write("half")
        file.flush()
        assert not out.exists()
    assert out.read_text() == "half"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_what_breaks_off_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("before")
    with pytest.raises(KeyboardInterrupt), whole_file(out) as file:
        file.write("half")
        raise KeyboardInterrupt
    assert out.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_a_full_disk_leaves_nothing_half(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    out = tmp_path / "out.csv"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"), whole_file(out) as file:
            file.write("x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list(tmp_path.iterdir())


def test_its_rights_are_the_users(tmp_path: Path) -> None:
    """Rows of jobs name users: who keeps files private keeps these private too."""
    before = os.umask(0o077)
    try:
        with whole_file(tmp_path / "out.csv") as file:
            file.write("x")
    finally:
        os.umask(before)
    assert (tmp_path / "out.csv").stat().st_mode & 0o777 == 0o600


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real.csv").write_text("before")
    (tmp_path / "out.csv").symlink_to(tmp_path / "there" / "real.csv")
    with whole_file(tmp_path / "out.csv") as file:
        file.write("x")
        assert (tmp_path / "there" / "real.csv").read_text() == "before"
    assert (tmp_path / "out.csv").is_symlink()
    assert (tmp_path / "there" / "real.csv").read_text() == "x"


def test_a_pipe_is_written_into() -> None:
    reads, writes = os.pipe()
    with whole_file(Path(f"/proc/self/fd/{writes}")) as file:
        file.write("x")
    os.close(writes)
    with os.fdopen(reads) as end:
        assert end.read() == "x"


def test_a_full_device_is_told() -> None:
    with pytest.raises(OSError, match="No space left"), whole_file(Path("/dev/full")) as file:
        file.write("x" * 100_000)


def test_problems_are_told_before_anything_is_whole_file(tmp_path: Path) -> None:
    read = tmp_path / "in.csv"
    read.write_text("x")
    found = out_problems(
        {"--out": read, "--more": tmp_path / "no" / "a.csv", "--third": tmp_path, "--none": None}, [read]
    )
    assert [problem.split(":")[0] for problem in found] == ["--out", "--more", "--third"]
    assert [problem.split(":")[0] for problem in out_problems({"--out": read}, [f"{read}#label", None])] == [
        "--out"
    ]
    same = {"--out": tmp_path / "a.csv", "--more": tmp_path / "." / "a.csv"}
    assert out_problems(same, []) == [
        f"--more: {tmp_path / 'a.csv'} is written by --out already; write to another file"
    ]
    assert not out_problems({"--out": tmp_path / "a.csv", "--more": Path("/dev/null")}, [read])

"""Files that a command writes: whole or not there."""

from pathlib import Path

import pytest

from slurm_power.cli.commands.out_file import out_problems, whole_file


def test_a_file_that_broke_off_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("before")
    with pytest.raises(OSError, match="disk is full"), whole_file(path) as file:
        file.write("half")
        file.flush()
        raise OSError("disk is full")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_whole_file_takes_its_place_behind_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "out.csv", tmp_path / "link.csv"
    path.write_text("before")
    link.symlink_to(path)
    with whole_file(link) as file:
        file.write("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after" and link.is_symlink()


def test_what_is_no_file_is_written_to_as_it_is() -> None:
    with pytest.raises(OSError, match="No space left"), whole_file(Path("/dev/full")) as file:
        file.write("x" * 100_000)


def test_each_file_that_cannot_be_is_told(tmp_path: Path) -> None:
    source = tmp_path / "rates.json"
    source.write_text("{}")
    found = out_problems(
        {"--a": tmp_path, "--b": tmp_path / "no" / "x", "--c": source, "--d": tmp_path / "y", "--e": None},
        [f"{source}#label", None],
    )
    assert [problem.split(":")[0] for problem in found] == ["--a", "--b", "--c"]
    assert out_problems({"--d": tmp_path / "y", "--f": tmp_path / "." / "y"}, []) == [
        f"--f: {tmp_path / 'y'} is written by --d already; write to another file"
    ]

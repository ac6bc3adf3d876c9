"""The file for job_submit.lua: its form, what is left out of it, and how it is written."""

import os
from pathlib import Path

from slurm_power.forecast.job_power import LearnedLevel
from slurm_power.slurm.admission_file import FORM, file_text, write_file


def level(user: str, name: str = "x", watts: float = 400.0) -> LearnedLevel:
    return LearnedLevel(kind="name", words=(user, "training", "", name), watts=watts)


def entries(text: str) -> list[str]:
    return text.partition("\n\n")[2].splitlines()


def test_head_entries_and_stamp() -> None:
    text = file_text({"licence": "watts", "total": 5, "factor": 1.25}, {"training": 650.0}, [level("bob")])
    head, rest = text.split("\n", 1)
    assert head.startswith(f"{FORM} ")
    assert rest == (
        "licence\twatts\ntotal\t5\nfactor\t1.25\nclass\ttraining\t650\n\nname\tbob\ttraining\t\tx\t400\n"
    )
    other = file_text({"licence": "watts", "total": 6, "factor": 1.25}, {"training": 650.0}, [level("bob")])
    assert other.split("\n", 1)[0] != head


def test_entries_are_sorted_by_bytes() -> None:
    found = entries(file_text({}, {}, [level("b"), level("B"), level("a"), level("a-b"), level("ab")]))
    assert found == sorted(found, key=str.encode)
    assert [line.split("\t")[1] for line in found] == ["B", "a", "a-b", "ab", "b"]


def test_what_could_be_misread_is_left_out() -> None:
    bad = [level("a\tb"), level("a\nb"), level("café"), level("a", "x" * 500), level("a", "\x00")]
    assert entries(file_text({}, {}, [*bad, level("good")])) == ["name\tgood\ttraining\t\tx\t400"]


def test_a_draw_below_nothing_is_nothing() -> None:
    assert entries(file_text({}, {}, [level("a", watts=-3.0)])) == ["name\ta\ttraining\t\tx\t0"]


def test_the_earliest_go_where_there_are_too_many() -> None:
    many = [level(f"user{number:06}", "n" * 300) for number in range(12_000)]
    text = file_text({}, {}, many)
    assert len(text) < 4 * 1024 * 1024
    found = entries(text)
    assert found[-1].startswith("name\tuser011999\t")
    assert not found[0].startswith("name\tuser000000\t")


def test_written_whole_readable_and_only_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "admission" / "expected_watts"
    before = os.umask(0o077)
    try:
        assert write_file(file, "one\n")
    finally:
        os.umask(before)
    assert not write_file(file, "one\n")
    assert write_file(file, "two\n")
    assert file.read_text() == "two\n"
    assert file.stat().st_mode & 0o777 == 0o644
    assert file.parent.stat().st_mode & 0o777 == 0o755
    assert [one.name for one in file.parent.iterdir()] == ["expected_watts"]

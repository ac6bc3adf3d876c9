"""Leases of paused jobs on a node: on disk before they count, over only when Slurm says so."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power import clock
from slurm_power.node.pauses import FILE_NAME, JOB_ID, MAX_JOBS, PausedJobs, let_go_on, resume_by_scontrol
from slurm_power.node.requests import pause_of
from slurm_power.wire import WireError


class Bench:
    """``answers`` are what Slurm says, one a call, the last for ever."""

    def __init__(self, directory: Path, *answers: str) -> None:
        self.directory, self.asked, self._answers = directory, list[str](), list(answers or ("",))
        self.paused = PausedJobs(directory, self.resume, lambda: None)

    def resume(self, job_id: str) -> str:
        self.asked.append(job_id)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def events(self, now_seconds: float) -> list[tuple[str, str]]:
        """Look twice, with time between for the thread that resumes."""
        found = self.paused.step(now_seconds)
        deadline = time.monotonic() + 5.0
        while threading.active_count() > 1 and time.monotonic() < deadline and not self.settled():
            time.sleep(0.005)
        return [(one.job_id, one.event) for one in (*found, *self.paused.step(now_seconds))]

    def settled(self) -> bool:
        return not self.paused._running or bool(self.paused._done)

    def stored(self) -> list[str]:
        return [row["job_id"] for row in json.loads((self.directory / FILE_NAME).read_text())["paused"]]


def test_a_lease_is_on_disk_when_it_is_said_to_be_held(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    said = bench.paused.take("17", 60.0, 0.0)
    assert said is not None
    assert said.event == "held"
    assert bench.stored() == ["17"]


def test_one_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "nowhere")
    said = bench.paused.take("17", 60.0, 0.0)
    assert said is not None
    assert said.event == "refused"
    assert bench.paused.count == 0


def test_what_is_not_renewed_is_resumed_and_what_is_renewed_is_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.paused.take("17", 60.0, 0.0)
    bench.paused.take("18", 60.0, 0.0)
    assert bench.events(59.0) == []
    bench.paused.take("18", 60.0, 59.0)
    assert bench.events(60.0) == [("17", "resumed")]
    assert bench.asked == ["17"]
    assert bench.stored() == ["18"]
    assert bench.paused.next_seconds() == 119.0


def test_an_ended_lease_resumes_nobody(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.paused.take("17", 60.0, 0.0)
    assert bench.paused.take("17", 0.0, 1.0) is None
    assert bench.events(1e6) == []
    assert bench.asked == []
    assert bench.stored() == []


def test_slurm_that_does_not_answer_is_asked_again_ever_more_seldom(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "no answer", "no answer", "")
    bench.paused.take("17", 1.0, 0.0)
    assert bench.events(1.0) == [("17", "failed")]
    assert bench.events(1.5) == []
    assert bench.events(2.0) == [("17", "failed")]
    assert bench.events(3.9) == []
    assert bench.stored() == ["17"]
    assert bench.events(4.0) == [("17", "resumed")]
    assert bench.paused.count == 0


def test_a_restart_takes_over_and_a_boot_ends(tmp_path: Path) -> None:
    first = Bench(tmp_path)
    now_seconds = clock.monotonic()
    first.paused.take("17", 60.0, now_seconds)
    second = Bench(tmp_path)
    assert second.paused.load() == 1
    assert second.paused.next_seconds() == pytest.approx(now_seconds + 60.0)
    file = tmp_path / FILE_NAME
    file.write_text(file.read_text().replace('"boot_id": "', '"boot_id": "not-'))
    third = Bench(tmp_path)
    assert third.paused.load() == 1
    assert third.events(now_seconds) == [("17", "resumed")]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"paused": 3, "boot_id": ""}', '{"paused": [{"job_id": "1"}]}']
)
def test_a_damaged_file_stops_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    assert Bench(tmp_path).paused.load() == 0


def test_who_outlives_powerd_waits_for_the_end_and_resumes(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.paused.take("17", 0.3, clock.monotonic())
    began = time.monotonic()
    assert let_go_on(bench.paused, lambda: True, threading.Event())
    assert bench.asked == ["17"]
    assert time.monotonic() - began >= 0.3


def test_who_outlives_powerd_leaves_it_to_the_next_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.paused.take("17", 60.0, clock.monotonic())
    assert not let_go_on(bench.paused, lambda: False, threading.Event())
    assert bench.asked == []


def test_no_more_leases_than_a_node_could_have(tmp_path: Path) -> None:
    writes: list[str] = []
    bench = Bench(tmp_path)
    bench.paused._store = lambda ends: writes.append(str(len(ends)))  # type: ignore[method-assign]  # fsync is slow
    for number in range(MAX_JOBS):
        bench.paused.take(str(number), 60.0, 0.0)
    said = bench.paused.take("999", 60.0, 0.0)
    assert said is not None
    assert said.event == "refused"


@pytest.mark.parametrize(
    ("said", "status", "error"),
    [
        ("", 0, ""),
        ("Job is not suspended", 1, ""),
        ("slurm_suspend error: Invalid job id specified", 1, ""),
        (
            "Unable to contact slurm controller (connect failure)",
            1,
            "scontrol: Unable to contact slurm controller",
        ),
    ],
)
def test_what_scontrol_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, status: int, error: str
) -> None:
    script = tmp_path / "scontrol"
    script.write_text(
        f'#!/bin/sh\necho "$@ $SLURM_CONF" > {tmp_path}/words\necho "{said}" >&2\nexit {status}\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert resume_by_scontrol(Path("/etc/x.conf"))("17").startswith(error or "")
    assert bool(resume_by_scontrol(Path("/etc/x.conf"))("17")) == bool(error)
    assert (tmp_path / "words").read_text() == "resume 17 /etc/x.conf\n"


@given(st.text(max_size=12))
def test_only_numbers_become_a_word_of_a_command(text: str) -> None:
    message = {"type": "pause", "job_id": text, "seconds": 5.0}
    if JOB_ID.fullmatch(text):
        assert pause_of(message).job_id == text
    else:
        with pytest.raises(WireError):
            pause_of(message)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), "5", None, 3601.0, True])
def test_a_lease_has_a_length(seconds: object) -> None:
    with pytest.raises(WireError):
        pause_of({"job_id": "17", "seconds": seconds})


def test_an_end_is_no_length() -> None:
    assert pause_of({"job_id": "17", "seconds": 0}).seconds == 0.0
    _: Callable[[str], str] = resume_by_scontrol(None)

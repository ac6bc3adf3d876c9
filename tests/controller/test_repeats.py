"""What nodes say over and over fills no ledger, and nothing that was said is lost from its counts."""

from pathlib import Path

import pytest

from slurm_power.controller.records.recorder import Recorder
from slurm_power.controller.sensing.node_desk import NodeDesk
from slurm_power.controller.sensing.repeats import MOST_KINDS, QUIET_SECONDS, Repeats
from slurm_power.plan.policy import Policy
from slurm_power.store.sqlite import SqliteStore
from slurm_power.telemetry import SiteTelemetry
from slurm_power.wire import Message
from tests.plan.situations import site

DRIFT: Message = {
    "type": "lease_event",
    "event": "drifted",
    "lease_id": "17@c1-0",
    "uuid": "c1-0",
    "job_id": "17",
    "cap_watts": 400.0,
    "detail": "somebody else wrote the limit",
}


class Desk:
    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "s.sqlite")
        self.desk = NodeDesk(
            SiteTelemetry(site(), {}),
            Recorder(self.store, Policy()),
            known_lease=lambda _: True,
            release=lambda _node, _leases: None,
            on_news=lambda: None,
        )

    def reasons(self) -> list[str]:
        return [entry.reason for entry in self.store.entries()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_fight_for_a_limit_is_one_entry_and_then_a_count(desk: Desk) -> None:
    for _ in range(100):
        desk.desk.take("c1", dict(DRIFT))
        desk.desk.take("c1", {**DRIFT, "event": "repaired", "detail": ""})
    desk.desk.take("c1", {**DRIFT, "uuid": "c1-1"})
    assert desk.reasons() == ["somebody else wrote the limit", "repaired", "somebody else wrote the limit"]
    desk.desk.flush({}, everything=True)
    assert desk.reasons()[3:] == [
        "somebody else wrote the limit (99 times more within 0 s)",
        "repaired (99 times more within 0 s)",
    ]


def test_counts_come_after_the_quiet_time_and_end_with_what_they_count() -> None:
    repeats, written = Repeats(), list[str]()
    for second in range(3):
        repeats.tell("c1", ("drifted", "c1-0"), written.append, float(second))
    repeats.flush(QUIET_SECONDS - 1.0)
    assert written == [""]
    repeats.flush(QUIET_SECONDS)
    assert written == ["", " (2 times more within 600 s)"]
    repeats.flush(2 * QUIET_SECONDS)  # quiet since: the next is a first time again
    repeats.tell("c1", ("drifted", "c1-0"), written.append, 2 * QUIET_SECONDS)
    assert written[2:] == [""]


def test_a_node_that_invents_new_things_for_ever_is_bounded() -> None:
    repeats, written = Repeats(), list[str]()
    for number in range(10 * MOST_KINDS):
        repeats.tell("c1", ("drifted", number), written.append, 0.0)
    assert len(written) == MOST_KINDS + 1
    repeats.tell("c2", ("drifted", 0), written.append, 0.0)
    assert len(written) == MOST_KINDS + 2


def test_nonsense_of_a_node_is_cut_to_size(desk: Desk) -> None:
    desk.desk.take("c1", {**DRIFT, "cap_watts": ["x" * 1000], "detail": "\x1b[31m" + "x" * 100_000})
    desk.desk.take("c1", {**DRIFT, "event": "verified", "cap_watts": {"no": "number"}})
    desk.desk.flush({}, everything=True)
    drift, verified = desk.store.entries()
    assert drift.reason.startswith("?[31mx")
    assert len(drift.reason) == 300
    assert drift.details == {"cap_watts": None, "requested_watts": None, "enforced_watts": None}
    assert verified.reason == "1 GPUs on c1: read back as set"


def test_a_clock_lock_is_told_in_megahertz(desk: Desk) -> None:
    lock = {
        "type": "lease_event",
        "uuid": "c1-0",
        "job_id": "17",
        "lever": "clock_lock",
        "lock_hertz": 1.395e9,
    }
    desk.desk.take("c1", {**lock, "event": "verified", "enforced_hertz": 1.38e9})
    desk.desk.take("c1", {**lock, "event": "restored", "lock_hertz": None, "enforced_hertz": None})
    desk.desk.take("c1", {**lock, "event": "drifted", "enforced_hertz": 1.9e9, "detail": "faster"})
    desk.desk.flush({}, everything=True)
    drift, verified, restored = desk.store.entries()
    assert drift.details == {"lock_hertz": 1.395e9, "enforced_hertz": 1.9e9}
    assert verified.reason == "1 GPUs on c1 at 1395 MHz: read back as set"
    assert restored.reason == "1 GPUs on c1: restored and read back"


def test_a_stranger_on_a_free_gpu_is_the_business_of_its_job(desk: Desk) -> None:
    stranger: Message = {"type": "stranger", "uuid": "c1-0", "pid": 4711, "uid": 1000, "job_id": None}
    desk.desk.take("c1", {**stranger, "of_job_id": "17", "detail": "process 4711 of job 17 computes on c1-0"})
    assert [entry.job_id for entry in desk.store.entries()] == ["17"]
    assert list(desk.store.rows(visible_to="bob")) == []

"""The controller's side of a prolog that waits: who is told what, and what the ledger says of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from slurm_power import clock
from slurm_power.controller.levers.prolog_desk import LISTED_SECONDS, PrologDesk
from slurm_power.model.job import Flex, Job, JobState
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.policy import Policy
from slurm_power.wire import Message
from tests.plan.situations import running, site, situation

# A job of one node of eight GPUs adds 6.4 kW: 12.8 s of the ramp.
POLICY = Policy(start_ramp_watts_per_second=500.0, prolog_wait_seconds=60.0)


@dataclass
class Bench:
    """A desk, its clock, and what it said."""

    desk: PrologDesk
    now_seconds: float = 1000.0
    sent: list[tuple[str, Message]] = field(default_factory=list)
    notes: list[tuple[str, str, str]] = field(default_factory=list)

    def seconds(self, node: str, job_id: str) -> list[Any]:
        """What a node was told about a job, in order."""
        return [
            message["seconds"]
            for to, message in self.sent
            if to == node and message["type"] == "prolog_wait" and message["job_id"] == job_id
        ]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = bench_of(POLICY)
    monkeypatch.setattr(clock, "monotonic", lambda: made.now_seconds)
    yield made


def bench_of(policy: Policy) -> Bench:
    sent: list[tuple[str, Message]] = []
    notes: list[tuple[str, str, str]] = []

    def note(actor: str, kind: str, subject: str, reason: str, **more: Any) -> None:
        assert actor == "controller"
        assert more["job_id"] == subject.removeprefix("job:")
        notes.append((kind, subject, reason))

    def send(node: str, message: Message) -> bool:
        sent.append((node, message))
        return True

    return Bench(PrologDesk(policy, note=note, send=send), sent=sent, notes=notes)


def starting(job_id: str, node: str) -> Job:
    job = running(job_id, (node,), flex=Flex.FLEX2, state=JobState.STARTING, started_seconds_ago=0.0)
    return replace(job, time_limit_seconds=86_400.0)


def parted(*jobs: Job) -> Snapshot:
    """The site while these jobs' prologs run, on GPUs in MIG mode."""
    watts = {job.job_id: 75.0 for job in jobs}
    found = situation(of=site(with_ess=False, grid_limit_watts=90_000.0), jobs=jobs, gpu_watts=watts)
    nodes = {
        name: replace(
            node, sums={}, gpus={uuid: replace(one, mig_enabled=True) for uuid, one in node.gpus.items()}
        )
        for name, node in found.nodes.items()
    }
    return replace(found, nodes=nodes)


def test_nodes_ask_only_where_there_is_a_ramp_to_wait_for(bench: Bench) -> None:
    bench.desk.node_changed("c1", connected=True)
    assert bench.sent == [("c1", {"type": "prolog_waits", "seconds": 60.0})]
    for policy in (Policy(prolog_wait_seconds=60.0), replace(POLICY, prolog_wait_seconds=0.0)):
        other = bench_of(policy)
        other.desk.node_changed("c1", connected=True)
        other.desk.asked("c1", "1")
        assert other.sent == [("c1", {"type": "prolog_wait", "job_id": "1", "seconds": 0.0})]


def test_the_second_start_waits_until_the_ramp_has_caught_up(bench: Bench) -> None:
    one, two = starting("1", "c1"), starting("2", "c2")
    bench.desk.asked("c1", "1")
    bench.desk.asked("c2", "2")
    bench.desk.follow(parted(one, two), enabled=True)
    assert bench.seconds("c1", "1") == [0.0]
    assert bench.seconds("c2", "2") == [60.0]
    bench.now_seconds += 12.0
    bench.desk.follow(parted(one, two), enabled=True)
    assert bench.seconds("c2", "2") == [60.0]
    bench.desk.asked("c3", "2")
    assert bench.seconds("c3", "2") == [48.0], "another node of it waits for what is left"
    bench.now_seconds += 1.0
    bench.desk.follow(parted(one, two), enabled=True)
    assert bench.seconds("c2", "2") == [60.0, 0.0]
    assert bench.seconds("c3", "2") == [48.0, 0.0]
    (begun, over) = bench.notes
    assert begun[:2] == ("prolog wait", "job:2")
    assert over == ("prolog go", "job:2", "its start waited 13 s in the prolog for the site's ramp")
    bench.desk.asked("c2", "2")
    assert bench.seconds("c2", "2") == [60.0, 0.0, 0.0], "its second prolog does not wait again"


def test_the_bound_comes_before_the_ramp(bench: Bench) -> None:
    jobs = [starting(str(number), "c1") for number in range(1, 8)]
    for job in jobs:
        bench.desk.asked("c1", job.job_id)
    for _ in range(62):
        bench.desk.follow(parted(*jobs), enabled=True)
        bench.now_seconds += 1.0
    assert all(bench.seconds("c1", job.job_id)[-1] == 0.0 for job in jobs)
    assert any("its time was over before its turn came" in reason for _, _, reason in bench.notes)


def test_a_job_that_nobody_knows_is_let_go_before_its_node_gives_up(bench: Bench) -> None:
    bench.desk.asked("c1", "9")
    bench.desk.follow(parted(), enabled=True)
    assert bench.sent == []
    bench.now_seconds += LISTED_SECONDS + 0.05
    bench.desk.follow(parted(), enabled=True)
    assert bench.seconds("c1", "9") == [0.0]
    assert bench.notes == []


def test_a_word_that_would_come_too_late_is_go(bench: Bench) -> None:
    jobs = starting("8", "c2"), starting("9", "c1")
    bench.desk.asked("c2", "8")
    bench.desk.follow(parted(*jobs), enabled=True)
    bench.desk.asked("c1", "9")
    bench.now_seconds += 1.2
    bench.desk.follow(parted(*jobs), enabled=True)
    assert bench.seconds("c1", "9") == [0.0], "its node has given up, or is about to"
    assert bench.notes == []


def test_the_list_is_waited_for_since_only_it_tells_what_was_promised(bench: Bench) -> None:
    first, listed = starting("1", "c1"), starting("2", "c2")
    told_by_its_node = replace(listed, name="")
    bench.desk.asked("c1", "1")
    bench.desk.follow(parted(first), enabled=True)
    bench.desk.asked("c2", "2")
    bench.desk.follow(parted(first, told_by_its_node), enabled=True)
    assert bench.seconds("c2", "2") == []
    bench.now_seconds += 0.4
    bench.desk.follow(parted(first, replace(listed, max_hold_seconds=0.0)), enabled=True)
    assert bench.seconds("c2", "2") == [0.0], "its user lets nobody hold it"


def test_a_list_that_is_late_still_ends_a_wait_beyond_the_promise(bench: Bench) -> None:
    first, listed = starting("1", "c1"), starting("2", "c2")
    bench.desk.asked("c1", "1")
    bench.desk.follow(parted(first), enabled=True)
    bench.desk.asked("c2", "2")
    bench.now_seconds += LISTED_SECONDS
    bench.desk.follow(parted(first, replace(listed, name="")), enabled=True)
    assert bench.seconds("c2", "2") == [pytest.approx(60.0 - LISTED_SECONDS)]
    bench.now_seconds += 1.0
    bench.desk.follow(parted(first, replace(listed, max_hold_seconds=25.0)), enabled=True)
    assert len(bench.seconds("c2", "2")) == 1
    bench.now_seconds += 4.0
    bench.desk.follow(parted(first, replace(listed, max_hold_seconds=25.0)), enabled=True)
    assert bench.seconds("c2", "2")[-1] == 0.0
    assert bench.notes[-1][2].endswith("it was promised to wait no longer")


def test_who_can_be_capped_does_not_wait(bench: Bench) -> None:
    jobs = (starting("1", "c1"), starting("2", "c2"))
    bench.desk.asked("c1", "1")
    bench.desk.asked("c2", "2")
    grid = site(with_ess=False, grid_limit_watts=90_000.0)
    bench.desk.follow(situation(of=grid, jobs=jobs, gpu_watts={"1": 75.0, "2": 75.0}), enabled=True)
    assert (bench.seconds("c1", "1"), bench.seconds("c2", "2")) == ([0.0], [0.0])
    assert bench.notes == []


@pytest.mark.parametrize("how", ["off", "gone", "node lost"])
def test_a_wait_ends_with_its_reason(bench: Bench, how: str) -> None:
    one, two = starting("1", "c1"), starting("2", "c2")
    bench.desk.asked("c1", "1")
    bench.desk.asked("c2", "2")
    bench.desk.follow(parted(one, two), enabled=True)
    bench.now_seconds += 2.0
    if how == "node lost":
        bench.desk.node_changed("c2", connected=False)
    else:
        bench.desk.follow(parted(one) if how == "gone" else parted(one, two), enabled=how != "off")
        assert bench.seconds("c2", "2")[-1] == 0.0
    assert bench.notes[-1][:2] == ("prolog go", "job:2")
    assert "waits in the prolog no more" in bench.notes[-1][2]

"""What a running job is told: all who speak to it in one word, said again, and taken back."""

from dataclasses import replace

import pytest

from slurm_power.controller.tiers.advice_book import AdviceBook, Word
from slurm_power.model.action import AdviseBatch
from slurm_power.model.job import JobState
from slurm_power.model.site import LimitKind
from slurm_power.wire import Message
from tests.plan.situations import AT, running

JOB = running("1", ("c1", "c2"))
SMALLER = AdviseBatch(job_id="1", micro_batch=16, kind=LimitKind.ECONOMIC, reason="the grid is full")


class Bench:
    """A book, and nodes that hear."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Message]] = []
        self.deaf: set[str] = set()
        self.book = AdviceBook(self._send)

    def _send(self, node: str, message: Message) -> bool:
        self.sent.append((node, message))
        return node not in self.deaf

    def told(self, at: float, job: object = JOB) -> list[tuple[object, object, object]]:
        """What each node is told in a cycle."""
        self.sent.clear()
        self.book.follow({} if job is None else {"1": job}, at)  # type: ignore[dict-item]  # a job
        return [(word["micro_batch"], word["action"], word["ttl_seconds"]) for _, word in self.sent]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_word_is_said_to_all_nodes_again_in_time_and_taken_back(bench: Bench) -> None:
    assert bench.book.took(SMALLER, AT)
    assert not bench.book.took(SMALLER, AT)
    assert bench.told(0.0) == [(16, None, 30.0)] * 2
    assert bench.told(9.0) == []
    assert bench.told(10.0) == [(16, None, 30.0)] * 2
    assert bench.book.took(replace(SMALLER, micro_batch=None), AT)
    assert bench.told(11.0) == [(None, None, 0.0)] * 2
    assert bench.told(30.0) == []


def test_a_node_that_has_not_heard_is_told_at_the_next_look(bench: Bench) -> None:
    bench.book.took(SMALLER, AT)
    bench.deaf = {"c2"}
    bench.told(0.0)
    bench.deaf = set()
    assert len(bench.told(1.0)) == 2
    assert bench.told(2.0) == []


def test_the_smaller_batch_counts_and_the_word_to_save_before_all(bench: Bench) -> None:
    bench.book.took(SMALLER, AT)
    bench.book.user_says("1", Word(reason="alice", until_seconds=100.0, micro_batch=8, action="pause"))
    assert bench.told(0.0)[0][:2] == (8, "pause")
    bench.book.user_says("1", Word(reason="alice", until_seconds=100.0, micro_batch=64))
    assert bench.told(1.0)[0][:2] == (16, None)
    bench.book.to_save("1", Word(reason="a move", until_seconds=12.0, action="checkpoint"))
    assert bench.told(2.0)[0] == (16, "checkpoint", 10.0)
    assert bench.sent[0][1]["reason"] == "a move; the grid is full; alice"
    assert bench.told(12.0)[0][:2] == (16, None), "that word is over"


def test_a_user_s_word_ends_when_it_said(bench: Bench) -> None:
    bench.book.user_says("1", Word(reason="alice", until_seconds=5.0, micro_batch=8))
    assert bench.told(0.0) == [(8, None, 5.0)] * 2
    assert bench.told(5.0) == [(None, None, 0.0)] * 2


@pytest.mark.parametrize(
    "gone", [None, replace(JOB, state=JobState.ENDED), replace(JOB, state=JobState.PENDING)]
)
def test_a_job_that_does_not_run_is_forgotten(bench: Bench, gone: object) -> None:
    bench.book.took(SMALLER, AT)
    bench.told(0.0)
    assert bench.told(1.0, gone) == []
    assert bench.book.micro_batches() == {}
    assert bench.told(2.0) == [], "its next run begins without"


def test_a_clean_stop_takes_all_back(bench: Bench) -> None:
    bench.book.took(SMALLER, AT)
    bench.told(0.0)
    bench.sent.clear()
    bench.book.let_go({"1": JOB})
    assert [word["micro_batch"] for _, word in bench.sent] == [None, None]

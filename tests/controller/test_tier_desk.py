"""A job's way to another tier, step by step, and from each step after a restart; nobody is lost."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from slurm_power import clock
from slurm_power.controller.tiers.advice_book import AdviceBook
from slurm_power.controller.tiers.tier_book import MoveState, TierBook
from slurm_power.controller.tiers.tier_desk import TierDesk
from slurm_power.model.action import ChangeTier
from slurm_power.model.job import Job, JobState
from slurm_power.model.site import LimitKind
from slurm_power.ports import SchedulerError
from slurm_power.store.sqlite import SqliteStore
from slurm_power.wire import Message
from tests.plan.situations import AT
from tests.plan.tier_situations import catalog, consenting, facing, saves

CHECKPOINT_SECONDS = 120.0
JOB = consenting()
MOVE = ChangeTier(
    job_id="1",
    tier="digits/half",
    gpu_count=4,
    running=True,
    kind=LimitKind.ECONOMIC,
    reason="the grid is full",
    saved_watts=2_400.0,
)


class Slurm:
    """Remembers what it was asked, and refuses what it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refuses = ""
        self.saved = True

    async def check_tier(self, job_id: str, gpu_count: int) -> None:
        """Nothing against it."""

    async def change_tier(
        self, job_id: str, tier: str, gpu_count: int, start_in_seconds: float | None, reason: str
    ) -> None:
        assert reason
        self._take(f"change {job_id} {tier} {gpu_count} {start_in_seconds}")

    async def requeue(self, job_id: str) -> None:
        self._take(f"requeue {job_id}")

    async def queue_saved(self, job_id: str) -> bool:
        self._take(f"queue saved {job_id}")
        return self.saved

    def _take(self, what: str) -> None:
        self.asked.append(what)
        if self.refuses:
            raise SchedulerError(self.refuses)


class Bench:
    """A desk, its world, and a clock that is moved by hand."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slurm, self.sent, self.notes = Slurm(), list[Message](), list[tuple[str, str]]()
        self.seconds = 0.0
        self.store = SqliteStore(folder / "s.sqlite")
        monkeypatch.setattr(clock, "now", lambda: AT + timedelta(seconds=self.seconds))
        monkeypatch.setattr(clock, "monotonic", lambda: 1_000.0 + self.seconds)
        monkeypatch.setattr("slurm_power.controller.tiers.tier_desk._AGAIN_SECONDS", 0.0)
        self.start_anew()

    def start_anew(self) -> None:
        """As after a crash: only the store is left."""
        self.advice = AdviceBook(self._send)
        self.desk = TierDesk(
            self.slurm,  # type: ignore[arg-type]  # the rest of Slurm is not asked
            self.store,
            send=self._send,
            advice=self.advice,
            catalog=catalog,
            checkpoint_seconds=CHECKPOINT_SECONDS,
            moved=lambda _job, _reason: None,
            note=lambda _actor, kind, _subject, reason, **_about: self.notes.append((kind, reason)),
        )

    def _send(self, _node: str, message: Message) -> bool:
        self.sent.append(message)
        return True

    async def look(self, job: Job | None = JOB, *, later: float = 1.0, enabled: bool = True) -> None:
        """One cycle, in which the list has the job like this, and what it has begun is over."""
        self.seconds += later
        jobs = () if job is None else (job,)
        at = AT + timedelta(seconds=self.seconds)
        snapshot = replace(facing(jobs), at=at, progress=self.progress)
        self.desk.look(self.progress)
        self.desk.follow(snapshot, clock.monotonic(), enabled=enabled)
        self.advice.follow({one.job_id: one for one in jobs}, clock.monotonic())
        for _ in range(5):
            await asyncio.sleep(0)

    progress = saves("1")

    async def begin(self, action: ChangeTier = MOVE, job: Job = JOB) -> None:
        await self.look(job)
        await self.desk.begin(action, job)
        self.desk.took(action, job, AT + timedelta(seconds=self.seconds))

    def starts(self, number: int) -> None:
        self.desk.job_started(
            "c1", {"job_id": "1", "tier": "digits/full", "tiers_ok": ["half"], "restart_count": number}
        )

    def state(self) -> MoveState | None:
        move = self.desk.book.get("1")
        return None if move is None else move.state

    def ordered(self, kind: str) -> list[Message]:
        return [message for message in self.sent if message["type"] == kind]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


WAITS = replace(JOB, state=JobState.PENDING, nodes=(), started=None, gpus_by_node=())
CHANGED = replace(WAITS, tier="digits/half", gpu_count=4)
ENDED = replace(JOB, state=JobState.ENDED)


def again(job: Job, bench: Bench) -> Job:
    """The job, started just now."""
    return replace(job, state=JobState.RUNNING, nodes=("c1",), started=AT + timedelta(seconds=bench.seconds))


@pytest.mark.parametrize("crash_at", [None, "saving", "queued", "changed", "running"])
def test_the_whole_way_and_from_each_step_after_a_crash(bench: Bench, crash_at: str | None) -> None:
    def crash(step: str) -> None:
        if step == crash_at:
            bench.start_anew()

    async def way() -> None:
        bench.starts(0)
        await bench.begin()
        crash("saving")
        await bench.look()
        assert bench.state() is MoveState.SAVING
        assert bench.ordered("advice")[-1]["action"] == "checkpoint"
        crash("queued")
        await bench.look(WAITS)
        if bench.state() is MoveState.QUEUED:
            await bench.look(WAITS)
        assert bench.slurm.asked == ["change 1 digits/half 4 3.0"], "one request, and it ends by itself"
        crash("changed")
        await bench.look(CHANGED, later=3.0)
        assert bench.state() is MoveState.CHANGED
        bench.starts(1)
        assert bench.ordered("tier")[-1] | {"model": ""} == {
            "type": "tier", "job_id": "1", "tier": "digits/half", "model": "", "restart_count": 1,
        }  # fmt: skip
        crash("running")
        await bench.look(again(CHANGED, bench))
        assert bench.state() is MoveState.STARTED
        await bench.look(again(CHANGED, bench))
        assert [kind for kind, _ in bench.notes] == ["tier changed", "tier started"]
        await bench.look(replace(CHANGED, state=JobState.ENDED))
        assert bench.state() is None

    asyncio.run(way())


def test_a_job_that_does_not_save_itself_in_time_goes_on_untouched(bench: Bench) -> None:
    async def way() -> None:
        await bench.begin()
        await bench.look(later=CHECKPOINT_SECONDS - 2.0)
        assert bench.state() is MoveState.SAVING
        await bench.look(later=10.0)
        assert bench.state() is MoveState.GIVEN_UP
        await bench.look()
        assert bench.ordered("advice")[-1]["action"] is None, "what it was told is taken back"
        assert bench.slurm.asked == []
        assert bench.notes == [
            (
                "tier given up",
                "not moved to digits/half: it has not saved itself in time, and goes on as it is",
            )
        ]
        assert bench.desk.book.view(AT)["1"].done

    asyncio.run(way())


def test_when_powerctld_is_to_watch_only_the_word_is_taken_back(bench: Bench) -> None:
    async def way() -> None:
        await bench.begin()
        await bench.look(enabled=False)
        assert bench.state() is MoveState.GIVEN_UP
        await bench.look(enabled=False)
        assert bench.slurm.asked == []

    asyncio.run(way())


def test_a_change_that_was_made_and_not_written_down_is_not_made_again(bench: Bench) -> None:
    async def way() -> None:
        await bench.begin()
        await bench.look(WAITS)
        bench.start_anew()
        await bench.look(CHANGED)
        assert bench.slurm.asked == []
        bench.starts(1)
        assert bench.ordered("tier")[-1]["tier"] == "digits/half"
        await bench.look(again(CHANGED, bench))
        assert bench.state() is MoveState.STARTED

    asyncio.run(way())


@pytest.mark.parametrize("crash", [False, True])
def test_a_job_that_only_ends_with_the_word_that_it_is_saved_is_queued_again(
    bench: Bench, crash: bool
) -> None:
    async def way() -> None:
        await bench.begin()
        if crash:
            bench.start_anew()
        await bench.look(ENDED)
        assert bench.slurm.asked == ["queue saved 1"]
        assert bench.state() is MoveState.SAVING
        await bench.look(WAITS)
        await bench.look(WAITS)
        assert bench.slurm.asked[-1] == "change 1 digits/half 4 3.0"

    asyncio.run(way())


def test_one_that_saves_itself_after_we_gave_up_is_queued_again_as_it_was(bench: Bench) -> None:
    async def way() -> None:
        await bench.begin()
        await bench.look(later=CHECKPOINT_SECONDS + 10.0)
        assert bench.state() is MoveState.GIVEN_UP
        await bench.look(ENDED)
        assert bench.slurm.asked == ["queue saved 1"]
        await bench.look(WAITS)
        await bench.look(WAITS)
        assert len(bench.slurm.asked) == 1

    asyncio.run(way())


def test_one_that_ends_long_after_that_has_ended(bench: Bench) -> None:
    async def way() -> None:
        await bench.begin()
        await bench.look(later=CHECKPOINT_SECONDS + 10.0)
        await bench.look(later=CHECKPOINT_SECONDS + 10.0)
        await bench.look(ENDED)
        assert bench.slurm.asked == []
        assert bench.state() is None

    asyncio.run(way())


def test_one_that_ends_by_itself_meanwhile_is_left_alone(bench: Bench) -> None:
    async def way() -> None:
        bench.slurm.saved = False
        await bench.begin()
        await bench.look(ENDED)
        assert bench.state() is None
        await bench.look(ENDED)
        assert bench.slurm.asked == ["queue saved 1"], "and not asked about again"
        assert bench.notes == [("tier given up", "not moved to digits/half: it has ended")]

    asyncio.run(way())


def test_slurm_that_does_not_answer_is_asked_again_until_the_job_starts_by_itself(bench: Bench) -> None:
    async def way() -> None:
        await bench.begin()
        await bench.look(WAITS)
        bench.slurm.refuses = "slurmctld does not answer"
        await bench.look(WAITS)
        await bench.look(WAITS)
        assert len(bench.slurm.asked) == 2
        assert bench.state() is MoveState.QUEUED
        await bench.look(again(JOB, bench))
        assert bench.state() is MoveState.GIVEN_UP
        assert bench.notes[-1][1].endswith("it has started again with digits/full")

    asyncio.run(way())


def test_one_with_nothing_to_save_is_queued_again_at_once(bench: Bench) -> None:
    async def way() -> None:
        bench.progress = {}
        await bench.begin()
        assert bench.slurm.asked == ["requeue 1"]
        assert bench.ordered("advice") == []
        await bench.look(WAITS)
        await bench.look(WAITS)
        assert bench.slurm.asked[1:] == ["change 1 digits/half 4 3.0"]

    asyncio.run(way())


def test_a_job_that_waits_is_changed_with_its_start_as_it_is(bench: Bench) -> None:
    async def way() -> None:
        await bench.begin(replace(MOVE, running=False), WAITS)
        assert bench.slurm.asked == ["change 1 digits/half 4 None"]
        assert bench.state() is MoveState.CHANGED
        bench.starts(0)
        assert bench.ordered("tier")[-1]["tier"] == "digits/half"
        await bench.look(again(CHANGED, bench))
        assert bench.state() is MoveState.STARTED

    asyncio.run(way())


def test_a_refusal_is_kept_in_mind_and_nothing_else(bench: Bench) -> None:
    async def way() -> None:
        bench.slurm.refuses = "it asks for GPUs by task"
        action = replace(MOVE, running=False)
        with pytest.raises(SchedulerError, match="by task"):
            await bench.desk.begin(action, WAITS)
        bench.desk.refused(action, WAITS, AT)
        assert bench.desk.book.view(AT)["1"].done
        await bench.look(WAITS)
        assert len(bench.slurm.asked) == 1
        with pytest.raises(SchedulerError, match="gone"):
            await bench.desk.begin(action, None)

    asyncio.run(way())


def test_a_node_that_told_the_job_its_old_tier_is_believed(bench: Bench) -> None:
    async def way() -> None:
        await bench.begin()
        await bench.look(WAITS)
        await bench.look(WAITS)
        started = replace(again(CHANGED, bench), tier="digits/full")
        bench.starts(1)
        await bench.look(started)
        assert bench.state() is MoveState.CHANGED
        await bench.look(started, later=CHECKPOINT_SECONDS + 1.0)
        assert bench.state() is MoveState.GIVEN_UP
        assert "started again with digits/full" in bench.notes[-1][1]

    asyncio.run(way())


def test_a_list_of_jobs_that_is_older_than_a_node_s_word_is_waited_for(bench: Bench) -> None:
    async def way() -> None:
        await bench.begin()
        await bench.look(WAITS)
        await bench.look(WAITS)
        bench.starts(1)
        await bench.look(replace(again(CHANGED, bench), gpu_count=8))
        assert bench.state() is MoveState.CHANGED
        await bench.look(again(CHANGED, bench))
        assert bench.state() is MoveState.STARTED
        assert "on 4 GPUs" in bench.notes[-1][1]

    asyncio.run(way())


def test_a_job_that_was_not_moved_is_told_its_own_tier_at_once(bench: Bench) -> None:
    """Its node would wait for that word."""
    bench.starts(0)
    assert [message["tier"] for message in bench.ordered("tier")] == ["digits/full"]
    bench.desk.job_started("c1", {"job_id": "2", "tier": "", "restart_count": 0})
    bench.desk.job_started("c1", {"job_id": "2", "tier": "digits/full", "restart_count": None})
    assert len(bench.ordered("tier")) == 1


# A text of any kind makes sense there, or nothing does.
_FREE = {"tier", "before", "reason", "running", "by_us", "start"}


def test_the_book_takes_back_what_it_gave_and_nothing_of_rubbish() -> None:
    book = TierBook()
    book.asked(MOVE, before="digits/full", start=2, by_us=False, at=AT)
    assert TierBook.from_json(book.to_json()).to_json() == book.to_json()
    whole = book.to_json()["1"]
    wrongs: tuple[object, ...] = (None, [], "x")
    rows = [{**whole, key: wrong} for key in whole for wrong in wrongs if key not in _FREE]
    rubbishes: tuple[object, ...] = (None, [], "x", {}, *({"1": row} for row in (None, 7, {}, *rows)))
    for rubbish in rubbishes:
        assert len(TierBook.from_json(rubbish)) == 0, rubbish
    assert len(TierBook.from_json({"1": whole, "2": {}})) == 1, "one that is broken breaks no other"

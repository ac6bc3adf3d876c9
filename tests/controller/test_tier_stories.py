"""Moves to other tiers, whatever happens meanwhile: each ends, and a job is never worse off than before."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.controller.advice_book import AdviceBook
from slurm_power.controller.tier_book import OVER, MoveState
from slurm_power.controller.tier_desk import TierDesk
from slurm_power.model.action import ChangeTier
from slurm_power.model.job import Job, JobState, Workload
from slurm_power.model.progress import JobProgress
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.ports import SchedulerError
from slurm_power.wire import Message
from tests.plan.situations import AT, situation
from tests.plan.tier_situations import catalog, consenting, saves

CHECKPOINT_SECONDS = 60.0
ENDED = (JobState.ENDING, JobState.ENDED)


def action(*, running: bool = True, job_id: str = "1") -> ChangeTier:
    return ChangeTier(
        job_id=job_id,
        tier="digits/half",
        gpu_count=4,
        running=running,
        kind=LimitKind.SAFETY,
        reason="the grid is short",
        saved_watts=2400.0,
    )


class Store:
    """Keeps what the ledger's database keeps: text."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def state(self, key: str, default: object = None) -> object:
        return json.loads(self.kept[key]) if key in self.kept else default

    def put_state(self, key: str, value: object) -> None:
        self.kept[key] = json.dumps(value)


@dataclass
class World:
    """One job in Slurm, its node, and the desk; the test moves the job, and the desk by `look`."""

    state: JobState = JobState.RUNNING
    checkpoints: bool = True
    seconds: float = 0.0
    start: int = 0
    started: float | None = -600.0
    record_tier: str = "digits/full"
    told: str | None = "digits/full"
    knows_starts: bool = True
    error: str = ""
    refusal: str = ""
    calls: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    orders: list[Message] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    store: Store = field(default_factory=Store)
    workload: Workload = Workload.INFERENCE
    orders_before: int = 0
    enabled: bool = True
    exits_85: bool = False

    def __post_init__(self) -> None:
        self.new_desk()

    # --- what the desk is given -------------------------------------------------------------------------

    def send(self, _node: str, message: Message) -> bool:
        self.orders.append(message)
        return True

    def new_desk(self) -> None:
        """A controller starts: what it knows is what was stored."""
        self.advice = AdviceBook(self.send)
        self.desk = TierDesk(
            self,  # type: ignore[arg-type]  # of the port what the desk uses
            self.store,
            send=self.send,
            advice=self.advice,
            catalog=catalog,
            checkpoint_seconds=CHECKPOINT_SECONDS,
            moved=lambda job_id, _reason: self.moved.append(job_id),
            note=lambda _actor, kind, _subject, reason, **_more: self.notes.append((kind, reason)),
        )

    async def check_tier(self, job_id: str, gpu_count: int) -> None:
        self.calls.append(f"check {job_id} {gpu_count}")
        if self.refusal:
            raise SchedulerError(self.refusal)

    async def queue_saved(self, job_id: str) -> bool:
        await self._do(f"queue saved {job_id}")
        if self.exits_85 and self.state is JobState.ENDED:
            self.queue_again()
        return self.state is not JobState.ENDED

    async def requeue(self, job_id: str) -> None:
        await self._do(f"requeue {job_id}")
        self.queue_again()

    async def change_tier(
        self, job_id: str, tier: str, gpu_count: int, start_in_seconds: float | None, _reason: str
    ) -> None:
        await self._do(f"change {job_id} {gpu_count} {start_in_seconds}")
        if self.state is not JobState.PENDING:
            raise SchedulerError("it is not pending")
        self.record_tier = tier

    async def _do(self, words: str) -> None:
        self.calls.append(words)
        await asyncio.sleep(0)
        if self.error:
            raise SchedulerError(self.error)

    # --- what happens -----------------------------------------------------------------------------------

    def queue_again(self) -> None:
        self.state, self.told = JobState.PENDING, None

    def starts(self) -> None:
        """Slurm starts it; its node asks for a tier, and tells it that, or the submission's."""
        self.start += 1
        self.orders_before = len(self.orders)
        self.state, self.started = JobState.RUNNING, self.seconds
        sent = len(self.orders)
        self.node_says(None)
        order = next((one for one in self.orders[sent:] if one["type"] == "tier"), None)
        self.told = "digits/full" if order is None else str(order["tier"])

    def node_says(self, told: str | None) -> None:
        if self.knows_starts:
            words: Message = {"job_id": "1", "tier": "digits/full", "restart_count": self.start}
            self.desk.job_started("c1", {**words, "told_tier": told})

    def job(self) -> Job:
        return replace(
            consenting(workload=self.workload),
            state=self.state,
            tier=self.record_tier if self.state is JobState.PENDING else self.told or "digits/full",
            started=None if self.started is None else AT + timedelta(seconds=self.started),
            gpu_count=4 if self.record_tier == "digits/half" else 8,
        )

    def snapshot(self) -> Snapshot:
        seen = situation(jobs=(self.job(),), gpu_watts={})
        return replace(seen, at=AT + timedelta(seconds=self.seconds), jobs_age_seconds=0.0)

    def progress(self) -> Mapping[str, JobProgress]:
        return saves("1") if self.checkpoints else {}

    async def look(self, *, seconds: float = 1.0) -> None:
        """One cycle of the controller's, and whatever it has begun."""
        self.seconds += seconds
        snapshot = self.snapshot()
        self.desk.look(self.progress())
        self.desk.follow(snapshot, self.seconds, enabled=self.enabled)
        self.advice.follow({"1": self.job()}, self.seconds)
        for _ in range(4):
            await asyncio.sleep(0)

    async def begin(self, *, running: bool = True) -> bool:
        """The actor carries an action out; False where it was refused."""
        self.desk.look(self.progress())
        one, job, at = action(running=running), self.job(), AT + timedelta(seconds=self.seconds)
        try:
            await self.desk.begin(one, job)
        except SchedulerError:
            self.desk.refused(one, job, at)
            return False
        return self.desk.took(one, job, at)

    @property
    def at(self) -> MoveState | None:
        move = self.desk.book.get("1")
        return None if move is None else move.state

    def book(self) -> str:
        """The same, in a word."""
        return "" if self.at is None else self.at.value

    def advised(self) -> object:
        """What the job was last told to do, since its last start: a run's file of advice ends with it."""
        told = [one["action"] for one in self.orders[self.orders_before :] if one["type"] == "advice"]
        return told[-1] if told else None


def test_a_job_saves_itself_waits_is_changed_and_goes_on() -> None:
    async def story() -> World:
        world = World()
        world.node_says("digits/full")
        assert await world.begin()
        assert world.book() == "saving"
        await world.look()
        assert world.advised() == "checkpoint"
        world.queue_again()
        await world.look()
        await world.look()
        assert world.book() == "changed"
        assert world.moved == [], "it does not run yet"
        world.starts()
        await world.look()
        return world

    world = asyncio.run(story())
    assert world.calls == ["check 1 4", "change 1 4 3.0"]
    assert world.at is MoveState.STARTED
    assert [kind for kind, _ in world.notes] == ["tier changed", "tier started"]
    assert world.orders[-1]["type"] == "tier"
    assert (world.orders[-1]["tier"], world.orders[-1]["restart_count"]) == ("digits/half", 1)
    assert world.moved == ["1"]


def test_one_that_has_nothing_to_save_is_queued_again_by_us_and_no_training_is() -> None:
    async def story(workload: Workload) -> World:
        world = World(checkpoints=False, workload=workload)
        began = await world.begin()
        assert began is (workload is Workload.INFERENCE)
        await world.look()
        await world.look()
        return world

    assert asyncio.run(story(Workload.INFERENCE)).calls == ["check 1 4", "requeue 1", "change 1 4 3.0"]
    training = asyncio.run(story(Workload.TRAINING))
    assert training.calls == ["check 1 4"], "its work would be lost"
    assert training.at is MoveState.GIVEN_UP


def test_what_could_not_be_changed_later_is_not_asked_to_save() -> None:
    async def story() -> World:
        world = World(refusal="it asks for GPUs by task")
        assert not await world.begin()
        return world

    world = asyncio.run(story())
    assert world.calls == ["check 1 4"]
    assert world.at is MoveState.GIVEN_UP
    assert world.orders == []


def test_a_job_on_its_way_is_not_moved_again_nor_is_its_move_forgotten() -> None:
    async def story() -> World:
        world = World()
        await world.begin()
        assert not await world.begin()
        return world

    world = asyncio.run(story())
    assert world.calls == ["check 1 4"]
    assert world.at is MoveState.SAVING


def test_a_waiting_job_is_changed_at_once_and_its_start_stays() -> None:
    async def story() -> World:
        world = World(state=JobState.PENDING, told=None, started=None, start=-1)
        await world.begin(running=False)
        for _ in range(3):
            await world.look(seconds=3600.0)
        assert world.at is MoveState.CHANGED
        world.starts()
        await world.look()
        return world

    world = asyncio.run(story())
    assert world.calls == ["change 1 4 None"]
    assert world.at is MoveState.STARTED


@pytest.mark.parametrize("state", ["saving", "queued", "changed"])
def test_a_job_that_ends_on_its_way_ends_the_move(state: str) -> None:
    async def story() -> World:
        world = World()
        await world.begin()
        if state != "saving":
            world.queue_again()
            world.error = "slurmctld is gone" if state == "queued" else ""
            await world.look()
            await world.look()
        assert world.at is not None
        assert world.at.value == state
        world.state = JobState.ENDED
        await world.look()
        await world.desk.stop()
        return world

    world = asyncio.run(story())
    assert world.at is None
    assert world.notes[-1] == ("tier given up", "not moved to digits/half: it has ended")


def test_one_that_does_not_save_itself_in_time_goes_on_and_is_no_longer_asked() -> None:
    async def story() -> World:
        world = World()
        await world.begin()
        for _ in range(5):
            await world.look(seconds=CHECKPOINT_SECONDS / 3)
        return world

    world = asyncio.run(story())
    assert world.at is MoveState.GIVEN_UP
    assert "not saved itself in time" in world.notes[-1][1]
    assert world.advised() is None
    assert world.moved == []


def test_control_taken_away_while_it_saves() -> None:
    async def story() -> World:
        world = World()
        await world.begin()
        await world.look()
        world.enabled = False
        await world.look()
        await world.look()
        return world

    world = asyncio.run(story())
    assert world.at is MoveState.GIVEN_UP
    assert world.advised() is None


def test_a_refusal_is_told_once_and_given_up_in_the_end() -> None:
    """A user may hold the job meanwhile: then it is his again."""

    async def story() -> World:
        world = World()
        await world.begin()
        world.queue_again()
        world.error = "job 1 is held by its user: left alone"
        for _ in range(40):
            await world.look(seconds=10.0)
        return world

    world = asyncio.run(story())
    assert world.at is MoveState.GIVEN_UP
    assert [kind for kind, _ in world.notes] == ["failed", "tier given up"]
    assert "held by its user" in world.notes[-1][1]


@pytest.mark.parametrize("knows_starts", [True, False])
def test_one_that_starts_before_it_was_changed_keeps_its_tier(knows_starts: bool) -> None:
    async def story(queued: bool) -> World:
        world = World(knows_starts=knows_starts)
        world.node_says("digits/full")
        await world.begin()
        if queued:
            world.queue_again()
            world.error = "slurmctld is gone"
            await world.look()
        world.seconds += 5.0
        world.starts()
        await world.look()
        await world.desk.stop()
        return world

    for queued in (True, False):
        world = asyncio.run(story(queued))
        assert world.at is MoveState.GIVEN_UP
        assert world.advised() is None
        assert world.told == "digits/full"
        assert world.moved == []


def test_a_start_of_before_is_no_new_start() -> None:
    """A controller that has just begun hears of the start that runs, only after it has asked."""

    async def story() -> World:
        world = World(start=3)
        await world.begin()
        world.node_says("digits/full")
        await world.look()
        return world

    assert asyncio.run(story()).at is MoveState.SAVING


def test_a_node_that_still_claims_the_run_before_ends_no_move() -> None:
    async def story() -> World:
        world = World()
        world.node_says("digits/full")
        await world.begin()
        world.queue_again()
        world.error = "slurmctld is gone"
        await world.look()
        world.state = JobState.STARTING
        await world.look()
        await world.desk.stop()
        return world

    assert asyncio.run(story()).at is MoveState.QUEUED


def test_a_controller_that_died_between_the_change_and_its_note_tells_the_right_tier() -> None:
    """What the record says that it starts with counts, whoever has written it."""

    async def story() -> World:
        world = World()
        await world.begin()
        world.queue_again()
        world.error = "slurmctld is gone"
        await world.look()
        await world.desk.stop()
        world.error, world.record_tier = "", "digits/half"
        world.new_desk()
        assert world.at is MoveState.QUEUED
        await world.look()
        world.new_desk()
        await world.look()
        world.starts()
        await world.look()
        return world

    world = asyncio.run(story())
    assert world.told == "digits/half"
    assert world.at is MoveState.STARTED


def test_a_job_changed_in_place_keeps_its_tier_over_a_restart_without_any_memory() -> None:
    async def story() -> World:
        world = World(state=JobState.PENDING, told=None, started=None, start=-1)
        await world.begin(running=False)
        world.store.kept.clear()
        world.new_desk()
        await world.look()
        world.starts()
        return world

    assert asyncio.run(story()).told == "digits/half"


def test_a_node_that_says_nothing_of_tiers_ends_the_move_as_given_up() -> None:
    async def story() -> World:
        world = World(knows_starts=False)
        await world.begin()
        world.queue_again()
        await world.look()
        await world.look()
        world.seconds += 7200.0
        world.starts()
        await world.look()
        assert world.at is MoveState.CHANGED, "it has a moment to tell, however long it has waited"
        for _ in range(4):
            await world.look(seconds=CHECKPOINT_SECONDS / 3)
        return world

    world = asyncio.run(story())
    assert world.at is MoveState.GIVEN_UP
    assert world.notes[-1][1].endswith("it has started again with digits/full")


def test_starts_of_other_kinds_of_jobs_are_nobody_s_business() -> None:
    world = World()
    for wrong in ({"tier": ""}, {"tier": "x"}, {"restart_count": None}, {"restart_count": True}, {"tier": 3}):
        world.desk.job_started("c1", {"job_id": "1", "tier": "digits/full", "restart_count": 0, **wrong})
    assert world.orders == []


def queues(world: World) -> None:
    if world.state is JobState.RUNNING:
        world.queue_again()


def starts(world: World) -> None:
    if world.state is JobState.PENDING:
        world.starts()


def claims(world: World) -> None:
    if world.state is JobState.PENDING:
        world.state = JobState.STARTING


def falls_back(world: World) -> None:
    if world.state is JobState.STARTING:
        world.state = JobState.PENDING


def ends_saved(world: World) -> None:
    world.exits_85, world.state = True, JobState.ENDED


STEPS: dict[str, Callable[[World], object]] = {
    "look": lambda _: None,
    "wait": lambda world: setattr(world, "seconds", world.seconds + 45.0),
    "queue": queues,
    "start": starts,
    "claim": claims,
    "fall back": falls_back,
    "end": lambda world: setattr(world, "state", JobState.ENDED),
    "saved": ends_saved,
    "restart": World.new_desk,
    "fail": lambda world: setattr(world, "error", "slurmctld does not answer"),
    "heal": lambda world: setattr(world, "error", ""),
    "off": lambda world: setattr(world, "enabled", not world.enabled),
}


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(st.sampled_from([*STEPS, "begin"]), max_size=25),
    checkpoints=st.booleans(),
    knows_starts=st.booleans(),
    running=st.booleans(),
)
def test_whatever_happens_every_move_ends_and_no_job_is_changed_twice(
    steps: list[str], checkpoints: bool, knows_starts: bool, running: bool
) -> None:
    asyncio.run(_any_story(steps, checkpoints=checkpoints, knows_starts=knows_starts, running=running))


async def _any_story(steps: list[str], *, checkpoints: bool, knows_starts: bool, running: bool) -> None:
    world = World(checkpoints=checkpoints, knows_starts=knows_starts)
    world.node_says("digits/full")
    if not running:
        world.state, world.told, world.started = JobState.PENDING, None, None
    await world.begin(running=running)
    for step in steps:
        if step == "begin" and world.at not in OVER:
            await world.begin(running=world.state is JobState.RUNNING)
        elif step == "restart":
            await world.desk.stop()
        STEPS.get(step, STEPS["look"])(world)
        await world.look()
    # The world comes to rest: Slurm answers, the job runs or has ended.
    world.error = ""
    for _ in range(8):
        falls_back(world)
        starts(world)
        await world.look(seconds=20.0)
    await world.desk.stop()
    assert world.at in {None, MoveState.STARTED, MoveState.GIVEN_UP}
    assert world.advised() is None or world.state is JobState.ENDED
    assert all("1" in call.split() for call in world.calls), "nobody else's job is touched"
    assert not any("hold" in call for call in world.calls)
    if world.at is MoveState.STARTED:
        assert world.told == world.record_tier == "digits/half"
    if world.told == "digits/half":
        assert world.record_tier == "digits/half", "nobody is told a tier that it has no record of"
    assert len(world.desk._tasks) == 0

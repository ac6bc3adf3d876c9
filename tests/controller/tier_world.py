"""One job in Slurm, its node, and the desk that moves it to another tier, moved by hand."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from slurm_power.controller.tiers.advice_book import AdviceBook
from slurm_power.controller.tiers.tier_book import MoveState
from slurm_power.controller.tiers.tier_desk import TierDesk
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

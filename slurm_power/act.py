"""Carry out a plan: leases to nodes, setpoints to batteries, holds to the workload manager."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

from slurm_power.model.action import (
    Action,
    AdviseBatch,
    ChangeTier,
    HoldJob,
    PauseJob,
    Plan,
    ReleaseJob,
    RelocateJob,
    ResumeJob,
    SetCap,
    SetDischarge,
    SwitchService,
)
from slurm_power.model.job import Job
from slurm_power.ports import DeviceError, NotRunningError, Scheduler, SchedulerError, Storage
from slurm_power.tasks import end_all
from slurm_power.wire import Message

# Leases are renewed when this share of their time is over: two renewals may be lost before one runs out.
_RENEW_SHARE = 0.3
# How long a cycle waits for batteries and the workload manager. What takes longer goes on beside the next
# cycles: a slurmctld that does not answer must never keep caps and setpoints from being renewed.
_PATIENCE_SECONDS = 0.3
# A clean stop gives up on what does not answer; every lever ends by itself.
_LET_GO_SECONDS = 12.0
# How long a job's nodes may take to have a pause's lease on disk.
_HELD_SECONDS = 3.0


class NodeSender(Protocol):
    """The standing connections to the node daemons."""

    def send(self, node: str, message: Message) -> bool:
        """Push one message; False if the node is not connected."""
        ...


class TierMover(Protocol):
    """Who moves jobs to other model tiers."""

    async def begin(self, action: ChangeTier, job: Job | None) -> None:
        """Begin a move; raises SchedulerError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one action. ``error`` is empty when it was carried out.

    ``partly`` is True where some nodes of a job took its cap in spite of the error: that cap is ours.
    """

    action: Action
    error: str = ""
    partly: bool = False

    @property
    def took(self) -> bool:
        """Whether the action moved anything."""
        return self.partly or not self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Granted:
    """The cap that a job's nodes were told last: its ``bound`` in watts or hertz, when, and for which job."""

    action: SetCap
    bound: float
    job: Job
    sent_seconds: float
    outcome: Outcome


def lease_id(job_id: str, uuid: str) -> str:
    """Name a cap lease; the same after a restart, so that it is renewed and not doubled."""
    return f"{job_id}@{uuid}"


class Actor:
    """Executes plans. It keeps only what it needs to renew in time, nothing a restart could lose."""

    def __init__(
        self,
        *,
        nodes: NodeSender,
        storages: Mapping[str, Storage],
        ess_lease_seconds: Mapping[str, float],
        scheduler: Scheduler,
        cap_lease_seconds: float,
        pause_lease_seconds: float = 60.0,
        tiers: TierMover | None = None,
    ) -> None:
        self._nodes = nodes
        self._storages = storages
        self._ess_lease_seconds = ess_lease_seconds
        self._scheduler = scheduler
        self._tiers = tiers
        self._cap_lease_seconds = cap_lease_seconds
        self._granted: dict[str, _Granted] = {}
        self._under_way: dict[str, asyncio.Task[Outcome]] = {}
        self._pausing: set[str] = set()
        self.pauses = Pauses(nodes, scheduler, pause_lease_seconds)

    @property
    def busy(self) -> bool:
        """Whether something of an earlier cycle is still under way."""
        return bool(self._under_way)

    def granted(self, job_id: str) -> bool:
        """Whether a cap of this job has been sent, recorded by the controller already or not."""
        return job_id in self._granted

    async def carry_out(self, plan: Plan, jobs: Mapping[str, Job], now_seconds: float) -> list[Outcome]:
        """Do everything the plan says; errors are outcomes, never raised.

        Slow things run side by side, for a moment that the cycle can spare. What is not done by then goes
        on, is not started again meanwhile, and its outcome is among those of a later call.
        """
        caps = [action for action in plan.actions if isinstance(action, SetCap)]
        for job_id in self._granted.keys() - {action.job_id for action in caps}:
            del self._granted[job_id]  # no longer planned: its job has ended or left the nodes
        outcomes = [self._cap(action, jobs, now_seconds) for action in caps]
        outcomes += self.pauses.renew(plan.actions, jobs, now_seconds)
        # What was asked for in an earlier cycle, and is not done, may be all that is needed.
        pausing = any(key in self._pausing for key in self._under_way)
        renewed = {outcome.action.job_id for outcome in outcomes if isinstance(outcome.action, PauseJob)}
        for action in plan.actions:
            if isinstance(action, PauseJob) and (pausing or action.job_id in renewed):
                continue
            if isinstance(action, SwitchService | AdviseBatch):
                # Gateways ask what they are to do, and advice goes out with what is said to jobs anyway.
                outcomes.append(Outcome(action=action))
            elif not isinstance(action, SetCap):
                key = f"ess:{action.ess}" if isinstance(action, SetDischarge) else f"job:{action.job_id}"
                if key not in self._under_way:
                    if isinstance(action, PauseJob):
                        self._pausing.add(key)
                    self._under_way[key] = asyncio.create_task(self._slow(action, jobs, now_seconds))
        if self._under_way:
            await asyncio.wait(self._under_way.values(), timeout=_PATIENCE_SECONDS)
        for key, task in list(self._under_way.items()):
            if task.done():
                del self._under_way[key]
                self._pausing.discard(key)
                outcomes.append(task.result())
        return outcomes

    async def _slow(self, action: Action, jobs: Mapping[str, Job], now_seconds: float) -> Outcome:
        try:
            match action:
                case SetDischarge():
                    await self._discharge(action)
                case HoldJob():
                    await self._scheduler.hold(action.job_id, action.seconds, action.reason)
                case ReleaseJob():
                    await self._scheduler.release(action.job_id)
                case PauseJob():
                    await self.pauses.pause(action, jobs.get(action.job_id), now_seconds)
                case ResumeJob():
                    await self.pauses.resume(action.job_id, jobs.get(action.job_id))
                case RelocateJob():
                    await self._scheduler.relocate(action.job_id, action.avoid, action.reason)
                case ChangeTier():
                    if self._tiers is None:
                        raise SchedulerError(f"job {action.job_id}: nobody here moves jobs to other tiers")
                    await self._tiers.begin(action, jobs.get(action.job_id))
                case SetCap() | SwitchService() | AdviseBatch():
                    raise AssertionError(f"{type(action).__name__} is nothing to wait for")
                case _:
                    assert_never(action)
        except (DeviceError, SchedulerError) as error:
            return Outcome(action=action, error=str(error))
        return Outcome(action=action)

    async def _discharge(self, action: SetDischarge) -> None:
        storage = self._storages[action.ess]
        if action.discharge_watts == 0.0:
            await storage.release()
        else:
            await storage.set_discharge(action.discharge_watts, self._ess_lease_seconds[action.ess])

    def _cap(self, action: SetCap, jobs: Mapping[str, Job], now_seconds: float) -> Outcome:
        job, last = jobs.get(action.job_id), self._granted.get(action.job_id)
        fresh = last is not None and now_seconds - last.sent_seconds < _RENEW_SHARE * self._cap_lease_seconds
        if fresh and last is not None and last.action is action and last.job is job:
            # The planner gives a cap that stays as the same object: thousands may, every second.
            return last.outcome
        if action.cap_watts is None or job is None:
            return self._uncap(action, job)
        bound = action.cap_watts if action.lock_hertz is None else action.lock_hertz
        outcome = Outcome(action=action)
        if fresh and last is not None and (last.bound, last.job.gpus_by_node) == (bound, job.gpus_by_node):
            self._granted[action.job_id] = replace(last, action=action, job=job, outcome=outcome)
            return outcome
        missing = [
            node
            for node, uuids in job.gpus_by_node
            if not self._nodes.send(node, self._grant(action, bound, uuids))
        ]
        partly = len(missing) < len(job.gpus_by_node)
        if missing:
            error = f"not connected: {', '.join(missing)}"
            outcome = Outcome(action=action, error=error, partly=partly)
        if partly:
            self._granted[action.job_id] = _Granted(
                action=action,
                bound=bound,
                job=job,
                # With a node missing, the others are told again in the next cycle, until it is back.
                sent_seconds=float("-inf") if missing else now_seconds,
                outcome=outcome,
            )
        return outcome

    def _grant(self, action: SetCap, bound: float, uuids: tuple[str, ...]) -> Message:
        name = "cap_watts" if action.lock_hertz is None else "lock_hertz"
        return {
            "type": "grant",
            "leases": [
                {
                    "lease_id": lease_id(action.job_id, uuid),
                    "uuid": uuid,
                    name: bound,
                    "ttl_seconds": self._cap_lease_seconds,
                    "kind": action.kind.value,
                    "job_id": action.job_id,
                    "reason": action.reason,
                }
                for uuid in uuids
            ],
        }

    def _uncap(self, action: SetCap, job: Job | None) -> Outcome:
        self._granted.pop(action.job_id, None)
        for node, uuids in job.gpus_by_node if job is not None else ():
            # A node that cannot hear this lets the lease run out by itself.
            self._nodes.send(
                node, {"type": "release", "lease_ids": [lease_id(action.job_id, uuid) for uuid in uuids]}
            )
        return Outcome(action=action)

    async def let_go(
        self,
        jobs: Mapping[str, Job],
        held: tuple[str, ...],
        moved: tuple[str, ...] = (),
        paused: tuple[str, ...] = (),
    ) -> list[str]:
        """Give everything back at once, as on a clean stop; return what could not be given back."""
        problems = []
        # A hold that was being written when we stop may have been taken: it is released as well.
        written = {key.removeprefix("job:") for key in self._under_way if key.startswith("job:")}
        await end_all(self._under_way.values())
        self._under_way.clear()
        for job_id in list(self._granted):
            job = jobs.get(job_id)
            for node, uuids in job.gpus_by_node if job is not None else ():
                self._nodes.send(
                    node, {"type": "release", "lease_ids": [lease_id(job_id, uuid) for uuid in uuids]}
                )
        self._granted.clear()
        steps = [asyncio.create_task(_given_back(storage.release())) for storage in self._storages.values()]
        steps += [
            asyncio.create_task(_given_back(self._freed(job_id, moved=job_id in {*moved, *written})))
            for job_id in sorted({*held, *moved, *written})
        ]
        # Only what is ours: a job whose pause was just being written has its lease, and goes on by that.
        steps += [
            asyncio.create_task(_given_back(self.pauses.resume(job_id, jobs.get(job_id))))
            for job_id in sorted({*paused, *self.pauses.ours})
        ]
        done, late = await asyncio.wait(steps, timeout=_LET_GO_SECONDS) if steps else (set(), set())
        problems += [text for step in done if (text := step.result())]
        if late:
            problems.append(f"{len(late)} releases not answered in time: those levers end by themselves")
            await end_all(late)
        return problems

    async def _freed(self, job_id: str, *, moved: bool) -> None:
        """One after the other: both are noted in the same record of the job."""
        try:
            if moved:
                await self._scheduler.relocate(job_id, (), "powerctld stops")
        finally:
            await self._scheduler.release(job_id)


class Pauses:
    """Pauses of running jobs: the lease to the job's nodes first, then the word to the workload manager.

    A pause does not end by itself where it is made, so it is made only once every node of the job has said
    that it has the lease on disk. From then on the nodes let the job go on when nobody renews it.
    """

    def __init__(self, nodes: NodeSender, scheduler: Scheduler, lease_seconds: float) -> None:
        self._nodes = nodes
        self._scheduler = scheduler
        self._lease_seconds = lease_seconds
        self._sent: dict[str, tuple[float, Job]] = {}
        self._asked: dict[str, dict[str, asyncio.Future[str]]] = {}

    @property
    def ours(self) -> tuple[str, ...]:
        """The jobs that this controller has paused or taken over."""
        return tuple(self._sent)

    def heard(self, node: str, job_id: str, event: str, detail: str) -> None:
        """Take a node's word about a lease: ``held`` is what a pause waits for."""
        waiting = self._asked.get(job_id, {}).get(node)
        if waiting is not None and not waiting.done():
            waiting.set_result("" if event == "held" else f"{node}: {detail or event}")

    async def pause(self, action: PauseJob, job: Job | None, now_seconds: float) -> None:
        """Pause a running job; raises SchedulerError."""
        if job is None or not job.gpus_by_node:
            raise SchedulerError(f"job {action.job_id} is on no node that could hold its lease")
        loop = asyncio.get_running_loop()
        asked = {node: loop.create_future() for node, _ in job.gpus_by_node}
        self._asked[action.job_id] = asked
        try:
            silent = [node for node in asked if not self._tell(node, action.job_id, self._lease_seconds)]
            if silent:
                raise SchedulerError(f"not connected: {', '.join(silent)}")
            try:
                async with asyncio.timeout(_HELD_SECONDS):
                    answers = await asyncio.gather(*asked.values())
            except TimeoutError:
                raise SchedulerError(f"its nodes hold no lease of it within {_HELD_SECONDS:g} s") from None
            if problems := [answer for answer in answers if answer]:
                raise SchedulerError("; ".join(problems))
        except SchedulerError:
            self._end(action.job_id, job)
            raise
        finally:
            del self._asked[action.job_id]
        try:
            await self._scheduler.pause(action.job_id, self._lease_seconds, action.reason)
        except NotRunningError:
            # Somebody else's doing: its end is not ours to see to.
            self._end(action.job_id, job)
            raise
        # Any other refusal may have come too late: then the lease stays, and lets the job go on.
        self._sent[action.job_id] = (now_seconds, job)

    def forget(self, job_id: str, job: Job | None) -> None:
        """End the leases of a job that somebody else has let go on."""
        last = self._sent.pop(job_id, None)
        known = job or (None if last is None else last[1])
        if known is not None:
            self._end(job_id, known)

    async def resume(self, job_id: str, job: Job | None) -> None:
        """Let a job go on; raises SchedulerError, and then its leases are not renewed and do the same."""
        last = self._sent.pop(job_id, None)
        await self._scheduler.resume(job_id)
        self.forget(job_id, job or (None if last is None else last[1]))

    def renew(self, actions: Sequence[Action], jobs: Mapping[str, Job], now_seconds: float) -> list[Outcome]:
        """Renew the pauses that stand; what is no longer planned is left to run out."""
        outcomes = []
        planned = {action.job_id for action in actions if isinstance(action, PauseJob | ResumeJob)}
        for job_id in self._sent.keys() - planned:
            del self._sent[job_id]
        for action in actions:
            job = jobs.get(action.job_id) if isinstance(action, PauseJob) else None
            if job is None or not isinstance(action, PauseJob):
                continue
            if not action.renewed and action.job_id not in self._sent:
                continue
            sent_seconds, _ = self._sent.get(action.job_id, (float("-inf"), job))
            error = ""
            if now_seconds - sent_seconds >= _RENEW_SHARE * self._lease_seconds:
                told = [self._tell(node, action.job_id, self._lease_seconds) for node, _ in job.gpus_by_node]
                self._sent[action.job_id] = (now_seconds if all(told) else sent_seconds, job)
                error = "" if any(told) else "none of its nodes is connected: its pause runs out"
            outcomes.append(Outcome(action=action, error=error))
        return outcomes

    def _tell(self, node: str, job_id: str, seconds: float) -> bool:
        return self._nodes.send(node, {"type": "pause", "job_id": job_id, "seconds": seconds})

    def _end(self, job_id: str, job: Job) -> None:
        for node, _ in job.gpus_by_node:
            self._tell(node, job_id, 0.0)


async def _given_back(release: Awaitable[None]) -> str:
    try:
        await release
    except (DeviceError, SchedulerError) as error:
        return str(error)
    return ""

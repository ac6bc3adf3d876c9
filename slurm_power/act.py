"""Carry out a plan: leases to nodes, setpoints to batteries, holds to the workload manager."""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

from slurm_power.model.action import Action, HoldJob, Plan, ReleaseJob, RelocateJob, SetCap, SetDischarge
from slurm_power.model.job import Job
from slurm_power.ports import DeviceError, Scheduler, SchedulerError, Storage
from slurm_power.tasks import end_all
from slurm_power.wire import Message

# Leases are renewed when this share of their time is over: two renewals may be lost before one runs out.
_RENEW_SHARE = 0.3
# How long a cycle waits for batteries and the workload manager. What takes longer goes on beside the next
# cycles: a slurmctld that does not answer must never keep caps and setpoints from being renewed.
_PATIENCE_SECONDS = 0.3
# A clean stop gives up on what does not answer; every lever ends by itself.
_LET_GO_SECONDS = 12.0


class NodeSender(Protocol):
    """The standing connections to the node daemons."""

    def send(self, node: str, message: Message) -> bool:
        """Push one message; False if the node is not connected."""
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
    ) -> None:
        self._nodes = nodes
        self._storages = storages
        self._ess_lease_seconds = ess_lease_seconds
        self._scheduler = scheduler
        self._cap_lease_seconds = cap_lease_seconds
        self._granted: dict[str, _Granted] = {}
        self._under_way: dict[str, asyncio.Task[Outcome]] = {}

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
        for action in plan.actions:
            if not isinstance(action, SetCap):
                key = f"ess:{action.ess}" if isinstance(action, SetDischarge) else f"job:{action.job_id}"
                if key not in self._under_way:
                    self._under_way[key] = asyncio.create_task(self._slow(action))
        if self._under_way:
            await asyncio.wait(self._under_way.values(), timeout=_PATIENCE_SECONDS)
        for key, task in list(self._under_way.items()):
            if task.done():
                del self._under_way[key]
                outcomes.append(task.result())
        return outcomes

    async def _slow(self, action: Action) -> Outcome:
        try:
            match action:
                case SetDischarge():
                    await self._discharge(action)
                case HoldJob():
                    await self._scheduler.hold(action.job_id, action.seconds, action.reason)
                case ReleaseJob():
                    await self._scheduler.release(action.job_id)
                case RelocateJob():
                    await self._scheduler.relocate(action.job_id, action.avoid, action.reason)
                case SetCap():
                    raise AssertionError("caps are pushed, not awaited")
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
        self, jobs: Mapping[str, Job], held: tuple[str, ...], moved: tuple[str, ...] = ()
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


async def _given_back(release: Awaitable[None]) -> str:
    try:
        await release
    except (DeviceError, SchedulerError) as error:
        return str(error)
    return ""

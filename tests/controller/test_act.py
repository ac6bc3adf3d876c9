"""The actor against ports of its own: what is slow, missing or under way must not cost control."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from slurm_power.act import Actor
from slurm_power.model.action import (
    Action,
    HoldJob,
    Plan,
    RelocateJob,
    SetCap,
    SetDischarge,
)
from slurm_power.model.job import Job
from slurm_power.model.pool import Pool
from slurm_power.model.reading import EssReading
from slurm_power.model.site import LimitKind
from slurm_power.ports import DeviceError, NotRunningError, SchedulerError
from slurm_power.wire import Message
from tests.plan.situations import ess_reading, running


class Nodes:
    def __init__(self, *connected: str) -> None:
        self.connected = set(connected)
        self.sent: list[tuple[str, Message]] = []

    def send(self, node: str, message: Message) -> bool:
        if node in self.connected:
            self.sent.append((node, message))
        return node in self.connected


class Queue:
    """A workload manager that answers when ``answers`` is set."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked: list[tuple[str, str]] = []
        self.error = ""
        self.unfit = False

    async def jobs(self) -> tuple[Job, ...]:
        return ()

    async def _do(self, verb: str, job_id: str) -> None:
        self.asked.append((verb, job_id))
        if verb == "hold":
            await self.answers.wait()
        if self.error:
            raise SchedulerError(self.error)

    async def pools(self) -> tuple[Pool, ...]:
        return ()

    async def relocate(self, job_id: str, avoid: Sequence[str], reason: str) -> None:  # noqa: ARG002  # the port has them
        await self._do("relocate" if avoid else "give back", job_id)

    async def hold(self, job_id: str, seconds: float, reason: str) -> None:  # noqa: ARG002  # the port has them
        await self._do("hold", job_id)

    async def release(self, job_id: str) -> None:
        await self._do("release", job_id)

    async def pause(self, job_id: str, seconds: float, reason: str) -> None:  # noqa: ARG002  # the port has them
        if self.unfit:
            raise NotRunningError("it does not run")
        await self._do("pause", job_id)

    async def resume(self, job_id: str) -> None:
        await self._do("resume", job_id)

    async def queue_saved(self, job_id: str) -> bool:
        """Nothing of the kind."""
        return not job_id

    async def requeue(self, job_id: str) -> None:
        """Nothing of the kind."""

    async def change_tier(
        self, job_id: str, tier: str, gpu_count: int, start_in_seconds: float | None, reason: str
    ) -> None:
        """Nothing of the kind."""


class Battery:
    def __init__(self) -> None:
        self.setpoints: list[float | None] = []
        self.error = ""

    async def open(self) -> None: ...

    async def read(self) -> EssReading:
        return ess_reading()

    async def set_discharge(self, discharge_watts: float, lease_seconds: float) -> None:  # noqa: ARG002  # the port
        if self.error:
            raise DeviceError(self.error)
        self.setpoints.append(discharge_watts)

    def reversion_seconds(self, lease_seconds: float) -> float:
        return lease_seconds

    async def release(self) -> None:
        self.setpoints.append(None)

    async def close(self) -> None: ...


class Bench:
    def __init__(self, *connected: str) -> None:
        self.nodes, self.queue, self.battery = Nodes(*connected), Queue(), Battery()
        self.actor = Actor(
            nodes=self.nodes,
            storages={"battery": self.battery},
            ess_lease_seconds={"battery": 10.0},
            scheduler=self.queue,
            cap_lease_seconds=10.0,
        )


def tried(check: Callable[[Bench], Awaitable[None]], *connected: str) -> None:
    async def run() -> None:
        await check(Bench(*connected))

    asyncio.run(run())


CAP = SetCap(job_id="1", cap_watts=500.0, kind=LimitKind.ECONOMIC, reason="tight")
HOLD = HoldJob(job_id="7", seconds=60.0, reason="no room")
PEAK = SetDischarge(ess="battery", discharge_watts=2000.0, reason="peak")
JOBS = {"1": running("1", ("c1", "c2"))}


def plan(*actions: Action) -> Plan:
    return Plan(actions=actions)


def test_a_silent_workload_manager_does_not_keep_caps_and_battery_waiting() -> None:
    async def check(bench: Bench) -> None:
        bench.queue.answers.clear()
        for second in range(3):
            began = time.monotonic()
            outcomes = await bench.actor.carry_out(plan(PEAK, CAP, HOLD), JOBS, 4.0 * second)
            assert time.monotonic() - began < 0.9
            assert [outcome.action for outcome in outcomes] == [CAP, PEAK]
        assert len(bench.battery.setpoints) == 3
        assert len(bench.nodes.sent) == 6  # two nodes, renewed every time
        assert bench.queue.asked == [("hold", "7")]  # asked once, while the answer is out
        assert bench.actor.busy
        bench.queue.answers.set()
        await asyncio.sleep(0)
        (late,) = (o for o in await bench.actor.carry_out(Plan(), JOBS, 12.0) if o.action == HOLD)
        assert late.took and not bench.actor.busy

    tried(check, "c1", "c2")


def test_a_stop_releases_the_hold_that_was_being_written() -> None:
    async def check(bench: Bench) -> None:
        bench.queue.answers.clear()
        await bench.actor.carry_out(plan(HOLD), {}, 0.0)
        assert await bench.actor.let_go({}, ("8",)) == []
        released = [("give back", "7"), ("release", "7"), ("release", "8")]
        assert sorted(bench.queue.asked[1:]) == released
        assert not bench.actor.busy
        assert bench.battery.setpoints == [None]

    tried(check)


def test_what_cannot_be_given_back_is_said() -> None:
    async def check(bench: Bench) -> None:
        bench.queue.error = "slurmctld is away"
        assert await bench.actor.let_go({}, ("8",)) == ["slurmctld is away"]

    tried(check)


def test_a_cap_that_only_some_nodes_took_is_ours_and_is_sent_again() -> None:
    async def check(bench: Bench) -> None:
        (half,) = await bench.actor.carry_out(plan(CAP), JOBS, 0.0)
        assert half.took and "c2" in half.error
        assert bench.actor.granted("1")
        bench.nodes.connected.add("c2")
        (whole,) = await bench.actor.carry_out(plan(CAP), JOBS, 1.0)
        assert whole.error == ""
        assert [node for node, _ in bench.nodes.sent] == ["c1", "c1", "c2"]

    tried(check, "c1")


def test_a_cap_that_no_node_took_is_not_ours() -> None:
    async def check(bench: Bench) -> None:
        (none,) = await bench.actor.carry_out(plan(CAP), JOBS, 0.0)
        assert not none.took
        assert not bench.actor.granted("1")

    tried(check)


def test_caps_are_renewed_in_time_and_forgotten_with_their_job() -> None:
    async def check(bench: Bench) -> None:
        for at_seconds in (0.0, 1.0, 2.9, 3.1):
            await bench.actor.carry_out(plan(CAP), JOBS, at_seconds)
        assert len(bench.nodes.sent) == 4  # at 0 and at 3.1 seconds, to two nodes each
        await bench.actor.carry_out(Plan(), {}, 4.0)
        assert not bench.actor.granted("1")

    tried(check, "c1", "c2")


def test_a_clock_lock_is_granted_in_hertz_and_a_new_clock_is_news() -> None:
    lock = replace(CAP, cap_watts=200.0, lock_hertz=1.4e9, full_hertz=1.98e9)

    async def check(bench: Bench) -> None:
        await bench.actor.carry_out(plan(lock), JOBS, 0.0)
        await bench.actor.carry_out(plan(replace(lock, lock_hertz=1.5e9)), JOBS, 1.0)
        leases = []
        for node, message in bench.nodes.sent:
            granted = message["leases"]
            assert isinstance(granted, list)
            leases += granted[:1] if node == "c1" else []
        assert [lease["lock_hertz"] for lease in leases] == [1.4e9, 1.5e9]
        assert all("cap_watts" not in lease for lease in leases)

    tried(check, "c1", "c2")


def test_the_same_cap_again_is_sent_in_time_and_to_a_node_that_is_back() -> None:
    jobs = {"1": running("1", ("c1",))}

    async def check(bench: Bench) -> None:
        for second in (0.0, 1.0, 2.0, 3.0):
            (outcome,) = await bench.actor.carry_out(plan(CAP), jobs, second)
            assert (outcome.action, outcome.took) == (CAP, True)
        assert [node for node, _ in bench.nodes.sent] == ["c1", "c1"]
        bench.nodes.connected.clear()
        (outcome,) = await bench.actor.carry_out(plan(CAP), jobs, 6.0)
        assert (outcome.error, outcome.took) == ("not connected: c1", False)
        bench.nodes.connected.add("c1")
        (outcome,) = await bench.actor.carry_out(plan(CAP), jobs, 6.1)
        assert (outcome.error, len(bench.nodes.sent)) == ("", 3)

    tried(check, "c1")


def test_a_refusing_battery_is_an_outcome() -> None:
    async def check(bench: Bench) -> None:
        bench.battery.error = "under local control"
        (outcome,) = await bench.actor.carry_out(plan(PEAK), {}, 0.0)
        assert (outcome.error, outcome.took) == ("under local control", False)

    tried(check)


AWAY = RelocateJob(job_id="7", avoid=("c1",), reason="rack1 is full")


def test_a_job_is_sent_elsewhere_and_its_nodes_come_back_at_a_stop() -> None:
    async def check(bench: Bench) -> None:
        outcomes = await bench.actor.carry_out(plan(AWAY), {}, 0.0)
        assert [(outcome.action, outcome.error) for outcome in outcomes] == [(AWAY, "")]
        assert await bench.actor.let_go({}, ("8",), ("7",)) == []
        released = [("give back", "7"), ("release", "7"), ("release", "8")]
        assert sorted(bench.queue.asked[1:]) == released

    tried(check)


def test_a_refused_relocation_is_an_outcome_and_the_hold_is_still_released_at_a_stop() -> None:
    async def check(bench: Bench) -> None:
        bench.queue.error = "its AdminComment is another tool's"
        (outcome,) = await bench.actor.carry_out(plan(AWAY), {}, 0.0)
        assert not outcome.took
        await bench.actor.let_go({}, ("7",), ("7",))
        assert bench.queue.asked[1:] == [("give back", "7"), ("release", "7")]

    tried(check)

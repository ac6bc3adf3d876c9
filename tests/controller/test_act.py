"""The actor against ports of its own: what is slow, missing or under way must not cost control."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from slurm_power.act import Actor
from slurm_power.model.action import Action, HoldJob, PauseJob, Plan, ResumeJob, SetCap, SetDischarge
from slurm_power.model.job import Job
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
        assert sorted(bench.queue.asked[1:]) == [("release", "7"), ("release", "8")]
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


PAUSE = PauseJob(job_id="1", kind=LimitKind.ECONOMIC, drawn_watts=650.0, reason="below the cliff")


def told(bench: Bench) -> list[tuple[str, float]]:
    """Whom the leases of pauses went to, and for how long."""
    return [
        (node, float(str(message["seconds"])))
        for node, message in bench.nodes.sent
        if message["type"] == "pause"
    ]


async def answered(bench: Bench, *events: tuple[str, str]) -> None:
    """Let the nodes answer once they have been asked."""
    while len(told(bench)) < 2:  # noqa: ASYNC110  # what is sent is all that shows
        await asyncio.sleep(0.001)
    for node, event in events:
        bench.actor.pauses.heard(node, "1", event, "a full disk")


def test_a_job_is_stopped_only_when_all_of_its_nodes_hold_the_lease() -> None:
    async def check(bench: Bench) -> None:
        step = asyncio.create_task(bench.actor.carry_out(plan(PAUSE), JOBS, 0.0))
        await answered(bench, ("c1", "held"))
        await asyncio.sleep(0.01)
        assert bench.queue.asked == []
        bench.actor.pauses.heard("c2", "1", "held", "")
        (outcome,) = await step
        assert outcome.error == ""
        assert bench.queue.asked == [("pause", "1")]
        assert told(bench) == [("c1", 60.0), ("c2", 60.0)]

    tried(check, "c1", "c2")


def test_a_node_that_cannot_hold_the_lease_keeps_the_job_running() -> None:
    async def check(bench: Bench) -> None:
        step = asyncio.create_task(bench.actor.carry_out(plan(PAUSE), JOBS, 0.0))
        await answered(bench, ("c1", "held"), ("c2", "refused"))
        (outcome,) = await step
        assert outcome.error == "c2: a full disk"
        assert bench.queue.asked == []
        assert told(bench)[2:] == [("c1", 0.0), ("c2", 0.0)]

    tried(check, "c1", "c2")


def test_a_node_that_is_not_connected_keeps_the_job_running() -> None:
    async def check(bench: Bench) -> None:
        (outcome,) = await bench.actor.carry_out(plan(PAUSE), JOBS, 0.0)
        assert outcome.error == "not connected: c2"
        assert bench.queue.asked == []

    tried(check, "c1")


async def paused_by(bench: Bench) -> None:
    step = asyncio.create_task(bench.actor.carry_out(plan(PAUSE), JOBS, 0.0))
    await answered(bench, ("c1", "held"), ("c2", "held"))
    await step


def test_a_job_that_somebody_else_has_stopped_is_not_let_go_by_us() -> None:
    async def check(bench: Bench) -> None:
        bench.queue.unfit = True
        await paused_by(bench)
        assert told(bench)[2:] == [("c1", 0.0), ("c2", 0.0)]
        assert await bench.actor.let_go(JOBS, ()) == []
        assert ("resume", "1") not in bench.queue.asked

    tried(check, "c1", "c2")


def test_an_answer_that_is_lost_leaves_the_lease_to_let_the_job_go_on() -> None:
    async def check(bench: Bench) -> None:
        bench.queue.error = "no answer within 5 s"
        await paused_by(bench)
        assert told(bench) == [("c1", 60.0), ("c2", 60.0)]

    tried(check, "c1", "c2")


def test_a_pause_is_renewed_in_time_and_not_written_twice() -> None:
    async def check(bench: Bench) -> None:
        await paused_by(bench)
        renewed = replace(PAUSE, renewed=True)
        for now_seconds in (1.0, 17.0, 18.0, 19.0):
            await bench.actor.carry_out(plan(renewed), JOBS, now_seconds)
        assert told(bench)[2:] == [("c1", 60.0), ("c2", 60.0)]
        assert bench.queue.asked == [("pause", "1")]

    tried(check, "c1", "c2")


def test_a_restarted_controller_renews_what_it_finds_paused() -> None:
    async def check(bench: Bench) -> None:
        await bench.actor.carry_out(plan(replace(PAUSE, renewed=True)), JOBS, 0.0)
        assert told(bench) == [("c1", 60.0), ("c2", 60.0)]
        assert bench.queue.asked == []

    tried(check, "c1", "c2")


def test_a_resumed_job_needs_no_lease_any_more() -> None:
    async def check(bench: Bench) -> None:
        await paused_by(bench)
        (outcome,) = await bench.actor.carry_out(plan(ResumeJob(job_id="1", reason="room")), JOBS, 1.0)
        assert outcome.error == ""
        assert bench.queue.asked == [("pause", "1"), ("resume", "1")]
        assert told(bench)[2:] == [("c1", 0.0), ("c2", 0.0)]

    tried(check, "c1", "c2")


def test_a_resume_that_fails_leaves_it_to_the_leases() -> None:
    async def check(bench: Bench) -> None:
        await paused_by(bench)
        bench.queue.error = "slurmctld is away"
        (outcome,) = await bench.actor.carry_out(plan(ResumeJob(job_id="1", reason="room")), JOBS, 1.0)
        assert outcome.error == "slurmctld is away"
        assert told(bench)[2:] == []

    tried(check, "c1", "c2")


def test_a_clean_stop_lets_paused_jobs_go_on() -> None:
    async def check(bench: Bench) -> None:
        await paused_by(bench)
        assert await bench.actor.let_go(JOBS, (), ("2",)) == []
        assert sorted(bench.queue.asked) == [("pause", "1"), ("resume", "1"), ("resume", "2")]

    tried(check, "c1", "c2")


def test_a_second_pause_waits_until_the_first_is_made() -> None:
    async def check(bench: Bench) -> None:
        step = asyncio.create_task(bench.actor.carry_out(plan(PAUSE), JOBS, 0.0))
        await step
        jobs = {**JOBS, "2": running("2", ("c1",))}
        await bench.actor.carry_out(plan(replace(PAUSE, job_id="2")), jobs, 1.0)
        assert {str(message["job_id"]) for _, message in bench.nodes.sent} == {"1"}
        await bench.actor.let_go(JOBS, ())

    tried(check, "c1", "c2")

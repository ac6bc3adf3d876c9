"""The actor's pauses: no job is stopped that somebody would not let go on again."""

import asyncio
from dataclasses import replace

from slurm_power.model.action import PauseJob, ResumeJob
from slurm_power.model.site import LimitKind
from tests.controller.test_act import JOBS, Bench, plan, tried
from tests.plan.situations import running

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
        assert await bench.actor.let_go(JOBS, (), paused=("2",)) == []
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

"""A move under whatever may happen in whatever order: it ends, and nobody is worse off."""

import asyncio
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.controller.tiers.tier_book import OVER, MoveState
from slurm_power.model.job import JobState
from tests.controller.tier_world import World


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

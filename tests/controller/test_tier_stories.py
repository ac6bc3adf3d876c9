"""Moves to other tiers, whatever happens meanwhile: each ends, and a job is never worse off than before."""

import asyncio

import pytest

from slurm_power.controller.tiers.tier_book import MoveState
from slurm_power.model.job import JobState, Workload
from tests.controller.tier_world import CHECKPOINT_SECONDS, World


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

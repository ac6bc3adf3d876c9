"""The book of pauses: what is ours, who ended it, what it cost; the same after a restart."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from slurm_power.act import Pauses
from slurm_power.controller.governance.fairness_desk import FairnessDesk
from slurm_power.controller.levers.kept_levers import KeptLevers
from slurm_power.controller.levers.lever_moves import took
from slurm_power.controller.levers.levers import LeverState
from slurm_power.controller.levers.pause_desk import PauseDesk
from slurm_power.model.action import PauseJob, ResumeJob, SetCap
from slurm_power.model.job import JobState
from slurm_power.model.site import LimitKind
from slurm_power.plan.policy import Policy
from tests.controller.test_act import Nodes, Queue
from tests.plan.situations import AT, running, situation

PAUSE = PauseJob(
    job_id="1", kind=LimitKind.ECONOMIC, drawn_watts=650.0, reason="below the cliff", saved_watts=4000.0
)
RESUME = ResumeJob(job_id="1", reason="room")
CAP = SetCap(job_id="1", cap_watts=400.0, kind=LimitKind.ECONOMIC, reason="tight", slowdown_ratio=0.2)


def levers() -> LeverState:
    state = LeverState()
    state.paused.counts = True
    return state


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def test_a_pause_is_news_once_and_counts_until_it_ends() -> None:
    state = levers()
    assert took(state, PAUSE, {}, at(0.0))
    assert not took(state, PAUSE, {}, at(5.0))
    assert state.view(at(60.0)).pauses["1"].paused_seconds == 60.0
    assert state.view(at(60.0)).lost["1"].seconds == 60.0
    assert took(state, RESUME, {}, at(100.0))
    lost = state.view(at(130.0)).lost["1"]
    assert (lost.seconds, lost.resumed_seconds_ago, lost.resumed_watts) == (100.0, 30.0, 650.0)
    assert not took(state, RESUME, {}, at(131.0))


def test_what_caps_cost_counts_with_the_pauses() -> None:
    state = levers()
    took(state, CAP, {"1": 650.0}, at(0.0))
    assert state.view(at(50.0)).lost["1"].seconds == pytest.approx(10.0)
    took(state, SetCap(job_id="1", cap_watts=None, kind=LimitKind.ECONOMIC, reason="room"), {}, at(100.0))
    took(state, PAUSE, {}, at(100.0))
    assert state.view(at(110.0)).lost["1"].seconds == pytest.approx(30.0)


def test_losses_are_not_counted_where_nothing_is_ever_paused() -> None:
    state = LeverState()
    took(state, CAP, {"1": 650.0}, at(0.0))
    assert state.view(at(50.0)).lost == {}


@pytest.mark.parametrize(
    ("states", "seconds", "paused", "resumed"),
    [
        ((JobState.RUNNING,), 10.0, True, []),  # the queue was read before it stopped
        ((JobState.RUNNING,), 21.0, False, ["1"]),
        ((JobState.SUSPENDED, JobState.RUNNING), 10.0, False, ["1"]),
        ((JobState.SUSPENDED, JobState.SUSPENDED), 1000.0, True, []),
        ((JobState.SUSPENDED, JobState.ENDED), 10.0, False, []),
        ((JobState.PENDING,), 10.0, False, []),
    ],
)
def test_who_else_ends_a_pause(
    states: tuple[JobState, ...], seconds: float, paused: bool, resumed: list[str]
) -> None:
    book = levers().paused
    book.paused(PAUSE, at(0.0))
    found = [job_id for state in states for job_id in book.follow({"1": state}, at(seconds))]
    assert found == resumed
    assert ("1" in book.pauses) == paused
    assert ("1" in book.lost) == bool(resumed)


def test_a_restart_forgets_no_pause_and_no_loss() -> None:
    state = levers()
    took(state, PAUSE, {}, at(0.0))
    took(state, RESUME, {}, at(30.0))
    took(state, PAUSE, {}, at(700.0))
    stored = json.loads(json.dumps(state.to_json()))
    again = LeverState.from_json(stored, at(5000.0), 10.0)
    again.paused.counts = True
    assert again.view(at(5000.0)).pauses == state.view(at(5000.0)).pauses
    assert again.view(at(5000.0)).lost == state.view(at(5000.0)).lost


def test_a_store_of_an_earlier_version_has_no_pauses() -> None:
    stored = LeverState().to_json()
    del stored["paused"]
    assert LeverState.from_json(stored, AT, 10.0).paused.pauses == {}


def test_giving_everything_back_ends_the_pauses() -> None:
    state = levers()
    took(state, PAUSE, {}, at(0.0))
    state.let_go(at(10.0))
    assert state.paused.pauses == {}


def test_a_lease_that_ran_out_is_told_and_its_lease_ended_elsewhere() -> None:
    state, nodes, notes = levers(), Nodes("c1", "c2"), list[tuple[str, ...]]()
    desk = PauseDesk(state, Pauses(nodes, Queue(), 60.0), lambda *words, **_: notes.append(words))
    desk.follow({"1": running("1", ("c1", "c2"), state=JobState.SUSPENDED)}, AT)
    state.paused.paused(PAUSE, AT)
    desk.heard("c1", "1", "resumed", "its pause was not renewed")
    desk.heard("c2", "1", "resumed", "its pause was not renewed")
    assert [words[1] for words in notes] == ["resume"]
    assert "its pause was not renewed" in notes[0][3]
    assert [(node, message["seconds"]) for node, message in nodes.sent] == [("c1", 0.0), ("c2", 0.0)]


class States:
    def state(self, key: str, default: object = None) -> object:  # noqa: ARG002  # the port has it
        return default

    def put_state(self, key: str, value: object) -> None: ...


def worst_ratio(state: LeverState, job_state: JobState) -> float:
    desk = FairnessDesk(Policy(), States())
    desk.observe(situation(jobs=(running("1", ("c1",), state=job_state),)), state, 10.0)
    return desk.standing().worst_lost_ratio


def test_a_paused_job_loses_all_of_its_time() -> None:
    paused, halved = levers(), levers()
    took(paused, PAUSE, {}, AT)
    took(halved, replace(CAP, slowdown_ratio=0.5), {"1": 650.0}, AT)
    lost_ratio = worst_ratio(halved, JobState.RUNNING)
    assert lost_ratio > 0.0
    assert worst_ratio(paused, JobState.SUSPENDED) == pytest.approx(2.0 * lost_ratio)


def test_a_pause_is_kept_when_only_it_has_changed() -> None:
    class Kept(States):
        def __init__(self) -> None:
            self.values: dict[str, object] = {}

        def state(self, key: str, default: object = None) -> object:
            return self.values.get(key, default)

        def put_state(self, key: str, value: object) -> None:
            self.values[key] = json.loads(json.dumps(value))

    store, state = Kept(), levers()
    keeper = KeptLevers(store)
    keeper.keep(state)
    took(state, PAUSE, {}, at(0.0))
    keeper.keep(state)
    assert KeptLevers(store).read(at(5.0), 10.0).paused.pauses == state.paused.pauses

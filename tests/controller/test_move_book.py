"""The book of relocations: what is kept, for how long, and over a restart."""

import json
from datetime import UTC, datetime, timedelta

from slurm_power.controller.levers.lever_moves import took
from slurm_power.controller.levers.levers import LeverState
from slurm_power.model.action import RelocateJob
from slurm_power.model.job import JobState

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
AWAY = RelocateJob(job_id="7", avoid=("c1",), reason="rack1 is full")
BACK = RelocateJob(job_id="7", avoid=(), reason="not started")


def later(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def sent() -> LeverState:
    state = LeverState()
    assert took(state, AWAY, {}, AT)
    return state


def test_its_age_counts_from_when_it_was_sent_also_after_its_nodes_are_back() -> None:
    state = sent()
    assert state.moves.standing == ("7",)
    assert took(state, BACK, {}, later(600))
    seen = state.view(later(700)).relocations["7"]
    assert (seen.asked_seconds_ago, seen.given_back) == (700.0, True)
    assert not state.moves.standing


def test_a_restart_and_a_stop_forget_nothing() -> None:
    stored = json.loads(json.dumps(sent().to_json()))
    taken_over = LeverState.from_json(stored, later(60), 10.0)
    assert taken_over.view(later(60)) == sent().view(later(60))
    taken_over.let_go(later(70))
    assert taken_over.view(later(70)).relocations["7"].given_back
    del stored["moves"]
    assert LeverState.from_json(stored, later(60), 10.0).view(later(60)).relocations == {}


def test_a_job_that_starts_or_is_gone_is_forgotten() -> None:
    for states in ({"7": JobState.RUNNING}, {"7": JobState.STARTING}, {}):
        state = sent()
        state.follow({"7": JobState.PENDING}, later(5))
        assert state.moves.standing == ("7",)
        state.follow(states, later(6))
        assert state.view(later(6)).relocations == {}


def test_a_refused_job_is_left_alone_for_a_while() -> None:
    state = LeverState()
    state.moves.refused(AWAY, AT)
    seen = state.view(later(5)).relocations["7"]
    assert (seen.asked_seconds_ago, seen.given_back) == (5.0, True)
    state = sent()
    state.moves.refused(BACK, later(5))
    assert state.moves.standing == ("7",), "it is asked again"

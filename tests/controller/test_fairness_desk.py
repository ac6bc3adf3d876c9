"""What caps and holds cost users is counted, forgotten with time, and kept over a restart."""

import json
from dataclasses import replace
from typing import Any

import pytest

from slurm_power.controller.governance.fairness_desk import FairnessDesk
from slurm_power.controller.levers.levers import LeverState
from slurm_power.model.action import HoldJob, SetCap
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import HoldLease, Snapshot
from slurm_power.plan.policy import Policy
from tests.plan.situations import AT, pending, running, situation

POLICY = Policy(fairness_half_life_seconds=1000.0)


class Memory(dict[str, object]):
    """A store of small values, through JSON as every store is."""

    def state(self, key: str, default: object = None) -> object:
        return self.get(key, default)

    def put_state(self, key: str, value: object) -> None:
        self[key] = json.loads(json.dumps(value))


def book(store: Memory) -> Any:
    return store["fairness"]


def levers() -> LeverState:
    state = LeverState()
    cap = SetCap(job_id="1", cap_watts=500.0, kind=LimitKind.ECONOMIC, reason="x", slowdown_ratio=0.2)
    state.capped(cap, 650.0, AT)
    state.held(HoldJob(job_id="7", seconds=60.0, reason="x"), AT)
    return state


def moment() -> Snapshot:
    """Alice has two jobs, one of them capped; Bob's job is held; Carol's waits by itself.

    All are long ones, of a thousand GPUs, or seconds of them would be no debt yet.
    """
    lease = {"7": HoldLease(job_id="7", held_seconds=0.0, ends_in_seconds=60.0)}
    jobs = (
        replace(running("1", ("c1",)), gpu_count=1000),
        replace(running("2", ("c2",)), gpu_count=1000),
        pending("7", 1000),
        replace(pending("8", 1000), user="carol"),
    )
    return situation(jobs=jobs, holds=lease)


def test_losses_are_counted_by_user_and_account() -> None:
    desk = FairnessDesk(POLICY, Memory())
    for _ in range(200):
        desk.observe(moment(), levers(), 1.0)
    seen = desk.onto(moment())
    assert seen.debts == pytest.approx({"alice": 0.1, "bob": 0.25 / 2.0}, rel=0.03)
    assert seen.account_debts == pytest.approx({"physics": 0.1, "biology": 0.25 / 2.0}, rel=0.03)
    standing = desk.standing()
    assert standing.worst_user == "bob"
    assert standing.worst_lost_ratio == pytest.approx(0.125, rel=0.03)
    assert 0.99 < standing.jain_index < 1.0


def test_it_looks_and_writes_seldom() -> None:
    store = Memory()
    desk = FairnessDesk(POLICY, store)
    written = []
    for _ in range(10):
        store.clear()
        desk.observe(moment(), levers(), 1.0)
        written.append(bool(store))
    assert written == [False] * 4 + [True] + [False] * 4 + [True]


def test_a_pause_of_the_machine_is_nobodys_loss() -> None:
    store = Memory()
    FairnessDesk(POLICY, store).observe(moment(), levers(), 1e6)
    assert book(store)["users"]["bob"][1] == pytest.approx(1000 * 60.0)


def test_losses_are_forgotten_while_a_user_goes_on_unharmed() -> None:
    desk = FairnessDesk(POLICY, Memory())
    desk.observe(moment(), levers(), 60.0)
    for _ in range(100):
        desk.observe(moment(), LeverState(), 60.0)
    assert desk.onto(moment()).debts["alice"] < 0.002


def test_it_survives_a_restart_and_a_book_that_is_none() -> None:
    store = Memory()
    desk = FairnessDesk(POLICY, store)
    desk.observe(moment(), levers(), 10.0)
    again = FairnessDesk(POLICY, store)
    assert again.onto(moment()).debts == desk.onto(moment()).debts != {}
    broken: tuple[object, ...] = (None, [], {"users": 3}, {"users": {"a": "b"}})
    for stored in broken:
        assert FairnessDesk(POLICY, Memory(fairness=stored)).onto(moment()).debts == {}
    assert FairnessDesk(POLICY, Memory()).standing().worst_user is None

"""Levers over a restart: written whole seldom, and what has changed since every second."""

import json
import random
from collections.abc import Mapping
from datetime import timedelta

from slurm_power.controller.levers import kept_levers
from slurm_power.controller.levers.kept_levers import KeptLevers
from slurm_power.controller.levers.levers import LeverState
from slurm_power.model.action import HoldJob, ReleaseJob, SetCap, SetDischarge
from slurm_power.model.job import JobState
from slurm_power.model.site import LimitKind
from tests.plan.situations import AT


class MemoryStates:
    """What is put is read back as JSON makes it."""

    def __init__(self) -> None:
        self.written: list[tuple[str, object]] = []

    def put_state(self, key: str, value: object) -> None:
        self.written.append((key, json.loads(json.dumps(value))))

    def state(self, key: str, default: object = None) -> object:
        found = [value for put, value in self.written if put == key]
        return json.loads(json.dumps(found[-1])) if found else default


def cap(job_id: str, watts: float | None) -> SetCap:
    return SetCap(job_id=job_id, cap_watts=watts, kind=LimitKind.ECONOMIC, reason="tight")


def plain(levers: LeverState) -> Mapping[str, object]:
    found: Mapping[str, object] = json.loads(json.dumps(levers.to_json()))
    return found


def moved(levers: LeverState, random_: random.Random, second: int) -> None:
    """One second of a busy site."""
    at = AT + timedelta(seconds=second)
    for number in random_.sample(range(40), 12):
        job_id = str(number)
        match random_.randrange(7):
            case 0 | 1 | 2:
                levers.capped(cap(job_id, random_.choice([300.0, 400.0, None])), 600.0, at)
            case 3:
                levers.held(HoldJob(job_id=job_id, seconds=random_.choice([2.0, 60.0]), reason="x"), at)
            case 4:
                levers.released(ReleaseJob(job_id=job_id, reason="x"), at)
            case 5:
                levers.follow({str(one): JobState.RUNNING for one in range(40) if one != number}, at)
            case _:
                levers.discharged(SetDischarge(ess="b", discharge_watts=float(second), reason="x"))
    if random_.random() < 0.1:
        levers.add_event(circuit="grid", limit_watts=1.0, starts_at=at, ends_at=at, reason="x")
    levers.expire(at)


def test_a_successor_finds_what_was_kept_last() -> None:
    for seed in range(20):
        random_ = random.Random(seed)  # the same cases every time
        store, levers = MemoryStates(), LeverState()
        keeper = KeptLevers(store)
        for second in range(60):
            moved(levers, random_, second)
            keeper.keep(levers)
            at = AT + timedelta(seconds=second)
            direct = LeverState.from_json(plain(levers), at, 10.0)
            assert plain(KeptLevers(store).read(at, 10.0)) == plain(direct)
            if random_.random() < 0.1:
                # The controller is killed, and another one goes on.
                keeper = KeptLevers(store)
                levers = keeper.read(at, 10.0)


def test_a_renewal_writes_little_and_a_quiet_site_nothing() -> None:
    store, levers = MemoryStates(), LeverState()
    keeper = KeptLevers(store)
    for second in range(4):
        for number in range(1000):
            levers.capped(cap(str(number), 300.0), 600.0, AT + timedelta(seconds=second))
        keeper.keep(levers)
    assert [key for key, _ in store.written] == ["levers", *["levers_since"] * 3]
    assert len(json.dumps(store.written[-1][1])) < 500
    assert KeptLevers(store).read(AT + timedelta(seconds=12), 10.0).caps.keys() == levers.caps.keys()
    assert KeptLevers(store).read(AT + timedelta(seconds=13), 10.0).caps == {}
    keeper.keep(levers)
    assert len(store.written) == 4


def test_many_changes_are_written_whole_and_older_ones_then_count_no_more() -> None:
    store, levers = MemoryStates(), LeverState()
    keeper = KeptLevers(store)
    keeper.keep(levers)
    levers.capped(cap("0", 300.0), 600.0, AT)
    keeper.keep(levers)
    levers.capped(cap("0", None), 600.0, AT)
    for number in range(1, kept_levers._MOST_CHANGES + 5):
        levers.capped(cap(str(number), 300.0), 600.0, AT)
    keeper.keep(levers)
    assert [key for key, _ in store.written] == ["levers", "levers_since", "levers"]
    assert KeptLevers(store).read(AT, 10.0).caps.keys() == levers.caps.keys()

"""Nodes that are left to their administrators: no economic cap there, and no safety given away."""

from dataclasses import replace

import pytest

from slurm_power.model.job import Flex
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from tests.plan.situations import cap_lease, running, site, situation
from tests.plan.test_planner import caps, plan

JOBS = (running("1", ("c1",), flex=Flex.FLEX3), running("2", ("c2",), flex=Flex.FLEX2))


def yielded(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, yielded_nodes=frozenset({"c1"}))


def test_the_watts_are_found_elsewhere() -> None:
    tight = situation(of=site(with_ess=False), import_watts=30_400.0, jobs=JOBS)
    assert set(caps(plan(tight))) == {"1"}
    assert set(caps(plan(yielded(tight)))) == {"2"}


def test_an_economic_cap_is_lifted_and_says_why() -> None:
    full = situation(
        of=site(with_ess=False), import_watts=29_000.0, jobs=JOBS, caps={"1": cap_lease("1", 500.0)}
    )
    (action,) = [action for action in plan(yielded(full)).actions if action.job_id == "1"]  # type: ignore[union-attr]  # only caps here
    assert (action.cap_watts, "yielded" in action.reason) == (None, True)  # type: ignore[union-attr]  # as above


@pytest.mark.parametrize("name", ["rack1"])
def test_a_breaker_is_nobody_s_to_give_away(name: str) -> None:
    where = site(with_ess=False)
    assert where.circuits[name].limit_kind is LimitKind.SAFETY
    over = where.circuits[name].ceiling_watts + 1_500.0
    snapshot = situation(
        of=where, import_watts=20_000.0, rack_watts=(over, 2_000.0), jobs=JOBS[:1], lasting_watts={name: over}
    )
    assert caps(plan(yielded(snapshot)))["1"] is not None
    held = replace(snapshot, caps={"1": cap_lease("1", 500.0, kind=LimitKind.SAFETY)})
    assert caps(plan(yielded(held))).get("1") is not None

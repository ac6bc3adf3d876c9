"""What caps would cost: the cheapest watts first, whoever is left out, however much is asked."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.job import Flex, Workload
from slurm_power.plan.cap_columns import CapColumns
from slurm_power.plan.cap_supply import CapSupply
from slurm_power.plan.loads import load_table
from slurm_power.plan.policy import Policy
from tests.plan.situations import running, site, situation

POLICY = Policy()
JOBS = (
    running("1", ("c1",), flex=Flex.FLEX3),
    running("2", ("c2",), flex=Flex.FLEX1, workload=Workload.INFERENCE),
    running("3", ("c3",), flex=Flex.FLEX2, gpus_per_node=4),
    replace(running("4", ("c4",), flex=Flex.FLEX3), account="dear"),
    running("5", ("c4",), flex=Flex.FLEX0, gpus_per_node=1),
)


def columns() -> CapColumns:
    seen = situation(of=site(with_ess=False), jobs=JOBS, rack_watts=(12_000.0, 8_000.0))
    policy = replace(POLICY, account_weights=("dear=3",))
    return CapColumns(seen, load_table(seen, policy), policy)


COLUMNS = columns()


def by_hand(watts: float, without: frozenset[int], *, urgent: bool) -> float:
    """The same, one stretch after the other."""
    stretches = []
    rows, weights = COLUMNS.members("grid")
    for row, weight in zip(rows.tolist(), weights.tolist(), strict=True):
        if row in without or COLUMNS.flex0[row]:
            continue
        for high, low, money in zip(
            COLUMNS.high_watts[row], COLUMNS.low_watts[row], COLUMNS.money[row], strict=True
        ):
            width = min(COLUMNS.uncapped_watts[row], high) - max(low, COLUMNS.floor_watts[row])
            if width > 0.0:
                stretches.append((money * COLUMNS.gpus[row] / weight, width * weight))
    cost = 0.0
    for money, width in sorted(stretches):
        taken = min(width, watts)
        cost, watts = cost + taken * money, watts - taken
    unmet = (100.0 if urgent else 2.0) * POLICY.value_per_gpu_hour
    return (cost + watts * unmet) / 1000.0


@settings(deadline=None)
@given(st.floats(0.0, 20_000.0), st.frozensets(st.integers(0, 4)), st.booleans())
def test_the_cheapest_watts_first_whoever_is_left_out(
    watts: float, without: frozenset[int], urgent: bool
) -> None:
    supply = CapSupply(COLUMNS, "grid", POLICY, urgent=urgent)
    assert supply.cost_per_hour(watts, without) == pytest.approx(by_hand(watts, without, urgent=urgent))


def test_nothing_costs_nothing_and_more_never_costs_less_a_watt() -> None:
    supply = CapSupply(COLUMNS, "grid", POLICY, urgent=True)
    assert supply.cost_per_hour(0.0) == supply.cost_per_hour(-5.0) == 0.0
    costs = [supply.cost_per_hour(float(watts)) for watts in range(0, 15_000, 100)]
    steps = [later - earlier for earlier, later in itertools.pairwise(costs)]
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(steps))


def test_a_site_without_jobs_has_nothing_but_what_cannot_be_met() -> None:
    seen = situation(of=site(with_ess=False))
    none = CapColumns(seen, load_table(seen, POLICY), POLICY)
    assert CapSupply(none, "grid", POLICY, urgent=True).cost_per_hour(1_000.0) == pytest.approx(200.0)

"""The ranking of levers, what was chosen and what was next, and the shadow price of each limit."""

from dataclasses import replace

import pytest

from slurm_power.model.job import Flex, JobState, Workload
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Lost, PauseLease, Snapshot
from slurm_power.plan.explain import CircuitPrice, explain
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import cap_lease, ess_reading, pending, running, site, situation

POLICY = Policy()


def explained(snapshot: Snapshot, circuit: str = "grid") -> CircuitPrice:
    found = explain(snapshot, plan_cycle(snapshot, POLICY, hold_seconds=60.0), POLICY)
    return next(one for one in found if one.circuit.name == circuit)


def test_a_limit_with_room_has_no_shadow_price_but_a_ranking() -> None:
    jobs = (running("1", ("c1",)), running("2", ("c2",), workload=Workload.INFERENCE))
    found = explained(situation(import_watts=20_000.0, jobs=jobs))
    assert (found.binding, found.shadow_price, found.short_watts) == (False, None, 0.0)
    assert [row.subject for row in found.levers] == ["battery", "2", "1"]
    assert found.next is not None
    assert found.next.subject == "battery"
    assert all(row.chosen_watts == 0.0 for row in found.levers)


def test_a_battery_that_carries_it_sets_the_shadow_price() -> None:
    found = explained(situation(import_watts=32_000.0, jobs=(running("1", ("c1",)),)))
    assert found.binding
    assert found.marginal is not None and found.shadow_price is not None
    assert found.marginal.lever == "discharge"
    assert found.marginal.chosen_watts == pytest.approx(2600.0)
    assert found.shadow_price.money_per_kwh < 0.1
    assert found.next is not None and found.next.subject == "battery"


def test_an_empty_battery_leaves_it_to_the_cheapest_jobs() -> None:
    jobs = (
        running("1", ("c1",)),
        running("2", ("c2",), workload=Workload.INFERENCE),
        running("3", ("c3",), flex=Flex.FLEX0),
    )
    found = explained(situation(import_watts=30_000.0, jobs=jobs, ess=ess_reading(soc_ratio=0.2)))
    assert found.marginal is not None and found.shadow_price is not None and found.next is not None
    assert found.marginal.subject == "2"
    # Inference at its second segment: slope 0.38, 2.00 a GPU-hour, 0.65 kW a GPU.
    assert found.shadow_price.money_per_kwh == pytest.approx(0.38 * 2.0 / 0.65)
    assert found.shadow_price.work_gpu_hours_per_kwh == pytest.approx(0.38 / 0.65)
    remarks = {row.subject: row.remark for row in found.levers}
    assert remarks["battery"] == "is down to its reserve"
    assert remarks["3"] == "flex0: for safety only, and last"


def test_a_battery_that_bridges_hands_the_price_over_to_caps() -> None:
    low = ess_reading(soc_ratio=0.22)  # 2.4 kW for long, 8 kW at once
    found = explained(situation(import_watts=33_400.0, jobs=(running("1", ("c1",)),), ess=low))
    battery = next(row for row in found.levers if row.subject == "battery")
    assert battery.chosen_watts == pytest.approx(4000.0)
    assert (battery.left_watts, battery.next_price) == (0.0, None)
    assert battery.remark == "gives all that it can sustain"
    assert found.marginal is not None and found.marginal.subject == "1"


def test_what_a_standing_cap_withholds_counts_as_load() -> None:
    jobs = (running("1", ("c1",), flex=Flex.FLEX3),)
    snapshot = situation(
        of=site(with_ess=False),
        import_watts=29_000.0,
        jobs=jobs,
        gpu_watts={"1": 500.0},
        caps={"1": cap_lease("1", 500.0)},
    )
    found = explained(snapshot)
    assert found.load_watts == 29_000.0
    assert found.natural_watts == pytest.approx(29_000.0 + 8 * 150.0)
    assert found.binding
    assert found.marginal is not None and found.marginal.subject == "1"


def test_a_shortfall_is_said_with_the_ranking() -> None:
    jobs = (running("1", ("c1",), flex=Flex.FLEX0),)
    found = explained(situation(of=site(with_ess=False), import_watts=40_000.0, jobs=jobs))
    assert found.short_watts == pytest.approx(10_600.0)
    assert (found.binding, found.shadow_price, found.next) == (True, None, None)


def test_a_cap_for_a_rack_is_not_the_price_of_the_grid() -> None:
    jobs = (running("1", ("c1",), flex=Flex.FLEX1), running("3", ("c3",), flex=Flex.FLEX3))
    snapshot = situation(
        of=site(rack_limit_watts=9000.0),
        import_watts=31_000.0,
        rack_watts=(9200.0, 9000.0),
        jobs=jobs,
    )
    grid, rack = explained(snapshot), explained(snapshot, "rack1")
    assert rack.marginal is not None and rack.marginal.subject == "1"
    assert grid.marginal is not None and grid.marginal.lever == "discharge"
    assert rack.shadow_price is not None and grid.shadow_price is not None
    assert rack.shadow_price.money_per_kwh > 10.0 * grid.shadow_price.money_per_kwh


def test_a_held_job_is_a_lever_in_use() -> None:
    found = explained(situation(import_watts=29_000.0, jobs=(pending("7", 8),)))
    row = next(row for row in found.levers if row.lever == "hold")
    assert (row.subject, row.next_price) == ("7", None)
    assert row.chosen_watts > 1000.0 and row.price is not None
    assert found.binding


def test_a_silent_meter_is_no_binding_limit() -> None:
    snapshot = situation(import_watts=None, jobs=(running("1", ("c1",)),))
    blind = replace(snapshot, circuits={"grid": snapshot.circuits["grid"]})
    found = explained(blind)
    assert (found.load_watts, found.natural_watts, found.binding) == (None, None, False)


def test_pauses_are_priced_beside_caps_where_the_site_allows_them() -> None:
    policy = Policy(pause_flex="flex3")
    jobs = (
        running("1", ("c1",), flex=Flex.FLEX3),
        running("2", ("c2",), flex=Flex.FLEX3, started_seconds_ago=30.0),
        running("3", ("c3",)),
        running("4", ("c4",), flex=Flex.FLEX3, state=JobState.SUSPENDED),
    )
    lease = PauseLease(job_id="4", kind=LimitKind.ECONOMIC, drawn_watts=650.0, paused_seconds=60.0)
    snapshot = replace(
        situation(
            of=site(with_ess=False),
            import_watts=29_000.0,
            jobs=jobs,
            gpu_watts={"4": 120.0},
        ),
        pauses={"4": lease},
        lost={"4": Lost(seconds=60.0)},
    )
    plan = plan_cycle(snapshot, policy, hold_seconds=60.0)
    (found, *_) = explain(snapshot, plan, policy)
    rows = {row.subject: row for row in found.levers if row.lever == "pause"}
    assert set(rows) == {"1", "2", "4"}
    # A GPU-hour at half weight for 530 W, and half a minute of work in the longest pause.
    work = 0.5 * (1.0 + 30.0 / 540.0) / 0.530
    next_price = rows["1"].next_price
    assert next_price is not None
    assert next_price.work_gpu_hours_per_kwh == pytest.approx(work)
    assert next_price.money_per_kwh == pytest.approx(2.0 * work)
    assert rows["2"].remark == "has run too short for a pause within its promise"
    assert rows["4"].price is not None
    # Its GPUs and, with them, its share of the host.
    assert rows["4"].chosen_watts == pytest.approx(8 * (530.0 + 225.0 * 530.0 / 575.0))
    assert found.natural_watts == pytest.approx(29_000.0 + rows["4"].chosen_watts)

"""`plan --explain` on model tiers and batches: priced beside all other levers, shadow prices as they were."""

from dataclasses import replace

import pytest

from slurm_power.model.job import Flex, Workload
from slurm_power.model.job_curve import BatchPoint, JobCurve
from slurm_power.model.progress import JobProgress
from slurm_power.model.service import Backend, BackendState, Service
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.tier import Catalog
from slurm_power.plan.explain import CircuitPrice, LeverPrice, explain
from tests.plan.situations import running
from tests.plan.tier_situations import POLICY, consenting, event, facing, planned


def explained(snapshot: Snapshot) -> CircuitPrice:
    found = explain(snapshot, planned(snapshot), POLICY)
    return next(one for one in found if one.circuit.name == "grid")


def row(found: CircuitPrice, lever: str) -> LeverPrice:
    (one,) = [one for one in found.levers if one.lever == lever]
    return one


def test_a_move_that_is_begun_has_its_price() -> None:
    """120 s of 8 GPUs in an hour, flex1: 8 x 120 / 3600 x 2 GPU-hours, for 3 kW."""
    one = row(explained(facing()), "tier")
    assert (one.subject, one.left_watts) == ("1", 0.0)
    assert one.chosen_watts == pytest.approx(3_000.0)
    assert one.price is not None
    assert one.price.work_gpu_hours_per_kwh == pytest.approx(8 * 120.0 / 3_600.0 * 2.0 / 3.0)
    assert one.price.money_per_kwh == pytest.approx(2.0 * one.price.work_gpu_hours_per_kwh)


def test_one_that_could_be_says_for_how_much_and_one_that_cannot_says_why() -> None:
    one = row(explained(facing(events=())), "tier")
    assert one.left_watts == pytest.approx(3_000.0)
    assert one.price is None
    assert one.next_price is not None
    refused = row(explained(facing((consenting(requeues=False),))), "tier")
    assert (refused.price, refused.next_price, refused.remark) == (None, None, "may not be queued again")


def test_services_and_batches_have_rows_too() -> None:
    chat = Service(
        name="chat",
        user="alice",
        account="physics",
        family="digits",
        full_tier="full",
        tiers_ok=("half",),
        serving="full",
        backends=(Backend(tier="full", state=BackendState.SERVING, job_id="1"),),
    )
    server = running("1", ("c1",), flex=Flex.FLEX0, workload=Workload.INFERENCE)
    one = row(explained(facing((server,), services={"chat": chat})), "service")
    assert (one.subject, one.job) == ("chat", server)
    assert one.chosen_watts == pytest.approx(3_000.0)
    points = tuple(
        BatchPoint(micro_batch=size, gpu_watts=watts, samples_per_second=rate, count=8)
        for size, watts, rate in ((32, 540.0, 98.0), (64, 600.0, 100.0))
    )
    word = JobProgress(
        step=1,
        samples_per_second=1.0,
        age_seconds=1.0,
        global_batch=256,
        micro_batch=64,
        max_micro_batch=64,
    )
    training = running("1", ("c1",), flex=Flex.FLEX2)
    told = facing((training,), events=(), learned={"1": JobCurve(batches=points)}, progress={"1": word})
    found = row(explained(told), "batch")
    assert found.left_watts == pytest.approx(8 * 60.0)
    assert found.remark == ""


def test_shadow_prices_are_those_of_the_other_levers() -> None:
    jobs = (consenting(), running("2", ("c2",), flex=Flex.FLEX2))
    seen = facing(jobs, import_watts=15_000.0, events=(event(12_000.0, starts_in=-60.0),))
    with_tiers, without = explained(seen), explained(replace(seen, catalog=Catalog()))
    assert row(with_tiers, "tier").price is not None
    assert with_tiers.shadow_price == without.shadow_price
    assert [one.lever for one in without.levers if one.lever == "tier"] == []

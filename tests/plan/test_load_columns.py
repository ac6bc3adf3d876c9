"""The columns say what the jobs and GPUs say one by one, whatever was planned a moment before."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from slurm_power.model.job import JobState
from slurm_power.model.reading import GpuReading, Quality, gpu_sums
from slurm_power.model.site import Circuit, Ess, LimitKind, Site
from slurm_power.model.snapshot import NodeState, Snapshot
from slurm_power.plan.job_table import pending_jobs
from slurm_power.plan.loads import behind_discharge_watts, circuit_watts, job_loads, load_table
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import AT, cap_lease, ess_reading, gpu, pending, running, site, situation
from tests.plan.test_planner_properties import snapshots

POLICY = Policy()


def gpus_of(snapshot: Snapshot, job_id: str) -> list[GpuReading]:
    job = next(job for job in snapshot.jobs if job.job_id == job_id)
    return [snapshot.nodes[node].gpus[uuid] for node, uuids in job.gpus_by_node for uuid in uuids]


@settings(max_examples=80, deadline=None)
@given(snapshots())
def test_a_jobs_load_is_that_of_its_gpus(snapshot: Snapshot) -> None:
    loads = job_loads(snapshot, POLICY)
    placed = [job for job in snapshot.jobs if job.state is not JobState.PENDING]
    assert [load.job for load in loads] == placed
    for load in loads:
        watts = [reading.power_watts for reading in gpus_of(snapshot, load.job.job_id)]
        assert load.gpu_watts == pytest.approx(sum(watts) / len(watts))
        assert load.busiest_watts == max(watts)
        lease = snapshot.caps.get(load.job.job_id)
        assert load.cap_watts == (None if lease is None else lease.cap_watts)
        assert load.uncapped_watts >= load.gpu_watts - 1e-9
        assert load.coming_watts >= 0.0


@settings(max_examples=80, deadline=None)
@given(snapshots())
def test_circuits_see_the_sum_of_what_is_coming_and_withheld(snapshot: Snapshot) -> None:
    table, loads = load_table(snapshot, POLICY), job_loads(snapshot, POLICY)
    for name in snapshot.site.circuits:
        coming = sum(load.coming_watts * load.circuit_weights.get(name, 0.0) for load in loads)
        withheld = sum(
            max(0.0, load.uncapped_watts - load.gpu_watts - load.coming_watts)
            * load.circuit_weights.get(name, 0.0)
            for load in loads
            if load.cap_watts is not None
        )
        assert table.circuit_coming_watts[name] == pytest.approx(coming)
        assert table.circuit_withheld_watts[name] == pytest.approx(withheld)


@settings(max_examples=60, deadline=None)
@given(snapshots(), snapshots())
def test_what_was_planned_before_changes_nothing(first: Snapshot, second: Snapshot) -> None:
    alone = plan_cycle(replace(second), POLICY, hold_seconds=60.0)
    plan_cycle(first, POLICY, hold_seconds=60.0)
    assert plan_cycle(replace(second), POLICY, hold_seconds=60.0) == alone


def test_a_node_that_reports_again_counts_with_its_new_report() -> None:
    seen = situation(jobs=(running("1", ("c1", "c2")),))
    (before,) = job_loads(seen, POLICY)
    report = {uuid: replace(one, power_watts=350.0) for uuid, one in seen.nodes["c2"].gpus.items()}
    later = replace(seen, nodes={**seen.nodes, "c2": NodeState(name="c2", age_seconds=0.1, gpus=report)})
    (after,) = job_loads(later, POLICY)
    assert (before.gpu_watts, after.gpu_watts) == (650.0, 500.0)
    silent = replace(later, nodes={"c1": later.nodes["c1"]})
    (half,) = job_loads(silent, POLICY)
    assert (half.gpu_watts, half.covered, after.covered) == (650.0, False, True)


def test_sums_that_came_with_the_report_are_taken_as_they_are() -> None:
    seen = situation(jobs=(running("1", ("c1",)),))
    node = seen.nodes["c1"]
    uuids = tuple(node.gpus)
    told = gpu_sums(node.gpus, uuids)._replace(power_watts=8.0 * 600.0)
    summed = replace(seen, nodes={"c1": replace(node, sums={uuids: told})})
    (load,) = job_loads(summed, POLICY)
    assert load.gpu_watts == 600.0


def test_odd_gpus_are_seen_in_the_sums() -> None:
    good, lost = gpu("GPU-0", 600.0), replace(gpu("GPU-1", 0.0), error="gone")
    parted = replace(gpu("GPU-2", 300.0), mig_enabled=True, min_cap_watts=250.0, default_cap_watts=650.0)
    gpus = {one.uuid: one for one in (good, lost, parted)}
    found = gpu_sums(gpus, ("GPU-0", "GPU-1", "GPU-2", "GPU-9"))
    assert (found.found, found.power_watts, found.busiest_watts) == (3.0, 900.0, 600.0)
    assert (found.default_cap_watts, found.min_cap_watts) == (650.0, 250.0)
    assert (found.parted, found.lost) == (1.0, 1.0)
    assert gpu_sums(gpus, ("GPU-0",)).lost == 0.0
    assert (gpu_sums(gpus, ()).lost, gpu_sums(gpus, ("GPU-9",)).lost) == (0.0, 1.0)


def test_a_waiting_jobs_columns_are_in_the_order_of_the_queue() -> None:
    jobs = (
        pending("1", 8, submitted_seconds_ago=10.0),
        replace(pending("2", 4), submitted=None),
        pending("3", 16, submitted_seconds_ago=90.0, begin_in_seconds=60.0),
        replace(pending("4", 2, submitted_seconds_ago=50.0), planned_nodes=("c1", "c3")),
        pending("5", 8, held_by_user=True),
        pending("6", 0),
    )
    seen = situation(of=site(overhead_ratio=1.5), jobs=jobs)
    waiting = pending_jobs(seen)
    assert [job.job_id for job in waiting.jobs] == ["3", "4", "1", "2"]
    assert waiting.gpus.tolist() == [16.0, 2.0, 8.0, 4.0]
    assert waiting.begin_at[0] == AT.timestamp() + 60.0
    shares = zip(waiting.share_row.tolist(), waiting.share.tolist(), strict=True)
    assert list(shares) == [(1, 1.0), (1, 1.0), (1, 3.0)], "a GPU at each rack, both with losses at the grid"


def test_a_capped_job_without_a_reading_keeps_its_cap() -> None:
    lost = replace(running("1", ("c1",)), gpus_by_node=())
    (load,) = job_loads(situation(jobs=(lost,), caps={"1": cap_lease("1", 400.0)}), POLICY)
    assert (load.cap_watts, load.reachable, load.covered) == (400.0, False, False)


def tree() -> Site:
    circuits = [
        Circuit(name="rack", parent="hall", rating_watts=1.0, limit_kind=LimitKind.SAFETY, nodes=("a", "b")),
        Circuit(name="grid", rating_watts=1.0, limit_kind=LimitKind.ECONOMIC, overhead_ratio=1.1),
        Circuit(
            name="hall", parent="grid", rating_watts=1.0, limit_kind=LimitKind.SAFETY, overhead_ratio=1.2
        ),
        Circuit(name="lone", parent="grid", rating_watts=1.0, limit_kind=LimitKind.SAFETY),
    ]
    battery = {"battery": Ess(name="battery", circuit="hall")}
    return Site(name="tree", circuits={circuit.name: circuit for circuit in circuits}, ess=battery)


def test_a_site_knows_its_tree() -> None:
    one = tree()
    assert one.root.name == "grid"
    assert one.path("rack") == one.circuits_of_node("a") == ("rack", "hall", "grid")
    assert dict(one.path_factors("rack")) == pytest.approx({"rack": 1.0, "hall": 1.2, "grid": 1.32})
    assert (one.children("grid"), one.children("rack")) == (("hall", "lone"), ())
    assert [circuit.name for circuit in one.leaves_first()] == ["rack", "hall", "lone", "grid"]
    assert (one.ess_behind("grid"), one.ess_behind("rack")) == (("battery",), ())
    assert (one.circuit_of_node("b"), one.circuit_of_node("z")) == ("rack", None)
    assert one.circuits_of_node("z") == ()
    assert replace(one, name="other") != one
    assert tree() == one


def test_a_circuit_without_a_meter_is_the_sum_of_what_it_feeds() -> None:
    seen = situation(rack_watts=(10_000.0, 9_000.0), ess=ess_reading(discharge_watts=2000.0))
    dark = replace(seen, circuits={name: seen.circuits[name] for name in ("rack1", "rack2")})
    assert circuit_watts(dark, "grid") == 17_000.0
    assert behind_discharge_watts(dark, "grid") == 2000.0
    silent = replace(dark, circuits={"rack1": replace(seen.circuits["rack1"], quality=Quality.INVALID)})
    assert circuit_watts(silent, "grid") is None

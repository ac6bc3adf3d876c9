"""Jobs on GPUs that are cut into MIG instances: whose GPU is it, and what of its energy is whose."""

import math
from pathlib import Path

import pytest

from slurm_power.model.reading import GpuReading
from slurm_power.node.counters import Count
from slurm_power.node.jobs import NodeJob, NodeJobs
from slurm_power.node.processes import GpuProcess, JobStep
from slurm_power.node.visits import Node, Visit


def gpu(slot: int, *mig_uuids: str) -> GpuReading:
    return GpuReading(
        uuid=f"GPU-{slot}",
        slot=slot,
        name="H100",
        power_watts=500.0,
        energy_joules=None,
        utilization_ratio=0.0,
        sm_clock_hertz=1e9,
        temperature_celsius=40.0,
        requested_cap_watts=700.0,
        enforced_cap_watts=700.0,
        default_cap_watts=700.0,
        min_cap_watts=200.0,
        max_cap_watts=700.0,
        mig_enabled=bool(mig_uuids),
        mig_uuids=mig_uuids,
    )


def node(*gpus: GpuReading) -> Node:
    made = Node()
    for reading in gpus:
        made.take_visit(reading.uuid, Visit(reading=reading, error=""))
    return made


def job(job_id: str, *slots: int, mig_uuids: tuple[str, ...] = ()) -> NodeJob:
    return NodeJob(
        job_id=job_id, user="a", uid=1, gpu_slots=slots, mig_uuids=mig_uuids, workload=None, flex=None
    )


def test_slots_name_gpus_where_none_is_cut_and_instances_where_one_is() -> None:
    whole = node(gpu(0), gpu(1))
    assert whole.gpus_of([1], ["MIG-0a"]) == ["GPU-1"]
    cut = node(gpu(0, "MIG-0a", "MIG-0b"), gpu(1, "MIG-1a"), gpu(2))
    assert cut.gpus_of([1], ["MIG-0b"]) == ["GPU-0"]
    assert cut.gpus_of([0, 2], ["MIG-0a", "MIG-1a"]) == ["GPU-0", "GPU-1"]
    assert cut.gpus_of([2], []) == [], "Slurm counts instances: its 2 may be anything"


def process(pid: int, job_id: str | None) -> GpuProcess:
    return GpuProcess(pid=pid, job=None if job_id is None else JobStep(job_id=job_id))


def test_a_job_gets_the_gpu_its_processes_compute_on(tmp_path: Path) -> None:
    jobs = NodeJobs(tmp_path, "boot")
    first = job("1", 3)
    jobs.start(first)
    seen = [process(7, "1"), process(8, "1"), process(9, None), process(10, "99")]
    assert jobs.adopt("GPU-0", seen) == [first]
    assert first.gpus == ["GPU-0"]
    assert jobs.adopt("GPU-0", seen) == [], "told once"
    jobs.save_if_changed(math.inf)
    again = NodeJobs(tmp_path, "boot")
    again.load()
    assert [(each.job_id, each.gpus) for each in again.all()] == [("1", ["GPU-0"])]


def test_what_several_jobs_draw_from_one_gpu_is_shared_and_told_as_that(tmp_path: Path) -> None:
    jobs = NodeJobs(tmp_path, "boot")
    first, second = job("1", mig_uuids=("MIG-0a",)), job("2", mig_uuids=("MIG-0b",))
    jobs.start(first)
    jobs.resolve(node(gpu(0, "MIG-0a", "MIG-0b")).gpus_of)
    for second_number in range(11):
        jobs.take_power("GPU-0", 500.0, float(second_number))
    jobs.start(second)
    jobs.resolve(node(gpu(0, "MIG-0a", "MIG-0b")).gpus_of)
    for second_number in range(11, 22):
        jobs.take_power("GPU-0", 500.0, float(second_number))
    assert first.used().energy_joules == pytest.approx(500.0 * 21)
    assert first.used().shared_joules == pytest.approx(500.0 * 11)
    assert second.used().shared_joules == second.used().energy_joules == pytest.approx(500.0 * 10)
    jobs.lead_on(first, 22.0)
    jobs.lead_on(second, 22.0)
    jobs.take_host(0.0, 22.0, 1)
    jobs.take_host(600.0, 32.0, 1)
    assert first.host_joules == second.host_joules == pytest.approx(300.0)
    jobs.take_rack(1000.0, 40.0)
    jobs.take_rack(1000.0, 50.0)
    assert first.pdu_joules == second.pdu_joules == pytest.approx(5_000.0)


def test_neither_of_two_jobs_on_one_gpu_is_a_stranger_there(tmp_path: Path) -> None:
    jobs = NodeJobs(tmp_path, "boot")
    for job_id in ("1", "2"):
        jobs.start(job(job_id))
    seen = (process(7, "1"), process(8, "2"), process(9, None))
    jobs.adopt("GPU-0", seen)
    count = Count(joules=None, driver_load="x", processes=seen, at_seconds=1.0, error="")
    assert [stranger.pid for stranger in jobs.take_count("GPU-0", count, 700.0)] == [9]

"""The virtual machine: placement, power of circuits, work under caps, first come first served."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.job import Flex
from slurm_power.plan.curves import performance_ratio
from slurm_power.simulate.cluster import Cluster, PlantJob, gpus_in_use, natural_watts
from slurm_power.simulate.jobs_run import Window, simulate
from tests.simulate.plant_jobs import job, layout


def started(cluster: Cluster, *jobs: PlantJob) -> list[str]:
    for one in jobs:
        cluster.submit(one)
    return [one.job_id for one in cluster.start_waiting(lambda _: True)]


def test_power_goes_up_the_tree_with_its_losses() -> None:
    where = layout()
    cluster = Cluster(where, 0.0)
    idle = where.idle_watts
    assert idle.tolist() == pytest.approx([32 * 250 * 1.15, 16 * 250, 16 * 250])
    started(cluster, job("1", 8, watts=500.0))
    assert (cluster.watts - idle).tolist() == pytest.approx([4000 * 1.15, 4000, 0])
    started(cluster, job("2", 16, watts=100.0))
    assert (cluster.watts - idle).tolist() == pytest.approx([5600 * 1.15, 4800, 800])


def test_a_small_job_gets_the_first_node_with_room_and_a_wide_one_the_emptiest() -> None:
    cluster = Cluster(layout(), 0.0)
    one, two, wide = job("1", 5), job("2", 4), job("3", 20)
    started(cluster, one, two, wide)
    assert [one.nodes.tolist(), two.nodes.tolist()] == [[0], [1]]
    assert sorted(zip(wide.nodes.tolist(), wide.node_gpus.tolist(), strict=True)) == [(1, 4), (2, 8), (3, 8)]
    assert cluster.free_gpus == 32 - 29


def test_a_capped_job_runs_until_its_work_is_done() -> None:
    cluster = Cluster(layout(), 0.0)
    one = job("1", run=3600.0)
    started(cluster, one)
    cluster.set_power_ratio(one, 0.75)
    performance = performance_ratio(one.workload, 0.75)
    assert one.watts == pytest.approx(500.0 - 0.25 * 575.0)
    assert cluster.next_end_seconds == pytest.approx(3600.0 / performance)
    cluster.advance(1800.0)
    cluster.set_power_ratio(one, 1.0)
    left = 3600.0 - 1800.0 * performance
    assert cluster.next_end_seconds == pytest.approx(1800.0 + left)
    cluster.advance(cluster.next_end_seconds)
    assert cluster.finish_due() == [one]
    assert one.lost_seconds == pytest.approx(1800.0 * (1.0 - performance))
    assert one.done_seconds == pytest.approx(3600.0)
    assert cluster.watts.tolist() == cluster.layout.idle_watts.tolist()


def test_first_come_first_served_and_who_delays_nobody_may_pass() -> None:
    cluster = Cluster(layout(), 0.0)
    started(cluster, job("runs", 24, limit=3600.0))
    # 8 are free; the next wants 16 and will get them in an hour, when 16 more than it needs are there.
    found = started(cluster, job("head", 16), job("short", 8, limit=3000.0), job("long", 8, limit=9000.0))
    assert found == ["short"]
    cluster = Cluster(layout(), 0.0)
    started(cluster, job("runs", 24, limit=3600.0))
    assert started(cluster, job("head", 32), job("long", 8, limit=9000.0)) == []
    assert started(cluster, job("short", 8, limit=3600.0)) == ["short"]


def test_a_held_job_blocks_nobody_and_its_time_is_counted() -> None:
    cluster = Cluster(layout(), 0.0)
    held, other = job("held"), job("other")
    cluster.submit(held)
    cluster.submit(other)
    assert [one.job_id for one in cluster.start_waiting(lambda one: one is other)] == ["other"]
    cluster.advance(600.0)
    assert cluster.held_seconds(held) == 600.0
    cluster.start_waiting(lambda _: True)
    assert held.held_seconds == 600.0
    assert held.started_seconds == 600.0


def test_waiting_for_gpus_is_no_hold() -> None:
    cluster = Cluster(layout(), 0.0)
    started(cluster, job("runs", 32))
    waits = job("waits")
    cluster.submit(waits)
    cluster.start_waiting(lambda _: False)
    cluster.advance(100.0)
    assert cluster.held_seconds(waits) == 0.0


@st.composite
def logs(draw: st.DrawFn) -> list[PlantJob]:
    """Jobs that may ask for more than there is at once; own scheduler."""
    return [
        job(
            str(number),
            draw(st.integers(1, 32)),
            at=float(draw(st.integers(0, 20_000))),
            run=float(draw(st.integers(1, 20_000))),
            limit=draw(st.sampled_from((None, 3600.0, 20_000.0))),
            flex=draw(st.sampled_from(Flex)),
            watts=draw(st.sampled_from((0.0, 100.0, 650.0))),
        )
        for number in range(draw(st.integers(1, 12)))
    ]


@settings(max_examples=60, deadline=None)
@given(logs())
def test_no_job_is_lost_and_energy_is_that_of_the_jobs(jobs: list[PlantJob]) -> None:
    where = layout()
    window = Window(begin_seconds=0.0, step_seconds=900.0, steps=400)
    ran = simulate(where, jobs, window)
    assert {one.job_id for one in ran.jobs} == {one.job_id for one in jobs}
    assert all(one.ended_seconds is not None for one in ran.jobs)
    for one in ran.jobs:
        assert one.started_seconds is not None
        assert one.ended_seconds is not None
        assert one.done_seconds == pytest.approx(
            next(other.work_seconds for other in jobs if other.job_id == one.job_id)
        )
    energy = sum(one.dynamic_watts * one.gpus * one.done_seconds for one in ran.jobs)
    idle = where.idle_watts[0] * window.step_seconds * window.steps
    assert np.sum(ran.load_watts) * window.step_seconds == pytest.approx(idle + 1.15 * energy)
    racks = np.sum(ran.circuit_watts[:, 1:], axis=1) * 1.15
    assert racks == pytest.approx(ran.circuit_watts[:, 0])
    as_it_ran = [
        job(one.job_id, one.gpus, at=one.started_seconds or 0.0, run=one.done_seconds) for one in ran.jobs
    ]
    assert max(gpus_in_use(as_it_ran).values()) <= where.gpus


def test_a_log_that_fits_is_replayed_to_the_watt() -> None:
    where = layout()
    jobs = [job(str(n), 8, at=700.0 * n, run=2500.0 + 13.0 * n, watts=50.0 * n) for n in range(1, 9)]
    window = Window(begin_seconds=2000.0, step_seconds=300.0, steps=40)
    ran = simulate(where, jobs, window)
    expected = natural_watts(where, jobs, 2000.0, 300.0, 40)
    assert ran.load_watts == pytest.approx(expected)
    assert all(one.started_seconds == one.eligible_seconds for one in ran.jobs)


def test_only_who_overlapped_in_the_log_may_do_so_again() -> None:
    before, over, late = job("1", 32, run=3600.0), job("2", 8, at=3590.0), job("3", 8, at=3591.0)
    over.overlap_gpus = 8
    window = Window(begin_seconds=0.0, step_seconds=300.0, steps=40)
    ran = {one.job_id: one for one in simulate(layout(), [before, over, late], window, extra_gpus=8).jobs}
    assert ran["2"].started_seconds == 3590.0
    assert ran["3"].started_seconds == 3600.0


def test_a_hold_ends_where_the_gpus_are_gone() -> None:
    cluster = Cluster(layout(), 0.0)
    held = job("held", 8)
    cluster.submit(held)
    cluster.start_waiting(lambda _: False)
    cluster.advance(60.0)
    # The others came first and take everything; one more has to wait for them.
    cluster.queue = [job("all", 32), job("head", 32), held]
    cluster.start_waiting(lambda _: True)
    cluster.advance(600.0)
    assert cluster.held_seconds(held) == 60.0


def test_fifty_thousand_jobs_at_once_are_run() -> None:
    jobs = [job(str(number), 8, at=0.0, run=60.0) for number in range(50_000)]
    for one in jobs:
        one.eligible_seconds = 1e9
    window = Window(begin_seconds=0.0, step_seconds=3600.0, steps=10)
    ran = simulate(layout(), jobs, window)
    # Four at a time, each a minute, ten hours.
    assert sum(one.ended_seconds is not None for one in ran.jobs) == pytest.approx(2400, abs=4)

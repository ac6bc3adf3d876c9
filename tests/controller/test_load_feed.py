"""What the forecast learns from: one figure for what is stored and for what is fed."""

from datetime import timedelta

import pytest

from slurm_power.controller.jobs.job_feed import JobFeed
from slurm_power.controller.records.series_values import series_values
from slurm_power.controller.sensing.load_feed import StepMeans, circuit_loads
from slurm_power.model.job import JobState
from slurm_power.model.reading import judged
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import job_loads
from slurm_power.plan.policy import Policy
from slurm_power.plan.starts import coming_starts, rooms
from tests.plan.situations import AT, cap_lease, ess_reading, pending, running, site, situation

POLICY = Policy(idle_gpu_watts=50.0, training_gpu_watts=650.0, host_watts_per_gpu=200.0)


def capped() -> Snapshot:
    return situation(
        import_watts=14_000.0,
        rack_watts=(6_000.0, 8_000.0),
        jobs=(running("1", ("c1",)),),
        gpu_watts={"1": 400.0},
        caps={"1": cap_lease("1", 400.0, uncapped_watts=600.0)},
        ess=ess_reading(discharge_watts=2_000.0),
    )


def test_load_is_what_was_wanted_and_not_what_was_let_through() -> None:
    snapshot = capped()
    loads = circuit_loads(snapshot, job_loads(snapshot, POLICY))
    assert loads == {"grid": 14_000.0 + 2_000.0 + 8 * 200.0, "rack1": 6_000.0 + 8 * 200.0, "rack2": 8_000.0}


def test_what_is_stored_is_what_is_fed() -> None:
    snapshot = capped()
    stored = series_values(snapshot, POLICY)
    fed = circuit_loads(snapshot, job_loads(snapshot, POLICY))
    assert {name: stored[f"circuit.{name}.load_watts"] for name in fed} == fed


def test_a_circuit_that_is_not_measured_is_not_known() -> None:
    snapshot = situation(import_watts=None)
    broken = {**snapshot.circuits, "rack1": judged("pdu1", None, 1.0, 6.0)}
    blind = Snapshot(at=AT, site=site(), circuits=broken, ess=snapshot.ess, nodes={}, jobs=(), setpoints={})
    found = circuit_loads(blind, ())
    assert found["grid"] is None and found["rack1"] is None and found["rack2"] is not None


def test_step_means_end_with_the_step() -> None:
    means = StepMeans(60.0)
    assert means.add(30.0, {"a": 10.0, "b": None}) is None
    assert means.add(59.9, {"a": 20.0, "b": None}) is None
    assert means.add(60.0, {"a": 99.0, "b": 5.0}) == (60.0, {"a": 15.0, "b": None})
    assert means.add(200.0, {"a": 1.0, "b": 1.0}) == (120.0, {"a": 99.0, "b": 5.0})


def test_step_means_survive_a_clock_that_is_set_back() -> None:
    means = StepMeans(60.0)
    means.add(1_000.0, {"a": 10.0})
    assert means.add(30.0, {"a": 20.0}) == (1_020.0, {"a": 10.0})
    assert means.add(61.0, {"a": 1.0}) == (60.0, {"a": 20.0})


def test_jobs_are_told_by_what_they_change_on_each_circuit() -> None:
    feed = JobFeed()
    ready = running("1", ("c1",))
    starting = running("2", ("c3",), started_seconds_ago=1.0)
    waiting = pending("3", 8, begin_in_seconds=120.0)
    late = pending("4", 8, begin_in_seconds=7_200.0)
    snapshot = situation(jobs=(ready, starting, waiting, late), gpu_watts={"1": 650.0, "2": 150.0})
    feed.follow(snapshot)
    starts = coming_starts(snapshot, POLICY, rooms(site(), {"c1": 8, "c2": 8, "c3": 8, "c4": 8}))
    loads = job_loads(snapshot, POLICY)
    told = feed.message(snapshot, POLICY, loads, starts, within_seconds=3_600.0)
    assert told["running"] == [
        ["alice", 8, pytest.approx(30 * 86_400.0), 600.0, {"rack1": 4_800.0, "grid": 4_800.0}],
        ["alice", 8, pytest.approx(30 * 86_400.0), 1.0, {"rack2": 800.0, "grid": 800.0}],
    ]
    # The second one has 500 W a GPU still to come, and the share of its host that goes with them.
    coming = told["planned"][0][4]["grid"]
    assert 8 * 500.0 < coming <= 8 * 700.0
    assert told["planned"][1][3:] == [120.0, {"grid": 6_400.0, "rack1": 6_400.0, "rack2": 6_400.0}]
    assert len(told["planned"]) == 2 and told["ended"] == []
    assert (told["total_gpus"], told["free_gpus"]) == (16, 0)


def test_who_is_gone_has_ended_and_is_told_once() -> None:
    feed = JobFeed()
    feed.follow(situation(jobs=(running("1", ("c1",)), running("2", ("c2",)))))
    after = situation(jobs=(running("2", ("c2",), state=JobState.ENDING),))
    feed.follow(after)
    ended = feed.message(after, POLICY, (), (), within_seconds=60.0)["ended"]
    assert [row[3] for row in ended] == [600.0, 600.0]
    feed.follow(after)
    assert feed.message(after, POLICY, (), (), within_seconds=60.0)["ended"] == []


def test_while_nobody_knows_the_jobs_none_has_ended() -> None:
    feed = JobFeed()
    feed.follow(situation(jobs=(running("1", ("c1",)),)))
    unknown = Snapshot(
        at=AT + timedelta(seconds=1),
        site=site(),
        circuits={},
        ess={},
        nodes={},
        jobs=(),
        jobs_age_seconds=None,
    )
    feed.follow(unknown)
    assert feed.message(unknown, POLICY, (), (), within_seconds=60.0)["ended"] == []

"""How the words of meters, batteries, nodes and the workload manager become one snapshot."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.model.reading import NodeDraw, Quality
from slurm_power.model.snapshot import Snapshot
from slurm_power.telemetry import Levers, SiteTelemetry
from slurm_power.wire import WireError
from tests.plan.situations import ess_reading, pending, running, site

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEASE = {"lease_id": "L", "uuid": "c1-0", "job_id": "17", "state": "verified", "kind": "economic"}
NOTHING = Levers(caps={}, holds={}, setpoints={}, events=())


class Desk:
    """A telemetry and its clock."""

    def __init__(self) -> None:
        self.telemetry = SiteTelemetry(site(), {"grid": ("meter", 3.0), "rack1": ("pdu1", 6.0)})

    def seen(self, now_seconds: float) -> Snapshot:
        return self.telemetry.snapshot(AT, now_seconds, NOTHING)

    def jobs(self, now_seconds: float) -> dict[str, Job]:
        return {job.job_id: job for job in self.seen(now_seconds).jobs}

    def report(self, node: str, now_seconds: float, *jobs: dict[str, Any], gpu_watts: float = 600.0) -> None:
        self.telemetry.node_reported(node, message(node, *jobs, gpu_watts=gpu_watts), now_seconds)


def message(node: str, *jobs: dict[str, Any], gpu_watts: float = 600.0) -> dict[str, Any]:
    numbers = dict.fromkeys(("utilization_ratio", "sm_clock_hertz", "temperature_celsius"), 1.0)
    caps = dict.fromkeys(
        ("requested_cap_watts", "enforced_cap_watts", "default_cap_watts", "max_cap_watts"), 700.0
    )
    gpu = {"uuid": f"{node}-0", "slot": 0, "name": "H100", "power_watts": gpu_watts, "energy_joules": None}
    return {
        "type": "telemetry",
        "gpus": [{**gpu, **numbers, **caps, "min_cap_watts": 200.0}],
        "leases": [],
        "jobs": list(jobs),
    }


def told(node: str, job_id: str = "17", **more: object) -> dict[str, Any]:
    job = {"job_id": job_id, "user": "alice", "gpus": [f"{node}-0"], "workload": "inference", "flex": "flex2"}
    return {**job, **more}


def test_a_node_sees_a_start_before_the_list_does() -> None:
    desk = Desk()
    desk.telemetry.job_registered("c1", told("c1"), 10.0)
    unlisted = desk.jobs(10.1)["17"]
    assert (unlisted.state, unlisted.user, unlisted.gpu_count) == (JobState.STARTING, "alice", 1)
    assert (unlisted.workload, unlisted.flex, unlisted.nodes) == (Workload.INFERENCE, Flex.FLEX2, ("c1",))
    desk.telemetry.jobs_listed((pending("17", 2),), 11.0)
    listed = desk.jobs(11.1)["17"]
    assert (listed.state, listed.gpu_count, listed.name) == (JobState.STARTING, 2, "job17")
    assert listed.gpus_by_node == (("c1", ("c1-0",)),)
    desk.telemetry.jobs_listed((running("17", ("c1",), gpus_per_node=1),), 15.0)
    assert desk.jobs(15.1)["17"].state is JobState.RUNNING


def test_a_job_on_two_nodes_leaves_when_both_have_said_so() -> None:
    desk = Desk()
    for node in ("c1", "c2"):
        desk.telemetry.job_registered(node, told(node), 10.0)
    assert desk.jobs(10.0)["17"].gpu_uuids == ("c1-0", "c2-0")
    desk.telemetry.job_left("c1", {"job_id": "17", "energy_joules": {"c1-0": 5.0}})
    assert desk.jobs(10.0)["17"].gpu_uuids == ("c2-0",)
    desk.report("c2", 12.0)  # telemetry without the job says so as well
    assert "17" not in desk.jobs(12.0)


def test_energy_adds_up_over_gpus_and_nodes_and_goes_with_its_job() -> None:
    desk = Desk()
    desk.telemetry.jobs_listed((running("17", ("c1", "c2")),), 1.0)
    desk.report("c1", 2.0, told("c1", energy_joules=100.0))
    desk.report("c2", 2.0, told("c2", energy_joules=40.0))
    assert desk.telemetry.energies_joules() == {"17": 140.0}
    desk.report("c1", 3.0, told("c1", energy_joules=float("nan")))
    assert desk.telemetry.energies_joules() == {"17": 140.0}
    desk.telemetry.job_left("c1", {"job_id": "17", "energy_joules": {"c1-0": 90.0, "c1-1": 30.0}})
    assert desk.telemetry.energies_joules() == {"17": 160.0}
    for nonsense in (None, {"c2-0": float("nan")}, {"c2-0": -5e9}, {"c2-0": True}, {"c2-0": float("inf")}):
        desk.telemetry.job_left("c2", {"job_id": "17", "energy_joules": nonsense})
        assert desk.telemetry.energies_joules() == {"17": 160.0}
    desk.telemetry.jobs_listed((), 9.0)
    assert desk.telemetry.energies_joules() == {}


def test_a_silent_node_is_no_longer_believed() -> None:
    desk = Desk()
    desk.report("c1", 10.0)
    assert desk.seen(19.0).nodes["c1"].age_seconds == 9.0
    assert desk.seen(20.5).nodes == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"gpus": "none"},
        {"gpus": [1]},
        {"gpus": [{"uuid": "c1-0"}]},
        {"gpus": [{**message("c1")["gpus"][0], "power_watts": "600"}]},
        {"gpus": [{**message("c1")["gpus"][0], "power_watts": float("nan")}]},
        {"gpus": [{**message("c1")["gpus"][0], "power_watts": True}]},
        {"jobs": [{"user": "alice"}]},
        {"jobs": {"17": {}}},
        {"leases": ["mine"]},
        {"leases": [{**LEASE, "job_id": ["17"]}]},  # found by fuzzing: it broke the status of everybody
        {"leases": [{**LEASE, "cap_watts": "400"}]},
        {"leases": [{key: value for key, value in LEASE.items() if key != "uuid"}]},
    ],
)
def test_malformed_telemetry_is_refused_whole(wrong: dict[str, Any]) -> None:
    desk = Desk()
    desk.report("c1", 1.0, gpu_watts=100.0)
    with pytest.raises(WireError):
        desk.telemetry.node_reported("c1", {**message("c1", gpu_watts=600.0), **wrong}, 2.0)
    (gpu,) = desk.seen(2.0).nodes["c1"].gpus.values()
    assert gpu.power_watts == 100.0


@pytest.mark.parametrize(
    "progress", [{"17": {"step": 1, "samples_per_second": 2e12, "age_seconds": 0.0}}, {"17": {}}, "fast"]
)
def test_a_job_s_wrong_word_on_itself_costs_no_sight_of_its_node(progress: object) -> None:
    desk = Desk()
    for watts in (100.0, 600.0):
        words = message("c1", told("c1"), gpu_watts=watts)
        desk.telemetry.node_reported("c1", {**words, "progress": progress}, 1.0)
        (gpu,) = desk.seen(1.0).nodes["c1"].gpus.values()
        assert gpu.power_watts == watts
    assert desk.telemetry.progress(1.0) == {}
    right = {"17": {"step": 1, "samples_per_second": 2.0, "age_seconds": 0.0}}
    desk.telemetry.node_reported("c1", {**message("c1", told("c1")), "progress": right}, 2.0)
    assert desk.telemetry.progress(2.0)["17"].step == 1


def test_a_job_that_only_dead_nodes_know_is_forgotten() -> None:
    desk = Desk()
    desk.report("c1", 1.0, told("c1"))
    desk.telemetry.jobs_listed((), 5.0)
    assert "17" in desk.jobs(5.0)  # the list may be behind
    desk.telemetry.jobs_listed((), 30.0)
    assert "17" not in desk.jobs(30.0)


def test_a_job_whose_end_a_node_has_missed_is_not_starting_for_ever() -> None:
    desk = Desk()
    for second in range(0, 120, 5):
        desk.report("c1", float(second), told("c1"))
        desk.telemetry.jobs_listed((), float(second))
    assert desk.jobs(115.0)["17"].state is JobState.RUNNING
    desk.telemetry.jobs_listed((pending("17", 8),), 116.0)  # requeued, and waiting again
    assert desk.jobs(116.0)["17"].state is JobState.PENDING


def test_a_list_that_has_not_come_for_long_does_not_turn_a_start_back() -> None:
    desk = Desk()
    desk.telemetry.jobs_listed((pending("17", 1),), 0.0)
    for second in range(1, 200):
        desk.report("c1", float(second), told("c1"))
    assert desk.jobs(200.0)["17"].state is JobState.STARTING


def test_an_ended_job_is_forgotten_with_its_registration() -> None:
    desk = Desk()
    desk.telemetry.job_registered("c1", told("c1"), 1.0)
    ended = replace(running("17", ("c1",)), state=JobState.ENDED, gpus_by_node=())
    desk.telemetry.jobs_listed((ended,), 2.0)
    assert desk.jobs(2.0)["17"].gpus_by_node == ()


def test_meter_and_battery_are_put_together_for_the_same_second() -> None:
    desk = Desk()
    # The battery steps from 0 to 4 kW at 10.0 s; the meter's mean over 9.5 to 10.5 s has seen half of it.
    for tenths, watts in ((90, 0.0), (95, 0.0), (100, 4000.0), (105, 4000.0)):
        desk.telemetry.ess_read("battery", ess_reading(discharge_watts=watts), tenths / 10, 3.0)
    desk.telemetry.meter_read("grid", 18_000.0, 10.5)
    assert desk.seen(10.5).recent_load_watts == (20_000.0,)
    desk.telemetry.meter_read("grid", 18_000.0, 10.75)  # the same register, read again
    assert desk.seen(10.75).recent_load_watts == (20_000.0,)
    assert desk.seen(14.0).recent_load_watts == ()


def test_a_draw_that_does_not_change_is_no_spike_for_ever() -> None:
    desk = Desk()
    desk.telemetry.meter_read("grid", 10_000.0, 10.0)
    for second in range(11, 30):
        desk.telemetry.meter_read("grid", 18_000.0, float(second))
        lasting = 10_000.0 if second < 17 else 18_000.0
        assert desk.seen(float(second)).lasting_watts["grid"] == lasting
    desk.telemetry.meter_read("grid", 25_000.0, 30.0)
    assert desk.seen(30.0).lasting_watts["grid"] == 18_000.0


def test_a_battery_that_went_silent_feeds_nothing_in() -> None:
    desk = Desk()
    desk.telemetry.ess_read("battery", ess_reading(discharge_watts=5000.0), 10.0, 3.0)
    desk.telemetry.meter_read("grid", 25_000.0, 10.5)
    assert desk.seen(10.5).recent_load_watts == (30_000.0,)
    desk.telemetry.meter_read("grid", 30_000.0, 60.0)
    assert desk.seen(60.0).recent_load_watts[-1] == 30_000.0
    assert desk.seen(60.0).ess["battery"].quality is Quality.INVALID


def test_a_failing_meter_ages_and_says_why() -> None:
    desk = Desk()
    assert desk.seen(0.0).circuits["grid"].known_watts() is None
    desk.telemetry.meter_read("grid", 20_000.0, 1.0)
    desk.telemetry.meter_failed("grid", "no answer", 2.0)
    assert desk.seen(2.0).circuits["grid"].quality is Quality.GOOD
    late = desk.seen(5.0).circuits["grid"]
    assert (late.quality, late.watts) == (Quality.QUESTIONABLE, 20_000.0)
    lost = desk.seen(8.0).circuits["grid"]
    assert lost.known_watts() is None
    assert "no answer" in lost.reason


def test_only_what_lasts_over_two_readings_is_lasting() -> None:
    desk = Desk()
    desk.telemetry.meter_read("rack1", 9000.0, 1.0)
    assert desk.seen(1.0).lasting_watts == {}
    desk.telemetry.meter_read("rack1", 14_000.0, 2.0)
    desk.telemetry.meter_read("rack1", 14_000.0, 3.0)
    assert desk.seen(3.0).lasting_watts == {"rack1": 9000.0}


def test_a_node_changes_no_promise_of_a_job_that_is_elsewhere() -> None:
    desk = Desk()
    theirs = running("17", ("c2",), flex=Flex.FLEX0, gpus_per_node=1)
    listed = (replace(theirs, gpus_by_node=()), pending("18", 1, flex=Flex.FLEX0))
    desk.telemetry.jobs_listed(listed, 1.0)
    desk.report("c2", 2.0, told("c2", workload="training", flex="flex0", energy_joules=50.0))
    before = desk.jobs(2.0)
    lies = [
        told("c1", job_id, workload="inference", flex="flex3", energy_joules=9e9) for job_id in ("17", "18")
    ]
    desk.report("c1", 3.0, *lies)
    for second in (30.0, 61.0, 80.0):  # a start is believed for a while, since it comes before the list
        desk.report("c2", second, told("c2", workload="training", flex="flex0", energy_joules=50.0))
        desk.report("c1", second, *lies)
        desk.telemetry.jobs_listed(listed, second)
    assert desk.jobs(80.0)["17"] == before["17"]
    assert desk.jobs(80.0)["18"] == before["18"]
    desk.telemetry.job_left("c1", {"job_id": "17", "energy_joules": {"c1-0": 9e9}})
    assert desk.telemetry.energies_joules()["17"] == 50.0
    assert not desk.telemetry.may_have("c1", "17")
    assert desk.telemetry.may_have("c2", "17")


def test_a_host_that_is_measured_is_known_and_nonsense_is_not() -> None:
    desk = Desk()
    for host, watts in (
        ({"watts": 512.5}, 512.5),
        ({"watts": None}, None),
        (None, None),
        ({"watts": "hot"}, None),
    ):
        desk.telemetry.node_reported("c1", {**message("c1"), "host": host}, 10.0)
        assert desk.seen(10.1).nodes["c1"].drawn == NodeDraw(600.0, 0.0, watts)
    desk.report("c1", 11.0, told("c1"))
    drawn = desk.seen(11.1).nodes["c1"].drawn
    assert drawn == NodeDraw(600.0, 600.0, None), "an older powerd tells of no host; the job has the GPU"

"""Energy of jobs by a real powerd, against what the plant's GPUs have truly used."""

import os
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import pytest

from containers.faults.controller import FakeController
from containers.faults.node import NodeBench, ask, wait_until
from containers.plant.nvml_control import FaultKind


def prolog(bench: NodeBench, job_id: str, slots: Sequence[int]) -> None:
    request = {"op": "prolog", "job_id": job_id, "user": "alice", "uid": 20001, "gpu_slots": list(slots)}
    assert ask(bench.socket, request)["ok"]


def epilog(bench: NodeBench, job_id: str) -> dict[str, Any]:
    return ask(bench.socket, {"op": "epilog", "job_id": job_id})


def load(bench: NodeBench, slot: int, watts: float) -> None:
    bench.gpus.set_load(
        slot, demand_watts=watts, static_watts=80.0, compute_bound_ratio=0.5, lease_seconds=None
    )


def counted(bench: NodeBench, count: int) -> bool:
    return [gpu["energy_joules"] is not None for gpu in bench.status()["gpus"][:count]] == [True] * count


class Truth:
    """What the plant's own integral says that some GPUs have used since a job's prolog.

    A machine that stops us between an answer and our look at the truth must not fail anybody, so the truth is
    looked at before and after each.
    """

    def __init__(self, bench: NodeBench, job_id: str, slots: Sequence[int]) -> None:
        self._bench, self._job_id, self._slots = bench, job_id, slots
        before = self._joules()
        prolog(bench, job_id, slots)
        self._start = (before, self._joules())

    def _joules(self) -> float:
        return sum(self._bench.gpus.truth(slot).energy_joules for slot in self._slots)

    def ended(self, rel: float) -> tuple[dict[str, Any], float]:
        """End the job; what powerd tells, which must be right, and the truth."""
        before = self._joules()
        told = epilog(self._bench, self._job_id)
        least, most = before - self._start[1], self._joules() - self._start[0]
        assert (1.0 - rel) * least <= told["energy_joules"] <= (1.0 + rel) * most, (told, least, most)
        return told, most


def test_two_jobs_across_a_counter_restart_and_a_lost_gpu_are_within_one_percent(bench: NodeBench) -> None:
    bench.start()
    for slot, watts in enumerate((560.0, 420.0, 610.0, 300.0)):
        load(bench, slot, watts)
    wait_until(lambda: counted(bench, 4), "the counters")  # without one there is nothing to come back to
    time.sleep(2.0)  # the loads' own start is no part of the jobs
    first, second = Truth(bench, "17", (0, 1)), Truth(bench, "18", (2, 3))
    began = time.monotonic()
    bench.gpus.set_fault(2, FaultKind.LOST, duration_seconds=10.0)
    time.sleep(4.0)
    load(bench, 1, 250.0)
    time.sleep(3.3)
    bench.gpus.reload_driver(0)
    time.sleep(3.0)
    load(bench, 2, 350.0)
    wait_until(lambda: bench.status()["gpus"][2]["error"] == "", "the GPU's return", seconds=12.0)
    time.sleep(max(0.0, 20.0 - (time.monotonic() - began)))
    told_first, true_first = first.ended(rel=0.01)
    told_second, _ = second.ended(rel=0.01)
    assert 0.0 < told_first["estimated_joules"] < 0.2 * true_first
    assert told_first["coverage_ratio"] > 0.97
    assert told_second["estimated_joules"] == 0.0
    assert 0.5 < told_second["coverage_ratio"] < 0.85


def test_a_powerd_that_was_killed_goes_on_with_the_energy_of_its_jobs(bench: NodeBench) -> None:
    powerd = bench.start()
    load(bench, 0, 500.0)
    time.sleep(2.0)
    truth = Truth(bench, "17", (0,))
    file = bench.state / "front" / "jobs.json"
    wait_until(lambda: file.exists() and '"17"' in file.read_text(), "the job on disk")
    time.sleep(1.0)
    powerd.kill()
    powerd.wait()
    bench.start()
    wait_until(lambda: bool(bench.status()["jobs"]), "the job")
    time.sleep(1.5)
    truth.ended(rel=0.02)


def test_a_process_of_another_job_on_a_gpu_is_told_and_its_energy_marked(
    bench: NodeBench, controller: FakeController
) -> None:
    bench.start()
    wait_until(lambda: controller.connected, "the connection")
    load(bench, 1, 400.0)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            bench.gpus.add_process(1, stranger.pid)
            bench.gpus.add_process(1, 4_000_000)  # one that has ended meanwhile
            prolog(bench, "17", (1,))
            wait_until(lambda: bool(controller.said("stranger")), "the stranger")
            time.sleep(2.0)
            told = epilog(bench, "17")
        finally:
            stranger.kill()
    (event,) = controller.said("stranger")
    assert (event["uuid"], event["pid"], event["job_id"]) == (bench.uuids[1], stranger.pid, "17")
    assert (event["uid"], event["of_job_id"]) == (os.getuid(), None)
    assert told["shared_joules"] == pytest.approx(told["energy_joules"], rel=0.2)
    assert told["shared_joules"] > 100.0

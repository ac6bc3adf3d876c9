"""The tier of a job's start: its submission's, the controller's order, and what the job has been told."""

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from containers.faults.controller import FakeController
from containers.faults.node import NodeBench, wait_until
from slurm_power.node.job_tiers import JobTiers, order_of
from slurm_power.node.jobs import NodeJob, NodeJobs
from slurm_power.node.server import Client
from slurm_power.wire import Message, WireError
from tests.node.test_hooks import hook, jobs_file
from tests.node.test_job_environment import environment

WORDS = {
    "SPANK_POWER_TIER": "digits/full",
    "SPANK_POWER_TIERS_OK": "int8,small",
    "SPANK_POWER_MIN_QUALITY": "0.95",
}


def order(tier: str = "digits/int8", restart_count: int = 1, **changed: object) -> dict[str, object]:
    model = f"/models/{tier}"
    words = {"type": "tier", "job_id": "17", "tier": tier, "model": model, "restart_count": restart_count}
    return words | changed


def connected(bench: NodeBench, controller: FakeController) -> "object":
    powerd = bench.start()
    wait_until(lambda: bench.status()["controller"] == "connected", "the connection on powerd's side")
    assert controller.connected
    return powerd


def told(bench: NodeBench, job_id: str = "17") -> dict[str, str]:
    """The variables about tiers, without their prefix."""
    lines = [line.partition("=") for line in environment(bench, job_id).splitlines()]
    names = ("TIER", "MODEL", "TIERS_OK", "MIN_QUALITY")
    found = {name.removeprefix("SLURM_POWER_"): value for name, _, value in lines}
    return {name: found[name] for name in names if name in found}


def taken(bench: NodeBench, job_id: str, tier: str) -> Callable[[], bool]:
    """Whether powerd has written an order down."""

    def look() -> bool:
        orders = json.loads(jobs_file(bench) or "{}").get("tier_orders", [])
        return any((one["job_id"], one["tier"]) == (job_id, tier) for one in orders)

    return look


def test_without_an_order_it_is_the_submission_s_and_labelled_so(
    bench: NodeBench, controller: FakeController
) -> None:
    """Fails open: nobody answers, and the job is told in time what it was submitted with."""
    connected(bench, controller)
    hook(bench, "prolog", SLURM_JOB_GPUS="0", SLURM_JOB_RESTART_COUNT="1", **WORDS)
    began = time.monotonic()
    found = told(bench)
    assert time.monotonic() - began < 3.0
    assert found == {"TIER": "digits/full", "TIERS_OK": "int8,small", "MIN_QUALITY": "0.95"}
    wait_until(lambda: len(controller.said("job_start", job_id="17")) >= 2, "the label")
    first, *_, last = controller.said("job_start", job_id="17")
    assert (first["tier"], first["tiers_ok"], first["min_quality"], first["told_tier"]) == (
        *("digits/full", ["int8", "small"], 0.95),
        None,
    )
    assert (last["told_tier"], last["restart_count"]) == ("digits/full", 1)
    assert hook(bench, "epilog", SLURM_JOB_GPUS="0")[0].returncode == 0
    wait_until(lambda: bool(controller.said("job_end", job_id="17")), "the end")
    assert controller.said("job_end", job_id="17")[0]["told_tier"] == "digits/full"


def test_an_order_before_the_start_counts_from_its_start_on(
    bench: NodeBench, controller: FakeController
) -> None:
    """It comes while the job runs, or before this node knows it, and stands for every later start here."""
    connected(bench, controller)
    hook(bench, "prolog", SLURM_JOB_GPUS="0", **WORDS)
    assert told(bench)["TIER"] == "digits/full"
    controller.send(order(restart_count=1))
    wait_until(taken(bench, "17", "digits/int8"), "the order")
    assert told(bench)["TIER"] == "digits/full", "its start has begun with that"
    hook(bench, "epilog", SLURM_JOB_GPUS="0")
    hook(bench, "prolog", SLURM_JOB_GPUS="0", SLURM_JOB_RESTART_COUNT="1", **WORDS)
    assert told(bench) == {
        "TIER": "digits/int8",
        "MODEL": "/models/digits/int8",
        "TIERS_OK": "int8,small",
        "MIN_QUALITY": "0.95",
    }
    hook(bench, "prolog", SLURM_JOB_GPUS="0", SLURM_JOB_RESTART_COUNT="2", **WORDS)
    assert told(bench)["TIER"] == "digits/int8"
    # And an order that is older than another says nothing.
    controller.send(order("digits/full", restart_count=3))
    controller.send(order("digits/small", restart_count=2))
    wait_until(taken(bench, "17", "digits/full"), "the newer order")
    hook(bench, "prolog", SLURM_JOB_GPUS="0", SLURM_JOB_RESTART_COUNT="3", **WORDS)
    assert told(bench)["TIER"] == "digits/full"


def test_the_answer_waits_for_the_word_and_no_longer(bench: NodeBench, controller: FakeController) -> None:
    """The controller answers the start when it hears of it: whoever asks in between gets its tier."""
    connected(bench, controller)
    found: list[dict[str, str]] = []
    hook(bench, "prolog", SLURM_JOB_GPUS="0", SLURM_JOB_RESTART_COUNT="1", **WORDS)
    asking = threading.Thread(target=lambda: found.append(told(bench)))
    asking.start()
    wait_until(lambda: bool(controller.said("job_start", job_id="17")), "the start")
    controller.send(order())
    asking.join()
    wait_until(lambda: controller.said("job_start", job_id="17")[-1]["told_tier"] is not None, "the label")
    # On a busy machine the word may come too late; then the label says so, and never anything else.
    assert found[0]["TIER"] == controller.said("job_start", job_id="17")[-1]["told_tier"]


def test_what_a_start_was_told_stays_through_a_restart_of_powerd(
    bench: NodeBench, controller: FakeController
) -> None:
    powerd = connected(bench, controller)
    controller.send(order(restart_count=0))
    controller.send(order("other/one", job_id="18", restart_count=0, model=""))
    wait_until(taken(bench, "18", "other/one"), "the orders")
    hook(bench, "prolog", SLURM_JOB_GPUS="0", **WORDS)
    before = told(bench)
    assert before["TIER"] == "digits/int8"
    wait_until(lambda: '"told_tier": "digits/int8"' in jobs_file(bench), "the record")
    powerd.kill()  # type: ignore[attr-defined]  # a process
    powerd.wait()  # type: ignore[attr-defined]  # the same
    bench.start()
    assert told(bench) == before
    wait_until(lambda: len(controller.said("job_start", job_id="17")) >= 3, "the job told again")
    assert controller.said("job_start", job_id="17")[-1]["told_tier"] == "digits/int8"
    # An order that was kept for a job to come; its model is not known, and the submission's is not its.
    hook(bench, "prolog", SLURM_JOB_GPUS="1", SLURM_JOB_ID="18", SPANK_POWER_TIER="other/two")
    assert told(bench, "18") == {"TIER": "other/one", "MODEL": ""}


def test_the_model_of_the_tier_that_was_told_may_come_later(
    bench: NodeBench, controller: FakeController
) -> None:
    connected(bench, controller)
    hook(bench, "prolog", SLURM_JOB_GPUS="0", SPANK_POWER_TIER="digits/full")
    assert told(bench) == {"TIER": "digits/full"}
    controller.send(order("digits/full", restart_count=0))
    wait_until(taken(bench, "17", "digits/full"), "the order")
    assert told(bench) == {"TIER": "digits/full", "MODEL": "/models/digits/full"}


@pytest.mark.parametrize("words", [{}, {"SPANK_POWER_TIERS_OK": "none"}, {"SPANK_POWER_TIERS_OK": ""}])
def test_who_may_not_be_moved_does_not_wait(
    bench: NodeBench, controller: FakeController, words: dict[str, str]
) -> None:
    connected(bench, controller)
    hook(bench, "prolog", SLURM_JOB_GPUS="0", SLURM_JOB_RESTART_COUNT="1", **(words and {**WORDS, **words}))
    began = time.monotonic()
    environment(bench, "17")
    assert time.monotonic() - began < 3.0
    controller.send({"type": "tier", "job_id": "17", "tier": "nonsense", "model": "", "restart_count": 0})
    controller.grant("first", bench.uuids[3], 400.0)
    wait_until(lambda: bench.cap(3) == 400.0, "what came after the nonsense")
    assert told(bench).get("TIER") == ((words and "digits/full") or None)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        *[({"job_id": value}, "job_id") for value in (None, "", "x", 17, "1" * 300)],
        *[({"tier": value}, "tier") for value in (None, "", "digits", "a/b/c", 7, ["a/b"], "A/b")],
        *[({"model": value}, "model") for value in (7, ["m"])],
        *[({"restart_count": value}, "restart_count") for value in (None, -1, 1.5, True, "1", 1 << 40)],
    ],
)
def test_an_order_that_makes_no_sense_names_its_field(changed: dict[str, object], field: str) -> None:
    with pytest.raises(WireError, match=rf"^{field}: "):
        order_of({**order(), **changed})
    assert order_of(order(model=None)).model == ""


@pytest.mark.parametrize("model", ["/" + "x" * 256, "/a\nb", "/ä"])
def test_a_model_s_path_that_is_no_variable_costs_the_job_no_tier(model: str) -> None:
    """A job that was moved has fewer GPUs: it must know the tier that they are for."""
    kept = order_of(order(model=model))
    assert (kept.tier, kept.model, kept.restart_count) == ("digits/int8", "", 1)


class Bench:
    """The tiers of one node, its clock and controller left out."""

    def __init__(self, folder: Path, **words: object) -> None:
        self.told: list[Message] = []
        self.answered: list[NodeJob] = []
        self.jobs = NodeJobs(folder, "boot")
        self.tiers = JobTiers(self.jobs, self.told.append)
        self.tiers.answer = lambda _client, job: self.answered.append(job)
        said = {"gpu_slots": (), "workload": None, "flex": None, "tier": "digits/full", "tiers_ok": "int8"}
        self.job = NodeJob(job_id="17", user="alice", uid=1, **{**said, **words})  # type: ignore[arg-type]  # fields
        self.jobs.start(self.job)

    def ask(self, *, connected: bool = True) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            client = Client(connection=ours, uid=0, deadline_seconds=0.0)
            self.tiers.ask(client, self.job, connected=connected)


@pytest.mark.parametrize(
    ("words", "connected"),
    [({"tiers_ok": None}, True), ({"tiers_ok": "none"}, True), ({"tier": ""}, True), ({}, False)],
)
def test_without_consent_or_controller_the_answer_comes_at_once(
    tmp_path: Path, words: dict[str, object], connected: bool
) -> None:
    bench = Bench(tmp_path, **words)
    bench.ask(connected=connected)
    assert (bench.answered, bench.tiers.next_deadline()) == ([bench.job], None)


@pytest.mark.parametrize("in_time", [True, False])
def test_the_answer_waits_for_the_word_until_its_deadline(tmp_path: Path, in_time: bool) -> None:
    bench = Bench(tmp_path)
    bench.ask()
    deadline_seconds = bench.tiers.next_deadline()
    assert deadline_seconds is not None
    bench.tiers.expire(deadline_seconds - 0.001)
    assert bench.answered == []
    if in_time:
        bench.tiers.heard(order(restart_count=0))
    else:
        bench.tiers.expire(deadline_seconds)
        bench.tiers.heard(order(restart_count=0))
    assert (bench.answered, bench.tiers.next_deadline()) == ([bench.job], None)
    assert bench.job.told_tier == ("digits/int8" if in_time else "digits/full")
    assert [one["told_tier"] for one in bench.told] == [bench.job.told_tier]


@pytest.mark.parametrize("next_start", [None, 1])
def test_who_has_ended_while_the_answer_waited_does_not_start_again(
    tmp_path: Path, next_start: int | None
) -> None:
    bench = Bench(tmp_path)
    bench.ask()
    assert bench.answered == []
    bench.jobs.end("17")
    if next_start is not None:
        bench.jobs.start(replace(bench.job, restart_count=next_start))
    bench.tiers.lost()
    assert (bench.answered, bench.told) == ([bench.job], [])

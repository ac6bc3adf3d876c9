"""One job from psbatch to the ledger."""

import json
import time
from datetime import UTC, datetime
from typing import Any

from containers.cluster.layout import CHECKOUT, USERS
from containers.demo.stage import ask
from tests.cluster.lab import await_job
from tests.loop.bed import Bed


def test_a_job_is_seen_by_everybody_who_has_to(bed: Bed) -> None:
    job = bed.submit("--gres=gpu:4", "--job-name=first", flex="flex2", seconds=40)
    bed.until(lambda: job in {known["job_id"] for known in ask_node(bed, "c1")["jobs"]}, "its prolog", 20)
    began = time.time()
    before = [gpu["energy_joules"] for gpu in bed.truth()["nodes"]["c1"]["gpus"]]

    await_job(bed.lab, job, "RUNNING")
    bed.until(lambda: (bed.power_job(job).get("gpu_watts") or 0.0) > 4 * 600.0, "its draw", 15)
    bed.until(lambda: bed.power_job(job)["state"] == "running", "Slurm's list of jobs", 8)
    row = next(row for row in bed.status("alice")["jobs"] if row["job_id"] == job)
    assert (row["user"], row["name"], row["workload"], row["flex"]) == ("alice", "first", "training", "flex2")
    assert (row["gpu_count"], row["nodes"], row["state"]) == (4, ["c1"], "running")
    drawing: set[int] = set()
    agreed = 0

    def agrees() -> bool:
        # The node's first report may be older than the job and show what ran on these GPUs before; and what
        # ran before may draw for seconds more. So the same GPUs have to agree several times in a row.
        nonlocal agreed
        before = set(drawing)
        gpus = bed.truth()["nodes"]["c1"]["gpus"]
        drawing.clear()
        drawing.update(slot for slot, gpu in enumerate(gpus) if gpu["instant_watts"] > 600.0)
        watts = sum(gpus[slot]["instant_watts"] for slot in drawing)
        told = bed.power_job(job).get("gpu_watts") or 0.0
        same = bool(drawing) and drawing == before and abs(told - watts) < 0.02 * watts
        agreed = agreed + 1 if same else 0
        time.sleep(1.0)
        return agreed >= 8

    bed.until(agrees, "the draw that the plant knows", 25)
    comment = json.loads(bed.lab.job(job)["AdminComment"])
    assert comment == {"power": {"workload": "training", "flex": "flex2"}}
    assert {row["user"] for row in bed.status("bob")["jobs"]} <= {"bob"}

    node = ask_node(bed, "c1")
    (known,) = node["jobs"]
    assert (known["job_id"], known["user"], known["uid"]) == (job, "alice", USERS[0].uid)
    slots = sorted(drawing)
    assert len(known["gpus"]) == len(slots) == 4
    assert ask_node(bed, "c2")["jobs"] == []

    fields = await_job(bed.lab, job, seconds=70)
    bed.until(lambda: not ask_node(bed, "c1")["jobs"], "its epilog", 5)
    ends = [gpu["energy_joules"] for gpu in bed.truth()["nodes"]["c1"]["gpus"]]
    # From the prolog until after the epilog; the idle seconds are known and small.
    seen_seconds = time.time() - began
    start, end = (datetime.fromisoformat(fields[key]).astimezone(UTC) for key in ("StartTime", "EndTime"))
    idle_joules = 4 * 80.0 * max(0.0, seen_seconds - (end - start).total_seconds())
    joules = sum(ends[slot] - before[slot] for slot in slots)
    least, most = 0.95 * (joules - idle_joules), 1.03 * joules
    # The node's last word on the job comes a moment after its epilog, and before Slurm's list shows the end.
    bed.until(lambda: bed.power_job(job).get("state") == "ended", "the end in Slurm's list", 10)
    assert least <= bed.power_job(job)["energy_joules"] <= most

    strangers = [entry["reason"] for entry in bed.ledger(90) if entry["kind"] == "stranger"]
    assert strangers == [], "the job's own processes are known as its own"

    entries = bed.ledger(60, job_id=job)
    assert [entry for entry in entries if entry["kind"] in {"cap", "hold"}] == []
    assert bed.ledger(60)  # the chain is whole, or this fails


def test_the_second_job_of_a_name_is_expected_to_draw_what_the_first_drew(bed: Bed) -> None:
    # It calls itself a generation, of which little is expected, and draws as a training does.
    options = ("--gres=gpu:2", "--workload=generation")
    first = bed.submit("--job-name=again_run1", *options, seconds=18)
    bed.until(lambda: bed.power_job(first).get("state") == "ended", "the end of the first", 45)
    record = bed.ask("job", job_id=first)["record"]
    drew_watts = record["mean_watts"] / 2
    assert drew_watts > 500.0
    # Jobs of the tests before may be like it, but none has its name.
    assert record.get("expected_known_from") != "your jobs of this name and size"

    words = ["psbatch", "--explain", "--gres=gpu:2", "--workload=generation", "--job-name=again_run2"]
    here = {"PYTHONPATH": str(CHECKOUT)}
    said = ""

    def known() -> bool:
        # The end of a job is learned from a cycle after it shows.
        nonlocal said
        said = bed.lab.run([*words, "--wrap=true"], user="alice", environment=here).stdout
        return "known from 1 of your jobs of this name and size" in said

    bed.until(known, "the first to be learned from", 10)
    assert "Slurm expects it to start at 20" in said
    assert "Nothing was submitted" in said
    options_too = ["--json", "--time=10", "--power-cap=300", "--flex=2", "--wrap=true"]
    found = json.loads(bed.lab.run([*words, *options_too], user="alice", environment=here).stdout)["answer"]
    assert found["expected"]["expected_mean_watts"] == 300.0
    assert found["limits"][0]["circuit"] == "grid"
    assert found["limit_bill"]["energy_kwh"] > 0.05
    assert found["limit_bill"]["cost"] is None, "nobody says a price here"
    assert found["flex_classes"][2]["room_watts"] is not None
    second = bed.submit("--job-name=again_run2", *options, seconds=3)
    bed.until(lambda: bed.ask("job", job_id=second)["record"].get("expected_jobs"), "its record", 15)
    record = bed.ask("job", job_id=second)["record"]
    assert record["expected_known_from"] == "your jobs of this name and size"
    assert abs(record["expected_mean_watts"] - drew_watts) < 0.15 * drew_watts


def ask_node(bed: Bed, node: str) -> dict[str, Any]:
    return ask(bed.run / "run" / f"powerd.{node}.sock", {"op": "status"})

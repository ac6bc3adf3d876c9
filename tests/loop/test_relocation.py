"""A job held for one circuit starts behind another, in one of the partitions that its user listed."""

from collections.abc import Iterator
from functools import partial

import pytest

from tests.cluster.lab import await_job
from tests.loop.bed import Bed


@pytest.fixture
def halves(bed: Bed) -> Iterator[Bed]:
    """A partition for each rack, as powerctld has read them."""
    conf = bed.lab.layout.slurm_conf
    before = conf.read_text()
    conf.write_text(f"{before}\nPartitionName=left Nodes=c[1-2]\nPartitionName=right Nodes=c[3-4]\n")
    bed.lab.run(["scontrol", "reconfigure"])
    bed.until(lambda: "left" in bed.lab.run(["sinfo", "-h", "-o", "%R"]).stdout, "the partitions", 10)
    # A slurmd that is told to read its configuration may miss a word; Slurm asks it again.
    bed.until(lambda: "*" not in bed.lab.run(["sinfo", "-h", "-o", "%t"]).stdout, "nodes that respond", 60)
    # With c2 closed and c1 in use a job of the left half waits, and is there to be held.
    bed.lab.run(["scontrol", "update", "node=c2", "state=drain", "reason=test"])
    bed.lab.restart("powerctld")
    yield bed
    bed.lab.run(["scontrol", "update", "node=c2", "state=resume"])
    bed.lab.run(["scancel", "--user=alice"])
    bed.lab.run(["scancel", "--user=bob"])
    bed.until(lambda: not bed.lab.run(["squeue", "--noheader"]).stdout.strip(), "no job", 20)
    conf.write_text(before)
    bed.lab.run(["scontrol", "reconfigure"])


def submit(bed: Bed, *options: str) -> str:
    """A training on 8 GPUs of any node of its partitions."""
    words = ["psbatch", "--parsable", "--workload=training", "--flex=flex3", "--nodes=1", "--gres=gpu:8"]
    words += ["--ntasks-per-node=1", "--time=30", "--output=%j.out", *options]
    load = "srun plant-load --workload training --seconds 60"
    return bed.lab.run([*words, f"--wrap={load}"], user="bob").stdout.strip()


def is_held(bed: Bed, job: str) -> bool:
    return bool(bed.power_job(job).get("hold_ends_in_seconds"))


def test_a_job_starts_behind_the_circuit_that_has_room(halves: Bed) -> None:
    bed = halves
    blocking = bed.submit("--nodes=2", "--nodelist=c3,c4", flex="flex0", seconds=170)
    await_job(bed.lab, blocking, "RUNNING")
    first = bed.submit(seconds=170)
    bed.run_full(first)
    rack_watts = next(row["watts"] for row in bed.glance()["circuits"] if row["name"] == "rack1")
    limit = ["--limit-watts", str(int(rack_watts + 3_000)), "--for=300s", "--reason=rack1 is warm"]
    bed.lab.run(["slurm-power", "event", "rack1", *limit])
    one_only = submit(bed, "--partition=left")
    either = submit(bed, "--partition=left,right")
    for job in (one_only, either):
        bed.until(partial(is_held, bed, job), f"a hold of {job}", 30)
    bed.lab.run(["scancel", blocking])
    fields = await_job(bed.lab, either, "RUNNING", seconds=60)
    assert fields["NodeList"] in ("c3", "c4")
    assert fields["Partition"] == "right"
    assert bed.lab.job(one_only)["JobState"] == "PENDING", "its user named no other partition"
    assert bed.lab.job(one_only)["ExcNodeList"] == "(null)"
    entries = [(entry["kind"], entry["reason"]) for entry in bed.ledger(180, job_id=either)]
    kinds = [kind for kind, _ in entries if kind in ("hold", "relocate", "release")]
    if kinds == ["hold", "release"]:
        # Slurm itself has planned it on the other half meanwhile: then it has to be let go, and no more.
        assert "there is room for it again" in entries[-1][1], entries
        return
    assert kinds == ["hold", "relocate", "release"], entries
    why = " ".join(bed.lab.run(["slurm-power", "why", either]).stdout.split())
    assert "was sent by us to start behind a circuit with room" in why
    assert "rack1 has no room for it: it starts behind rack2" in why

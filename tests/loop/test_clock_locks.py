"""A decoding job is slowed by its clock: the grant, the GPU's clock, the meter, and back again."""

from tests.loop.bed import Bed

DECODE = "srun plant-load --workload generation --seconds 90"


def clocks(bed: Bed) -> list[float]:
    return [gpu["sm_clock_megahertz"] for gpu in bed.truth()["nodes"]["c1"]["gpus"]]


def test_a_clock_lock_comes_and_goes(bed: Bed) -> None:
    bed.plant("set_soc", soc_ratio=0.10)
    words = ["psbatch", "--parsable", "--workload=generation", "--flex=flex2", "--nodes=1"]
    words += ["--ntasks-per-node=1", "--gres=gpu:8", "--nodelist=c1", "--time=10", "--output=%j.out"]
    job = bed.lab.run([*words, f"--wrap={DECODE}"], user="alice").stdout.strip()
    bed.until(lambda: (bed.power_job(job).get("gpu_watts") or 0.0) > 8 * 120.0, "decoding", 30)
    # Its start is expected to draw more than it does: wait until only what it draws counts.
    bed.lab.wait_until(lambda: started_seconds(bed, job) > 25.0, "past its start", seconds=60)
    limit_watts = int(bed.grid_watts()) - 100
    event = bed.announce(limit_watts, 300)
    bed.until(lambda: bed.power_job(job).get("lock_hertz"), "a lock", 10)
    bed.until(lambda: "verified" in {e["kind"] for e in bed.ledger(60, job_id=job)}, "read back", 10)
    row = bed.power_job(job)
    print(row["cap_watts"], row["lock_hertz"], row["slowdown_ratio"], row["cap_reason"])
    assert "decoding follows its clock" in row["cap_reason"]
    assert {lease["lever"] for lease in bed.glance()["leases"]} == {"clock_lock"}
    assert bed.free(), "no power cap"
    print(bed.lab.run(["slurm-power", "plan", "--explain"]).stdout)
    print(bed.lab.run(["slurm-power", "why", job], user="alice").stdout)
    bed.lab.run(["slurm-power", "cancel-event", event])
    bed.until(lambda: not bed.glance()["leases"], "no lease", 30)
    bed.until(lambda: "restored" in {e["kind"] for e in bed.ledger(60, job_id=job)}, "restored", 10)


def started_seconds(bed: Bed, job: str) -> float:
    return float(bed.ask("job", job_id=job)["record"].get("running_seconds") or 0.0)

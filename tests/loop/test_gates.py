"""A job over all GPUs of a live lab starts behind a gate: the caps are there before its first watts."""

import time
from typing import Any

from tests.loop.bed import OWN_CAP_WATTS, Bed

RAMP_WATTS_PER_SECOND = 800.0
BUSY_WATTS, FULL_WATTS = 150.0, 640.0
FLOOR_WATTS = 315.0
WATCHED_SECONDS = 60.0


def all_gpus(bed: Bed) -> list[dict[str, Any]]:
    return [gpu for node in bed.truth()["nodes"].values() for gpu in node["gpus"]]


def test_a_start_over_all_gpus_rises_along_the_ramp_and_nobody_is_refused(bed: Bed) -> None:
    # An empty battery: the gate has to do it alone.
    bed.plant("set_soc", soc_ratio=0.10)
    policy = f"[policy]\nstart_ramp_watts_per_second = {RAMP_WATTS_PER_SECOND}\n"
    bed.site_file.write_text(
        bed.site_toml.replace("[policy]\n", policy).replace("limit_watts = 30_000", "limit_watts = 50_000")
    )
    bed.lab.restart("powerctld")
    bed.until(lambda: bed.glance()["circuits"][0]["quality"] == "good", "a reading of the meter", 20)
    nodes = len(bed.lab.layout.nodes)
    load = "srun plant-load --workload training --seconds 300"
    words = ["psbatch", "--parsable", "--workload=training", "--flex=flex2", f"--nodes={nodes}"]
    words += ["--ntasks-per-node=1", "--gres=gpu:8", "--time=120", "--output=/dev/null", f"--wrap={load}"]
    job = bed.lab.run(words, user="alice").stdout.strip()

    capped_before = False
    seen: list[tuple[float, float]] = []
    began = time.monotonic()
    while time.monotonic() - began < WATCHED_SECONDS:
        truth = bed.truth()
        gpus = [gpu for node in truth["nodes"].values() for gpu in node["gpus"]]
        watts = [gpu["instant_watts"] for gpu in gpus]
        if max(watts) > BUSY_WATTS:
            seen.append((time.monotonic(), truth["grid_import_watts"]))
        else:
            capped_before = all(gpu["limit_requested_watts"] <= FLOOR_WATTS for gpu in gpus)
        if min(watts) > FULL_WATTS and all(gpu["limit_requested_watts"] == OWN_CAP_WATTS for gpu in gpus):
            break
        time.sleep(0.1)
    assert capped_before, "the caps were on all GPUs before the first watts"
    assert bed.lab.job(job)["JobState"] == "RUNNING"
    assert min(gpu["instant_watts"] for gpu in all_gpus(bed)) > FULL_WATTS
    first_at, first_watts = next(one for one in seen if one[0] - seen[0][0] > 1.0)
    for at, import_watts in seen:
        # Two seconds for caps that come together when a cycle was late.
        allowed = RAMP_WATTS_PER_SECOND * (max(0.0, at - first_at) + 2.0)
        rise_watts = import_watts - first_watts
        assert rise_watts <= allowed, f"{at - first_at:.1f} s: {rise_watts:.0f} W"
    assert seen[-1][0] - first_at >= 10.0

    caps = bed.entries("cap", job)
    assert "it starts behind a gate" in caps[0]["reason"]
    assert {entry["kind"] for entry in bed.entries("hold", job)} == set()
    why = bed.lab.run(["slurm-power", "why", job]).stdout
    assert "and cost it" in why
    assert "was kept" in why, why

"""A job over all GPUs of a live lab starts behind a gate: it rises along the ramp, and nothing is refused."""

import time
from typing import Any

from tests.loop.bed import OWN_CAP_WATTS, Bed

RAMP_WATTS_PER_SECOND = 800.0
BUSY_WATTS, FULL_WATTS = 150.0, 640.0
LATE_SECONDS = 3.0
WATCHED_SECONDS = 60.0


def all_gpus(bed: Bed) -> list[dict[str, Any]]:
    return [gpu for node in bed.truth()["nodes"].values() for gpu in node["gpus"]]


def test_a_start_over_all_gpus_rises_along_the_ramp_and_nobody_is_refused(bed: Bed) -> None:
    # An empty battery: the gate has to do it alone.
    bed.plant("set_soc", soc_ratio=0.10)
    policy = f"[policy]\nstart_ramp_watts_per_second = {RAMP_WATTS_PER_SECOND}\n"
    # What all nodes draw together must not meet the lab's own limit.
    tight = f"\nlimit_watts = {bed.lab.layout.options.grid_limit_watts}\n"
    assert tight in bed.site_toml
    site = bed.site_toml.replace(tight, "\nlimit_watts = 55000\n").replace("[policy]\n", policy)
    bed.site_file.write_text(site)
    bed.lab.restart("powerctld")
    bed.until(lambda: bed.glance()["circuits"][0]["quality"] == "good", "a reading of the meter", 20)
    bed.until_all_nodes_report()  # one that is not connected gets no cap in time
    nodes = len(bed.lab.layout.nodes)
    load = "srun plant-load --workload training --seconds 300"
    words = ["psbatch", "--parsable", "--workload=training", "--flex=flex2", f"--nodes={nodes}"]
    words += ["--ntasks-per-node=1", "--gres=gpu:8", "--time=120", "--output=/dev/null", f"--wrap={load}"]
    job = bed.lab.run(words, user="alice").stdout.strip()

    capped_at = float("inf")
    seen: list[tuple[float, float]] = []
    began = time.monotonic()
    while time.monotonic() - began < WATCHED_SECONDS:
        truth = bed.truth()
        gpus = [gpu for node in truth["nodes"].values() for gpu in node["gpus"]]
        watts = [gpu["instant_watts"] for gpu in gpus]
        if max(watts) > BUSY_WATTS:
            seen.append((time.monotonic(), truth["grid_import_watts"]))
            if max(gpu["limit_requested_watts"] for gpu in gpus) < OWN_CAP_WATTS:
                capped_at = min(capped_at, seen[-1][0])
        if min(watts) > FULL_WATTS and all(gpu["limit_requested_watts"] == OWN_CAP_WATTS for gpu in gpus):
            break
        time.sleep(0.1)
    assert bed.lab.job(job)["JobState"] == "RUNNING"
    assert seen, bed.lab.job(job)
    # On an idle machine the caps are there before; a node whose prolog comes late has them a moment after.
    assert capped_at - seen[0][0] <= LATE_SECONDS, "all GPUs were capped with the first watts"
    assert min(gpu["instant_watts"] for gpu in all_gpus(bed)) > FULL_WATTS
    first_at, first_watts = next(one for one in seen if one[0] >= capped_at + 1.0)
    for at, import_watts in [one for one in seen if one[0] >= first_at]:
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

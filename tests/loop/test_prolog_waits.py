"""Two starts on yielded nodes of a live lab: the second, of two nodes, waits in its prolog for the ramp."""

import time

from tests.loop.bed import Bed

# A node's start adds about 6.4 kW and its losses: 16 s of this ramp.
RAMP_WATTS_PER_SECOND = 400.0
MOST_SECONDS = 40


def test_the_second_start_waits_in_its_prolog_and_no_node_drains(bed: Bed) -> None:
    bed.plant("set_soc", soc_ratio=0.10)
    policy = f"[policy]\nstart_ramp_watts_per_second = {RAMP_WATTS_PER_SECOND}\n"
    policy += f"prolog_wait_seconds = {MOST_SECONDS}\n"
    tight = f"\nlimit_watts = {bed.lab.layout.options.grid_limit_watts}\n"
    assert tight in bed.site_toml
    site = bed.site_toml.replace(tight, "\nlimit_watts = 55000\n").replace("[policy]\n", policy)
    bed.site_file.write_text(site)
    bed.lab.restart("powerctld")
    bed.until(lambda: bed.glance()["circuits"][0]["quality"] == "good", "a reading of the meter", 20)
    nodes = list(bed.lab.layout.nodes)[:3]
    bed.until_all_nodes_report()  # one that is not connected asks nobody
    for node in nodes:
        bed.lab.run(["slurm-power", "yield", node, "--for=10m", "--reason=a test"])
    first = bed.submit(f"--nodelist={nodes[0]}", flex="flex2", seconds=60)
    bed.until(lambda: bed.power_job(first).get("gpu_watts"), "the first to have come", 20)
    second = bed.submit(f"--nodelist={','.join(nodes[1:])}", "--nodes=2", flex="flex2", seconds=60)
    bed.until(lambda: bed.entries("prolog go", second), "the second to have waited", MOST_SECONDS + 20)
    jobs = [first, second]
    bed.until(
        lambda: bed.lab.job(second)["JobState"] == "RUNNING" and bed.power_job(second).get("gpu_watts"),
        "it to run",
        10,
    )
    time.sleep(3.0)  # for a prolog that fails to drain its node
    [waited] = [row for job in jobs for row in bed.entries("prolog go", job)]
    assert 5.0 < waited["details"]["waited_seconds"] <= MOST_SECONDS + 1.0
    [begun] = [row for job in jobs for row in bed.entries("prolog wait", job)]
    assert begun["job_id"] == waited["job_id"] == second
    assert begun["details"]["nodes"], begun
    assert "its node is yielded" in begun["reason"]
    for job in jobs:
        assert bed.lab.job(job)["JobState"] == "RUNNING"
        assert bed.lab.job(job)["Restarts"] == "0"
    states = bed.lab.run(["sinfo", "--noheader", "--format=%T %E"]).stdout
    assert "drain" not in states
    why = bed.lab.run(["slurm-power", "why", second]).stdout
    assert "in its prolog for the site's ramp" in why, why

"""Two starts on yielded nodes of a live lab: the second waits in its prolog until the ramp has caught up."""

import time

from tests.loop.bed import Bed

# A node's start adds about 6.4 kW and its losses: 13 s of this ramp.
RAMP_WATTS_PER_SECOND = 500.0
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
    nodes = list(bed.lab.layout.nodes)[:2]
    for node in nodes:
        bed.lab.run(["slurm-power", "yield", node, "--for=10m", "--reason=a test"])
    jobs = [bed.submit(f"--nodelist={node}", flex="flex2", seconds=60) for node in nodes]
    bed.until(
        lambda: any(bed.entries("prolog go", job) for job in jobs),
        "one of them to have waited",
        MOST_SECONDS + 20,
    )
    time.sleep(3.0)  # from the hook's end to the first watts
    [waited] = [row for job in jobs for row in bed.entries("prolog go", job)]
    assert 5.0 < waited["details"]["waited_seconds"] <= MOST_SECONDS + 1.0
    [begun] = [row for job in jobs for row in bed.entries("prolog wait", job)]
    assert begun["job_id"] == waited["job_id"]
    assert "its node is yielded" in begun["reason"]
    for job in jobs:
        assert bed.lab.job(job)["JobState"] == "RUNNING"
        assert bed.lab.job(job)["Restarts"] == "0"
    states = bed.lab.run(["sinfo", "--noheader", "--format=%T %E"]).stdout
    assert "drain" not in states
    why = bed.lab.run(["slurm-power", "why", waited["job_id"]]).stdout
    assert "in its prolog for the site's ramp" in why, why

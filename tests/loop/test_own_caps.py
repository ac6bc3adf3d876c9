"""A user's own cap on a live lab: set on the job's GPUs, lowered by a limit, and back again."""

import json

from tests.loop.bed import TIGHT_WATTS, Bed

OWN_WATTS = 450.0


def test_a_users_own_cap_is_set_and_stays_when_a_limit_lets_go(bed: Bed) -> None:
    bed.plant("set_soc", soc_ratio=0.10)
    job = bed.submit(seconds=120)
    tags = {
        "power": {"workload": "training", "flex": "flex3", "cap_watts": OWN_WATTS, "max_hold_seconds": 60}
    }
    bed.lab.run(["scontrol", "update", f"JobId={job}", f"AdminComment={json.dumps(tags)}"])
    bed.until(lambda: set(bed.caps("c1")) == {OWN_WATTS}, "the user's own cap", 15)
    row = bed.power_job(job)
    assert (row["own_cap_watts"], row["max_hold_seconds"], row["cap_is_own"]) == (OWN_WATTS, 60.0, True)
    assert row["slowdown_ratio"] == 0.0
    [entry] = bed.entries("own cap", job)
    assert entry["reason"] == f"its user asked for {OWN_WATTS:.0f} W a GPU at most"
    assert entry["saved_watts"] == 0.0

    def least_watts() -> float:
        return min(float(gpu["instant_watts"]) for gpu in bed.truth()["nodes"]["c1"]["gpus"])

    bed.until(lambda: least_watts() > 0.9 * OWN_WATTS, "the job at its cap", 15)
    event = bed.announce(TIGHT_WATTS - 2_000, 120)
    bed.until(lambda: max(bed.caps("c1")) < OWN_WATTS - 10.0, "a cap of ours below it", 10)
    assert not bed.power_job(job)["cap_is_own"]
    bed.lab.run(["slurm-power", "cancel-event", event])
    bed.until(lambda: set(bed.caps("c1")) == {OWN_WATTS}, "the user's own cap again", 30)
    why = bed.lab.run(["slurm-power", "why", job]).stdout
    assert "Its user asked for: no hold of more than 60 s, 450 W a GPU at most." in why, why
    assert "Why: grid must stay below 10.5 kW" in why, why

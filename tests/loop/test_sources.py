"""A PDU that freezes and a GPU that is lost: both are named, and the limit still holds."""

import json
import re
import time
from typing import Any

from tests.loop.bed import Bed

# The lost GPU takes no cap, so that the others have to make up for it within their job's promise.
LIMIT_WATTS = 13_600


def sources(bed: Bed) -> dict[str, dict[str, Any]]:
    """What `slurm-power sources` says to a user without rights, by what is measured."""
    done = bed.lab.run(["slurm-power", "sources", "--json"], user="bob")
    return {row["measures"]: row for row in json.loads(done.stdout)["sources"]}


def wait_for_good(bed: Bed, seconds: float) -> None:
    """Until every source is good; fails naming those that are not, and why."""
    deadline = time.monotonic() + seconds
    while bad := [row for row in sources(bed).values() if row["quality"] != "good"]:
        assert time.monotonic() < deadline, bad
        time.sleep(0.5)


def test_a_frozen_pdu_and_a_lost_gpu_are_named_and_the_limit_holds(bed: Bed) -> None:
    bed.plant("set_soc", soc_ratio=0.10)
    wait_for_good(bed, 30)
    time.sleep(40.0)  # what a rack loses has to be learned before anything can stand in for its PDU
    bed.plant("fault", target="pdu.rack1", fault="freeze", value=0)
    job = bed.submit()
    bed.run_full(job)
    bed.plant("fault", target="gpu.c1.5", fault="lost", value=0)

    def named() -> bool:
        found = sources(bed)
        gpu = found.get("GPU 5 of c1", {"quality": ""})
        return "stuck for" in found["circuit rack1"]["reason"] and gpu["quality"] == "invalid"

    bed.until(named, "both named", 30)
    # For a moment it may be of no use at all, which counts as full.
    bed.until(
        lambda: "estimated from what it feeds" in sources(bed)["circuit rack1"]["reason"], "an estimate", 15
    )
    found = sources(bed)
    assert found["circuit rack1"]["quality"] == "questionable", str(found)
    assert "lost" in found["GPU 5 of c1"]["reason"].lower()
    assert found["circuit rack2"]["quality"] == "good"

    bed.announce(LIMIT_WATTS, 120)
    bed.until(lambda: bed.truth()["grid_import_watts"] < LIMIT_WATTS, "the limit kept", 10)
    worst = 0.0
    until = time.monotonic() + 12.0
    while time.monotonic() < until:
        worst = max(worst, float(bed.truth()["grid_import_watts"]))
        time.sleep(0.25)
    assert worst < 1.01 * LIMIT_WATTS
    told = [f"{entry['kind']}: {entry['reason']}" for entry in bed.ledger(90)]
    assert any(re.match("source (questionable|invalid): circuit rack1: stuck", text) for text in told), told
    assert any(text.startswith("source invalid: GPU 5 of c1") for text in told)

    bed.plant("clear_faults")
    wait_for_good(bed, 40)

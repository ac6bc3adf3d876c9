"""The plan's prices and the three sentences about a job, on a live cluster, for whom they are meant."""

import json
from typing import Any

from tests.loop.bed import TIGHT_WATTS, Bed


def explained(bed: Bed, user: str = "root") -> dict[str, Any]:
    done = bed.lab.run(["slurm-power", "plan", "--explain", "--json"], user=user)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_peak_is_priced_and_explained(bed: Bed) -> None:
    job, held = bed.peak()
    bed.until(lambda: explained(bed)["circuits"][0]["binding"], "a limit that binds", 5)
    text = bed.lab.run(["slurm-power", "plan", "--explain"]).stdout
    print(text)
    found = explained(bed)
    (grid,) = found["circuits"]
    rows = {(row["lever"], row["subject"]): row for row in grid["levers"]}
    cap, hold = rows["cap", job], rows["hold", held]
    assert cap["chosen_watts"] > 0.0
    assert cap["user"] == "alice"
    assert grid["shadow"]["money_per_kwh"] == cap["price"]["money_per_kwh"] > hold["price"]["money_per_kwh"]
    assert f"the last watt of the cap on job {job}" in text

    others = explained(bed, "bob")["circuits"][0]["levers"]
    assert {row["subject"] for row in others if row["lever"] == "cap"} == {None}
    assert {row["subject"] for row in others if row["lever"] == "hold"} == {held}

    # The battery is empty by now: wait until the caps have carried it for a while.
    bed.until(lambda: bed.ask("job", job_id=job)["record"].get("capped_seconds", 0.0) > 5.0, "some time", 15)
    why = bed.lab.run(["slurm-power", "why", job], user="alice").stdout
    print(why)
    what, reason, gain = why.splitlines()[:3]
    assert f"Job {job} (" in what and "has been capped since" in what and "slower" in what
    assert reason.startswith(f"Why: grid must stay below {TIGHT_WATTS / 1000:.1f} kW (economic limit, ev-")
    assert "the grid is short" in reason
    assert gain.startswith("That took 0.0") and gain.endswith("was kept.")
    waits = bed.lab.run(["slurm-power", "why", held], user="bob").stdout.splitlines()
    print("\n".join(waits))
    assert "is kept waiting by us" in waits[0]
    assert waits[1].startswith("Why: its start would add")

"""A statement of energy over two minutes of a real cluster: what the plant knows, and the sums of meters."""

import json
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from containers.cluster.layout import CHECKOUT
from tests.cluster.lab import await_job
from tests.loop.bed import Bed

MINUTE = 60.0
JOB_SECONDS = 45


class Truth:
    """The plant's own counters of energy at moments."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._seen: list[tuple[float, dict[str, float]]] = []

    def look(self) -> float:
        truth = self._bed.truth()
        energies = truth["energy_joules"]
        gpus = sum(gpu["energy_joules"] for node in truth["nodes"].values() for gpu in node["gpus"])
        found = {"grid": energies["grid_import"] - energies["grid_export"], "gpus": gpus, **energies["racks"]}
        self._seen.append((float(truth["unix_seconds"]), found))
        return self._seen[-1][0]

    def watt_hours(self, start: float, end: float, name: str) -> float:
        return (self._at(end, name) - self._at(start, name)) / 3600.0

    def _at(self, moment: float, name: str) -> float:
        for (before, old), (after, new) in pairwise(self._seen):
            if before <= moment <= after:
                return old[name] + (moment - before) / (after - before) * (new[name] - old[name])
        raise AssertionError(f"nobody looked at {moment}")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_statement_is_what_the_plant_used_and_adds_up_to_the_meter(bed: Bed) -> None:
    truth = Truth(bed)
    first = (truth.look() // MINUTE + 1.0) * MINUTE

    def until(moment: float) -> None:
        def there() -> bool:
            time.sleep(0.2)
            return truth.look() > moment

        bed.until(there, "the end of a minute", 130)

    until(first + 5.0)
    job = bed.submit("--gres=gpu:8", "--job-name==evil()", flex="flex0", seconds=JOB_SECONDS)
    ended = False

    def has_ended() -> bool:
        nonlocal ended
        truth.look()
        ended = ended or bed.lab.job(job)["JobState"] == "COMPLETED"
        return ended

    bed.until(has_ended, "the end of the job", 120)
    await_job(bed.lab, job)
    last = (truth.look() // MINUTE + 1.0) * MINUTE
    until(last + 5.0)  # the last minute is packed with its first tick beyond

    def receipt() -> dict[str, Any]:
        rows = bed.ask("jobs", job_ids=[job])["jobs"]
        return dict(rows[0].get("receipt") or {}) if rows and rows[0]["final"] else {}

    bed.until(lambda: bool(receipt()), "its receipt", 40)
    made = statement(bed, first, last)
    lines = {row[0]: row[1] * 1000.0 for row in made["lines"]}
    print(json.dumps(made["lines"], indent=1))
    print(
        {name: round(truth.watt_hours(first, last, name), 1) for name in ("grid", "gpus", "rack1", "rack2")}
    )
    meter = lines.pop("sum = meter")
    assert sum(lines.values()) == pytest.approx(meter, abs=0.5)
    assert meter == pytest.approx(truth.watt_hours(first, last, "grid"), rel=0.01)
    circuits = {row[0]: row for row in made["circuits"]}
    for rack in ("rack1", "rack2"):
        # PDUs are read every few seconds and show steps of 10 W.
        assert circuits[rack][2] * 1000.0 == pytest.approx(truth.watt_hours(first, last, rack), rel=0.05)
    gpus = sum((row[4] + row[5]) * 1000.0 for row in made["circuits"])
    assert gpus == pytest.approx(truth.watt_hours(first, last, "gpus"), rel=0.02)
    assert lines["GPUs of jobs"] == pytest.approx(receipt()["energy_joules"] / 3600.0, abs=1.0)
    known = {row[0]: row for row in made["jobs"]}[job]
    assert (known[1], known[3]) == ("alice", "=evil()")
    rest = sum(watts for name, watts in lines.items() if name.startswith("residual of "))
    assert 0.0 < rest < 0.6 * meter, "hosts have no meter here: they, fans and losses are the residual"


def statement(bed: Bed, first: float, last: float) -> dict[str, list[list[Any]]]:
    """The tables of ``slurm-power report energy --json``."""
    span = [datetime.fromtimestamp(moment, UTC).isoformat() for moment in (first, last)]
    words = ["--state", str(bed.run / "state" / "powerctld"), "--since", span[0], "--until", span[1]]
    done = bed.lab.run(
        ["slurm-power", "report", "energy", *words, "--by", "job", "--json"],
        environment={"PYTHONPATH": str(CHECKOUT)},
    )
    document = json.loads(done.stdout)
    assert all(check["good"] for check in document["checks"]), document["checks"]
    blocks = [block for section in document["sections"] for block in section["blocks"]]
    return {block["table"]: block["rows"] for block in blocks if "table" in block}

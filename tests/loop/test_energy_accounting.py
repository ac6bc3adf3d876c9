"""Energy in Slurm's own accounting: ConsumedEnergy against the plant's truth, and our receipts beside it."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT, Options
from containers.cluster.lifecycle import up
from containers.demo.stage import ask
from containers.plant.__main__ import PLANT_FILE
from slurm_power.simulate.constants import load_constants
from slurm_power.slurm.receipt_text import receipt_in
from tests.cluster.lab import await_job

PRICE_PER_KWH = 0.25
CARBON_G_PER_KWH = 400.0
STEP_SECONDS = 9
EFFICIENCY_RATIO = load_constants(PLANT_FILE).host.power_supply_efficiency_ratio
SCRIPT = f"""
date +%s.%N
srun --gres=gpu:8 plant-load --workload training --seconds {STEP_SECONDS}
srun --gres=gpu:8 plant-load --workload training --seconds {STEP_SECONDS}
date +%s.%N
"""


@pytest.fixture(scope="module")
def lab(steady_file: Path) -> Iterator[Lab]:
    started = up(
        Options(nodes=2, power=True, accounting=True, energy_accounting=True, plant=str(steady_file))
    )
    try:
        lab = started.lab
        hour = datetime.now(UTC) - timedelta(hours=1)
        for name, value in (("price", PRICE_PER_KWH), ("carbon", CARBON_G_PER_KWH)):
            rows = [f"{hour + timedelta(hours=n):%Y-%m-%dT%H:%M:%SZ},{value}" for n in range(30)]
            (lab.layout.etc / f"{name}.csv").write_text("\n".join([f"time,{name}", *rows]) + "\n")
        site = lab.layout.etc / "site.toml"
        supply = '[supply]\nprice_file = "price.csv"\nprice_unit = "per_kWh"\n'
        supply += 'carbon_file = "carbon.csv"\ncarbon_unit = "g_per_kWh"\n'
        site.write_text(f"{site.read_text()}\n{supply}")
        lab.restart("powerctld")
        powerctld = lab.run_directory / "run" / "powerctld.sock"

        def priced() -> bool:
            answer = ask(powerctld, {"op": "plan", "explain": True})
            return answer.get("energy_price_per_kwh") == PRICE_PER_KWH

        lab.wait_until(priced, "the price of energy", seconds=30)
        time.sleep(3.0)  # receipts look at rates every two seconds
        yield lab
    finally:
        started.down()


class Truth:
    """What each node has drawn, by the plant, at moments."""

    def __init__(self, lab: Lab) -> None:
        self._socket = lab.run_directory / "run" / "plant.sock"
        self._seen: list[tuple[float, dict[str, Any]]] = []

    def look(self) -> None:
        truth = ask(self._socket, {"op": "truth"})["truth"]
        self._seen.append((truth["unix_seconds"], truth["nodes"]))

    def joules(self, start: float, end: float, read: Callable[[dict[str, Any]], float]) -> float:
        return self._at(end, read) - self._at(start, read)

    def _at(self, moment: float, read: Callable[[dict[str, Any]], float]) -> float:
        for (before, old), (after, new) in pairwise(self._seen):
            if before <= moment <= after:
                share = (moment - before) / (after - before)
                return read(old) + share * (read(new) - read(old))
        raise AssertionError(f"nobody looked at {moment}")


def sacct(lab: Lab, job: str, fields: str) -> dict[str, list[str]]:
    """What sacct prints of a job and its steps, by their names."""
    lines = lab.run(["sacct", "-nP", "-j", job, "-o", f"JobID,{fields}"]).stdout.splitlines()
    return {line.split("|")[0]: line.split("|", fields.count(",") + 1)[1:] for line in lines}


def stored_receipt(lab: Lab, job: str) -> dict[str, Any]:
    """The receipt in Slurm's accounting, empty while there is none."""
    comment = sacct(lab, job, "AdminComment").get(job, [""])[0]
    receipt = receipt_in(comment)
    return receipt if isinstance(receipt, dict) else {}


def test_sacct_has_the_energy_of_the_node_and_our_receipt_beside_it(lab: Lab) -> None:
    options = ["--flex=flex1", "--workload=training", "--exclusive", "--gres=gpu:8", "--ntasks=1"]
    line = ["psbatch", "--parsable", "--output=%j.out", "--time=5", *options, f"--wrap={SCRIPT}"]
    truth = Truth(lab)
    truth.look()
    job = lab.run(line, user="alice").stdout.strip()
    ended = False

    def has_ended() -> bool:
        nonlocal ended
        before, ended = ended, lab.job(job)["JobState"] == "COMPLETED"
        truth.look()
        time.sleep(0.1)  # the plant moves ten times a second
        return before

    lab.wait_until(has_ended, "the end of the job", seconds=60)
    node = lab.job(job)["NodeList"]
    words = (lab.run_directory / "home" / "alice" / f"{job}.out").read_text().split("\n")
    start, *_, end = (float(word) for word in words if word.replace(".", "", 1).isdigit())
    node_joules = truth.joules(start, end, lambda nodes: nodes[node]["joules"])
    gpu_joules = truth.joules(
        start, end, lambda nodes: sum(gpu["energy_joules"] for gpu in nodes[node]["gpus"])
    )
    assert node_joules > 1.3 * gpu_joules > 100_000.0, (
        "it ran, and hosts and losses are in what the node drew"
    )

    lab.wait_until(lambda: sacct(lab, job, "State").get(job) == ["COMPLETED"], "its end in sacct", seconds=20)
    counted = {name: row[0] for name, row in sacct(lab, job, "ConsumedEnergyRaw").items()}
    print(f"node {node_joules:.0f} J, sacct {counted}, GPUs {gpu_joules:.0f} J")
    assert float(counted[f"{job}.batch"]) == pytest.approx(node_joules, rel=0.02)

    lab.wait_until(lambda: bool(stored_receipt(lab, job)), "its receipt in sacct", seconds=30)
    receipt = stored_receipt(lab, job)
    print(receipt)
    assert receipt["energy_joules"] == pytest.approx(gpu_joules, rel=0.02)
    # What is left are the losses of the power supplies.
    both = receipt["energy_joules"] + receipt["host_joules"]
    assert both == pytest.approx(node_joules * EFFICIENCY_RATIO, rel=0.05), "hosts are read each second"
    assert (receipt["v"], receipt["shared_ratio"]) == (1, 0.0)
    assert receipt["coverage_ratio"] >= 0.95
    assert receipt["method"] in {"counter", "mixed"}
    paid = {"pdu": receipt.get("pdu_joules", 0), "gpus+host": both}[receipt["cost_basis"]]
    assert receipt["cost"] == pytest.approx(PRICE_PER_KWH * paid / 3.6e6, rel=0.01)
    assert receipt["co2_grams"] == pytest.approx(CARBON_G_PER_KWH * paid / 3.6e6, rel=0.01)
    assert receipt["step_joules"].keys() == {"0", "1"}
    for joules in receipt["step_joules"].values():
        assert joules == pytest.approx(gpu_joules / 2, rel=0.25), "within two seconds of nine"
    comment = sacct(lab, job, "AdminComment")[job][0]
    assert "`workload`:`training`" in comment, "what was there before stays"

    here = jobs(lab, "alice", job)
    assert (here["source"], here["final"], here["receipt"]) == ("powerctld", True, receipt)
    there = jobs(lab, "alice", job, "--socket=/nonexistent")
    assert (there["source"], there["receipt"]) == ("Slurm's accounting", receipt)
    said = slurm_power(lab, "alice", "jobs", job)
    assert f"({receipt['energy_joules']:,} J)" in said
    assert "Step 0: " in said


def jobs(lab: Lab, user: str, job: str, *options: str) -> dict[str, Any]:
    """One job as `slurm-power jobs --json` has it."""
    (row,) = json.loads(slurm_power(lab, user, "jobs", "--json", "-j", job, *options))["jobs"]
    return dict(row)


def slurm_power(lab: Lab, user: str, *words: str) -> str:
    environment = {"PYTHONPATH": str(CHECKOUT)}
    return lab.run(["slurm-power", *words], user=user, environment=environment).stdout


def test_receipts_wait_for_an_accounting_that_is_away_and_survive_a_restart(lab: Lab) -> None:
    """Each task of an array and each part of a het job has its own; another tool's comment stays."""
    seconds = "$((3 + 2 * ${SLURM_ARRAY_TASK_ID:-0}))"  # equal jobs may have used the very same energy
    load = f"--wrap=srun plant-load --workload training --seconds {seconds}"
    words = ["sbatch", "--parsable", "--output=/dev/null", "--time=2", "--gres=gpu:1"]
    array = lab.run([*words, "--array=0-2", load], user="alice").stdout.strip()
    het = lab.run([*words, ":", "--gres=gpu:1", load], user="alice").stdout.strip()
    foreign = lab.run([*words, load], user="alice").stdout.strip()
    lab.run(["scontrol", "update", f"jobid={foreign}", "AdminComment=a note of ours"])
    lab.stop("slurmdbd")
    for job in (f"{array}_0", f"{array}_1", f"{array}_2", het, foreign):
        await_job(lab, job)
    raw = [lab.job(f"{array}_{task}")["JobId"] for task in range(3)]
    powerctld = lab.run_directory / "run" / "powerctld.sock"
    ids = [*raw, het, str(int(het) + 1), foreign]

    def made() -> bool:
        rows = ask(powerctld, {"op": "jobs", "job_ids": ids})["jobs"]
        return len(rows) >= 5 and all(row["final"] for row in rows)

    lab.wait_until(made, "receipts in powerctld", seconds=40)
    lab.restart("powerctld")
    lab.start("slurmdbd")
    names = [f"{array}_0", f"{array}_1", f"{array}_2", f"{het}+0"]
    lab.wait_until(lambda: all(stored(lab, name) for name in names), "the receipts", seconds=60)
    told = {row["job_id"]: row["receipt"] for row in ask(powerctld, {"op": "jobs", "job_ids": ids})["jobs"]}
    for name, job in zip(names, [*raw, het], strict=True):
        assert stored(lab, name)["energy_joules"] == told[job]["energy_joules"] > 500
    assert len({told[job]["energy_joules"] for job in raw}) == 3, "each task has its own"
    assert sacct(lab, foreign, "AdminComment")[foreign] == ["a note of ours"]
    kept = [row for row in ask(powerctld, {"op": "ledger", "since_seconds": 120})["entries"]
            if row["kind"] == "receipts kept"]  # fmt: skip
    assert len(kept) == 1
    assert "another tool" in kept[0]["reason"]
    assert jobs(lab, "alice", foreign)["receipt"]["energy_joules"] > 500, "it is with powerctld"


def stored(lab: Lab, name: str) -> dict[str, Any]:
    """The receipt of a job by its name in sacct, which lists an array or a het job as a whole."""
    comment = sacct(lab, name, "AdminComment").get(name, [""])[0]
    receipt = receipt_in(comment)
    return receipt if isinstance(receipt, dict) else {}


def test_nobody_but_slurmd_sees_the_counters(lab: Lab) -> None:
    counters = "/sys/cray/pm_counters"
    assert not Path(counters).exists()
    assert lab.run(["ls", counters], check=False).returncode != 0
    job = lab.run(["srun", "--time=1", "cat", f"{counters}/power", "/sys/class/net/lo/mtu"], user="alice")
    assert [line.split()[1:2] for line in job.stdout.splitlines()] == [["W"], []], "the rest of /sys is there"

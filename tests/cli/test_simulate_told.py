"""What ``simulate jobs`` and ``simulate event`` say of a run, computed again from the rows they write."""

import csv
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from slurm_power.cli.slurm_power import main
from slurm_power.simulate.event import EventSpec, simulate_event
from slurm_power.simulate.event_files import read_curves, read_mix
from slurm_power.simulate.event_result import csv_rows, summary
from tests.cli.test_simulate_event import CURVES, MIX
from tests.cli.test_simulate_jobs import HEADING, SITE, rows

# As the README promises them.
FLOORS = {"flex0": 0.99, "flex1": 0.90, "flex2": 0.75, "flex3": 0.50}
DAY = 86_400.0
BEGIN, END = 28 * DAY, 30 * DAY
LIMIT_WATTS = 22_000.0


def run(tmp_path: Path, *more: str) -> tuple[Any, list[dict[str, str]], list[dict[str, str]]]:
    """Two days under a limit that cannot always be held; figures, rows of power, rows of jobs."""
    log, site = tmp_path / "jobs.csv", tmp_path / "site.toml"
    log.write_text("\n".join([HEADING, *rows()]) + "\n")
    site.write_text(SITE)
    power, jobs = tmp_path / "power.csv", tmp_path / "jobs_out.csv"
    words = [
        *("simulate", "jobs", str(log), "--site", str(site), "--from", "28d", "--days", "2", "--no-bound"),
        *("--flex-mix", "flex0:0.4,flex3:0.6", "--json", "--out", str(power), "--out-jobs", str(jobs)),
    ]
    done = CliRunner().invoke(main, [*words, *more])
    assert done.exit_code == 0, done.output
    with power.open() as first, jobs.open() as second:
        return json.loads(done.stdout), list(csv.DictReader(first)), list(csv.DictReader(second))


@pytest.fixture(scope="module")
def limited(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Any, list[dict[str, str]], list[dict[str, str]]]:
    return run(tmp_path_factory.mktemp("limited"), "--limit", f"{LIMIT_WATTS:.0f}", "--ess", "20%/1h")


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[dict[str, str]], list[dict[str, str]]]:
    return run(tmp_path_factory.mktemp("free"), "--levers", "none")


def test_violations_are_those_of_the_rows(limited: tuple[Any, list[dict[str, str]], Any]) -> None:
    found, power, _ = limited
    grid = np.array([float(row["power_watts"]) for row in power if row["circuit"] == "grid"])
    above = grid > LIMIT_WATTS + 0.1
    assert 0 < above.sum() < len(above), "a limit that can be held proves nothing"
    told = found["controlled"]["violations"]["grid"]
    begins = above & ~np.concatenate([[False], above[:-1]])
    assert told["count"] == begins.sum()
    assert told["seconds"] == 300.0 * above.sum()
    assert told["worst_watts"] == pytest.approx((grid - LIMIT_WATTS).max(), abs=0.01)


def test_delays_holds_and_slowdowns_are_those_of_the_rows(
    limited: tuple[Any, Any, list[dict[str, str]]], free: tuple[Any, Any, list[dict[str, str]]]
) -> None:
    found, _, jobs = limited
    started = {row["job"]: float(row["start"]) for row in free[2] if row["start"]}
    delays, holds, slow = defaultdict(list), defaultdict(list), defaultdict(list)
    for row in jobs:
        holds[row["flex"]].append(float(row["hold_seconds"]) / 3600.0)
        if row["start"]:
            slow[row["flex"]].append(1.0 - float(row["performance"]))
        if started.get(row["job"], 0.0) >= BEGIN:
            delays[row["flex"]].append((float(row["start"] or END) - started[row["job"]]) / 3600.0)
    for flex, told in found["controlled"]["by_class"].items():
        assert told["jobs"] == len(holds[flex])
        if not told["jobs"]:
            continue
        assert told["delay_mean_hours"] == pytest.approx(np.mean(delays[flex]), abs=1e-5)
        assert told["delay_most_hours"] == pytest.approx(max(delays[flex]), abs=1e-5)
        assert told["delayed_jobs"] == sum(hours > 1 / 3600 for hours in delays[flex])
        assert told["hold_most_hours"] == pytest.approx(max(holds[flex]), abs=1e-5)
        assert told["slowdown_mean_ratio"] == pytest.approx(np.mean(slow[flex]), abs=1e-6)
    assert max(delays["flex3"]) > 0.1 and max(slow["flex3"]) > 0.01, "nothing was asked of anybody"
    assert max(slow["flex0"]) == 0.0 and max(holds["flex0"]) == 0.0


def test_fairness_is_that_of_the_rows(limited: tuple[Any, Any, list[dict[str, str]]]) -> None:
    found, _, jobs = limited
    lost: dict[str, float] = defaultdict(float)
    wanted: dict[str, float] = defaultdict(float)
    for row in jobs:
        if row["flex"] != "flex0" and row["start"]:
            ran = (float(row["end"] or END) - max(BEGIN, float(row["start"]))) * int(row["gpus"])
            whole = (float(row["end"] or END) - float(row["start"])) * int(row["gpus"])
            lost[row["user"]] += (1.0 - float(row["performance"])) * whole
            wanted[row["user"]] += ran
    kept = np.array([1.0 - lost[user] / wanted[user] for user in wanted])
    told = found["controlled"]["fairness"]
    assert told["users"] == len(kept) > 1
    assert told["jain_index"] == pytest.approx(kept.sum() ** 2 / (len(kept) * (kept**2).sum()), abs=1e-6)
    assert told["worst_user_lost_ratio"] == pytest.approx(1.0 - kept.min(), abs=1e-4)
    assert told["worst_user"] == min(wanted, key=lambda user: 1.0 - lost[user] / wanted[user])


def test_cycles_are_what_came_out_over_what_it_holds(limited: tuple[Any, Any, Any]) -> None:
    ess = limited[0]["controlled"]["ess"]
    assert ess["discharged_kwh"] > 0.1
    assert ess["cycles"] == pytest.approx(ess["discharged_kwh"] / ess["energy_kwh"])
    assert 0.0 <= ess["lowest_soc_ratio"] <= 0.5 and 0.0 <= ess["last_soc_ratio"] <= 1.0


def event(spec: EventSpec) -> Any:
    curves = read_curves(CURVES.splitlines(), "curves")
    with MIX.open() as lines:
        return simulate_event(read_mix(lines, "mix", curves), curves, spec)


@pytest.mark.parametrize("cut_ratio", [0.1, 0.25, 0.45])
def test_figures_of_an_event_are_those_of_its_rows(cut_ratio: float) -> None:
    spec = EventSpec(cut_ratio=cut_ratio, minutes=20)
    found = event(spec)
    told = summary(found)
    jobs = {job["job"]: job for job in told["jobs"]}
    performance = defaultdict(list)
    lost = 0.0
    for second, name, _, _, ratio in csv_rows(found):
        lost += (1.0 - float(ratio)) * jobs[name]["gpus"] / 60.0
        if 0 <= int(second) < 1200:
            performance[name].append(float(ratio))
    assert told["lost_gpu_hours"] == pytest.approx(lost, abs=1e-3)
    for name, job in jobs.items():
        assert job["floor_ratio"] == FLOORS[job["flex"]]
        assert min(performance[name]) >= FLOORS[job["flex"]]
        assert job["least_performance_ratio"] == pytest.approx(min(performance[name]), abs=1e-6)
        assert job["performance_ratio"] == pytest.approx(np.mean(performance[name]), abs=1e-6)


def test_too_much_and_too_little_are_told() -> None:
    """Half of the event's minutes 3 % below the target, the other half 5 % above it."""
    spec = EventSpec(cut_ratio=0.25, minutes=20)
    found = event(spec)
    target_watts = 0.75 * found.uncapped_watts
    during = (found.seconds >= 0.0) & (found.seconds < 1200.0)
    late = during & (found.seconds >= 600.0)
    factor = np.where(late, 1.05, np.where(during, 0.97, 1.0))
    told = summary(replace(found, job_watts=found.job_watts * factor[:, None]))
    assert told["over_curtailment_ratio"] == pytest.approx(
        0.5 * 0.03 * target_watts / found.uncapped_watts, abs=1e-6
    )
    assert told["worst_above_target_ratio"] == pytest.approx(0.05, abs=1e-6)

"""``slurm-power simulate event`` as its users type it."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main

CURVES = """Workload,GPU power cap,throughput,total GPU power,normalized throughput,power per GPU
pt_mpt_13b_sm,400,0.2011,18087,1.0,377
pt_mpt_13b_sm,350,0.1833,15886,0.9116,331
pt_mpt_13b_sm,300,0.1742,13781,0.866,287
pt_mpt_13b_sm,200,0.1283,9380,0.638,195
ft_llama_8b_dolly,200,0.1592,9414,0.807,196
ft_llama_8b_dolly,300,0.1875,13839,0.951,288
ft_llama_8b_dolly,400,0.1972,16591,1.0,346
infer_llama_8b,200,0.052,3115,0.781,195
infer_llama_8b,300,0.062,4623,0.931,289
infer_llama_8b,400,0.0666,5894,1.0,368
"""
MIX = Path(__file__).parents[2] / "docs" / "examples" / "event-mix.csv"


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    path = tmp_path / "curves.csv"
    path.write_text(CURVES)
    return path


def words(curves: Path, *more: str, cut: str = "0.25", mix: Path = MIX) -> list[str]:
    return [
        *("simulate", "event", "--mix", str(mix), "--curves", str(curves)),
        *("--cut", cut, "--duration", "3h", *more),
    ]


def simulate(curves: Path, *more: str, cut: str = "0.25", mix: Path = MIX) -> Result:
    return CliRunner().invoke(main, words(curves, *more, cut=cut, mix=mix))


def test_the_shipped_mix_has_256_gpus_and_keeps_its_promises(curves: Path) -> None:
    done = simulate(curves, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["gpus"] == 256 and found["feasible"] and found["seed"] == 0
    assert 0.0 <= found["bound_weighted_performance"] - found["weighted_performance"] < 0.01
    assert found["over_curtailment_ratio"] < 0.001
    assert all(job["least_performance_ratio"] >= job["floor_ratio"] for job in found["jobs"])


def test_the_rows_have_the_battery_beside_the_jobs(curves: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    found = json.loads(simulate(curves, "--ess", "1h", "--json", "--out", str(out)).stdout)
    assert found["ess"]["usable_kwh"] == pytest.approx(0.25 * found["uncapped_watts"] / 1e3)
    with out.open() as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["second", "job", "power_watts", "cap_watts", "performance"]
    assert {row["job"] for row in rows} == {job["job"] for job in found["jobs"]} | {"ess"}
    battery = [row for row in rows if row["job"] == "ess"]
    assert all(
        float(row["power_watts"]) <= 0.0 and not row["cap_watts"] + row["performance"] for row in battery
    )
    at_noon = sum(float(row["power_watts"]) for row in rows if row["second"] == "5400")
    assert at_noon == pytest.approx(found["target_watts"], rel=1e-3)


def test_a_battery_may_be_given_in_watts_or_as_a_share(curves: Path) -> None:
    by_watts = json.loads(simulate(curves, "--ess", "20kW/30m", "--json").stdout)["ess"]
    assert (by_watts["power_watts"], by_watts["usable_kwh"]) == (20e3, 10.0)
    found = json.loads(simulate(curves, "--ess", "10%/2h", "--json").stdout)
    assert found["ess"]["power_watts"] == pytest.approx(0.1 * found["uncapped_watts"])
    assert json.loads(simulate(curves, "--ess", "none", "--json").stdout)["ess"] is None


def test_text_names_jobs_bound_and_battery(curves: Path) -> None:
    text = simulate(curves, "--ess", "1h", "--seed", "7").stdout
    for part in ("pretrain-13b", "at best", "battery:", "seed 7", "on target within"):
        assert part in text


def test_what_cannot_be_met_is_an_answer(curves: Path) -> None:
    done = simulate(curves, cut="0.7")
    assert done.exit_code == 0
    assert "NOT FEASIBLE" in done.stdout
    found = json.loads(simulate(curves, "--json", cut="0.7").stdout)
    assert not found["feasible"] and found["shortfall_watts"] > 0.0
    assert found["time_to_target_seconds"] is None


def test_a_job_that_takes_turns_is_marked(curves: Path, tmp_path: Path) -> None:
    mix = tmp_path / "mix.csv"
    mix.write_text("job,workload,gpus,flex,priority\nonly,pt_mpt_13b_sm,64,flex3,1\n")
    done = simulate(curves, cut="0.12", mix=mix)
    assert "changes between two settings within each minute: only" in done.stdout


def test_every_problem_is_told_at_once_and_nothing_is_written(curves: Path, tmp_path: Path) -> None:
    mix = tmp_path / "mix.csv"
    mix.write_text("job,workload,gpus,flex,priority\na,nothing,8,flex1,1\nb,infer_llama_8b,-8,flex1,1\n")
    done = CliRunner().invoke(
        main,
        [
            *("simulate", "event", "--mix", str(mix), "--curves", str(curves)),
            *("--cut", "0.25", "--duration", "90s", "--out", str(tmp_path / "none" / "out.csv")),
        ],
    )
    assert done.exit_code == 2
    for part in ("--duration", "--out", "row 2: workload 'nothing'", "row 3: gpus '-8'"):
        assert part in done.output
    assert not done.stdout


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--cut", "1"), "--cut"),
        (("--ess", "big"), "--ess"),
        (("--round-trip", "0"), "--round-trip"),
        (("--ramp-seconds", "20000"), "--ramp-seconds: has to be shorter"),
        (("--curves", "/nowhere.csv"), "/nowhere.csv: No such file"),
        (("--cut", "nan"), "--cut"),
        (("--ess", "1h", "--round-trip", "nan"), "--round-trip"),
        (("--ramp-seconds", "nan"), "--ramp-seconds"),
    ],
)
def test_bad_options_are_refused(curves: Path, more: tuple[str, ...], told: str) -> None:
    done = simulate(curves, *more)
    assert done.exit_code == 2
    assert told in done.output and "Traceback" not in done.output


def test_what_is_read_is_never_written_over(curves: Path) -> None:
    done = simulate(curves, "--out", str(curves))
    assert done.exit_code == 2 and "is read by this command" in done.output
    assert curves.read_text() == CURVES


def test_the_solver_puts_no_word_of_its_own_into_the_json(curves: Path) -> None:
    """HiGHS writes to the process's own stdout, which only another process can see."""
    done = subprocess.run(
        [sys.executable, "-m", "slurm_power.cli.slurm_power", *words(curves, "--json")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)["feasible"]

"""What nobody means: numbers that are none, times that cannot be, files that would be written over."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main

CURVES = """Workload,GPU power cap,throughput,total GPU power,normalized throughput,power per GPU
training,400,1.0,1,1.0,377
training,300,0.87,1,0.87,287
training,200,0.64,1,0.64,195
"""
MIX = "job,workload,gpus,flex,priority\na,training,64,flex3,1\nb,training,64,flex1,2\n"
SITE = """
[site]
name = "small"
[circuit.grid]
rating_watts = 60_000.0
limit_kind = "economic"
nodes = ["n1", "n2", "n3", "n4"]
"""
HEADING = "submit,start,end,reqt,gpus,kw_per_gpu,user"
SACCT = "JobID|User|State|Submit|Start|End|Timelimit|AllocTRES"
SWF = "{number} {submit} {wait} 3600 1 -1 -1 1 7200 -1 1 1 1 1 1 1 -1 -1"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with all that the three commands read."""
    (tmp_path / "curves.csv").write_text(CURVES)
    (tmp_path / "mix.csv").write_text(MIX)
    (tmp_path / "site.toml").write_text(SITE)
    hours = "".join(f"{3600 * hour},{100 + hour % 24}\n" for hour in range(40 * 24))
    (tmp_path / "load.csv").write_text("time,kw\n" + hours)
    rows = "".join(f"{at},{at},{at + 3600},7200,8,0.4,a\n" for at in range(0, 10 * 7200, 7200))
    (tmp_path / "jobs.csv").write_text(f"{HEADING}\n{rows}")
    return tmp_path


def simulate(here: Path, kind: str, *more: str) -> Result:
    """One of the three commands with what it needs; ``more`` comes last, so it counts."""
    words = {
        "ess": [str(here / "load.csv"), "--ess-power-ratio", "0.15", "--ess-hours", "2", "--history", "5d"],
        "jobs": [str(here / "jobs.csv"), "--site", str(here / "site.toml"), "--no-bound", "--quick"],
        "event": [
            *("--mix", str(here / "mix.csv"), "--curves", str(here / "curves.csv")),
            *("--cut", "0.2", "--duration", "10m"),
        ],
    }[kind]
    return CliRunner().invoke(main, ["simulate", kind, *words, *more])


def refused(done: Result, *told: str) -> None:
    """It says so on stderr, and nothing on stdout; a traceback would be another exit status."""
    assert done.exit_code == 2, done.output
    assert not done.stdout
    for part in told:
        assert part in done.stderr


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        *(("event", "--cut", value) for value in ("nan", "0", "1", "2", "-1", "inf")),
        *(("event", "--round-trip", value) for value in ("nan", "0", "1.5")),
        *(("event", "--ramp-seconds", value) for value in ("nan", "-1", "inf")),
        *(("event", "--ess", value) for value in ("9" * 310 + "kW/2h", "9" * 308 + "h", "9" * 310 + "%/1h")),
        *(("jobs", "--days", value) for value in ("nan", "inf", "0", "-1")),
        *(("jobs", "--round-trip", value) for value in ("nan", "0", "1.5")),
        *(("jobs", "--gpus-per-processor", value) for value in ("nan", "inf", "0", "-1")),
        *(("jobs", "--ess", value) for value in ("9" * 310 + "kW/2h", "1MW/" + "9" * 308 + "h")),
        *(("jobs", "--event", f"1h,1h,{value}") for value in ("25", "1.5", "9" * 310 + "kW")),
        ("jobs", "--limit", "9" * 303),
    ],
)
def test_numbers_that_cannot_be(here: Path, kind: str, option: str, value: str) -> None:
    refused(simulate(here, kind, option, value, "--json"), option)


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_a_count_of_gpus_that_cannot_be_is_told_once(here: Path, value: str) -> None:
    """And not again for each line of the log, which is read with another, for what else is wrong."""
    (here / "jobs.csv").write_text("; UnixStartTime: 0\n1 2 3\n" + SWF.format(number=1, submit=0, wait=0))
    done = simulate(here, "jobs", "--gpus-per-processor", value)
    refused(done, "--gpus-per-processor", "line 2: 3 fields")
    assert len(done.stderr.splitlines()) == 2


def test_all_numbers_are_told_at_once(here: Path) -> None:
    done = simulate(here, "event", "--cut", "2", "--round-trip", "nan", "--ramp-seconds", "-1")
    refused(done, "--cut", "--round-trip", "--ramp-seconds")
    options = ("--days", "0", "--round-trip", "2", "--gpus-per-processor", "-1", "--step", "0.5s")
    refused(simulate(here, "jobs", *options), *options[::2])


@pytest.mark.parametrize("priority", ["1e300", "1e-300", "1e7"])
def test_a_priority_beyond_reason_is_told(here: Path, priority: str) -> None:
    (here / "mix.csv").write_text(MIX.replace("flex3,1\n", f"flex3,{priority}\n"))
    refused(simulate(here, "event"), f"row 2: priority '{priority}'")


def test_priorities_as_far_apart_as_may_be(here: Path) -> None:
    rows = "a,training,1000000,flex3,1000000\nb,training,1,flex1,0.000001\nc,training,1,flex3,1\n"
    (here / "mix.csv").write_text(MIX.splitlines()[0] + "\n" + rows)
    found = json.loads(simulate(here, "event", "--json").stdout)
    assert found["feasible"]
    assert found["weighted_performance"] == pytest.approx(found["bound_weighted_performance"], abs=1e-5)


@pytest.mark.parametrize(
    "lines",
    [
        f"{HEADING}\n0,0,3600,7200,1,0.4,a\n99999990000,99999990000,99999999999,7200,1,0.4,a\n",
        f"{SACCT}\n1|a|COMPLETED|{'9' * 30}|{'9' * 30}|{'9' * 31}|01:00:00|gres/gpu=1\n",
        f"{SACCT}\n1|a|COMPLETED|1970-01-01T00:00:00|1970-01-01T00:00:00|2026-01-01T00:00:00||gres/gpu=1\n",
        "\n".join(SWF.format(number=number, submit=10 ** (11 * number), wait=0) for number in (0, 1)),
        "\n".join(SWF.format(number=number, submit=0, wait=900_000_000_000 * number) for number in (0, 1)),
        f"; UnixStartTime: {'9' * 20}\n" + SWF.format(number=1, submit=0, wait=0),
    ],
)
def test_times_that_cannot_be(here: Path, lines: str) -> None:
    """They would ask for a table of all the quarters of an hour between them."""
    (here / "jobs.csv").write_text(lines)
    refused(simulate(here, "jobs", "--step", "1d"), "job")


def test_watts_in_a_column_of_kilowatts_are_told(here: Path) -> None:
    (here / "jobs.csv").write_text(f"{HEADING}\n0,0,3600,7200,8,400,a\n")
    refused(simulate(here, "jobs"), "row 2: kw_per_gpu '400'", "watts")


def test_a_tariff_without_energy_is_told_before_the_run(here: Path) -> None:
    (here / "tariff.toml").write_text('[[demand]]\nname = "all"\nprice_per_kw = 9.5\n')
    done = simulate(here, "jobs", "--tariff", str(here / "tariff.toml"), "--step", "0.5s")
    refused(done, "tariff.toml: no energy prices", "--step")


@pytest.mark.parametrize(
    ("kind", "option", "name"),
    [
        ("ess", "--out", "load.csv"),
        ("ess", "--out", "prices.csv"),
        ("event", "--out", "mix.csv"),
        ("event", "--out", "curves.csv"),
        ("jobs", "--out", "jobs.csv"),
        ("jobs", "--out-jobs", "jobs.csv"),
        ("jobs", "--out", "site.toml"),
    ],
)
def test_what_is_read_is_not_written_over(here: Path, kind: str, option: str, name: str) -> None:
    (here / "tariff.toml").write_text('[[demand]]\nname = "all"\nprice_per_kw = 9.5\n')
    hours = "".join(f"{3600 * hour},0.1\n" for hour in range(40 * 24))
    (here / "prices.csv").write_text("time,usd_per_kwh\n" + hours)
    more = ("--tariff", str(here / "tariff.toml"), "--prices", f"{here / 'prices.csv'}#usd_per_kwh")
    before = (here / name).read_bytes()
    # By another name of the same folder.
    out = here / "." / ".." / here.name / name
    done = simulate(here, kind, *(more if name == "prices.csv" else ()), option, str(out))
    refused(done, f"{option}: ", name, "is read")
    assert (here / name).read_bytes() == before


def test_both_files_of_jobs_are_checked_before_either_is_written(here: Path) -> None:
    power = here / "power.csv"
    done = simulate(here, "jobs", "--out", str(power), "--out-jobs", str(here / "none" / "jobs.csv"))
    refused(done, "--out-jobs: ", "none")
    assert not power.exists()
    refused(simulate(here, "jobs", "--out", str(power), "--out-jobs", str(power)), "--out-jobs: ")
    assert not power.exists()
    refused(simulate(here, "jobs", "--out", str(here)), "--out")
    assert (json.loads(simulate(here, "jobs", "--json").stdout))["settings"]["jobs_in_log"] == 10

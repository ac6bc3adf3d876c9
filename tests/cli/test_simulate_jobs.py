"""``slurm-power simulate jobs`` as a user meets it; the files it writes agree with what it says."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main

DAY = 86_400
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "site-100-nodes.toml"
SITE = """
[site]
name = "small"

[circuit.grid]
rating_watts = 60_000.0
limit_kind = "economic"
overhead_ratio = 1.15

[circuit.rack1]
parent = "grid"
rating_watts = 50_000.0
limit_kind = "safety"
nodes = ["n1", "n2", "n3", "n4"]
"""
HEADING = "submit,start,end,reqt,gpus,kw_per_gpu,user"


def rows(days: int = 31) -> Iterator[str]:
    for day in range(days):
        at = day * DAY
        yield f"{at},{at},{at + DAY - 60},{DAY},8,0.5,base"
        for user in range(3):
            start = at + 8 * 3600 + 60 * user
            yield f"{start - 30},{start},{start + 4 * 3600},{8 * 3600},8,0.6,user{user}"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.csv"
    path.write_text("\n".join([HEADING, *rows()]) + "\n")
    return path


def simulate(log: Path, site: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["simulate", "jobs", str(log), "--site", str(site), *words])


ALL = ("--from", "28d", "--days", "2", "--ess", "20%/2h")


def test_text_and_json_say_the_same(log: Path, site: Path) -> None:
    done = simulate(log, site, *ALL)
    assert done.exit_code == 0, done.output
    assert "seed 0" in done.output
    assert "repeat: slurm-power" in done.output
    found = json.loads(simulate(log, site, *ALL, "--json").stdout)
    assert found["seed"] == 0
    assert found["settings"]["jobs_in_log"] == 31 * 4
    grid = found["controlled"]["peak_watts"]["grid"]
    assert grid < found["without"]["peak_watts"]["grid"]
    assert f"{grid / 1000:.1f} kW" in done.output
    assert found["peak_share"] > 0.1


def test_the_files_can_be_recomputed(log: Path, site: Path, tmp_path: Path) -> None:
    power, jobs = tmp_path / "power.csv", tmp_path / "jobs_out.csv"
    done = simulate(log, site, *ALL, "--json", "--out", str(power), "--out-jobs", str(jobs))
    found = json.loads(done.stdout)
    with power.open() as file:
        watts = list(csv.DictReader(file))
    assert len(watts) == 2 * 288 * 2
    assert watts[0]["time"] == "1970-01-29T00:00:00Z"
    for name, peak in found["controlled"]["peak_watts"].items():
        seen = max(float(row["power_watts"]) for row in watts if row["circuit"] == name)
        assert seen == pytest.approx(peak, abs=0.01)
    grid = [float(row["power_watts"]) for row in watts if row["circuit"] == "grid"]
    assert sum(grid) / 12.0 / 1000.0 == pytest.approx(found["controlled"]["energy_kwh"])
    with jobs.open() as file:
        told = list(csv.DictReader(file))
    end = 30 * DAY
    lost = sum(
        (1.0 - float(row["performance"]))
        * (float(row["end"] or end) - float(row["start"]))
        * int(row["gpus"])
        for row in told
        if row["start"]
    )
    assert lost / 3600.0 == pytest.approx(found["controlled"]["gpu_hours_lost"], abs=1e-3)
    assert lost > 0.0
    assert max(float(row["hold_seconds"]) for row in told) <= 4 * 3600 + 1


def test_without_levers_nothing_changes(log: Path, site: Path) -> None:
    found = json.loads(simulate(log, site, "--levers", "none", "--ess", "20%/2h", "--json").stdout)
    assert found["controlled"]["peak_watts"] == found["without"]["peak_watts"]
    assert found["controlled"]["flexible"]["delay_most_hours"] == 0.0


def test_a_limit_and_an_event(log: Path, site: Path) -> None:
    words = ("--from", "28d", "--days", "1", "--limit", "24kW", "--event", "10h,1h,0.05", "--json")
    found = json.loads(simulate(log, site, *words, "--flex-mix", "flex3:1").stdout)
    assert found["aim"] == "limit"
    assert found["controlled"]["violations"] == {}
    assert found["without"]["violations"]["grid"]["worst_watts"] > 1000.0
    assert found["events"][0]["limit_watts"] < 24_000.0
    assert found["events"][0]["steps_above"] == 0


def test_a_bill(log: Path, site: Path, tmp_path: Path) -> None:
    tariff = tmp_path / "tariff.toml"
    tariff.write_text(
        '[[season]]\nname = "all"\ndemand_price_per_kw = 15.0\n[[season.period]]\nprice_per_kwh = 0.1\n'
    )
    found = json.loads(simulate(log, site, *ALL, "--tariff", str(tariff), "--json").stdout)
    without, controlled = found["without"], found["controlled"]
    assert controlled["bill"] < without["bill"]
    part = 2.0 / 31.0
    # The peak lasts for hours, so its 15 minutes are as high as its 5; both days are in January.
    expected = 0.1 * without["energy_kwh"] + 15.0 * part * without["peak_watts"]["grid"] / 1000.0
    assert without["bill"] == pytest.approx(expected)


def test_the_seed_changes_who_is_flexible_and_nothing_else(log: Path, site: Path) -> None:
    one, again, other = (
        json.loads(simulate(log, site, *ALL, "--seed", seed, "--json").stdout) for seed in ("1", "1", "2")
    )
    assert one["controlled"] == again["controlled"]
    assert one["without"] == other["without"]
    assert one["controlled"]["by_class"] != other["controlled"]["by_class"]


def test_a_log_in_swf_is_scheduled_where_it_does_not_say(site: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.swf"
    lines = [f"{n} {600 * n} -1 3600 1 -1 -1 1 7200 -1 1 {n % 3} 1 1 1 1 -1 -1" for n in range(1, 50)]
    log.write_text("; UnixStartTime: 0\n" + "\n".join(lines) + "\n")
    words = ("--gpus-per-processor", "8", "--days", "1", "--json")
    found = json.loads(simulate(log, site, *words).stdout)
    assert any("own scheduler" in note for note in found["notes"])
    assert found["controlled"]["jobs_unfinished"] == 0


def test_a_log_of_sacct(site: Path, tmp_path: Path) -> None:
    log = tmp_path / "sacct.txt"
    log.write_text(
        "JobID|User|State|Submit|Start|End|Timelimit|AllocTRES\n"
        "1|a|COMPLETED|2026-01-01T00:00:00|2026-01-01T01:00:00|2026-01-01T04:00:00|1-00:00:00|gres/gpu=8\n"
        "1.batch||COMPLETED|2026-01-01T00:00:00|2026-01-01T01:00:00|2026-01-01T04:00:00||gres/gpu=8\n"
    )
    found = json.loads(simulate(log, site, "--json").stdout)
    assert found["settings"]["jobs_in_log"] == 1
    assert found["without"]["gpu_hours"] == pytest.approx(24.0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--from", "90d"], "--from: 90d is not inside the log"),
        (["--from", "soon"], "--from: 'soon' is no time"),
        (["--event", "1d,3h"], "is no event"),
        (["--event", "60d,3h,0.2"], "--event: 60d is not inside"),
        (["--event", "1d,3h,120%"], "cuts more than there is"),
        (["--flex-mix", "flex0:0.5"], "add up to 0.5"),
        (["--event", "1d,3h,0"], "cuts nothing"),
        (["--event", "1d,3h,25"], "for watts or percent write the unit"),
        (["--days", "nan"], "--days"),
        (["--days", "inf"], "--days"),
        (["--round-trip", "nan"], "--round-trip"),
        (["--gpus-per-processor", "inf"], "--gpus-per-processor"),
        (["--levers", "ess,wind"], "wind is no lever"),
        (["--ess", "2h"], "--ess: hours alone say nothing"),
        (["--step", "0.5s"], "--step: has to be whole seconds"),
        (["--gpus-per-node", "1"], "need more GPUs than the site has (4)"),
        (["--tariff", "none.toml"], "none.toml: cannot be read"),
        (["--out", "/nowhere/power.csv"], "--out: there is no folder /nowhere"),
    ],
)
def test_what_cannot_be_is_refused(log: Path, site: Path, words: list[str], told: str) -> None:
    done = simulate(log, site, "--no-bound", *words)
    assert done.exit_code == 2, done.output
    assert told in done.output
    assert "Traceback" not in done.output


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    log, site = tmp_path / "jobs.csv", tmp_path / "site.toml"
    log.write_text(f"{HEADING},flex\n0,5,2,60,8,0.5,a,\n")
    site.write_text("[site]\n")
    done = simulate(log, site, "--step", "0.5s", "--out", "/nowhere/a.csv", "--out-jobs", str(tmp_path))
    assert done.exit_code == 2
    for part in ("row 2: submit, start and end", "site.name: missing", "--step", "--out: ", "--out-jobs: "):
        assert part in done.output


def test_files_do_not_take_the_place_of_each_other_or_of_the_log(log: Path, site: Path) -> None:
    before = log.read_text()
    both = log.with_name("out.csv")
    done = simulate(log, site, "--quick", "--out", str(both), "--out-jobs", str(both))
    assert done.exit_code == 2 and "is written by --out already" in done.output and not both.exists()
    done = simulate(log, site, "--quick", "--out", str(log))
    assert done.exit_code == 2 and "is read by this command" in done.output
    assert log.read_text() == before


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("0,1,2,60,8,0,5,a", "row 2: has more columns than row 1 names"),
        ("0,9000000000,9000000060,60,8,0.5,a", "285 years lie between"),
    ],
)
def test_rows_that_mean_something_else_are_told(tmp_path: Path, site: Path, row: str, told: str) -> None:
    log = tmp_path / "jobs.csv"
    log.write_text(f"{HEADING}\n{row}\n")
    done = simulate(log, site, "--quick")
    assert done.exit_code == 2 and told in done.output


def test_unknown_words_in_a_log_are_told(tmp_path: Path, site: Path) -> None:
    log = tmp_path / "jobs.csv"
    log.write_text(f"{HEADING},flex,workload\n0,1,2,60,8,0.5,a,flex7,\n0,1,2,60,8,0.5,a,flex8,mining\n")
    done = simulate(log, site)
    assert "row 2: flex 'flex7' is none of" in done.output
    assert "row 3: workload 'mining' is none of" in done.output
    assert "row 3: flex 'flex8' is none of" in done.output


def test_the_example_site_can_be_used(tmp_path: Path) -> None:
    log = tmp_path / "jobs.csv"
    log.write_text(f"{HEADING}\n0,0,3600,7200,800,0.65,a\n")
    found = json.loads(simulate(log, EXAMPLE, "--json").stdout)
    assert found["without"]["peak_watts"]["grid"] == pytest.approx(1.15 * 800 * 900.0)

"""slurm-power report month: the report from a state directory in all its forms, and what is refused."""

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from slurm_power.config import load_site
from slurm_power.controller.planning.month_terms import month_savings
from slurm_power.plan.event_account import EventAccount
from slurm_power.ports import StoreError
from tests.cli.test_slurm_power import run
from tests.report.conftest import weeks, whole_state  # noqa: F401  # fixtures
from tests.report.simulated_month import SimulatedWeeks
from tests.report.test_month import TARIFF, highest_kw, month_of

HOSTILE = "<script>alert(1)</script>"
SITE = """
[site]
name = "lab"
timezone = "Europe/Berlin"
[controller]
state_directory = "{state}"
[supply]
tariff_file = "tariff.toml"
currency = "EUR"
[circuit.grid]
rating_watts = 1000000.0
limit_kind = "economic"
overhead_ratio = 1.15
"""
RACKS = """
[circuit.rack0]
parent = "grid"
rating_watts = 500000.0
limit_kind = "safety"
nodes = ["r0n0", "r0n1", "r0n2", "r0n3"]
[circuit.rack1]
parent = "grid"
rating_watts = 500000.0
limit_kind = "safety"
nodes = ["r1n0", "r1n1", "r1n2", "r1n3"]
"""


@pytest.fixture
def site(tmp_path: Path, whole_state: Path) -> Path:  # noqa: F811  # pytest's way to share a fixture
    (tmp_path / "tariff.toml").write_text(TARIFF.format(minutes=15))
    (tmp_path / "site.toml").write_text(SITE.format(state=whole_state))
    return tmp_path / "site.toml"


@pytest.fixture
def tampered(tmp_path: Path, whole_state: Path) -> Path:  # noqa: F811  # pytest's way to share a fixture
    """A copy in which one row says another reason, and one event has a hostile name."""
    state = tmp_path / "copy"
    shutil.copytree(whole_state, state)
    delivered = EventAccount(3600.0).result(limit_watts=20_000.0, baseline_watts=None)
    result = {name: getattr(delivered, name) for name in delivered.__slots__}
    result |= {
        "promised_watts": 5000.0,
        "delivered_watts": 4900.0,
        "delivered_ratio": 0.98,
        "delivered_kwh": 4.9,
    }
    event = {
        "event_id": HOSTILE,
        "circuit": "=grid",
        "state": "over",
        "starts_at": "2025-11-03T16:00:00+00:00",
        "ends_at": "2025-11-03T17:00:00+00:00",
        "result": result,
    }
    with sqlite3.connect(state / "powerctld.sqlite") as connection:
        connection.execute("UPDATE ledger SET reason = 'nothing happened' WHERE seq = 40")
        connection.execute(
            "INSERT INTO state VALUES ('events_past', ?)", (json.dumps([event, {"broken": 1}, "no event"]),)
        )
    connection.close()
    return state


def test_the_page(site: Path, whole_state: Path, tmp_path: Path) -> None:  # noqa: F811  # pytest's way to share a fixture
    out = tmp_path / "month.html"
    result = run(
        "report",
        "month",
        "2025-10",
        "--state",
        whole_state,
        "--site",
        site,
        "--out",
        out,
    )
    assert (result.exit_code, result.output) == (0, f"wrote {out}\n")
    page = out.read_text()
    for words in (
        "Power in 2025-10",
        "Saved",
        "all hours",
        "The ledger is whole",
        "Metered throughout",
        "EUR",
    ):
        assert words in page
    assert page.count("<svg") == 2
    assert "currentColor" in page  # plots take the page's colour, light or dark
    with sqlite3.connect(whole_state / "powerctld.sqlite") as connection:
        last = connection.execute("SELECT hash FROM ledger ORDER BY seq DESC LIMIT 1").fetchone()[0]
    connection.close()
    assert last in page


def test_the_same_as_json_csv_and_text(site: Path, whole_state: Path, tmp_path: Path) -> None:  # noqa: F811  # pytest's way to share a fixture
    arguments = ("report", "month", "2025-10", "--state", whole_state, "--site", site)
    told = json.loads(run(*arguments, "--json").output)
    bill = next(
        block for section in told["sections"] for block in section["blocks"] if block.get("table") == "bill"
    )
    assert run(*arguments, "--out", tmp_path / "bill.csv", "--table", "bill").exit_code == 0
    with (tmp_path / "bill.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[-1][0] == "total"
    assert float(rows[-1][-1]) == bill["rows"][-1][-1]
    assert sum(float(row[-1]) for row in rows[1:-1]) == pytest.approx(float(rows[-1][-1]), abs=1e-6)
    assert run(*arguments, "--out", tmp_path / "all").exit_code == 0
    assert {"bill.csv", "days.csv", "gaps.csv"} <= {path.name for path in (tmp_path / "all").iterdir()}
    text = run(*arguments).output
    assert "ok: The ledger is whole" in text
    assert f"{bill['rows'][-1][-1]:,.2f}" in text


def test_a_tampered_row_is_found_and_hostile_names_do_nothing(
    weeks: SimulatedWeeks,  # noqa: F811  # pytest's way to share a fixture
    tampered: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "month.html"
    result = run("report", "month", "2025-11", "--state", tampered, "--zone", "Europe/Berlin", "--out", out)
    assert result.exit_code == 0, result.output
    page = out.read_text()
    assert "The ledger is NOT whole: entry 40 was altered, removed or inserted" in page
    assert "<script" not in page
    assert "1 of 1" in page  # of the grid events
    assert "Nobody has said what electricity costs" in page
    result = run("report", "proof", "--state", tampered)
    assert result.exit_code == 1
    assert "entry 40" in result.output
    run("report", "month", "2025-11", "--state", tampered, "--out", tmp_path / "all")
    assert "'=grid" in (tmp_path / "all/events.csv").read_text()


@pytest.mark.parametrize("label", ["2025-10", "2025-11"])
def test_the_simulator_with_levers_off_comes_to_the_same(
    weeks: SimulatedWeeks,  # noqa: F811  # pytest's way to share a fixture
    whole_state: Path,  # noqa: F811  # pytest's way to share a fixture
    tmp_path: Path,
    site: Path,
    label: str,
) -> None:
    """It gets the records of powerctld alone, and is held against the run that nobody controlled."""
    arguments = ("report", "month", label, "--state", whole_state, "--site", site, "--replay")
    assert "cannot run this month's jobs: no circuit of the site feeds a node" in run(*arguments).output
    site.write_text(site.read_text() + RACKS)
    out = tmp_path / "simulated.csv"
    result = run(*arguments, "--out", out, "--table", "without-us-simulated")
    assert result.exit_code == 0, result.output
    with out.open(newline="") as file:
        told = {name: float(value) for name, value in list(csv.reader(file))[1:]}
    _, _, span = month_of(weeks, label)
    without = np.repeat(weeks.without.circuit_watts[:, 0], 5)[span]
    assert told["Peak (kW)"] == pytest.approx(highest_kw(without), rel=0.005)
    assert told["Energy (kWh)"] == pytest.approx(float(without.sum()) / 60_000.0, rel=0.005)
    assert told["Saved (EUR)"] > 50.0
    assert run("report", "month", label, "--state", whole_state, "--replay").exit_code == 2


def test_savings_of_the_running_month(site: Path) -> None:
    told = month_savings(load_site(site), datetime(2025, 11, 20, 12, tzinfo=UTC))
    assert told["month"] == "2025-11"
    assert set(told) == {
        "month",
        "currency",
        "bill",
        "bill_without",
        "saved",
        "saved_most",
        "peak_watts",
        "peak_without_watts",
        "co2_kg_saved",
        "events_delivered",
        "events",
        "estimate",
        "metered_ratio",
        "unpriced_hours",
        "unknown_months",
        "method",
    }
    assert json.loads(json.dumps(told)) == told
    with pytest.raises(StoreError, match="nothing was metered"):
        month_savings(load_site(site), datetime(2026, 3, 20, 12, tzinfo=UTC))
    (site.parent / "tariff.toml").write_text("no = [tariff")
    with pytest.raises(StoreError, match=r"tariff\.toml"):
        month_savings(load_site(site), datetime(2025, 11, 20, 12, tzinfo=UTC))
    (site.parent / "tariff.toml").write_text(TARIFF.format(minutes=15))
    site.write_text(site.read_text().replace("state_directory", "state_directory = '/nowhere' #"))
    with pytest.raises(StoreError, match="unable to open"):
        month_savings(load_site(site), datetime(2025, 11, 20, 12, tzinfo=UTC))


def test_bad_input_is_told_at_once_and_nothing_is_written(
    tmp_path: Path,
    whole_state: Path,  # noqa: F811  # pytest's way to share a fixture
) -> None:
    out = tmp_path / "month.html"
    result = run("report", "month", "2025-13", "--state", whole_state, "--zone", "Mars/Olympus", "--out", out)
    assert result.exit_code == 2
    assert "MONTH: '2025-13' is no month; write 2026-11" in result.output
    assert "--zone: 'Mars/Olympus' is no time zone" in result.output
    result = run("report", "month", "2025-10", "--state", whole_state, "--tariff", tmp_path / "no.toml")
    assert (result.exit_code, "no.toml" in result.output) == (2, True)
    result = run("report", "month", "2025-10", "--state", whole_state, "--out", tmp_path / "month.pdf")
    assert (result.exit_code, "ends in none of .html, .json, .csv" in result.output) == (2, True)
    result = run("report", "month", "2025-10", "--state", whole_state, "--out", tmp_path / "month.csv")
    assert (result.exit_code, "name it with --table" in result.output) == (2, True)
    result = run("report", "month", "2025-10", "--state", whole_state, "--table", "moon")
    assert (result.exit_code, "there is no table 'moon'" in result.output) == (2, True)
    result = run("report", "month", "2024-01", "--state", whole_state, "--out", out)
    assert (result.exit_code, "nothing was metered" in result.output) == (1, True)
    for words in ((), ("2025-10", "--month", "2025-11")):
        result = run("report", "month", *words, "--state", whole_state)
        assert (result.exit_code, "give one month" in result.output) == (2, True)
    result = run("report", "month", "--month", "2024-01", "--state", whole_state)
    assert (result.exit_code, "nothing was metered" in result.output) == (1, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a small disk where nobody else sees it")
def test_a_full_disk_is_told(tmp_path: Path, whole_state: Path) -> None:  # noqa: F811  # pytest's way to share a fixture
    command = (
        'mount -t tmpfs -o size=64k none "$1" && "$2" -m slurm_power.cli.slurm_power report month 2025-10'
        ' --state "$3" --out "$1/month.html"; echo "status $?"; ls -A "$1"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, "sh", str(tmp_path), sys.executable, str(whole_state)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "status 1\n"
    assert "No space left on device; nothing was written" in done.stderr
    assert "month.html" in done.stderr


@pytest.mark.parametrize("words", [("month", "2025-10"), ("month", "2025-10", "--json"), ("proof",)])
def test_a_full_disk_behind_the_output_is_told(whole_state: Path, words: tuple[str, ...]) -> None:  # noqa: F811  # pytest's way to share a fixture
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "slurm_power.cli.slurm_power", "report", *words, "--state", whole_state],
            cwd=Path(__file__).parents[2],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stderr == "Error: No space left on device; what was printed is not whole\n"
    assert done.returncode == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a small disk where nobody else sees it")
def test_the_old_report_stays_whole_on_a_full_disk(tmp_path: Path, whole_state: Path) -> None:  # noqa: F811  # pytest's way to share a fixture
    """The page of before is there to the last byte, and nothing of the new one."""
    command = (
        'mount -t tmpfs -o size=64k none "$1" && printf old >"$1/month.html"'
        ' && "$2" -m slurm_power.cli.slurm_power report month 2025-10 --state "$3" --out "$1/month.html";'
        ' echo "status $?"; ls -A "$1"; cat "$1/month.html"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, "sh", str(tmp_path), sys.executable, str(whole_state)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "status 1\nmonth.html\nold"
    assert "No space left on device; nothing was written" in done.stderr

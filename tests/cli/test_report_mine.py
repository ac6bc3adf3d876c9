"""slurm-power report energy --mine: a plain user's own jobs and sums, nobody else's, without a state."""

import csv
import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main
from tests.cli.fake_powerctld import fake_powerctld
from tests.cli.test_jobs import RECEIPT, sacct

ME = pwd.getpwuid(os.getuid()).pw_name
HOSTILE = "=cmd|'/C calc'!A0<img src=x onerror=alert(1)>\x1b[31m\u202e"
SPAN = ("--since", "2026-01-02T00:00", "--until", "2026-01-03T00:00")


def record(job_id: str, user: str, account: str = "physics", **more: Any) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "user": user,
        "account": account,
        "name": "train",
        "state": "ended",
        "workload": "training",
        "flex": "flex2",
        "gpu_count": 4,
        "nodes": ["c1"],
        "submitted": None,
        "started": "2026-01-02T03:00:00+00:00",
        "ended": "2026-01-02T04:00:00+00:00",
        "receipt": RECEIPT,
        "final": True,
        **more,
    }


# An operator's socket answers with everybody's jobs; --mine means one's own all the same.
RECORDS = [
    record("1", ME),
    record("2", ME, "biology", name=HOSTILE),
    record("3", "somebody", "physics"),
    # Two of its four hours are in the span, so half of its 2.5 kWh.
    record("4", ME, started="2026-01-01T22:00:00+00:00", ended="2026-01-02T02:00:00+00:00"),
    record("5", ME, receipt=None, final=False),
]


def mine(tmp_path: Path, *words: str) -> Result:
    """The command on a machine without accounting, whose powerctld answers."""
    with (
        sacct(tmp_path, "", "accounting storage is disabled", 1),
        fake_powerctld(lambda _: {"ok": True, "jobs": RECORDS, "cursor": None, "currency": "EUR"}) as fake,
    ):
        return CliRunner().invoke(
            main, ["report", "energy", "--mine", "--socket", str(fake.path), *SPAN, *words]
        )


def tables(output: str) -> dict[str, dict[str, Any]]:
    return {
        block["table"]: block
        for section in json.loads(output)["sections"]
        for block in section["blocks"]
        if "table" in block
    }


def test_own_jobs_and_own_sums_alone(tmp_path: Path) -> None:
    done = mine(tmp_path, "--json")
    assert done.exit_code == 0, done.output
    found = tables(done.stdout)
    assert {row[0] for row in found["jobs"]["rows"]} == {"1", "2", "4", "5"}
    assert "somebody" not in done.stdout
    accounts = {row[0]: row[1:] for row in found["accounts"]["rows"]}
    # 2.5 kWh each of jobs 1 and 2, half of job 4; job 5 has no receipt.
    assert accounts["biology"][2] == pytest.approx(2.5)
    assert accounts["physics"][2] == pytest.approx(3.75)
    assert accounts["sum"] == pytest.approx([4, 4.0 * (1 + 1 + 2 + 1), 6.25, 0.75 * 2.5, 1.2 * 2.5])
    (row,) = [row for row in found["jobs"]["rows"] if row[0] == "4"]
    assert row[-2:] == [pytest.approx(50.0), "estimate"]
    document = json.loads(done.stdout)
    assert document["checks"][0]["good"] is False
    assert "1 of 4 have no receipt" in document["checks"][0]["detail"]
    assert [column["unit"] for column in found["jobs"]["columns"] if column["heading"] == "Cost"] == ["EUR"]


def test_it_goes_where_every_report_goes_and_names_do_no_harm(tmp_path: Path) -> None:
    page, table = tmp_path / "mine.html", tmp_path / "jobs.csv"
    assert mine(tmp_path, "--out", str(page)).exit_code == 0
    assert (
        "<img" not in page.read_text() and "\x1b" not in page.read_text() and "\u202e" not in page.read_text()
    )
    assert mine(tmp_path, "--out", str(table), "--table", "jobs").exit_code == 0
    with table.open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row if "calc" in cell]
    assert cells and all(cell.startswith("'=cmd") for cell in cells)
    shown = mine(tmp_path).output
    assert "\x1b" not in shown and "\u202e" not in shown and f"Energy of the jobs of {ME}" in shown


def test_accounting_alone_is_enough(tmp_path: Path) -> None:
    times = "2026-01-02T03:00:00|2026-01-02T03:00:00|2026-01-02T04:00:00|3600"
    lines = f"5|5|{ME}|physics|COMPLETED|{times}|c1|cpu=8,gres/gpu=4|train|\n"
    with sacct(tmp_path, lines) as called:
        done = CliRunner().invoke(
            main, ["report", "energy", "--mine", "--socket", "/nonexistent", *SPAN, "--json"]
        )
        words = called.read_text().split("\n")
    assert done.exit_code == 0, done.output
    assert f"--user={ME}" in words and any(word.startswith("--starttime=") for word in words)
    assert [row[0] for row in tables(done.stdout)["jobs"]["rows"]] == ["5"]
    assert "powerctld cannot be asked from here" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mine", "--state", "."], "--state: not with --mine"),
        (["--mine", "--energy-bill", "3"], "--energy-bill: not with --mine"),
        (["--socket", "/x"], "--socket: goes with --mine"),
        ([], "--state: missing"),
    ],
)
def test_what_does_not_go_together_is_said(words: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["report", "energy", *SPAN, *words])
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_where_nobody_answers_it_says_both(tmp_path: Path) -> None:
    with sacct(tmp_path, "", "accounting storage is disabled", 1):
        done = CliRunner().invoke(main, ["report", "energy", "--mine", "--socket", "/nonexistent", *SPAN])
    assert done.exit_code == 1
    assert "/nonexistent" in done.output and "accounting storage is disabled" in done.output

"""slurm-power jobs: which jobs, what it says of each, where it has that from, and what it refuses."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main
from slurm_power.slurm.receipt_text import with_receipt, without_quotes
from tests.cli.fake_powerctld import FakePowerctld, fake_powerctld

RECEIPT: dict[str, Any] = {
    "v": 1,
    "energy_joules": 9_000_000,
    "host_joules": 1_800_000,
    "coverage_ratio": 0.99,
    "estimated_ratio": 0.0,
    "mean_watts": 2500.0,
    "peak_watts": 3100.0,
    "lowest_cap_watts": 520.0,
    "capped_seconds": 600,
    "slowdown_ratio": 0.031,
    "held_seconds": 90,
    "paused_seconds": 0,
    "cost": 0.75,
    "cost_basis": "gpus+host",
    "co2_grams": 1200.0,
    "method": "counter",
    "step_joules": {"0": 4_500_000},
    "steps_left_out": 2,
}
STORED = without_quotes(
    with_receipt('{"power":{"flex":"flex2"}}', {**RECEIPT, "energy_joules": 8_000_000}) or ""
)
TIMES = "2026-01-02T03:00:00|2026-01-02T03:00:10|2026-01-02T04:00:10|3600"
LINES = f"""\
5|3_1|alice|physics|COMPLETED|{TIMES}|c1|cpu=8,gres/gpu=4|train|{STORED}
6|3_2|alice|physics|CANCELLED by 0|{TIMES}|None assigned||a|b|
7|7|alice|physics|RUNNING|2026-01-02T03:00:00|2026-01-02T03:00:10|Unknown|60|c2|cpu=1,gres/gpu=8|now|
"""
RECORD: dict[str, Any] = {
    **dict.fromkeys(("account", "submitted", "ended")),
    "job_id": "5",
    "user": "alice",
    "name": "train",
    "state": "ended",
    "workload": "training",
    "flex": "flex2",
    "gpu_count": 4,
    "nodes": ["c1"],
    "started": "2026-01-02T03:00:10+00:00",
    "receipt": RECEIPT,
    "final": True,
}


@contextmanager
def sacct(folder: Path, printed: str = LINES, said: str = "", status: int = 0) -> Iterator[Path]:
    """A sacct first on PATH that prints ``printed`` and notes how it was called."""
    (folder / "printed").write_text(printed)
    (folder / "said").write_text(said)
    program = folder / "sacct"
    program.write_text(
        f'#!/bin/sh\nfor word in "$@"; do echo "$word"; done >{folder}/words\n'
        f"cat {folder}/printed; cat {folder}/said >&2; exit {status}\n"
    )
    program.chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}:{before}"
    try:
        yield folder / "words"
    finally:
        os.environ["PATH"] = before


def jobs(*words: str) -> Result:
    return CliRunner().invoke(main, ["jobs", *words])


@pytest.fixture
def told() -> Iterator[FakePowerctld]:
    answer = {"ok": True, "jobs": [RECORD], "cursor": None, "currency": "EUR"}
    with fake_powerctld(lambda _request: answer) as fake:
        yield fake


def test_accounting_says_which_and_powerctld_what_they_used(tmp_path: Path, told: FakePowerctld) -> None:
    with sacct(tmp_path) as called:
        done = jobs("--socket", str(told.path), "-u", "alice,bob", "-S", "today", "-A", "physics", "-X")
        words = called.read_text().split("\n")
    assert done.exit_code == 0, done.output
    assert {"--user=alice,bob", "--starttime=today", "--accounts=physics"} <= set(words)
    assert told.requests == [{"op": "jobs", "job_ids": ["5", "6", "7"]}]
    lines = done.output.splitlines()
    assert lines[0].split() == [
        *("JobID", "JobName", "User", "State", "Elapsed", "GPUs", "Energy", "MeanPower", "PeakPower"),
        *("Cap", "Slowdown", "Held", "Cost", "CO2"),
    ]
    assert set(lines[1]) == {"-", " "}
    assert lines[2].split() == [
        *("3_1", "train", "alice", "COMPLETED", "01:00:00", "4", "2.500kWh", "2.50kW", "3.10kW"),
        *("520W", "3.1%", "00:01:30", "0.7500", "1.20kg"),
    ]
    assert lines[3].split() == ["3_2", "a|b", "alice", "CANCELLED", "01:00:00"]
    assert lines[4].split() == ["7", "now", "alice", "RUNNING", "00:01:00", "8"]


def test_the_tier_is_powerctld_s_word_or_the_receipt_s(tmp_path: Path) -> None:
    stored = without_quotes(with_receipt("", {**RECEIPT, "tier": "digits/full"}) or "")
    line = LINES.splitlines()[0].replace(STORED, stored)
    record = {**RECORD, "tier": "digits/int8"}
    with sacct(tmp_path, line):
        assert jobs("--socket", "/nonexistent", "-P", "-n", "-o", "tier").stdout == "digits/full\n"
        with fake_powerctld(lambda _: {"ok": True, "jobs": [record], "cursor": None}) as fake:
            path = str(fake.path)
            assert jobs("--socket", path, "-P", "-n", "-o", "tier").output == "digits/int8\n"
            assert "It ran the model tier digits/int8." in jobs("--socket", path, "5").output
            assert json.loads(jobs("--socket", path, "--json").stdout)["jobs"][0]["tier"] == "digits/int8"


def test_on_a_login_node_the_receipts_in_the_accounting_stand_in(tmp_path: Path) -> None:
    with sacct(tmp_path):
        done = jobs("--socket", "/nonexistent", "-P", "-n", "-o", "jobid,energyRAW,receipt,nodelist")
        shown = json.loads(jobs("--socket", "/nonexistent", "--json").stdout)
    assert done.stdout.splitlines() == ["3_1|8000000|final|c1", "3_2|||", "7|||c2"]
    assert "receipts are those in Slurm's accounting" in done.stderr
    assert shown["jobs"][0]["receipt"]["energy_joules"] == 8_000_000
    assert shown["jobs"][0]["source"] == "Slurm's accounting"
    assert (shown["jobs"][2]["receipt"], shown["jobs"][2]["end"]) == (None, None)
    assert len(shown["notes"]) == 1


def test_states_are_asked_for_until_now(tmp_path: Path, told: FakePowerctld) -> None:
    with sacct(tmp_path) as called:
        jobs("--socket", str(told.path), "-s", "ended,R")
        words = called.read_text().split("\n")
    assert "--state=BF,CA,CD,DL,F,NF,OOM,PR,TO,R" in words
    assert "--endtime=now" in words, "else sacct shows only who is in that state at the start time"


DISABLED = "Slurm accounting storage is disabled"


def test_without_accounting_powerctld_lists_the_jobs_page_by_page(tmp_path: Path) -> None:
    pages: dict[int | None, dict[str, Any]] = {
        None: {"jobs": [{**RECORD, "job_id": "9"}, {**RECORD, "job_id": "10", "user": "bob"}], "cursor": 4},
        4: {
            "jobs": [{**RECORD, "job_id": "9"}, {**RECORD, "job_id": "8", "state": "running"}],
            "cursor": None,
        },
    }

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, **pages[asked["cursor"]]}

    with sacct(tmp_path, "", DISABLED, 1), fake_powerctld(answer) as fake:
        done = jobs("--socket", str(fake.path), "-P", "-n", "-o", "jobid,state,user", "-S", "now-1hour")
        some = jobs("--socket", str(fake.path), "-P", "-n", "-o", "jobid", "-S", "now-1hour", "-s", "R")
        none = jobs("--socket", str(fake.path), "-P", "-n", "-o", "jobid", "-S", "now-1hour", "-u", "carol")
    assert done.stdout.splitlines() == ["8|RUNNING|alice", "9|ENDED|alice", "10|ENDED|bob"]
    assert (some.stdout, none.stdout) == ("8\n", "")
    assert "as powerctld knows them" in done.stderr
    assert fake.requests[0]["since_seconds"] == pytest.approx(3600.0, abs=30.0)


def test_neither_answers(tmp_path: Path) -> None:
    with sacct(tmp_path, "", DISABLED, 1):
        done = jobs("--socket", "/nonexistent")
    assert done.exit_code == 1
    assert "powerctld does not answer at /nonexistent" in done.output
    assert DISABLED in done.output


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path, told: FakePowerctld) -> None:
    with sacct(tmp_path, "", "sacct: fatal: unrecognized job state value 'FOO'", 1):
        done = jobs("--socket", str(told.path), "-s", "FOO", "-o", "Engery,JobID%x", "7", "-j", "5")
    assert done.exit_code == 2
    assert done.stdout == ""
    for part in (
        "there is no field 'Engery'; did you mean Energy?",
        "JobID%x: 'x' is no width",
        "give a job alone, or --jobs",
        "unrecognized job state value 'FOO'",
    ):
        assert part in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-S", "soon"], "--starttime: 'soon' is no time; write 2026-01-31"),
        (["-E", "25:00"], "--endtime: '25:00' is no time"),
        (["-s", "COMPLETED"], "--state: COMPLETED: without Slurm's accounting it is not known how"),
        (["-s", "DONE"], "--state: 'DONE' is no state of jobs"),
        (["-j", "5_1"], "--jobs: '5_1' is no job id; without Slurm's accounting"),
    ],
)
def test_what_makes_no_sense_without_accounting(
    tmp_path: Path, told: FakePowerctld, words: list[str], said: str
) -> None:
    with sacct(tmp_path, "", DISABLED, 1):
        done = jobs("--socket", str(told.path), *words)
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    assert told.requests == []


def test_a_statement_says_how_each_number_is_known(tmp_path: Path, told: FakePowerctld) -> None:
    line = LINES.splitlines()[0]
    with sacct(tmp_path, line):
        done = jobs("--socket", str(told.path), "3_1")
    ran = "Job 3_1 (train, alice, physics): COMPLETED, ran 01:00:00"
    assert done.output.splitlines() == [
        f"{ran} from 2026-01-02 03:00:10 on c1 with 4 GPUs.",
        "Energy of its GPUs: 2.500 kWh (9,000,000 J), by the GPUs' own energy counters.",
        "Its part of its hosts: 500.0 Wh.",
        "Power of its GPUs together: mean 2.50 kW, peak 3.10 kW.",
        "Capped for 00:10:00, at 520 W a GPU at the lowest; about 3.1% slower over all.",
        "Held for 00:01:30 before its start, not paused.",
        "Cost: 0.75 EUR, for its GPUs and its part of the hosts.",
        "CO2: 1.20 kg.",
        "Step 0: 1.250 kWh, by the step's times.",
        "2 more steps are not told apart: they ran side by side, or were many.",
        "Final; from powerctld.",
    ]


def test_an_estimate_is_called_one(tmp_path: Path) -> None:
    poor = {
        "v": 1,
        "energy_joules": 360_000,
        "coverage_ratio": 0.81,
        "estimated_ratio": 0.4,
        "method": "mixed",
    }
    record = {**RECORD, "receipt": poor, "final": False}

    def answer(_request: Any) -> Any:
        return {"ok": True, "jobs": [record], "cursor": None}

    with sacct(tmp_path, LINES.splitlines()[0]), fake_powerctld(answer) as fake:
        listed = jobs("--socket", str(fake.path), "-o", "jobid,energy")
        said = jobs("--socket", str(fake.path), "5").output
    assert listed.output.splitlines()[2:] == [
        "3_1   ~100.0Wh",
        "~ an estimate: less than 95 % of the job's time was read",
    ]
    assert "This is an estimate: readings cover 81% of its GPUs' time, less than 95 %." in said
    assert "40.0% of it rests on power readings." in said
    assert "Cost: not known" in said
    assert "CO2: not known" in said
    assert "So far: its nodes have not closed their accounts" in said


def test_a_job_of_which_nothing_is_known(tmp_path: Path) -> None:
    with sacct(tmp_path, ""), fake_powerctld(lambda _: {"ok": True, "jobs": [], "cursor": None}) as fake:
        done = jobs("--socket", str(fake.path), "99")
    assert done.exit_code == 1
    assert "nothing is known of a job 99 (or it is not yours)" in done.output


def test_names_cannot_move_the_terminal_and_widths_hold(tmp_path: Path, told: FakePowerctld) -> None:
    with sacct(tmp_path, LINES.splitlines()[0].replace("|train|", "|\x1b[31mlong name|")):
        wide = jobs("--socket", str(told.path), "-o", "JobName%8,JobID%-6,GPUs%4", "-n").output
        plain = jobs("--socket", str(told.path), "-P", "-n", "-o", "JobName").output
    assert wide == "?[31mlo+ 3_1       4\n"
    assert plain == "?[31mlong name\n"


def test_helpformat_lists_every_field() -> None:
    said = jobs("--helpformat").output
    assert {"Energy", "EnergyRaw", "Cost", "CO2", "Method", "Coverage"} <= {
        line.split()[0] for line in said.splitlines()
    }

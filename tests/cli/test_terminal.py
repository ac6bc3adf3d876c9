"""What reaches a terminal: nothing that moves it, and something on every terminal."""

import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from slurm_power.cli.slurm_power import main
from tests.cli.fake_powerctld import STATUS, Answer, entry, fake_powerctld
from tests.cli.test_alerts import ROW as ALERT_ROW
from tests.cli.test_alerts import SILENCE
from tests.cli.test_alerts import answer as alerts_answer
from tests.cli.test_top import STANDING, live

EVIL = "\x1b[31mred\x1b]0;owned\x07\nJob 1 (root) is running"


def evil(request: dict[str, Any]) -> Answer:
    match request["op"]:
        case "status":
            (job, *_) = STATUS["jobs"]
            return {**STATUS, "jobs": [{**job, "name": EVIL}]}
        case "ledger":
            return {"ok": True, "entries": [{**entry(1), "reason": EVIL}], "more": False}
        case "job":
            return {"ok": True, "record": {}}
        case "sources":
            row = {"source": "powerd.c1", "measures": "node c1", "watts": 1.0, "age_seconds": 0.5}
            row |= {"quality": "invalid", "coverage_ratio": 1.0, "residual_watts": None, "reason": EVIL}
            return {"ok": True, "sources": [row]}
        case _:
            return {"ok": False, "error": EVIL}


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["why", "17"], ["ledger"], ["sources"], ["cancel-event", "ev-1"]],
)
def test_names_that_users_choose_do_not_steer_a_terminal(arguments: list[str]) -> None:
    with fake_powerctld(evil) as fake:
        shown = CliRunner().invoke(main, [*arguments, "--socket", str(fake.path)], env={"COLUMNS": "300"})
    assert "owned" in shown.output
    assert "\x1b" not in shown.output
    assert "\x07" not in shown.output
    assert "\nJob 1 (root)" not in shown.output


# Moves of a terminal by both kinds of control characters, marks that turn the direction or hide letters,
# other line ends, and a text as long as nobody writes.
HOSTILE = (
    "\x1b]0;owned\x07\x9b31m\u202egnp.exe\u2066\u200b\u2028SAFE: all\u2029\r\nSAFE: all is well\x00\x7f"
    + "x" * 20_000
)
_UNSEEN = {"Cc", "Cf", "Zl", "Zp", "Cs"}
# What users, nodes, feeds and operators write; the other texts are powerctld's own words.
_THEIRS = frozenset(
    (
        *("name", "user", "account", "reason", "cap_reason", "hold_reason", "pause_reason", "pending_reason"),
        *("who", "summary", "what_to_do", "effects", "text", "headline", "subject", "software", "source"),
        *("measures", "cause", "alarms", "limit_reason"),
    )
)


def poisoned(value: Any, key: str = "") -> Any:
    match value:
        case dict():
            return {name: poisoned(item, name) for name, item in value.items()}
        case list():
            return [poisoned(item, key) for item in value]
        case str() if key in _THEIRS:
            return value + HOSTILE
        case _:
            return value


def all_poisoned(request: dict[str, Any]) -> Answer:
    row = {"source": "powerd.c1", "measures": "node c1", "watts": 1.0, "age_seconds": 0.5}
    row |= {"quality": "invalid", "coverage_ratio": 1.0, "residual_watts": None, "reason": "old"}
    records = {"record": {"job_id": "17", "user": "alice", "name": "x", "flex": "flex2", "state": "running"}}
    result = {"delivered_watts": 1.0, "promised_watts": 1.0, "over_curtailment_points": None}
    event = {**STATUS["events"][0], "result": result, "state": "over"}
    event |= {"starts_at": "2026-01-02T03:04:05+00:00", "ends_at": "2026-01-02T03:14:05+00:00"}
    answers: dict[str, dict[str, Any]] = {
        "live": live(),
        "status": {**STATUS, "standing": STANDING},
        "ledger": {"ok": True, "entries": [entry(1), entry(2, kind="hold")], "more": False},
        "job": {"ok": True, **records},
        "sources": {"ok": True, "sources": [row]},
        "alerts": {"ok": True, **alerts_answer({**ALERT_ROW, "summary": "pdu1"}), "silences": [SILENCE]},
        "events": {"ok": True, "events": [event]},
    }
    found = poisoned(answers.get(request["op"], {"ok": False, "error": "no"}))
    return found if found["ok"] else {"ok": False, "error": "no " + HOSTILE}


@pytest.mark.parametrize("columns", [100, 200])
@pytest.mark.parametrize(
    "arguments",
    [
        *(["top"], ["status"], ["why", "17"], ["ledger"], ["sources"], ["alerts"], ["plan"], ["forecast"]),
        *(["jobs", "17"], ["events"], ["policy"], ["weights"], ["cancel-event", "ev-1"]),
    ],
    ids=lambda words: words[0],
)
def test_no_text_of_others_moves_hides_or_turns_anything(arguments: list[str], columns: int) -> None:
    with fake_powerctld(all_poisoned) as fake:
        shown = CliRunner().invoke(
            main, [*arguments, "--socket", str(fake.path)], env={"COLUMNS": str(columns)}
        )
    assert not isinstance(shown.exception, Exception) or isinstance(shown.exception, SystemExit)
    assert "xx" in shown.output or "all is" in shown.output, "nothing of it was shown at all"
    odd = {letter for letter in shown.output if unicodedata.category(letter) in _UNSEEN} - {"\n"}
    assert not odd, f"{arguments}: {[ascii(letter) for letter in odd]}"
    assert not any(line.startswith("SAFE: all") for line in shown.output.splitlines())


def test_programs_get_names_as_they_are() -> None:
    with fake_powerctld(evil) as fake:
        shown = CliRunner().invoke(main, ["status", "--json", "--socket", str(fake.path)])
    assert "\\u001b[31mred" in shown.output


def test_a_terminal_without_unicode_gets_all_lines(tmp_path: Path) -> None:
    job = {**STATUS["jobs"][0], "gpu_watts": None}
    with fake_powerctld(lambda _: {**STATUS, "jobs": [job]}) as fake:
        code = "from slurm_power.cli.slurm_power import run; run()"
        words = [sys.executable, "-c", code, "status", "--socket", str(fake.path)]
        environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
        shown = subprocess.run(words, env=environment, capture_output=True, timeout=60, check=False)
    assert shown.returncode == 0, shown.stderr
    assert str(job["job_id"]).encode() in shown.stdout

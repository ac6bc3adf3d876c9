"""What reaches a terminal: nothing that moves it, and something on every terminal."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from slurm_power.cli.slurm_power import main
from tests.cli.fake_powerctld import STATUS, Answer, entry, fake_powerctld

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

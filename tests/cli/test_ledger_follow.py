"""`slurm-power ledger --follow`: old entries, then each as it comes, over a controller that goes away."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from slurm_power.cli.slurm_power import main
from tests.cli.fake_powerctld import Answer, entry, fake_powerctld


def until(happens: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@pytest.mark.parametrize("as_json", [False, True])
def test_entries_come_as_they_are_written(tmp_path: Path, as_json: bool) -> None:
    rows = [entry(1)]
    away = [False]

    def reply(request: dict[str, Any]) -> Answer:
        if away[0]:
            return b""
        after = request["after_sequence"]
        first = [row for row in rows if row["sequence"] > after][:1]
        return {"ok": True, "entries": first, "more": len(rows) > after + 1, "broken_at_sequence": None}

    out, complaints = tmp_path / "out", tmp_path / "complaints"
    with fake_powerctld(reply) as fake, out.open("wb") as to, complaints.open("wb") as complain:
        code = "from slurm_power.cli.slurm_power import run; run()"
        words = [
            sys.executable,
            "-u",
            "-c",
            code,
            "ledger",
            "--follow",
            "--job",
            "17",
            "--socket",
            str(fake.path),
        ]
        words += ["--json"] if as_json else []
        process = subprocess.Popen(words, stdout=to, stderr=complain, env={**os.environ, "COLUMNS": "200"})
        try:
            until(lambda: "reason 1" in out.read_text(), "the old entry")
            rows += [entry(2), entry(3)]
            until(lambda: "reason 3" in out.read_text(), "the new ones")
            away[0] = True
            until(lambda: "Waiting for it" in complaints.read_text(), "a word about who is away")
            rows.append(entry(4, reason="\x1b[31mred\nreason 4"))
            away[0] = False
            until(lambda: "reason 4" in out.read_text(), "what came meanwhile")
            process.send_signal(signal.SIGINT)
            assert process.wait(20.0) == 0
        finally:
            process.kill()
            process.wait()
    lines = out.read_text().splitlines()
    assert len(lines) == 4
    assert "\x1b" not in out.read_text()
    if as_json:
        assert [json.loads(line)["sequence"] for line in lines] == [1, 2, 3, 4]
    assert all(request["job_id"] == "17" for request in fake.requests)
    assert [request.get("since_seconds") for request in fake.requests][:2] == [600.0, None]


def test_no_controller_at_all_is_an_error(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["ledger", "--follow", "--socket", str(tmp_path / "none")])
    assert done.exit_code == 1
    assert "Is it running?" in done.output

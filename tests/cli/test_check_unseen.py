"""``slurm-power check`` names circuits that nobody measures: their limits are words only."""

import json
from pathlib import Path

from click.testing import CliRunner

from slurm_power.cli.slurm_power import main

SITE = """
[site]
name = "small"
[circuit.grid]
rating_watts = 60_000.0
limit_kind = "economic"
{grid}
[circuit.left]
parent = "grid"
rating_watts = 30_000.0
limit_kind = "safety"
nodes = ["n1", "n2"]
{left}
[circuit.right]
parent = "grid"
rating_watts = 30_000.0
limit_kind = "safety"
nodes = ["n3"]
meter = "pdu"
[device.pdu]
driver = "sunspec_meter"
address = "127.0.0.1:1502"
"""
METER = 'meter = "pdu"'


def check(path: Path, grid: str, left: str) -> tuple[int, list[str]]:
    file = path / "site.toml"
    file.write_text(SITE.format(grid=grid, left=left))
    words = ["check", "--no-devices", "--no-slurm", "--config", str(file)]
    told = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    done = CliRunner().invoke(main, words)
    assert all(note in done.output for note in told["notes"])
    assert told["ok"] == (done.exit_code == 0)
    return done.exit_code, [note.split(":")[0] for note in told["notes"]]


def test_a_circuit_that_nobody_measures_is_named(tmp_path: Path) -> None:
    # That is a choice a site may make, so it is no error.
    assert check(tmp_path, METER, "") == (0, ["circuit.left"])


def test_the_sum_of_measured_children_is_a_measurement(tmp_path: Path) -> None:
    assert check(tmp_path, "", METER) == (0, [])


def test_a_sum_with_a_gap_is_none(tmp_path: Path) -> None:
    assert check(tmp_path, "", "") == (0, ["circuit.left", "circuit.grid"])

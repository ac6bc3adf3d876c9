"""``slurm-power hres``: the file, and clear words for what is wrong."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main
from slurm_power.slurm.hres_file import parse_hres

SITE = """
[site]
name = "s"
[circuit.grid]
rating_watts = 60_000
limit_kind = "economic"
[circuit.rack1]
parent = "grid"
rating_watts = 22_000
limit_kind = "safety"
nodes = ["c1", "c2"]
[circuit.rack2]
parent = "grid"
rating_watts = 22_000
limit_kind = "safety"
nodes = ["c3", "c4"]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site.toml").write_text(SITE)
    return tmp_path / "site.toml"


def run(site: Path, *options: str) -> Result:
    words = ["hres", "--config", str(site), "--nodes", "c[1-4]", "--node-standing-watts", "1kW"]
    return CliRunner().invoke(main, [*words, *options], env={"SLURM_CONF": ""})


def test_it_prints_the_file(site: Path) -> None:
    done = run(site, "--standing", "grid=8kW")
    assert (done.exit_code, done.stderr) == (0, "")
    resource, layers = parse_hres(done.stdout)
    assert (resource, [count for _nodes, count, _base in layers]) == ("power", [60_000, 22_000, 22_000])
    assert layers[0][2] == (("other_load", 8000),)


def test_it_writes_the_file_and_says_what_to_do(site: Path, tmp_path: Path) -> None:
    out = tmp_path / "resources.yaml"
    first, second = run(site, "--out", str(out)), run(site, "--out", str(out))
    assert "scontrol reconfigure" in first.stdout
    assert "up to date" in second.stdout
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert parse_hres(out.read_text())[0] == "power"


def test_all_that_is_wrong_is_said_at_once_and_nothing_written(site: Path, tmp_path: Path) -> None:
    site.write_text(SITE.replace("22_000", "-1"))
    done = run(
        site,
        *("--out", str(tmp_path / "nowhere" / "file"), "--standing", "grid", "--standing", "=9"),
        *("--nodes", "c[1", "--node-standing-watts", "2MW"),
    )  # fmt: skip
    assert done.exit_code == 2
    assert done.stdout == ""
    said = done.stderr.splitlines()
    assert all(line.startswith("Error: ") for line in said)
    for word in ("--out:", "--standing: 'grid'", "--standing: '=9'", "--nodes:", "--node-standing-watts:",
                 "circuit.rack1.rating_watts", "circuit.rack2.rating_watts"):  # fmt: skip
        assert sum(word in line for line in said) == 1, (word, said)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--standing", "nowhere=1kW"), "there is no [circuit.nowhere]"),
        (("--node-standing-watts", "12kW"), "circuit.rack1: 24000 W are drawn there without any job"),
        (("--resource", "two words"), "--resource: 'two words'"),
        (("--nodes", "d[1-4]"), "no node of Slurm is listed in a circuit"),
        (("--standing", "grid=1", "--standing", "grid=2"), "--standing: grid is given twice"),
    ],
)
def test_what_is_wrong_is_named(site: Path, options: tuple[str, ...], word: str) -> None:
    done = run(site, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert word in done.stderr


def test_without_a_slurm_the_nodes_have_to_be_said(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = site.parent / "slurm.conf"
    words = ["hres", "--config", str(site), "--node-standing-watts", "1kW"]
    done = CliRunner().invoke(main, words, env={"SLURM_CONF": str(conf)})
    assert done.exit_code == 2
    assert "say them with --nodes" in done.stderr


def test_a_slurm_that_is_too_old_is_named(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version, status, word in (
        ("24.11.5", 2, "24.11 knows no such resources"),
        ("25.11.2", 0, "crashes on job arrays"),
        ("26.05.5", 0, ""),
    ):
        _write_slurm(tmp_path, version)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        done = CliRunner().invoke(main, ["hres", "--config", str(site), "--node-standing-watts", "1kW"])
        assert (done.exit_code, word in done.stderr) == (status, True), done.stderr


def _write_slurm(folder: Path, version: str) -> None:
    """An sinfo and an scontrol of this version, for four nodes and a licence."""
    sinfo = f'case "$1" in --version) echo slurm {version};; *) printf "c1\\nc2\\nc3\\nc4\\n";; esac\n'
    for name, text in (("sinfo", sinfo), ("scontrol", "echo LicenseName=watts Total=1 Used=0 Remote=no\n")):
        (folder / name).write_text(f"#!/bin/sh\n{text}")
        (folder / name).chmod(0o755)

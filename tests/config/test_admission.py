"""The [admission] table: all problems at once, and a budget that can be one."""

from pathlib import Path

import pytest

from slurm_power.config import ConfigError, load_site

SITE = """[site]
name = "x"
[circuit.grid]
rating_watts = 40_000
limit_kind = "economic"
[circuit.rack]
parent = "grid"
rating_watts = 20_000
limit_kind = "safety"
nodes = ["c1"]
[circuit.hall]
parent = "grid"
rating_watts = 20_000
limit_kind = "safety"
nodes = ["c2"]
"""


def load(folder: Path, table: str) -> list[str]:
    """The problems of a site with this table."""
    file = folder / "site.toml"
    file.write_text(f"{SITE}[admission]\n{table}")
    try:
        load_site(file)
    except ConfigError as error:
        return error.problems
    return []


def test_off_by_default(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(SITE)
    config = load_site(file).admission
    assert (config.enabled, config.licence, config.circuit) == (False, "watts", "")


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("enabled = true\n", ""),
        ("enabled = true\nstanding_watts = 39_999\n", ""),
        ("enabled = true\nstanding_watts = 40_000\n", "admission.standing_watts: 40000 W leaves nothing"),
        ('enabled = true\ncircuit = "rack"\n', "admission.circuit: rack does not feed c2"),
        ('circuit = "rack"\n', ""),
        ('circuit = "rock"\n', "admission.circuit: there is no [circuit.rock]"),
        ('licence = "two words"\n', "admission.licence: 'two words' is no name of a licence"),
        ('licence = ""\n', "admission.licence: '' is no name"),
        ('hres = "watts"\n', "admission.hres: watts is the licence's name"),
        ("lease_seconds = 5\n", "admission.lease_seconds: 5 is not between 60 and 86400"),
        ("ess_share_ratio = 1.5\n", "admission.ess_share_ratio: 1.5 is not between 0 and 1"),
        ("enable = true\n", "admission.enable: unknown key; did you mean enabled?"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, table: str, problem: str) -> None:
    found = load(tmp_path, table)
    assert len(found) == (1 if problem else 0)
    assert all(one.startswith(problem) for one in found)


def test_all_problems_at_once(tmp_path: Path) -> None:
    found = load(tmp_path, 'licence = "-"\nlease_seconds = 1\ncircuit = "x"\n')
    assert [problem.partition(":")[0] for problem in found] == [
        "admission.lease_seconds",
        "admission.licence",
        "admission.circuit",
    ]

"""A service's file: what it says, and every mistake in it at once."""

from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from containers.cluster.layout import CHECKOUT
from slurm_power.cli.slurm_power import main
from slurm_power.config.problems import ConfigError
from slurm_power.gateway.members import Limits
from slurm_power.gateway.service_file import ServiceFile, SiteHaproxy, WarmUpRequest, read_service

GOOD = """
name = "chat"
family = "digits"
full_tier = "full"
tiers_ok = ["small", "int8"]
listen = "127.0.0.1:8080"
script = "service.sbatch"
sbatch = ["--time=60"]
environment = { BATCH = "8" }
min_quality = 0.9
[limits]
drain_seconds = 60
[warm_up]
path = "/v1/warm"
[tier.full]
sbatch = ["--gpus=4"]
environment = { BATCH = "64" }
"""


def write(folder: Path, text: str) -> Path:
    (folder / "service.sbatch").write_text("#!/bin/sh\n")
    file = folder / "chat.toml"
    file.write_text(text)
    return file


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_service(write(folder, text))
    return caught.value.problems


def test_a_good_file(tmp_path: Path) -> None:
    service = read_service(write(tmp_path, GOOD))
    assert service.tiers_ok == ("int8", "small")
    full, small = service.job_of("full"), service.job_of("small")
    assert full is not None
    assert small is not None
    assert full.sbatch == ("--time=60", "--gpus=4")
    assert (full.environment, small.environment) == ({"BATCH": "64"}, {"BATCH": "8"})
    assert small.script == tmp_path / "service.sbatch"
    assert service.directory == tmp_path
    assert service.limits.drain_seconds == 60.0
    assert service.job_of("tiny") is None


def test_any_tier_takes_the_script_for_all(tmp_path: Path) -> None:
    service = read_service(write(tmp_path, GOOD.replace('["small", "int8"]', '"any"')))
    tiny = service.job_of("tiny")
    assert tiny is not None
    assert tiny.environment == {"BATCH": "8"}
    assert service.job_of("../etc") is None


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('name = "chat"', 'name = "my chat"', "name: 'my chat'"),
        ('full_tier = "full"', "", "full_tier: missing"),
        ('["small", "int8"]', '["any", "int8"]', 'tiers_ok: "any" stands alone'),
        ('["small", "int8"]', "7", "tiers_ok: must be a list"),
        ("127.0.0.1:8080", "127.0.0.1:0", "listen: '127.0.0.1:0'"),
        ("127.0.0.1:8080", "here\\nbind *:1:80", "listen: "),
        ('script = "service.sbatch"', "", "tier.full.script: missing"),
        ('"service.sbatch"', '"other.sbatch"', "script: "),
        ("drain_seconds = 60", "drain_seconds = nan", "limits.drain_seconds: must be between"),
        ("drain_seconds = 60", "drain_second = 60", "limits.drain_second: unknown key; did you mean"),
        ("drain_seconds = 60", "least_drain_seconds = 400", "limits.least_drain_seconds: must not be above"),
        ('path = "/v1/warm"', 'path = "/v1 HTTP/1.1"', "warm_up.path: "),
        ("[tier.full]", "[tier.ful]", "tier.ful: is neither full_tier nor in tiers_ok"),
        ('BATCH = "64"', "BATCH = 64", "tier.full.environment.BATCH: must be a string"),
        ("min_quality = 0.9", "min_quality = inf", "min_quality: inf is no number"),
        ("min_quality = 0.9", 'health_path = "/a\\nuse_backend x"', "health_path: "),
        ("min_quality = 0.9", 'address_file = "../{job_id}"', "address_file: "),
        ("min_quality = 0.9", "submit = []", "submit: must name a command"),
        (
            "[limits]",
            '[haproxy]\nsocket = "/run/haproxy/admin.sock"\nbackend = "chat"\n[limits]',
            "listen: is for the site's HAProxy",
        ),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in GOOD
    found = problems(tmp_path, GOOD.replace(old, new))
    assert any(line.startswith(problem) for line in found), found


def test_all_mistakes_come_at_once_with_status_2(tmp_path: Path) -> None:
    file = write(
        tmp_path, GOOD.replace('"chat"', '"Chat"').replace("127.0.0.1:8080", "x").replace("= 60", "= -1")
    )
    done = CliRunner().invoke(main, ["gateway", "run", str(file), f"--state={tmp_path / 'own'}"])
    assert done.exit_code == 2
    assert all(word in done.output for word in ("name:", "listen:", "limits.drain_seconds:"))
    assert not (tmp_path / "own").exists()


def test_no_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["gateway", "check", str(tmp_path / "none.toml")])
    assert done.exit_code == 2
    assert "cannot be read" in done.output


def test_the_page_names_every_key() -> None:
    page = (CHECKOUT / "docs" / "gateway.md").read_text()
    records = (ServiceFile, Limits, WarmUpRequest, SiteHaproxy)
    keys = {field.name for record in records for field in fields(record)} - {
        "path",
        "tiers",
        "any_job",
        "limits",
    }
    assert not [key for key in sorted(keys) if f"`{key}`" not in page and f"[{key}]" not in page]
    for field in fields(Limits):
        assert f"`{field.name}` {field.default:g}" in page

"""``slurm-power tiers power`` and ``publish``: what is written, and which jobs tell nothing of a tier."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main
from slurm_power.model.tier import PowerSource
from slurm_power.tiers.catalog import read_catalog

CATALOG = """
# Of our group.
[family.digits]
class = "inference"
metric = "accuracy"
floor = 0.95
[[family.digits.tier]]
name = "full"
method = "none"
model = "full"
gpus = 8
quality = { value = 0.98, ci95 = 0.01 }
approved = { by = "myself" }
[[family.digits.tier]]
name = "small"
method = "distilled"
parent = "full"
gpus = 4
"""
RECEIPT = {"v": 1, "energy_joules": 120_000, "mean_watts": 4_000.0, "run_seconds": 30, "coverage_ratio": 1.0}
RUNS = [{"start": 0, "tier": "digits/full"}]


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    file = tmp_path / "mine.toml"
    file.write_text(CATALOG)
    return file


@contextmanager
def powerctld(path: Path, answers: dict[str, Any]) -> Iterator[None]:
    """Answer each operation with what is given for it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as lines:
                asked = json.loads(lines.readline())
                lines.write(json.dumps({"ok": True, **answers[asked["op"]]}).encode() + b"\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def run(*words: str) -> Result:
    environment = {"SLURM_CONF": "/nonexistent/slurm.conf", "XDG_CONFIG_HOME": "/nonexistent"}
    return CliRunner().invoke(main, ["tiers", *words], env=environment)


def power(
    catalog: Path,
    receipt: dict[str, Any] | None = None,
    runs: list[dict[str, Any]] | None = None,
    **words: Any,
) -> Result:
    record = {"job_id": "7", "gpu_count": 8, "tier": "digits/full", "final": True, **words}
    record["receipt"] = {**RECEIPT, **(receipt or {})}
    answers = {"jobs": {"jobs": [record]}, "lineage": {"job": {}, "runs": RUNS if runs is None else runs}}
    place = catalog.parent / "ctl.sock"
    with powerctld(place, answers):
        line = ["digits/full", "--from-job", "7", "--catalog", str(catalog), "--socket", str(place)]
        return run("power", *line)


def test_a_jobs_mean_for_each_gpu_is_written(catalog: Path) -> None:
    done = power(catalog)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"digits/full draws 500 W a GPU, by 8 GPUs of job 7, in {catalog}\n"
    found = read_catalog(catalog).find("digits/full")
    assert found is not None
    assert (found[1].watts_per_gpu, found[1].power_source) == (500.0, PowerSource.NVML)
    assert found[1].approved_by == "myself", "the model is the same"
    assert "# Of our group." in catalog.read_text()


def test_another_number_of_gpus_is_said(catalog: Path) -> None:
    done = power(catalog, gpu_count=4)
    assert done.exit_code == 0, done.output
    assert "the catalog says that its jobs take 8 GPUs" in done.stderr


MOVED = [*RUNS, {"start": 1, "tier": "digits/small"}]
AGAINST = [
    ({"lowest_cap_watts": 300.0}, None, {}, "it was capped"),
    ({"paused_seconds": 5}, None, {}, "it was paused"),
    ({"shared_ratio": 0.5, "method": "shared"}, None, {}, "others computed on its GPUs"),
    ({"coverage_ratio": 0.5}, None, {}, "readings cover 50% of its GPUs' time only"),
    ({"run_seconds": 2}, None, {}, "it ran for 2 s only"),
    ({"mean_watts": None}, None, {}, "the power of its GPUs is not known"),
    ({}, MOVED, {}, "it ran digits/full, then digits/small, not digits/full alone"),
    ({}, [], {"tier": None}, "it ran no tier, not digits/full alone"),
    ({}, None, {"final": False}, "it has not ended"),
    ({}, None, {"gpu_count": 0}, "it had no GPUs"),
]


@pytest.mark.parametrize(("receipt", "runs", "words", "why"), AGAINST)
def test_a_job_that_tells_nothing_of_the_tier_is_refused(
    catalog: Path,
    receipt: dict[str, Any],
    runs: list[dict[str, Any]] | None,
    words: dict[str, Any],
    why: str,
) -> None:
    done = power(catalog, receipt, runs, **words)
    assert done.exit_code == 2
    assert f"--from-job 7: {why}" in done.stderr
    assert catalog.read_text() == CATALOG


def test_all_that_is_wrong_is_said_at_once(catalog: Path) -> None:
    done = power(catalog, {"lowest_cap_watts": 300.0, "paused_seconds": 5}, MOVED)
    assert len(done.stderr.splitlines()) == 3


def test_a_family_comes_into_the_sites_catalog_without_its_approvals(catalog: Path, tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text('# The site.\n[family.chat]\nclass = "generation"\nmetric = "distinct_2"\n')
    done = run("publish", "digits", "--from", str(catalog), "--catalog", str(site))
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        f"digits is in {site}, with full, small",
        "  digits/full: not approved yet",
        "  digits/small: refused",
    ]
    found = read_catalog(site)
    assert list(found.families) == ["chat", "digits"]
    full, small = found.families["digits"].tiers
    assert (full.approved_by, full.approved_date, full.gpu_count) == ("", None, 8)
    assert full.model_path == str(tmp_path / "full")
    assert small.parent == "full"
    assert site.read_text().startswith("# The site.")
    assert catalog.read_text() == CATALOG


def test_what_cannot_be_published_changes_nothing(catalog: Path, tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    other = CATALOG.replace('"accuracy"', '"f1"')
    site.write_text(other)
    for words, why in (
        (["digits", "--from", str(catalog), "--catalog", str(site)], "family.digits.metric"),
        (["digit", "--from", str(catalog), "--catalog", str(site)], "did you mean digits?"),
        (["digits", "--from", str(tmp_path / "none"), "--catalog", str(site)], "cannot be read"),
        (["digits", "--from", str(site), "--catalog", str(site)], "is that catalog itself"),
    ):
        done = run("publish", *words)
        assert done.exit_code == 2, done.output
        assert why in done.stderr
    assert site.read_text() == other

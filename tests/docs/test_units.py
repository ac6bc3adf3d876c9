"""The systemd units of docs/systemd: systemd finds no fault in them, nor more exposure than is said."""

import re
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "docs" / "systemd"


@pytest.fixture
def unit(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A unit whose programs exist, as they do where it is installed."""
    text = (UNITS / request.param).read_text()
    for program in set(re.findall(r"/opt/slurm-power/bin/(\w+)", text)):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    made: Path = tmp_path / request.param
    made.write_text(text.replace("/opt/slurm-power/bin", str(tmp_path)))
    return made


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("unit", ["powerd.service", "powerctld.service", "powerweb.service"], indirect=True)
def test_systemd_finds_no_fault(unit: Path) -> None:
    done = analyze("verify", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("unit", "most"),
    [("powerd.service", 3.5), ("powerctld.service", 1.5), ("powerweb.service", 1.5)],
    indirect=["unit"],
)
def test_no_more_is_open_than_the_security_page_says(unit: Path, most: float) -> None:
    done = analyze("security", "--offline=true", str(unit))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done
    assert float(found[1]) <= most


def test_each_kept_capability_is_explained() -> None:
    text = (UNITS / "powerd.service").read_text()
    (kept,) = re.findall(r"CapabilityBoundingSet=(.+)", text)
    page = (UNITS.parent / "security.md").read_text()
    for capability in kept.split():
        assert f"`{capability}`" in page


def test_neither_unit_owns_the_other_s_state_nor_gives_up() -> None:
    """``User=`` owns the innermost directory of ``StateDirectory=`` and all that is in it."""
    # What powerctld writes for slurmctld is in a folder that others may enter.
    own = {"powerd": "slurm-power/powerd", "powerctld": "slurm-power/powerctld slurm-power/admission"}
    for name, folders in own.items():
        text = (UNITS / f"{name}.service").read_text()
        assert re.findall(r"^StateDirectory=(.+)$", text, re.MULTILINE) == [folders]
        assert re.search(r"^StartLimitIntervalSec=0$", text, re.MULTILINE)

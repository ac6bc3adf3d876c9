"""Each program of a node or a user starts where the heavy packages are not installed at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.recorder import PROJECT

HEAVY = [
    "numpy",
    "scipy",
    "pandas",
    "statsmodels",
    "torch",
    "matplotlib",
    "click",
    "rich",
    "pymodbus",
    "pysnmp",
    "pyasn1",
    "sunspec2",
    "cryptography",
]
# Runs before the program, as Python's own sitecustomize does: a heavy package is then as good as absent.
BLOCKER = f"""
import importlib.abc
import sys


class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return None


sys.meta_path.insert(0, Absent())
"""
PROGRAMS = Path(sys.executable).parent


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment in which no heavy package can be imported."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    return {"PYTHONPATH": f"{tmp_path}:{PROJECT}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}


def run(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.mark.parametrize("package", ["numpy", "click", "rich", "pymodbus", "pysnmp"])
def test_the_blocker_blocks(bare: dict[str, str], package: str) -> None:
    done = run([sys.executable, "-c", f"import {package}"], bare)
    assert f"No module named '{package}'" in done.stderr


def test_the_operators_command_needs_what_is_blocked(bare: dict[str, str]) -> None:
    done = run([sys.executable, "-m", "slurm_power.cli.slurm_power", "--help"], bare)
    assert done.returncode == 1
    assert "No module named 'click'" in done.stderr


@pytest.fixture
def terminal(tmp_path: Path) -> dict[str, str]:
    """An environment as of an installation with the extra ``cli`` alone."""
    (tmp_path / "sitecustomize.py").write_text(
        BLOCKER.replace(repr(HEAVY), repr(sorted({*HEAVY} - {"click", "rich"})))
    )
    return {"PYTHONPATH": f"{tmp_path}:{PROJECT}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}


@pytest.mark.parametrize(
    "command", ["simulate ess x.csv", "simulate jobs x.csv", "backtest x.csv", "export --list"]
)
def test_what_needs_more_than_a_terminal_says_what_to_install(terminal: dict[str, str], command: str) -> None:
    done = run([sys.executable, "-m", "slurm_power.cli.slurm_power", *command.split()], terminal)
    assert done.returncode == 1
    assert done.stderr == "Error: this needs numpy: pip install 'slurm-power[controller]'\n"
    plain = run([sys.executable, "-m", "slurm_power.cli.slurm_power", "status", "--help"], terminal)
    assert plain.returncode == 0, plain.stderr


def test_psbatch_submits(bare: dict[str, str], tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    sbatch = programs / "sbatch"
    sbatch.write_text('#!/bin/sh\necho "given $*"\n')
    sbatch.chmod(0o755)
    done = run(
        [str(PROGRAMS / "psbatch"), "--workload=training", "--wrap=true"],
        {**bare, "PATH": f"{programs}:{bare['PATH']}"},
    )
    assert (done.returncode, done.stdout) == (0, "given --wrap=true\n"), done.stderr


def test_powerd_reads_its_configuration(bare: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(f'socket = "{tmp_path}/powerd.sock"\nstate_directory = "{tmp_path}/state"\n')
    done = run([str(PROGRAMS / "powerd"), "--config", str(file), "--node", "c1", "--check"], bare)
    assert done.returncode == 0, done.stderr
    # The daemon itself and its driver, not only the command line, come from these modules.
    modules = "slurm_power.node.daemon, slurm_power.node.leftovers, slurm_power.devices.nvml"
    assert run([sys.executable, "-c", f"import {modules}, pynvml"], bare).stderr == ""


@pytest.mark.parametrize("hook", ["prolog", "epilog"])
def test_hooks_need_nothing_but_the_interpreter(bare: dict[str, str], tmp_path: Path, hook: str) -> None:
    environment = {**bare, "SLURM_CONF": str(tmp_path / "slurm.conf"), "SLURMD_NODENAME": "c1"}
    done = run([str(PROJECT / "prolog_epilog" / hook)], environment)
    assert done.returncode == 0
    # Their interpreter (-IS) has no site packages at all. They come as far as their own configuration.
    assert done.stderr.startswith(f"slurm-power {hook}: FileNotFoundError: ")
    assert "slurm-power.conf" in done.stderr

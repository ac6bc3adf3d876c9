"""The plugin's logic under address and undefined-behaviour sanitizers, without a cluster."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
WARNINGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror"]
SRUN, NODE, SBATCH = "1", "2", "3"

Drive = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    program = tmp_path_factory.mktemp("spank") / "drive"
    sources = [str(PROJECT / "spank/slurm_power.c"), str(PROJECT / "tests/spank/drive.c")]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
    subprocess.run(["cc", *WARNINGS, *sanitizers, "-o", str(program), *sources], check=True)

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(program), *arguments],
            env=environ,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    return run


def test_builds_as_documented(tmp_path: Path) -> None:
    target = tmp_path / "slurm_power.so"
    source = PROJECT / "spank/slurm_power.c"
    flags = [*WARNINGS, "-O2", "-fPIC", "-shared"]
    subprocess.run(["cc", *flags, "-o", str(target), str(source)], check=True)
    assert target.exists()


@pytest.mark.parametrize("context", [SRUN, SBATCH])
def test_options_reach_hooks_and_job(drive: Drive, context: str) -> None:
    done = drive(context, "inference", "2")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "control POWER_WORKLOAD=inference",
        "control POWER_FLEX=flex2",
        "process SLURM_POWER_WORKLOAD=inference",
        "process SLURM_POWER_FLEX=flex2",
    ]


def test_environment_stands_in_for_options_not_given(drive: Drive) -> None:
    done = drive(SBATCH, "training", "-", SLURM_POWER_WORKLOAD="generation", SLURM_POWER_FLEX="flex1")
    assert "control POWER_WORKLOAD=training" in done.stdout
    assert "control POWER_FLEX=flex1" in done.stdout


@pytest.mark.parametrize("value", ["flex9", "x" * 5000, "4", "%s%n", "\x01", "flex1 "])
def test_wrong_environment_is_ignored_with_a_warning(drive: Drive, value: str) -> None:
    done = drive(SBATCH, "-", "-", SLURM_POWER_FLEX=value)
    assert done.returncode == 0
    assert "control" not in done.stdout
    assert "slurm_info: warning: ignoring SLURM_POWER_FLEX=" in done.stderr


@pytest.mark.parametrize("value", ["", "Training", "x" * 5000, "%s%n", "0"])
def test_wrong_option_ends_the_command(drive: Drive, value: str) -> None:
    done = drive(SBATCH, value, "-")
    assert done.returncode == 11
    assert "is not one of training, inference, generation" in done.stderr


def test_wrong_option_on_a_node_fails_no_job(drive: Drive) -> None:
    done = drive(NODE, "word-of-a-newer-version", "flex3")
    assert done.returncode == 0
    assert done.stdout == "job SLURM_POWER_FLEX=flex3\n"


def test_nothing_said_leaves_everything_alone(drive: Drive) -> None:
    for context in (SRUN, NODE, SBATCH):
        done = drive(context, "-", "-", SLURM_POWER_FLEX="")
        assert (done.returncode, done.stdout, done.stderr) == (0, "process SLURM_POWER_FLEX=\n", "")


def test_refusals_of_slurm_lose_no_submission(drive: Drive) -> None:
    assert drive(SBATCH, "training", "3", REFUSE="1").returncode == 0
    assert drive(NODE, "training", "3", REFUSE="1").returncode == 0

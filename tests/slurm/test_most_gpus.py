"""How many GPUs one job can get, as a real Slurm tells it, and what `tiers check` makes of that."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from slurm_power.cli.slurm_power import main
from slurm_power.slurm.most_gpus import most_gpus_of
from tests.slurm.cluster import Cluster

TIER = """
[family.chat]
class = "generation"
metric = "perplexity"
higher_is_better = false
[[family.chat.tier]]
name = "large"
method = "none"
gpus = {gpus}
quality = {{ value = 8.4 }}
"""


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("", 0),
        ("debug|(null)\n", 0),
        ("debug|gpu:4\ndebug|gpu:4\n", 8),
        ("debug|gpu:h100:4(S:0-1)\nlong|gpu:h100:4(S:0-1)\nlong|gpu:a100:2,nic:1\n", 6),
        ("debug|gpu:h100:4,gpu:a100:2\n", 6),
        ("warning: something\n", 0),
    ],
)
def test_a_job_gets_those_of_one_partition(text: str, gpus: int) -> None:
    assert most_gpus_of(text) == gpus


@pytest.mark.slurm
def test_a_tier_that_needs_more_gpus_than_there_are_is_refused(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    there = most_gpus_of(cluster.run("sinfo", "--noheader", "--Node", "--format=%R|%G"))
    assert there > 0
    file = tmp_path / "tiers.toml"
    file.write_text(TIER.format(gpus=there))
    fits = CliRunner().invoke(main, ["tiers", "check", "--catalog", str(file)])
    assert (fits.exit_code, fits.stdout) == (0, "tiers: 1, families: 1, refused: none\n"), fits.output
    file.write_text(TIER.format(gpus=there + 1))
    refused = CliRunner().invoke(main, ["tiers", "check", "--catalog", str(file)])
    assert refused.exit_code == 1
    assert f"chat/large: refused: it needs {there + 1} GPUs and there are {there}\n" in refused.stderr


@pytest.mark.slurm
def test_a_job_of_such_a_tier_is_refused_by_slurm_and_does_not_wait_for_ever(
    cluster: Cluster, tmp_path: Path
) -> None:
    there = most_gpus_of(cluster.run("sinfo", "--noheader", "--Node", "--format=%R|%G"))
    file = tmp_path / ".config" / "slurm-power" / "tiers.toml"
    file.parent.mkdir(parents=True)
    file.write_text(TIER.format(gpus=there + 1) + f'sbatch = ["--gpus={there + 1}"]\n')
    conf = tmp_path / "slurm-power.conf"
    conf.write_text(f"tiers_path={tmp_path}/none.toml\n")
    before = cluster.run("squeue", "--noheader", "--format=%i")
    program = (
        "import sys; sys.argv[0] = 'psbatch'; from slurm_power.cli.psbatch import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--tier=chat/large", "-o", "/dev/null", "--wrap=true"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "SLURM_CONF": str(cluster.conf),
            "SLURM_POWER_CONF": str(conf),
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Requested node configuration is not available" in done.stderr
    assert cluster.run("squeue", "--noheader", "--format=%i") == before


def test_where_slurm_does_not_answer_the_rest_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sinfo").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    file = tmp_path / "tiers.toml"
    file.write_text(TIER.format(gpus=1))
    done = CliRunner().invoke(main, ["tiers", "check", "--catalog", str(file)])
    assert done.exit_code == 0
    assert (
        "Slurm: warning: GPUs were not compared with what there is: sinfo: Unable to contact" in done.stderr
    )

"""Root directories with other versions of Slurm: which are taken or made, and what a failure leaves."""

import json
import os
from pathlib import Path

import pytest

from containers.cluster.layout import Options, RefusedError
from containers.versions import roots
from containers.versions.__main__ import main
from containers.versions.roots import DIRECTORY_VARIABLE, MovedOnError, RootError, root_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root enters root directories")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for roots, and a debootstrap that always fails."""
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "roots"))
    program = tmp_path / "bin" / "debootstrap"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nmkdir -p $3/usr; echo E: no such mirror; exit 7\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "roots"


def make(folder: Path, debian: str, slurm: str, *, days: float = 0.0, packages: tuple[str, ...] = ()) -> Path:
    root = folder / debian
    root.mkdir(parents=True)
    record = root / roots.RECORD
    record.write_text(json.dumps({"slurm": slurm, "packages": list(packages or roots.PACKAGES)}))
    then = record.stat().st_mtime - days * 86400.0
    os.utime(record, (then, then))
    return root


def test_what_is_there_is_taken(folder: Path) -> None:
    root = make(folder, "trixie", "24.11.5", days=400.0)
    assert root_of("24.11") == root
    assert roots.slurm_version(root) == "24.11.5"


def test_a_release_that_moved_on_is_told_by_name(folder: Path) -> None:
    make(folder, "testing", "26.11.1", days=1.0)
    with pytest.raises(MovedOnError, match=r"Debian testing carries Slurm 26\.11\.1 now, not 26\.05"):
        root_of("26.05")
    assert main(["26.05"]) == 3


def test_an_unknown_version_is_refused(folder: Path) -> None:
    with pytest.raises(RootError, match=r"Slurm '23\.02': not among .* 24\.11, 26\.05"):
        root_of("23.02")
    assert main(["23.02"]) == 1


@pytest.mark.parametrize(("days", "packages"), [(15.0, ()), (0.0, ("slurmctld",))])
def test_an_old_one_or_one_with_other_packages_is_made_anew(
    folder: Path, days: float, packages: tuple[str, ...]
) -> None:
    make(folder, "testing", "26.05.5", days=days, packages=packages)
    with pytest.raises(RootError, match=r"(?s)debootstrap ended with status 7: .*no such mirror"):
        root_of("26.05")


def test_a_failure_leaves_nothing_that_counts_as_a_root(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["24.11"]) == 1
    assert "no such mirror" in capsys.readouterr().err
    assert not (folder / "trixie").exists()


def test_a_lab_refuses_a_root_without_slurm(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="holds no usr/sbin/slurmctld"):
        Options(slurm_root=str(tmp_path)).check()

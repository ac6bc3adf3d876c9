"""A wheel in a virtual environment of its own: all that an installation needs is in it, and works."""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT, Options
from containers.cluster.lifecycle import up

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is committed: building leaves folders behind, and not in this checkout."""
    made = tmp_path_factory.mktemp("wheel") / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(made)], check=True)
    return made


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "wheels", "."]
    subprocess.run(words, cwd=checkout, check=True)
    (made,) = (checkout / "wheels").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, open_folder_of_wheel: Path) -> Path:
    """bin/ of an environment that has nothing but the wheel and what it asks for."""
    subprocess.run(["/usr/bin/python3", "-m", "venv", str(open_folder_of_wheel / "venv")], check=True)
    python = open_folder_of_wheel / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{wheel}[controller,report]"], check=True)
    return python.parent


@pytest.fixture(scope="module")
def open_folder_of_wheel() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    started = up(Options(nodes=2))
    yield started.lab
    started.down()


def test_every_file_of_the_package_is_in_the_wheel(checkout: Path, wheel: Path) -> None:
    there = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "slurm_power"], cwd=checkout, check=True, capture_output=True, text=True
    ).stdout.split()
    assert len(tracked) > 300
    assert [name for name in tracked if name not in there] == []


def test_what_is_installed_speaks_and_drafts_an_installation(installed: Path, lab: Lab) -> None:
    def run(*words: str) -> str:
        done = lab.run(list(words), environment={"PYTHONPATH": ""}, check=False, timeout_seconds=60.0)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for program in ("slurm-power", "powerctld", "powerd"):
        assert re.match(r"slurm-power[, ].*\b0\.1", run(str(installed / program), "--version")), program
    assert (installed / "psbatch").is_file()
    where = run(str(installed / "python"), "-c", "import slurm_power; print(slurm_power.__file__)")
    assert where.startswith(str(installed.parent))
    folder = lab.run_directory / "from-the-wheel"
    said = run(str(installed / "slurm-power"), "init", "--dir", str(folder))
    assert "Nothing else was changed" in said
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    for name in ("powerctld.service", "prolog", "epilog", "site.toml", "slurm_power.so"):
        assert any(file.endswith(f"/{name}") for file in files), (name, sorted(files))
    unit = next(file for file in folder.rglob("powerctld.service"))
    assert str(installed / "powerctld") in unit.read_text()
    checked = subprocess.run(
        [installed / "powerctld", "--check", "--config", str(folder / "nothing.toml")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 2 and "nothing.toml" in checked.stderr
    assert (installed.parent / "share" / "man" / "man1" / "psbatch.1").is_file()

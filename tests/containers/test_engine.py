import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.containers.conftest import DOCKER, engine, engine_environment, wait_until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]


def interfaces() -> list[str]:
    return sorted(path.name for path in Path("/sys/class/net").iterdir())


def daemon(directory: Path) -> int | None:
    """Return the host's number of the engine's daemon, PID 1 of its own namespace."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
            status = (process / "status").read_text()
        except OSError:
            continue
        if str(directory / "data") in words and words[0].endswith("dockerd"):
            assert [line.split()[-1] for line in status.splitlines() if line.startswith("NSpid:")] == ["1"]
            return int(process.name)
    return None


def docker(directory: Path, *words: str) -> str:
    argv = [DOCKER, *words]
    done = subprocess.run(
        argv, env=engine_environment(directory), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_build_engine_shares_the_network_and_changes_nothing_of_it(engine_directory: Path) -> None:
    before = interfaces()
    assert engine("up", engine_directory, "build").returncode == 0
    assert interfaces() == before
    first = daemon(engine_directory)
    assert engine("up", engine_directory, "build").returncode == 0
    assert daemon(engine_directory) == first
    assert engine("base", engine_directory).returncode == 0
    mine = Path("/proc/self/ns/net").readlink()
    assert Path(f"/proc/{first}/ns/net").readlink() == mine
    assert (
        docker(
            engine_directory, "run", "--rm", "--network=host", "localhost/debian:bookworm-slim", "id", "-u"
        )
        == "0"
    )


def test_a_killed_engine_takes_its_containers_with_it(engine_directory: Path) -> None:
    before = interfaces()
    assert engine("up", engine_directory, "build").returncode == 0
    assert engine("base", engine_directory).returncode == 0
    assert engine("up", engine_directory, "run").returncode == 0
    container = docker(engine_directory, "run", "-d", "localhost/debian:bookworm-slim", "sleep", "3600")
    process = int(docker(engine_directory, "inspect", "-f", "{{.State.Pid}}", container))
    assert process > 0
    assert interfaces() == before
    assert engine("check", engine_directory).returncode == 1
    number = daemon(engine_directory)
    assert number is not None
    os.kill(number, signal.SIGKILL)
    wait_until(lambda: daemon(engine_directory) is None, "the end of the daemon")
    assert engine("down", engine_directory).returncode == 0
    left = engine("check", engine_directory)
    assert (left.returncode, left.stdout) == (0, "")


def test_without_an_engine_env_refuses_and_down_does_nothing(tmp_path: Path, engine_directory: Path) -> None:
    assert engine_directory.exists()
    folder = tmp_path / "none"
    assert engine("down", folder).returncode == 0
    assert not folder.exists()
    refused = engine("env", folder)
    assert refused.returncode == 1
    assert "no engine runs" in refused.stderr
    assert engine("up", folder, "neither").returncode == 1

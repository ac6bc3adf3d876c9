"""An engine of the tests' own, and a lab in it that run-demo.sh brings up and takes down."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from containers.images.stage import ContainerStage

CHECKOUT = Path(__file__).resolve().parents[2]
ENGINE = CHECKOUT / "containers" / "engine" / "engine.sh"
RUN_DEMO = CHECKOUT / "containers" / "run-demo.sh"
DOCKER = "/usr/bin/docker"
# What the lab's runner ends with, to be passed through by run-demo.sh.
RUNNER_STATUS = 7
UP_SECONDS = 600.0


def engine(verb: str, directory: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a verb of engine.sh."""
    argv = [str(ENGINE), verb, str(directory), *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)


def engine_environment(directory: Path) -> dict[str, str]:
    """The environment in which run-demo.sh and docker use the tests' engine."""
    return {**os.environ, "ENGINE_DIR": str(directory), "DOCKER_HOST": f"unix://{directory}/docker.sock"}


def wait_until(happened: object, what: str, *, seconds: float = 60.0) -> None:
    """Poll a callable under a deadline."""
    assert callable(happened)
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"gave up after {seconds:g} s waiting for {what}"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def engine_directory() -> Iterator[Path]:
    if os.geteuid() != 0 or not shutil.which(DOCKER):
        pytest.skip("needs root and Debian's docker.io (containers/install-packages.sh engine)")
    directory = Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp"))
    yield directory
    engine("clean", directory)
    assert not directory.exists()


@dataclass(slots=True)
class ContainerLab:
    """A lab in containers that runs until `finish`."""

    stage: ContainerStage
    environment: dict[str, str]
    log: Path
    go_on: Path
    process: "subprocess.Popen[bytes]"

    def docker(self, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run Debian's docker client."""
        return subprocess.run(
            [DOCKER, *words],
            env=self.environment,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=60,
            check=False,
        )

    def execute(self, service: str, *argv: str, user: str = "root", stdin: str = "") -> tuple[int, str]:
        """Run a command in a service's container; returns its status and stdout."""
        done = self.docker("exec", "-i", "-u", user, f"slurm-power-lab_{service}_1", *argv, stdin=stdin)
        return done.returncode, done.stdout

    def finish(self) -> int:
        """Let the runner end; returns the exit status of run-demo.sh."""
        self.go_on.touch()
        return self.process.wait(90)


@pytest.fixture(scope="module")
def lab(engine_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerLab]:
    folder = tmp_path_factory.mktemp("lab")
    name, go_on, log = folder / "container", folder / "go-on", folder / "log"
    runner = folder / "runner"
    runner.write_text(
        f'#!/bin/sh\necho "$LAB_CONTAINER" > {name}.new && mv {name}.new {name}\n'
        f"until [ -e {go_on} ]; do sleep 0.1; done\nexit {RUNNER_STATUS}\n"
    )
    runner.chmod(0o755)
    environment = engine_environment(engine_directory) | {"DEMO_RUNNER": str(runner)}
    with log.open("wb") as output:
        process = subprocess.Popen([RUN_DEMO], env=environment, stdout=output, stderr=output)
    try:
        wait_until(lambda: name.exists() or process.poll() is not None, "the lab", seconds=UP_SECONDS)
        assert process.poll() is None, log.read_text()
        os.environ["DOCKER_HOST"] = environment["DOCKER_HOST"]
        stage = ContainerStage(DOCKER, name.read_text().strip())
        yield ContainerLab(stage, environment, log, go_on, process)
        stage.end()
    finally:
        os.environ.pop("DOCKER_HOST", None)
        go_on.touch()
        process.terminate()
        process.wait(90)

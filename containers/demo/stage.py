"""Where the demo plays: a lab of plain processes. Another stage only has to answer the same few calls."""

import json
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from containers.cluster import lifecycle
from containers.cluster.lab import Lab
from containers.cluster.layout import Options
from slurm_power.store.places import LEDGER_NAME, SERIES_NAME


class Stage(Protocol):
    """A running cluster with a plant."""

    def run(self, argv: list[str], *, user: str = "root") -> str:
        """Run a command as a user of the cluster; returns its stdout, raises an error with its stderr."""
        ...

    def plant(self, **request: Any) -> dict[str, Any]:
        """Ask the plant's control socket."""
        ...

    def status(self) -> dict[str, Any]:
        """What powerctld says of the site."""
        ...

    def forecast(self) -> dict[str, Any]:
        """What powerctld expects of the grid connection."""
        ...

    def copy_store(self, target: Path) -> None:
        """Copy powerctld's store into the folder ``target``."""
        ...

    def end(self) -> None:
        """Stop everything and leave nothing."""
        ...


class ProcessStage:
    """A lab of plain processes on this host."""

    def __init__(
        self, *, grid_limit_watts: int, control: bool, scenario: Path, host_check: bool, web: bool
    ) -> None:
        options = Options(
            power=True, grid_limit_watts=grid_limit_watts, control=control, scenario=str(scenario), web=web
        )
        self._started = lifecycle.up(
            options,
            host_root=Path("/") if host_check else None,
            say=lambda text: print(f"  {text}", file=sys.stderr, flush=True),
        )
        self.lab: Lab = self._started.lab

    def run(self, argv: list[str], *, user: str = "root") -> str:
        """Run a command inside the lab; raises LabError."""
        return self.lab.run(argv, user=user).stdout

    def plant(self, **request: Any) -> dict[str, Any]:
        """Ask the plant; raises RuntimeError when it refuses."""
        return ask(self.lab.run_directory / "run" / "plant.sock", request)

    def status(self) -> dict[str, Any]:
        """Ask powerctld; raises RuntimeError when it refuses."""
        return ask(self.lab.run_directory / "run" / "powerctld.sock", {"op": "status"})

    def forecast(self) -> dict[str, Any]:
        """Ask powerctld what comes; raises RuntimeError when it refuses."""
        return ask(self.lab.run_directory / "run" / "powerctld.sock", {"op": "forecast"})

    def copy_store(self, target: Path) -> None:
        """Copy the store as it stands, through SQLite itself: powerctld writes on meanwhile."""
        for name in (LEDGER_NAME, SERIES_NAME):
            file = self.lab.run_directory / "state" / "powerctld" / name
            with (
                closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as store,
                closing(sqlite3.connect(target / name)) as copy,
            ):
                store.backup(copy)

    def end(self) -> None:
        """Stop the lab and remove it."""
        self._started.discard()


def ask(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """One JSON line to a Unix socket, one back; raises RuntimeError for a refusal, OSError for silence."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5.0)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as answers:
            answer: dict[str, Any] = json.loads(answers.readline())
    if not answer.get("ok"):
        raise RuntimeError(f"{path.name}: {answer.get('error')}")
    return answer

"""The lab in containers as a stage for the demo and the tests, through the engine's ``exec`` alone."""

import json
import subprocess
from pathlib import Path
from typing import Any

from slurm_power.store.places import LEDGER_NAME, SERIES_NAME

CLOSE_SECONDS = 10.0
COPY_SECONDS = 30.0
# A whole copy through SQLite itself: the files of a live store change while they are read.
_COPY = """
import sqlite3, sys
store = sqlite3.connect("file:/lab/state/powerctld/" + sys.argv[1] + "?mode=ro", uri=True)
copy = sqlite3.connect(":memory:")
store.backup(copy)
sys.stdout.buffer.write(copy.serialize())
"""


class StageError(Exception):
    """A command or request was refused; the text says why."""


class ContainerStage:
    """A running lab, seen from its controller's container, where everything is at hand."""

    def __init__(self, engine: str, container: str) -> None:
        self._exec = [engine, "exec", "-i", container]
        self._relay = subprocess.Popen(
            [*self._exec, "python3", "-m", "containers.images.relay"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt at the terminal is for the demo, which then ends this
        )

    def run(self, argv: list[str], *, user: str = "root") -> str:
        """Run a command as a user of the cluster; raises StageError."""
        done = self._ask({"argv": argv, "user": user})
        if done["status"] != 0:
            raise StageError(f"{' '.join(argv)}: status {done['status']}: {done['stderr'].strip()}")
        return str(done["stdout"])

    def plant(self, **request: Any) -> dict[str, Any]:
        """Ask the plant; raises StageError when it refuses."""
        return self._request("plant.sock", request)

    def status(self) -> dict[str, Any]:
        """Ask powerctld; raises StageError when it refuses."""
        return self._request("powerctld.sock", {"op": "status"})

    def forecast(self) -> dict[str, Any]:
        """Ask powerctld what comes; raises StageError when it refuses."""
        return self._request("powerctld.sock", {"op": "forecast"})

    def copy_store(self, target: Path) -> None:
        """Copy powerctld's store as it stands while powerctld writes on; raises CalledProcessError."""
        for name in (LEDGER_NAME, SERIES_NAME):
            copied = subprocess.run(
                [*self._exec, "python3", "-c", _COPY, name],
                check=True,
                stdout=subprocess.PIPE,
                timeout=COPY_SECONDS,
            )
            (target / name).write_bytes(copied.stdout)

    def end(self) -> None:
        """Let go of the lab; whoever brought it up takes it down."""
        if self._relay.stdin is not None:
            self._relay.stdin.close()
        try:
            self._relay.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._relay.kill()
            self._relay.wait()
        if self._relay.stdout is not None:
            self._relay.stdout.close()

    def _request(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        answer = self._ask({"socket": name, "request": request})
        if not answer.get("ok"):
            raise StageError(f"{name}: {answer.get('error')}")
        return answer

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._relay.stdin is not None
        assert self._relay.stdout is not None
        try:
            self._relay.stdin.write(json.dumps(request) + "\n")
            self._relay.stdin.flush()
            line = self._relay.stdout.readline()
        except OSError as error:
            raise StageError(f"the controller's container does not answer ({error})") from error
        if not line:
            raise StageError("the controller's container does not answer")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer and "ok" not in answer:
            raise StageError(str(answer["error"]))
        return answer

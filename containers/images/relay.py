"""Inside the controller's container: a line of JSON in, a line of JSON out; watching costs no new process.

    {"socket": "plant.sock", "request": {...}}   is passed on to a Unix socket in /lab/run
    {"argv": [...], "user": "alice"}             is run as that user, at home; answers status, stdout, stderr

Anything that cannot be done is answered with {"error": "..."}.
"""

import json
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

RUN = Path("/lab/run")
COMMAND_SECONDS = 60.0
SOCKET_SECONDS = 5.0


def main() -> None:
    """Serve until stdin ends."""
    for line in sys.stdin:
        try:
            answer = _serve(json.loads(line))
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def _serve(asked: dict[str, Any]) -> dict[str, Any]:
    if "socket" in asked:
        return _pass_on(RUN / Path(asked["socket"]).name, asked["request"])
    return _run(asked["argv"], asked["user"])


def _pass_on(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SOCKET_SECONDS)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as answers:
            answer: dict[str, Any] = json.loads(answers.readline())
    return answer


def _run(argv: list[str], user: str) -> dict[str, Any]:
    person = pwd.getpwnam(user)
    environment = {
        **os.environ,
        "HOME": person.pw_dir,
        "USER": user,
        "LOGNAME": user,
        "SHELL": person.pw_shell,
    }
    done = subprocess.run(
        argv,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=COMMAND_SECONDS,
        user=person.pw_uid,
        group=person.pw_gid,
        extra_groups=[],
        cwd=person.pw_dir,
        env=environment,
    )
    return {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


if __name__ == "__main__":
    main()

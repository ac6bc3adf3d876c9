"""MUNGE credentials: who made them, and what they carry. A credential opens once, within its time to live."""

import os
import subprocess
from dataclasses import dataclass

MUNGE_TIMEOUT_SECONDS = 2.0


class MungeError(Exception):
    """A credential could not be made, or is forged, expired or replayed. The text is what MUNGE said."""


def munge_encode(payload: str, *, socket: str | None = None) -> str:
    """Seal ``payload`` in a credential of this process's user; raises MungeError."""
    return _run_munge(["munge", *(["--socket", socket] if socket else [])], payload).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What an opened MUNGE credential proves: who made it, and what it carried."""

    uid: int
    payload: str


def munge_decode(credential: str, *, socket: str | None = None) -> Credential:
    """Open a MUNGE credential; raises MungeError for one that is forged, expired, replayed or not for us."""
    command = ["unmunge", "--keys", "STATUS,UID", *(["--socket", socket] if socket else [])]
    head, _, payload = _run_munge(command, credential).partition("\n\n")
    fields = dict(line.split(":", 1) for line in head.splitlines() if ":" in line)
    try:
        uid = int(fields["UID"].rsplit("(", 1)[1].rstrip(") \n"))
    except (KeyError, IndexError, ValueError):
        raise MungeError("unmunge printed no UID") from None
    return Credential(uid=uid, payload=payload)


def _run_munge(command: list[str], stdin: str) -> str:
    try:
        done = subprocess.run(
            command,
            # Whatever a peer sends as a credential: what is no text is no credential either.
            input=stdin.encode("utf-8", "replace"),
            capture_output=True,
            timeout=MUNGE_TIMEOUT_SECONDS,
            check=False,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MungeError(f"{command[0]}: {error}") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).decode("utf-8", "replace")
        raise MungeError(f"{command[0]}: {said}")
    return done.stdout.decode("utf-8", "replace")

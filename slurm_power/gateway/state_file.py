"""A service's state on disk: written whole before anything is done, read back after any death."""

import fcntl
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from slurm_power.gateway.members import FIRST_ORDER, Failed, Member, Phase, State

VERSION = 1


class FolderError(Exception):
    """The gateway's own folder cannot be used; the text says why and what to do."""


def open_folder(path: Path) -> int:
    """Make the folder private and take its lock; returns the lock's descriptor. Raises FolderError."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise FolderError(f"{path} is not a directory of your own; name another with --state")
        path.chmod(0o700)
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FolderError(f"{path}: {error.strerror}; name another with --state") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise FolderError(f"a gateway already runs with {path}; see slurm-power gateway status") from None
    return descriptor


def write_state(path: Path, state: State, extra: Mapping[str, object]) -> None:
    """Replace the file atomically; ``extra`` is kept beside the state. Raises OSError."""
    record = {"version": VERSION, **asdict(state), **extra}
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(record, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def read_state(path: Path) -> tuple[State, dict[str, Any]]:
    """Read it back, with all that was written beside it; an empty state where there is no file.

    Raises FolderError for a file that is not ours: its jobs would be forgotten.
    """
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        return State(), {}
    except (OSError, ValueError) as error:
        raise FolderError(f"{path} cannot be read: {error}; end the service's jobs and remove it") from None
    try:
        if record["version"] != VERSION:
            raise ValueError(f"version {record['version']}")
        return _state(record), record
    except (KeyError, TypeError, ValueError) as error:
        raise FolderError(f"{path} is no state of ours ({error}); end the jobs and remove it") from None


def _state(record: dict[str, Any]) -> State:
    known = {field.name for field in fields(Member)}
    members = []
    for entry in record["members"]:
        kept = {name: value for name, value in entry.items() if name in known}
        members.append(Member(**{**kept, "phase": Phase(kept["phase"])}))
    return State(
        members=tuple(members),
        failed={str(tier): Failed(**entry) for tier, entry in record["failed"].items()},
        next_order=int(record.get("next_order", FIRST_ORDER)),
        last_served=str(record["last_served"]),
    )

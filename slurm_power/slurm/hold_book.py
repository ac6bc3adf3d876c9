"""A small file that remembers our holds on jobs whose AdminComment belongs to another tool."""

import json
import os
from pathlib import Path

from slurm_power.slurm.admin_comment import HoldNote, note_from_json, note_to_json


class HoldBook:
    """Job id -> note, written atomically and durably before the hold it is about."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._notes = _load(file)

    def get(self, job_id: str) -> HoldNote | None:
        """Return the note on a job, if there is one."""
        return self._notes.get(job_id)

    def put(self, job_id: str, note: HoldNote | None) -> None:
        """Set or, with None, drop the note on a job; raises OSError if that cannot be stored."""
        notes = {key: value for key, value in self._notes.items() if key != job_id}
        if note is not None:
            notes[job_id] = note
        if notes == self._notes:
            return
        _store(self._file, notes)
        self._notes = notes

    def keep_only(self, job_ids: set[str]) -> None:
        """Drop the notes on jobs that Slurm no longer knows."""
        for job_id in self._notes.keys() - job_ids:
            self.put(job_id, None)


def _load(file: Path) -> dict[str, HoldNote]:
    try:
        stored = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        # Unreadable: holds expire by themselves, so the worst is a user's earlier begin time forgotten.
        return {}
    if not isinstance(stored, dict):
        return {}
    notes = {key: note_from_json(value) for key, value in stored.items() if isinstance(value, dict)}
    return {key: note for key, note in notes.items() if note is not None}


def _store(file: Path, notes: dict[str, HoldNote]) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    with fresh.open("w") as stream:
        json.dump({key: note_to_json(note) for key, note in notes.items()}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

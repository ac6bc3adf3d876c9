"""The folder of proposed files that somebody reviews and edits: written without losing an edit, read back."""

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm_power.slurm.proposal import ProposedFile

MANIFEST, ROOT = "manifest.json", "root"


class ReviewError(Exception):
    """Nothing was written. ``problems`` lists everything that is in the way."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedFile:
    """A file of the folder as it is now, with what the proposal said of it."""

    path: Path
    content: bytes
    mode: int
    roles: tuple[str, ...]
    before_sha256: str | None
    first_only: bool


def digest(content: bytes) -> str:
    """SHA-256 as hex."""
    return hashlib.sha256(content).hexdigest()


def write_folder(
    folder: Path, files: Sequence[ProposedFile], papers: dict[str, str], *, record_directory: str
) -> list[str]:
    """Write the proposal; returns the files that were edited by hand and are left as they are.

    ``papers`` are files for the reader beside the proposed ones, by name; ``record_directory`` is where
    applying them is to keep its record. Raises ReviewError, before anything is written, for edited files that
    the proposal would change, and for a folder that is not one of ours.
    """
    wanted = {f"{ROOT}{file.path}": file.content for file in files}
    wanted |= {name: text.encode(errors="surrogateescape") for name, text in papers.items()}
    written = _manifest(folder).get("written", {})
    problems, kept = [], []
    for name, content in wanted.items():
        target = folder / name
        if not target.exists():
            continue
        now = digest(target.read_bytes())
        if now in {digest(content), written.get(name)}:
            continue
        if written.get(name) == digest(content):
            kept.append(name)
        else:
            problems.append(f"{target}: was edited, and the proposal has changed as well; move it away")
    if problems:
        raise ReviewError(problems)
    for name in set(written) - set(wanted):
        target = folder / name
        if target.exists() and digest(target.read_bytes()) == written[name]:
            target.unlink()
    modes = {f"{ROOT}{file.path}": file.mode for file in files}
    for name, content in wanted.items():
        if name in kept:
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(modes.get(name, 0o644))
    record = {
        "record_directory": record_directory,
        "written": {name: digest(content) for name, content in wanted.items()},
        "files": [
            {
                "path": file.path,
                "mode": file.mode,
                "roles": list(file.roles),
                "why": file.why,
                "first_only": file.first_only,
                "before_sha256": None
                if file.before is None
                else digest(file.before.encode(errors="surrogateescape")),
            }
            for file in files
        ],
    }
    (folder / MANIFEST).write_text(json.dumps(record, indent=2) + "\n")
    return kept


def read_folder(folder: Path) -> tuple[list[ReviewedFile], Path]:
    """Read the reviewed files, and where applying them keeps its record; raises ReviewError."""
    record = _manifest(folder)
    if not record:
        raise ReviewError([f"{folder}: holds no proposal; write one first: slurm-power init --dir {folder}"])
    found, problems = [], []
    for entry in record["files"]:
        source = folder / f"{ROOT}{entry['path']}"
        try:
            content = source.read_bytes()
        except OSError as error:
            problems.append(
                f"{source}: {error.strerror}; write the proposal again: slurm-power init --dir {folder}"
            )
            continue
        found.append(
            ReviewedFile(
                path=Path(entry["path"]),
                content=content,
                mode=entry["mode"],
                roles=tuple(entry["roles"]),
                before_sha256=entry["before_sha256"],
                first_only=entry["first_only"],
            )
        )
    if problems:
        raise ReviewError(problems)
    return found, Path(record["record_directory"])


def differences(files: Sequence[ProposedFile]) -> str:
    """All changes to files that are there already, as one patch."""
    lines: list[str] = []
    for file in files:
        after = file.content.decode(errors="surrogateescape")
        if file.before is None or file.before == after or file.first_only or "\0" in after:
            continue
        old, new = file.before.splitlines(keepends=True), after.splitlines(keepends=True)
        lines += difflib.unified_diff(old, new, file.path, file.path)
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def _manifest(folder: Path) -> dict[str, Any]:
    """The folder's own record, empty for a new folder; raises ReviewError for one that is not ours."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return {}
    try:
        record: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        if record["written"] is not None and record["files"] is not None:
            return record
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ReviewError([f"{folder}: exists and holds no proposal of slurm-power; choose another --dir"])

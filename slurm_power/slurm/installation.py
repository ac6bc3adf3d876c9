"""Puts reviewed files in their places on this host, remembers what was there, and takes them off again."""

import contextlib
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurm_power.slurm.conf_text import BrokenBlockError, has_blocks, without_blocks
from slurm_power.slurm.review_folder import ReviewedFile, ReviewError, digest

RECORD, ORIGINALS = "installed.json", "originals"


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What was done, file by file, and what could not be."""

    done: list[str] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def install(files: Sequence[ReviewedFile], directory: Path) -> Outcome:
    """Put files in their places; ``directory`` keeps the record and the originals.

    Raises ReviewError with all problems, before anything is changed, for files that are not as init saw them.
    """
    record = _read_record(directory)
    problems = [problem for file in files if (problem := _in_the_way(file)) is not None]
    if problems:
        raise ReviewError(problems)
    outcome = Outcome()
    entries: dict[str, dict[str, Any]] = record.setdefault("files", {})
    folders: list[str] = record.setdefault("folders", [])
    for file in files:
        there = _bytes(file.path)
        if there == file.content and file.path.stat().st_mode & 0o777 == file.mode:
            continue
        if there is not None and file.first_only:
            outcome.kept.append(str(file.path))
            continue
        folders += _make_folders(file.path.parent)
        entry = entries.get(str(file.path))
        if entry is None:
            entry = {"original": None, "before_sha256": None}
            if there is not None:
                original = directory / ORIGINALS / str(file.path).lstrip("/").replace("/", "%")
                folders += _make_folders(original.parent)
                _write(original, there, like=file.path)
                entry = {"original": str(original), "before_sha256": digest(there)}
        entry["after_sha256"] = digest(file.content)
        entries[str(file.path)] = entry
        # The record first: whatever stops us, uninstall knows of the file.
        _write_record(directory, record)
        _write(file.path, file.content, mode=file.mode, like=file.path)
        outcome.done.append(str(file.path))
    return outcome


def _in_the_way(file: ReviewedFile) -> str | None:
    there = _bytes(file.path)
    if there is None or there == file.content or file.first_only:
        return None
    if file.before_sha256 is None:
        return f"{file.path}: is there already, and was not when init looked; run init again"
    if digest(there) != file.before_sha256:
        return f"{file.path}: has changed since init looked; run init again"
    return None


def remove(
    directory: Path,
    extra: Sequence[Path],
    *,
    keep: Sequence[Path] = (),
    in_use: Collection[str] = (),
    dry: bool = False,
) -> Outcome:
    """Take off what ``install`` put there, and marked blocks in the files ``extra``; ``dry`` only says so.

    Files below ``keep`` that were edited since stay, and are named. Files ``in_use`` are removed another
    time: Slurm drains a node whose hook is gone, until it is told that there is none.
    """
    record = _read_record(directory)
    outcome = Outcome()
    entries: dict[str, dict[str, Any]] = record.get("files", {})
    for name, entry in reversed(list(entries.items())):
        if name in in_use and entry["original"] is None:
            outcome.later.append(name)
            continue
        if _take_off(Path(name), entry, outcome, keep, dry=dry) and not dry:
            if entry["original"] is not None:
                Path(entry["original"]).unlink(missing_ok=True)
            del entries[name]
            _write_record(directory, record)
    for path in extra:
        if str(path) not in entries and has_blocks(_text(path) or ""):
            _take_blocks_out(path, outcome, dry=dry)
    if not dry and not entries:
        (directory / RECORD).unlink(missing_ok=True)
        for folder in sorted({*record.get("folders", []), str(directory / ORIGINALS)}, reverse=True):
            with contextlib.suppress(OSError):  # something of the site's own is in there
                Path(folder).rmdir()
    return outcome


def installed_files(directory: Path) -> list[str]:
    """What the record says is installed on this host."""
    return list(_read_record(directory).get("files", {}))


def enabled_units(files: Sequence[str]) -> set[str]:
    """Those of some files that are units which systemd starts: to be disabled before they are removed."""
    units = [Path(name) for name in files if name.endswith(".service")]
    return {str(unit) for unit in units if any(unit.parent.glob(f"*.wants/{unit.stem}*"))}


def _take_off(
    path: Path, entry: dict[str, Any], outcome: Outcome, keep: Sequence[Path], *, dry: bool
) -> bool:
    """Take one recorded file off; returns whether it is done with."""
    there = _bytes(path)
    if there is None:
        return True
    edited = digest(there) != entry["after_sha256"]
    if entry["original"] is None:
        if edited and any(folder in path.parents for folder in keep):
            outcome.kept.append(str(path))
            return True
        outcome.done.append(f"{path}: removed")
        if not dry:
            path.unlink()
        return True
    original = _bytes(Path(entry["original"]))
    if edited and (text := _text(path)) is not None and has_blocks(text):
        return _take_blocks_out(path, outcome, dry=dry)
    if edited or original is None or digest(original) != entry["before_sha256"]:
        outcome.problems.append(
            f"{path}: was edited, and holds no marked block; its original: {entry['original']}"
        )
        return False
    outcome.done.append(f"{path}: as it was")
    if not dry:
        _write(path, original, like=Path(entry["original"]))
    return True


def _take_blocks_out(path: Path, outcome: Outcome, *, dry: bool) -> bool:
    try:
        text = without_blocks(_text(path) or "")
    except BrokenBlockError as error:
        outcome.problems.append(f"{path}: {error}; take the block out by hand")
        return False
    outcome.done.append(f"{path}: marked blocks taken out")
    if not dry:
        _write(path, text.encode(errors="surrogateescape"), like=path)
    return True


def _read_record(directory: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((directory / RECORD).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ReviewError([f"{directory / RECORD}: cannot be read: {error}"]) from None
    return record


def _write_record(directory: Path, record: dict[str, Any]) -> None:
    record["folders"] = [*record.get("folders", []), *_make_folders(directory)]
    _write(directory / RECORD, (json.dumps(record, indent=2) + "\n").encode(), mode=0o644)


def _make_folders(folder: Path) -> list[str]:
    """Make a folder and those above it; returns the ones that were not there."""
    made = [str(path) for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return made


def _write(path: Path, content: bytes, *, mode: int | None = None, like: Path | None = None) -> None:
    """Replace a file in one step, synced; the owner is that of ``like``, and the mode where none is given."""
    target = Path(os.path.realpath(path))  # slurm.conf may be a link to where it is shared
    draft = target.with_name(f".{target.name}.slurm-power")
    status = like.stat() if like is not None and like.exists() else None
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    own_mode = 0o644 if status is None else status.st_mode & 0o7777
    draft.chmod(own_mode if mode is None else mode)
    if status is not None:
        os.chown(draft, status.st_uid, status.st_gid)
    draft.replace(target)


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _text(path: Path) -> str | None:
    content = _bytes(path)
    return None if content is None else content.decode(errors="surrogateescape")

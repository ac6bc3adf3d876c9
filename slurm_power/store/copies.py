"""Copies of a state directory: made while powerctld runs, checked, and put back.

A copy is a folder with the files of the state directory and a manifest that names each with its size and
SHA-256. SQLite's own backup makes a copy of one moment out of a file that is written to meanwhile.
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm_power import __version__, clock
from slurm_power.ports import StoreError
from slurm_power.store.private import lock_directory, private_file
from slurm_power.store.schema import LEDGER, SERIES, Schema, refuse_newer, stored_version
from slurm_power.store.sqlite import SqliteStore

MANIFEST = "manifest.json"
_SCHEMAS = {"powerctld.sqlite": LEDGER, "series.sqlite": SERIES}
# What belongs to a running process, or to SQLite's own writing; and keys, which are kept elsewhere.
_LEFT_OUT = (".lock", "-wal", "-shm", "-journal", ".partial", ".sock", ".key")
_KEPT_PREFIX = "before-restore-"
_CHUNK_BYTES = 1 << 20
_PAGES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """One SQLite file: its schema and what speaks against it, "" when nothing does."""

    name: str
    version: int
    known_version: int
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreState:
    """What a state directory, or a copy of one, holds; ``problems`` are sentences, none if all is well."""

    files: tuple[FileState, ...]
    entries: int
    last_hash: str
    problems: tuple[str, ...]


def versions(directory: Path) -> tuple[FileState, ...]:
    """The schema of each file; raises StoreError where there is none or one cannot be read."""
    found = []
    for name, schema in _SCHEMAS.items():
        file = directory / name
        if file.is_file():
            found.append(_file_state(file, schema, thorough=False))
    if not found:
        raise StoreError(f"{directory}: there is no store in this directory")
    return tuple(found)


def _file_state(file: Path, schema: Schema, *, thorough: bool) -> FileState:
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5.0)) as connection:
            version = stored_version(connection, schema)
            problem = ""
            if version > schema.version:
                problem = f"schema {version} is newer than this slurm-power, which knows {schema.version}"
            elif thorough:
                said = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
                problem = "" if said == "ok" else f"SQLite finds it damaged: {said}"
    except sqlite3.Error as error:
        raise StoreError(f"{file}: {error}") from error
    return FileState(name=file.name, version=version, known_version=schema.version, problem=problem)


def check(directory: Path) -> StoreState:
    """Look at everything: schemas, SQLite's own check, the chain of the ledger, the sums of a manifest.

    Raises StoreError where nothing can be looked at.
    """
    problems: list[str] = []
    files = []
    for state in versions(directory):
        try:
            found = _file_state(directory / state.name, _SCHEMAS[state.name], thorough=True)
        except StoreError as error:
            problems.append(str(error))
            continue
        files.append(found)
        if found.problem:
            problems.append(f"{found.name}: {found.problem}")
    entries, last_hash = 0, ""
    ledger = directory / "powerctld.sqlite"
    if ledger.is_file() and not any(problem.startswith((ledger.name, str(ledger))) for problem in problems):
        entries, last_hash, broken = _chain(ledger)
        if broken is not None:
            problems.append(f"{ledger.name}: entry {broken} of the ledger does not follow from its past")
    problems += _manifest_problems(directory)
    return StoreState(files=tuple(files), entries=entries, last_hash=last_hash, problems=tuple(problems))


def _chain(file: Path) -> tuple[int, str, int | None]:
    store = SqliteStore(file, read_only=True)
    try:
        broken = store.broken_at_sequence()
        last = store.checked_sequence
        row = next(store.rows(last - 1, most=1), None) if last else None
    except (sqlite3.Error, ValueError) as error:
        raise StoreError(f"{file}: {error}") from error
    finally:
        store.close()
    return last, row[2] if row else "", broken


def backup(directory: Path, target: Path) -> dict[str, Any]:
    """Copy a state directory, that of a running powerctld too, into the new folder ``target``.

    Returns the manifest. The copy is checked before it gets its name: what is not whole is left beside it as
    ``TARGET.partial``, and StoreError says why. Raises OSError with the path, too.
    """
    if target.exists():
        raise StoreError(f"{target}: is there already; name a folder that is not")
    if target.resolve().is_relative_to(directory.resolve()):
        raise StoreError(f"{target}: lies inside of what is to be copied; name another place")
    versions(directory)
    partial = target.with_name(f"{target.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(mode=0o700, parents=True)
    for name in _contents(directory):
        copy = partial / name
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        private_file(copy)
        if name in _SCHEMAS:
            _copy_database(directory / name, copy, _SCHEMAS[name])
            continue
        try:
            shutil.copyfile(directory / name, copy)
        except FileNotFoundError:
            copy.unlink()  # it was a running program's for a moment
    state = check(partial)
    if state.problems:
        raise StoreError(f"{partial}: the copy is not whole: {'; '.join(state.problems)}")
    manifest = {
        "made_at": clock.now().isoformat(),
        "slurm_power": __version__,
        "schemas": {found.name: found.version for found in state.files},
        "ledger": {"entries": state.entries, "last_hash": state.last_hash},
        "files": {
            name: {"bytes": (partial / name).stat().st_size, "sha256": file_sha256(partial / name)}
            for name in _contents(partial)
        },
    }
    private_file(partial / MANIFEST)
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    for name in (*manifest["files"], MANIFEST):
        _to_disk(partial / name)
    partial.rename(target)
    return manifest


def _copy_database(file: Path, copy: Path, schema: Schema) -> None:
    try:
        source = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30.0)
        with closing(source), closing(sqlite3.connect(copy)) as target:
            refuse_newer(source, schema, file)
            # One snapshot of a reader: a writer beside it goes on, and does not make the copy begin anew.
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_master").fetchone()
            source.backup(target, pages=_PAGES)
            # A copy can lie where nothing can be written; powerctld turns it back.
            target.execute("PRAGMA journal_mode=DELETE").fetchall()
    except sqlite3.Error as error:
        raise StoreError(f"{file}: {error}") from error


def _contents(directory: Path) -> list[str]:
    """Names of the regular files of a state directory, those in folders as PATH/NAME."""
    return sorted(_walk(directory, directory))


def _walk(directory: Path, root: Path) -> Iterator[str]:
    for entry in directory.iterdir():
        left_out = entry.name.endswith(_LEFT_OUT) or ".before-schema-" in entry.name
        if entry.is_symlink() or left_out or entry.name == MANIFEST:
            continue
        if entry.is_file():
            yield str(entry.relative_to(root))
        elif entry.is_dir() and not entry.name.startswith((_KEPT_PREFIX, ".restoring")):
            yield from _walk(entry, root)


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(_CHUNK_BYTES):
            digest.update(part)
    return digest.hexdigest()


def _to_disk(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _manifest_problems(copy: Path) -> list[str]:
    """What differs from a folder's manifest; nothing for a folder without one."""
    file = copy / MANIFEST
    if not file.is_file():
        return []
    try:
        told = json.loads(file.read_text())["files"]
        sums = {str(name): (int(each["bytes"]), str(each["sha256"])) for name, each in told.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{MANIFEST}: cannot be read: {error}"]
    problems = []
    for name, (size, digest) in sums.items():
        path = copy / name
        if name.startswith("/") or ".." in Path(name).parts:
            problems.append(f"{MANIFEST}: names {name!r}, which is not in this folder")
        elif not path.is_file():
            problems.append(f"{name}: is in the manifest and not in the folder")
        elif path.stat().st_size != size or file_sha256(path) != digest:
            problems.append(f"{name}: is not as the manifest says")
    problems += [f"{name}: is not in the manifest" for name in _contents(copy) if name not in sums]
    return problems


def restore(copy: Path, directory: Path) -> Path | None:
    """Put a copy in the place of a state directory's files; returns where those are kept that were there.

    Raises StoreError, with nothing changed, beside a running powerctld, and for a copy that is not whole,
    has no manifest, or is of a newer slurm-power; OSError with the path.
    """
    if not (copy / MANIFEST).is_file():
        raise StoreError(f"{copy}: has no {MANIFEST}: this is no copy that `slurm-power store backup` made")
    state = check(copy)
    if state.problems:
        raise StoreError(f"{copy}: is not whole, nothing was changed: {'; '.join(state.problems)}")
    try:
        lock = lock_directory(directory)
    except BlockingIOError as error:
        raise StoreError(f"{directory}: {error}; stop powerctld first, nothing was changed") from None
    try:
        return _put_back(copy, directory)
    finally:
        os.close(lock)


def _put_back(copy: Path, directory: Path) -> Path | None:
    owner = directory.stat()
    coming = directory / ".restoring"
    if coming.exists():
        shutil.rmtree(coming)
    coming.mkdir(mode=0o700)
    names = _contents(copy)
    # All of it is here, on disk and owned as the directory is, before anything is moved.
    for name in names:
        new = coming / name
        new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        private_file(new)
        shutil.copyfile(copy / name, new)
        if file_sha256(new) != file_sha256(copy / name):
            raise StoreError(f"{new}: does not read as it was written; nothing was changed")
        _to_disk(new)
        for path in (new, *new.parents):
            if path == directory:
                break
            if os.geteuid() == 0:
                os.chown(path, owner.st_uid, owner.st_gid)
    kept = _set_aside(directory, owner)
    for name in names:
        place = directory / name
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (coming / name).replace(place)
    shutil.rmtree(coming)
    return kept


def _set_aside(directory: Path, owner: os.stat_result) -> Path | None:
    """Move what is there into a folder of its own, SQLite's side files with it."""
    there = [
        entry
        for entry in directory.iterdir()
        if not entry.name.startswith((_KEPT_PREFIX, ".restoring"))
        and not entry.name.endswith((".lock", ".sock"))
        # Keys are in no copy: those that are there stay.
        and not (entry.is_dir() and any(entry.rglob("*.key")))
    ]
    if not there:
        return None
    kept = directory / f"{_KEPT_PREFIX}{clock.now():%Y%m%dT%H%M%S.%f}"
    kept.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(kept, owner.st_uid, owner.st_gid)
    for entry in there:
        entry.replace(kept / entry.name)
    return kept

"""Check the folder of a year's audit: what was changed, what is missing, what does not follow."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slurm_power.model.ledger import GENESIS_HASH, chained_hash
from slurm_power.report.audit.audit import Findings, Row, entry_of
from slurm_power.report.audit.audit_folder import CHAIN, CSV, FORMAT, LEDGER, MANIFEST, csv_texts, sha256_of
from slurm_power.report.frame.document import table_csv

_LONGEST_LINE = 16_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


def verify_audit(folder: Path, seal: str | None = None) -> list[str]:
    """Everything that speaks against a folder; empty where nothing does. It need not be one of ours."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files, rows = dict(manifest["files"]), dict(manifest["rows"])
        sealed = sha256_of(folder / MANIFEST)
    except _UNREADABLE as error:
        return [f"{MANIFEST}: cannot be read as one: {_reason(error)}"]
    problems = []
    if manifest.get("format") != FORMAT:
        problems.append(f"{MANIFEST}: format is not {FORMAT!r}")
    if seal is not None and sealed != seal:
        problems.append(f"{MANIFEST}: does not have the seal {seal}: it is not what was written then")
    problems += _file_problems(folder, files)
    try:
        chain = json.loads((folder / CHAIN).read_text(encoding="utf-8"))
        check = _ChainCheck(folder, chain)
        check.run(rows.get(LEDGER))
    except _UNREADABLE as error:
        return [*problems, f"{LEDGER}: cannot be checked: {_reason(error)}"]
    return problems + check.problems


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _file_problems(folder: Path, files: Mapping[str, Any]) -> Iterator[str]:
    for name in (LEDGER, CSV, CHAIN):
        if name not in files:
            yield f"{name}: is not in {MANIFEST}"
    for name, fact in files.items():
        path = folder / name
        if _NAME.fullmatch(name) is None:
            yield f"{MANIFEST}: {name!r} is no name of a file here"
        elif path.is_symlink() or not path.is_file():
            yield f"{name}: missing"
        elif not isinstance(fact, dict) or sha256_of(path) != fact.get("sha256"):
            yield f"{name}: was changed, its SHA-256 is another than {MANIFEST} says"
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST and path.name not in files:
            yield f"{path.name}: is not in {MANIFEST}"


class _ChainCheck:
    """Follows the chain, and makes all that comes from its entries again."""

    def __init__(self, folder: Path, chain: Mapping[str, Any]) -> None:
        self._folder, self._chain = folder, chain
        self._findings = Findings()
        self._last_hash = chain["hash_before"]
        self._last_sequence = chain["before"]["last_sequence"] or 0
        self._count = 0
        self.problems: list[str] = []

    def run(self, listed: object) -> None:
        """Find all problems; ``listed`` is how many entries there should be."""
        chain, within = self._chain, self._chain["within"]
        if (chain["before"]["last_hash"] or GENESIS_HASH) != self._last_hash:
            self.problems.append(f"{CHAIN}: hash_before is not the last hash before the year")
        digest = hashlib.sha256()
        for text in csv_texts(self._passing()):
            digest.update(text.encode())
        self._compare(CSV, digest.hexdigest())
        if not self._count == listed == within["entries"]:
            self.problems.append(f"{LEDGER}: has {self._count} entries, {within['entries']} were written")
        if (self._last_hash, self._last_sequence) != (within["last_hash"], within["last_sequence"]):
            self.problems.append(f"{LEDGER}: does not end where {CHAIN} says")
        if (broken := chain["broken_at_sequence"]) is not None:
            self.problems.append(f"{CHAIN}: the ledger was not whole when this was made: entry {broken}")
        for table in self._findings.tables():
            self._compare(f"{table.name}.csv", hashlib.sha256(table_csv(table).encode()).hexdigest())

    def _passing(self) -> Iterator[Row]:
        for sequence, canonical, stored_hash in _lines(self._folder / LEDGER):
            entry = entry_of(canonical)
            if sequence != self._last_sequence + 1:
                self.problems.append(f"{LEDGER}: entry {self._last_sequence + 1} is missing")
            if chained_hash(self._last_hash, entry) != stored_hash:
                self.problems.append(f"{LEDGER}: entry {sequence} does not follow from the one before")
            self._last_hash, self._last_sequence = stored_hash, sequence
            self._count += 1
            self._findings.add((sequence, entry, stored_hash))
            yield sequence, entry, stored_hash

    def _compare(self, name: str, digest: str) -> None:
        path = self._folder / name
        if not path.is_file():
            self.problems.append(f"{name}: missing")
        elif sha256_of(path) != digest:
            self.problems.append(f"{name}: is not what {LEDGER} says")


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """The entries of a file; raises ValueError for what is none."""
    with path.open(encoding="utf-8", newline="\n") as file:
        number = 0
        while line := file.readline(_LONGEST_LINE):
            number += 1
            if not line.endswith("\n"):
                raise ValueError(f"line {number} is cut off")
            found = json.loads(line)
            sequence, canonical, stored = (found[key] for key in ("sequence", "canonical", "hash"))
            if type(sequence) is not int or not isinstance(canonical, str) or not isinstance(stored, str):
                raise ValueError(f"line {number} is no entry")
            yield sequence, canonical, stored

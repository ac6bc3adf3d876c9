"""Reports as files: each complete or not at all, on a full disk too."""

import contextlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from slurm_power.report.frame.document_html import render_html
from slurm_power.report.frame.document_parts import Document, document_json, table_csv

SUFFIXES = (".html", ".json", ".csv")


def write_document(document: Document, out: Path, table: str | None = None) -> list[Path]:
    """Write a report in the form that ``out`` says; returns the files written.

    ``.html`` and ``.json`` have all of it; ``.csv`` one table, named by ``table`` if there are several; a
    folder (there or not yet, without suffix) one CSV file for each table. What was there before stays as
    it was until all is written, and if it cannot be. Raises ValueError, or OSError with the path.
    """
    return write_whole(_texts(document, out, table))


def out_problem(out: Path, tables: tuple[str, ...] | None = None, table: str | None = None) -> str:
    """What is wrong with ``out``, before anything is computed; empty if nothing. ``tables`` if known."""
    return _place_problem(out) or _table_problem(out, tables, table)


def _place_problem(out: Path) -> str:
    if not out.parent.is_dir():
        return f"there is no folder {out.parent}"
    if out.is_dir():
        return f"{out} is a folder; a folder of CSV files has no suffix" if out.suffix else ""
    if out.suffix not in (*SUFFIXES, ""):
        return f"{out} ends in none of {', '.join(SUFFIXES)}, and is no folder"
    if not out.suffix and out.exists():
        return f"{out} is a file without suffix; give {', '.join(SUFFIXES)} or a folder"
    return ""


def _table_problem(out: Path, tables: tuple[str, ...] | None, table: str | None) -> str:
    if table is not None and out.suffix != ".csv":
        return "one table alone is written as .csv"
    if tables is None or out.suffix != ".csv":
        return ""
    known = ", ".join(tables) or "none"
    if table is None:
        return "" if len(tables) == 1 else f"a .csv file holds one table: name it with --table ({known})"
    return "" if table in tables else f"there is no table {table!r}; there are: {known}"


def _texts(document: Document, out: Path, table: str | None) -> dict[Path, str]:
    tables = document.tables
    if problem := out_problem(out, tuple(tables), table):
        raise ValueError(problem)
    match out.suffix:
        case ".html":
            return {out: render_html(document)}
        case ".json":
            return {out: json.dumps(document_json(document), indent=2, allow_nan=False) + "\n"}
        case ".csv":
            chosen = tables[table] if table is not None else next(iter(tables.values()))
            return {out: table_csv(chosen)}
        case _:
            return {out / f"{name}.csv": table_csv(each) for name, each in tables.items()}


def write_whole(texts: Mapping[Path, str]) -> list[Path]:
    """Write all beside their places first, and move them there when all are on the disk.

    Raises OSError with the path; then all is as it was.
    """
    parts: dict[Path, Path] = {}
    made: list[Path] = []
    try:
        for path, text in texts.items():
            if not path.parent.exists():
                path.parent.mkdir()
                made.append(path.parent)
            # A link stays one; what is no file on a disk (a pipe) is written into as it is.
            if path.exists() and not path.is_file():
                path.write_text(text, encoding="utf-8", newline="")
                continue
            whole = path.resolve()
            part = whole.with_name(f".{whole.name}.{uuid.uuid4().hex}.part")
            parts[part] = whole
            with part.open("x", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                # Some file systems say only now that there is no room.
                os.fsync(file.fileno())
        for part, whole in parts.items():
            part.replace(whole)
    except OSError as error:
        for part in parts:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        place = str(next(iter(texts)).parent if len(texts) > 1 else next(iter(texts)))
        raise OSError(error.errno, error.strerror or str(error), place) from None
    return list(texts)

"""Files that a command writes for its user: whole or not there, and never in place of what it reads."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def out_problems(outs: Mapping[str, Path | None], read: Iterable[Path | str | None]) -> list[str]:
    """What keeps each option's file from being written; ``read`` are the files the command reads.

    A file of ``read`` may have ``#label`` at its end.
    """
    sources = [str(source) for source in read if source is not None]
    taken = {
        Path(name).resolve(): "is read by this command"
        for source in sources
        for name in (source, source.rpartition("#")[0])
    }
    problems = []
    for option, path in outs.items():
        if path is None:
            continue
        if path.is_dir():
            problems.append(f"{option}: {path} is a folder; give the file a name")
        elif not path.parent.is_dir():
            problems.append(f"{option}: there is no folder {path.parent}")
        elif (why := taken.get(path.resolve())) is not None:
            problems.append(f"{option}: {path} {why}; write to another file")
        taken.setdefault(path.resolve(), f"is written by {option} already")
    return problems


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A text file that takes its name, and the place of an older one, when all is written; raises OSError."""
    if path.exists() and not path.is_file():
        # A pipe or a terminal has no half file to leave behind.
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    whole = path.resolve()
    part = whole.with_name(f".{whole.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(whole)
    except BaseException:
        part.unlink(missing_ok=True)
        raise

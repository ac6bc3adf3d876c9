"""Files that commands write: refused before anything is computed, and there whole or not at all."""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def out_problems(outs: Mapping[str, Path | None], read: Iterable[Path | str | None]) -> list[str]:
    """What keeps each option's file from being written; ``read`` are the files that are read and must stay.

    A file of ``read`` may have ``#label`` at its end.
    """
    sources = [str(source) for source in read if source is not None]
    taken = {
        Path(name).resolve(): "is read by this command"
        for source in sources
        for name in (source, source.rpartition("#")[0], source.partition("#")[0])
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
    """A text file beside ``path`` that takes its place when all is written; on an error it goes again.

    A link stays one. What is no file on a disk (a pipe, /dev/stdout) is written into as it is. Raises
    OSError.
    """
    if path.exists() and not path.is_file():
        # It has no half file to leave behind.
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    whole = path.resolve()
    part = whole.with_name(f".{whole.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("x", encoding="utf-8", newline="") as file:
            yield file
        part.replace(whole)
    except BaseException:
        part.unlink(missing_ok=True)
        raise

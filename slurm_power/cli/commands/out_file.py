"""Files that commands write: refused before anything is computed, and there whole or not at all."""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def out_problems(outs: Mapping[str, Path | None], inputs: Iterable[Path]) -> list[str]:
    """What is wrong with the files to write, by option; ``inputs`` are what is read and must stay."""
    read = {path.resolve() for path in inputs}
    problems = []
    taken: dict[Path, str] = {}
    for option, out in outs.items():
        if out is None:
            continue
        path = out.resolve()
        if path in read:
            problems.append(f"{option}: {out} is read; write to another file")
        elif path in taken:
            problems.append(f"{option}: {out} is written by {taken[path]} already")
        elif path.is_dir():
            problems.append(f"{option}: {out} is a folder")
        elif not path.parent.is_dir():
            problems.append(f"{option}: there is no folder {out.parent}")
        taken[path] = option
    return problems


@contextmanager
def written(out: Path) -> Iterator[TextIO]:
    """Give a file beside ``out`` that takes its place at the end; on an error it goes again.

    A link stays one. What is no file on a disk (a pipe, /dev/stdout) is written into as it is. Raises
    OSError.
    """
    if out.exists() and not out.is_file():
        with out.open("w", newline="", encoding="utf-8") as file:
            yield file
        return
    path = out.resolve()
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with new.open("x", newline="", encoding="utf-8") as file:
            yield file
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise

"""Writing a checkpoint so that there is always a whole one, whenever the writer is killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of ``path`` once it is whole and on the disk; raises OSError.

    Until then, and for ever if the block fails or the process is killed, ``path`` is what it was. What a
    killed writer leaves is one hidden file beside it, which the next write of the same rank replaces.
    """
    target = Path(path)
    # Ranks that write the same path by mistake must not write into one file: the last whole one stays.
    unfinished = target.with_name(f".{target.name}.{os.environ.get('SLURM_PROCID', '0')}.new")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Bring a new name in a folder to the disk; a file system that cannot do so is no error."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

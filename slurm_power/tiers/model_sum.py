"""The SHA-256 by which a catalog knows a model: a file's, or that of a whole folder."""

import hashlib
import os
from pathlib import Path

_BLOCK_BYTES = 1 << 20


def file_sha256(path: Path) -> str:
    """The sum of a model: of a file its SHA-256; of a folder that of the list of its files.

    The list has a line ``SUM  NAME`` for each file below the folder, sorted by the name relative to it, just
    as ``sha256sum`` prints it. Raises OSError; also for a folder without files, and for anything in it that
    is neither folder nor file, because its content could change unseen.
    """
    if not path.is_dir():
        return _sum(path)
    lines = []
    for base, folders, names in os.walk(path, onerror=_raise):
        below = Path(base)
        if links := [folder for folder in folders if (below / folder).is_symlink()]:
            raise OSError(f"{below / links[0]} is a link to a folder")
        lines += [((below / name).relative_to(path).as_posix(), _sum(below / name)) for name in names]
    if not lines:
        raise OSError(f"{path} holds no file")
    listed = b"".join(f"{total}  ".encode() + os.fsencode(name) + b"\n" for name, total in sorted(lines))
    return hashlib.sha256(listed).hexdigest()


def _raise(error: OSError) -> None:
    raise error


def _sum(path: Path) -> str:
    total = hashlib.sha256()
    # A pipe would be waited for until somebody writes to it.
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb", buffering=0) as file:  # noqa: PTH123 - by descriptor
        if not os.path.isfile(file.fileno()):  # noqa: PTH113 - by descriptor
            raise OSError(f"{path} is no file")
        while block := file.read(_BLOCK_BYTES):
            total.update(block)
    return total.hexdigest()

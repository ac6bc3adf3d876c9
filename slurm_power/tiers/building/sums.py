"""The sum of a model: until the catalog's own is here."""

import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Return the hexadecimal sum of a file, or of the sorted list of sums of the files in a folder."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(path).as_posix()}\n"
        for file in sorted(path.rglob("*"))
        if file.is_file()
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()

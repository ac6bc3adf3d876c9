"""Text files that users bring: plain or .gz, with or without a byte order mark."""

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


class TableFileError(ValueError):
    """The file cannot be used; ``problems`` are sentences for the user, with rows."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)  # as it is, so that it survives being pickled by a process pool
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(self.problems)


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """The lines of a CSV file; whatever keeps it from being read as CSV inside becomes TableFileError."""
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline="")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig", newline="")
        ) as lines:
            yield lines
    except (OSError, EOFError, zlib.error) as error:
        raise TableFileError([f"{path}: {getattr(error, 'strerror', None) or error}"]) from None
    except UnicodeDecodeError:
        raise TableFileError([f"{path}: no text in UTF-8"]) from None
    except csv.Error as error:
        raise TableFileError([f"{path}: no CSV: {error}"]) from None

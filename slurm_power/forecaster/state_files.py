"""What the worker has learned, one file a circuit: written whole or not at all, never trusted blindly."""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

_RUN_TIMES = "run_times.json"
# A circuit's state is far smaller; what is larger is none, and is not read.
_MOST_BYTES = 64 << 20


class StateFiles:
    """A folder of states. Reading raises ValueError naming the file that is no use; it is then left alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _file(self, circuit: str) -> Path:
        return self._directory / f"{quote(circuit, safe='')}.npz"

    def save(self, circuit: str, state: Mapping[str, Any]) -> None:
        """Replace a circuit's state; raises OSError, and the old one stands."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._file(circuit)
        with _Replacing(file) as target:
            np.savez_compressed(target, **state)

    def load(self, circuit: str) -> dict[str, Any] | None:
        """A circuit's state, None if there is none; raises ValueError."""
        file = self._file(circuit)
        try:
            with file.open("rb") as data:
                size = os.fstat(data.fileno()).st_size
                if size > _MOST_BYTES:
                    raise ValueError(f"it has {size} bytes, no state is so large")
                with np.load(data, allow_pickle=False) as found:
                    return {key: found[key] for key in found.files}
        except FileNotFoundError:
            return None
        except (OSError, zipfile.BadZipFile, EOFError, ValueError, KeyError) as error:
            raise ValueError(f"{file.name} cannot be read: {error}") from None

    def save_run_times(self, state: Mapping[str, Any]) -> None:
        """Replace what is known of run times; raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _Replacing(self._directory / _RUN_TIMES) as target:
            target.write(json.dumps(state).encode())

    def load_run_times(self) -> dict[str, Any] | None:
        """What is known of run times, None if nothing is; raises ValueError."""
        file = self._directory / _RUN_TIMES
        try:
            found = json.loads(file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{file.name} cannot be read: {error}") from None
        if not isinstance(found, dict):
            raise ValueError(f"{file.name} is no record of run times")
        return found


class _Replacing:
    """A file that takes the place of another once it is whole and on the disk."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._new = file.with_name(f"{file.name}.new")

    def __enter__(self) -> Any:
        self._target = self._new.open("wb")
        return self._target

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._target.flush()
            os.fsync(self._target.fileno())
        finally:
            self._target.close()
        if kind is None:
            self._new.replace(self._file)

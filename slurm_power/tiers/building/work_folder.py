"""Where a build keeps its unfinished work: a folder beside the output, gone when the tier is there."""

import fcntl
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from slurm_power.tiers.building.ending import BuildError
from slurm_power.tiers.building.fit import put

_LISTED = 4


class WorkFolder:
    """``.NAME.building`` beside the output ``NAME``, used by one process at a time, or ``shared`` by several.

    ``settings`` are what must be the same for the work to be gone on with. A context manager: what is in the
    folder stays after a signal or a crash, and goes with the tier's arrival and with a refusal. Raises
    BuildError: the output is there without ``replace``, another build works on it, or unfinished work is of
    other settings.
    """

    def __init__(
        self, output: Path, settings: Mapping[str, Any], *, replace: bool = False, shared: bool = False
    ) -> None:
        self.output, self._replace, self.alone = output, replace, not shared
        self._settings = json.loads(json.dumps(dict(settings), default=str))
        self.path = output.with_name(f".{output.name}.building")
        self._lock = output.with_name(f".{output.name}.lock")
        self._held: Any = None

    def __enter__(self) -> Self:
        refuse_existing(self.output, replace=self._replace)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._held = self._lock.open("a")
        try:
            fcntl.flock(self._held, (fcntl.LOCK_EX if self.alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            self._held.close()
            raise BuildError(
                f"another build works on {self.output}: wait for it, or choose another --output",
                keeps_work=True,
            ) from None
        try:
            self._open()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        useless = error is None or (isinstance(error, BuildError) and not error.keeps_work)
        if self.alone and (useless or not self._has_work()):
            self.discard()
            self._lock.unlink(missing_ok=True)
        self._held.close()

    @property
    def checkpoint(self) -> Path:
        """Where the training loop keeps its state."""
        return self.path / "checkpoint.pt"

    @property
    def log(self) -> Path:
        """The training log, one line for each epoch or trial."""
        return self.path / "training.jsonl"

    def discard(self) -> None:
        """Throw the work away."""
        shutil.rmtree(self.path, ignore_errors=True)

    def take_alone(self) -> bool:
        """Have a shared folder for oneself; False where another process still works on it, which then can.

        The lock is let go first: of several that ask at once the last to let go finds none held.
        """
        fcntl.flock(self._held, fcntl.LOCK_UN)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.alone = True
        return True

    def _has_work(self) -> bool:
        """Whether anything was done that can be gone on with."""
        return any(self.path.glob("checkpoint*.pt")) or any(self.path.glob("*.journal"))

    def _open(self) -> None:
        refuse_existing(self.output, replace=self._replace)  # it may have come while the lock was waited for
        said = self.path / "settings.json"
        before = _read(said)
        if before is not None and before != self._settings:
            different = [name for name in self._settings if before.get(name) != self._settings[name]]
            if not self._replace:
                other = " and ".join(different[:_LISTED]) or "setting"
                raise BuildError(
                    f"{self.path} has unfinished work with another {other}:"
                    " build with the same options to go on with it, or say --replace to drop it",
                    keeps_work=True,
                )
            self.discard()
        self.path.mkdir(exist_ok=True)
        put(said, lambda path: path.write_text(json.dumps(self._settings, indent=2), encoding="utf-8"))


def refuse_existing(output: Path, *, replace: bool) -> None:
    """Raise BuildError where the output is there already, or is no place for a folder."""
    there = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not there.is_dir():
        raise BuildError(f"output {output}: {there} is a file: name a folder that is not there yet")
    if output.exists() and not replace:
        raise BuildError(f"output {output} is there already: choose another --output, or say --replace")
    if output.exists() and not (output / "tier.json").is_file() and any(output.iterdir()):
        raise BuildError(
            f"output {output} holds other things than a tier: they are not replaced; choose another"
        )


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None

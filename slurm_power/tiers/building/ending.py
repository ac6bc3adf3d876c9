"""How a build ends without a tier: refused, or stopped by a signal with its work kept."""

import signal
from types import FrameType, TracebackType
from typing import Self

SAVED_QUEUE_AGAIN = 85
_EXIT_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR2: SAVED_QUEUE_AGAIN}


class BuildError(ValueError):
    """A tier cannot be built: why, and what to do.

    ``keeps_work``: what was done so far is still of use. ``failed``: it was tried; otherwise it was refused.
    """

    def __init__(self, message: str, *, keeps_work: bool = False, failed: bool = False) -> None:
        super().__init__(message)
        self.keeps_work, self.failed = keeps_work, failed


class Stopped(Exception):  # noqa: N818 - it is no error
    """A signal asked to stop; the same command goes on from what is kept."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_status = _EXIT_STATUS[signal.Signals(number)]


class StopWish:
    """Turns SIGINT, SIGTERM and SIGUSR2 into ``Stopped`` at the next ``check``; the second one ends at once.

    SIGUSR2 is how a batch script says that the job's time is nearly over: exit status 85, "queue me again".
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in _EXIT_STATUS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # it is what signal() returned

    def check(self) -> None:
        """Raise Stopped if a signal has come."""
        if self._number is not None:
            raise Stopped(self._number)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._number = number
        signal.signal(number, signal.SIG_DFL)

"""What a user sees of a build while it runs: a bar on a terminal, plain lines everywhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO


class Progress(Protocol):
    """Where a build tells how far it is."""

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """Begin something of ``total`` parts, ``done`` of them done before."""

    def part(self, text: str) -> None:
        """One more part is done; ``text`` says how it went."""

    def step(self, ratio: float) -> None:
        """Within a part, 0 to 1."""

    def note(self, text: str) -> None:
        """Something worth a line of its own."""


class Silent:
    """Tells nobody."""

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """Say nothing."""

    def part(self, text: str) -> None:
        """Say nothing."""

    def step(self, ratio: float) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


class _Lines:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._what, self._total, self._done = "", 0, 0

    def begin(self, what: str, total: int, done: int = 0) -> None:
        self._what, self._total, self._done = what, total, done

    def part(self, text: str) -> None:
        self._done += 1
        self.note(f"{self._what} {self._done}/{self._total}: {text}")

    def step(self, ratio: float) -> None:
        pass

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class _Bar:
    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console  # noqa: PLC0415 - on terminals only
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415
        from rich.progress import Progress as Bars  # noqa: PLC0415 - the same

        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(file=stream),
        )
        self._task = self.bars.add_task("", total=1, text="", visible=False)
        self._done = 0

    def begin(self, what: str, total: int, done: int = 0) -> None:
        self._done = done
        self.bars.reset(self._task, total=total, completed=done, description=what, text="", visible=True)

    def part(self, text: str) -> None:
        self._done += 1
        self.bars.update(self._task, completed=self._done, text=text)

    def step(self, ratio: float) -> None:
        self.bars.update(self._task, completed=self._done + ratio)

    def note(self, text: str) -> None:
        self.bars.console.print(text, markup=False, highlight=False)


@contextmanager
def progress_on(stream: TextIO) -> Iterator[Progress]:
    """Show progress on a stream until the block is left."""
    if not stream.isatty():
        yield _Lines(stream)
        return
    bar = _Bar(stream)
    with bar.bars:
        yield bar

"""How far long work has come, on standard error where that is a terminal; elsewhere nothing is printed."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


def _unseen(_: float) -> None:
    """Nobody looks."""


@contextmanager
def progress_bar(what: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
    """Show a bar while the block runs; yields what takes how much of ``total`` is done.

    Without a ``total`` nobody knows how far it is: the bar just moves.
    """
    if not sys.stderr.isatty():
        yield _unseen
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)

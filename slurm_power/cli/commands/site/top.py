"""``slurm-power top``: the site live in a terminal, once a second."""

import codecs
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from slurm_power.cli.commands.connection import json_option, print_json, socket_option
from slurm_power.cli.commands.site.top_picture import Wishes, job_count, picture_lines
from slurm_power.cli.commands.site.top_view import Feed, Gatherer, View

_EVERY_SECONDS = 1.0
_LISTEN_SECONDS = 0.1
_PAGE = 10
_LONGEST_FILTER = 40
_ESCAPES = {
    "\x1b[A": "k",
    "\x1b[B": "j",
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1bOA": "k",
    "\x1bOB": "j",
    "\x1bOC": "right",
    "\x1bOD": "left",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
}


@click.command()
@click.option("--once", is_flag=True, help="Print one picture and end; so it does without a terminal, too.")
@socket_option
@json_option
def top(once: bool, socket_path: Path | None, as_json: bool) -> None:
    """Show the site live.

    Limits, batteries, jobs by watts, events, what was decided, what is wrong.

    Users see their own jobs, operators all. Keys: q quits, left and right choose what jobs are sorted by,
    j and k (or the arrows) scroll them, f filters them by user, name, number or state.
    """
    gatherer = Gatherer(socket_path)
    if as_json:
        view = gatherer.gather()
        print_json({**(view.answer or {}), "forecast_answer": view.forecast, "entries": list(view.entries)})
        return
    console = Console(highlight=False)
    if once or not (console.is_terminal and sys.stdin.isatty()):
        for line in _lines(console, gatherer.gather(), Wishes(), whole=True):
            console.print(line, soft_wrap=True)
        return
    feed = Feed(gatherer, every_seconds=_EVERY_SECONDS)
    feed.start()
    try:
        with suppress(KeyboardInterrupt):
            _show(console, feed)
    finally:
        feed.stop()


def _lines(console: Console, view: View, wishes: Wishes, *, whole: bool = False) -> list[Text]:
    width, height = console.size
    return picture_lines(
        view,
        wishes,
        width=width,
        height=None if whole else height,
        only_ascii=console.options.ascii_only,
    )


def _show(console: Console, feed: Feed) -> None:
    """Draw whenever there is a new picture, a key or another size, until q or Ctrl-C."""
    wishes, drawn = Wishes(), None
    with _keyboard() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            turn, view = feed.latest()
            now = (turn, console.size, wishes, round(view.age_seconds) if view.problem else 0)
            if now != drawn:
                drawn = now
                lines = _lines(console, view, wishes)
                live.update(Group(*lines), refresh=True)
            for key in keys.read(_LISTEN_SECONDS):
                if not wishes.typing and key in ("q", "\x03", "\x04"):
                    return
                wishes = after_key(wishes, key, job_count(view.answer, wishes))


def after_key(wishes: Wishes, key: str, jobs: int) -> Wishes:
    """What is wished after a key; ``jobs`` pass the filter now."""
    if wishes.typing:
        return _after_letter(wishes, key)
    steps = {"j": 1, "k": -1, "page down": _PAGE, "page up": -_PAGE}
    changed = wishes
    match key:
        case "left":
            changed = wishes.with_sort(-1)
        case "right" | "s":
            changed = wishes.with_sort(1)
        case "f" | "/":
            changed = replace(wishes, typing=True, filter="", first_job=0)
        case "escape":
            changed = replace(wishes, filter="", first_job=0)
        case _ if key in steps:
            first_job = min(max(0, wishes.first_job + steps[key]), max(0, jobs - 1))
            changed = replace(wishes, first_job=first_job)
        case _:
            pass
    return changed


def _after_letter(wishes: Wishes, key: str) -> Wishes:
    """What is wished after a key while the filter is typed."""
    match key:
        case "escape" | "\x03":
            return replace(wishes, filter="", typing=False, first_job=0)
        case "\r" | "\n":
            return replace(wishes, typing=False)
        case "\x7f" | "\b":
            return replace(wishes, filter=wishes.filter[:-1], first_job=0)
        case _ if len(key) == 1 and key.isprintable():
            return replace(wishes, filter=(wishes.filter + key)[:_LONGEST_FILTER], first_job=0)
        case _:
            return wishes


class Keys:
    """The keys of a terminal in raw mode, one by one; arrows by their names."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read(self, wait_seconds: float) -> list[str]:
        """The keys that were pressed within a time; a terminal that has gone presses q."""
        ready, _, _ = select.select([self._descriptor], [], [], wait_seconds)
        if not ready:
            return []
        try:
            data = os.read(self._descriptor, 1024)
        except OSError:
            data = b""
        return split_keys(self._decoder.decode(data)) if data else ["q"]


def split_keys(text: str) -> list[str]:
    """Cut what was typed into keys; an escape sequence that nobody knows is none."""
    keys = []
    while text:
        known = next((escape for escape in _ESCAPES if text.startswith(escape) and len(escape) > 1), "")
        if known:
            keys.append(_ESCAPES[known])
            text = text[len(known) :]
        elif text.startswith(("\x1b[", "\x1bO")):
            rest = text[2:].lstrip("0123456789;?")
            text = rest[1:]
        elif text[0] == "\x1b":
            keys.append("escape")
            text = text[1:]
        else:
            keys.append(text[0])
            text = text[1:]
    return keys


@contextmanager
def _keyboard() -> Iterator[Keys]:
    """Hear single keys; the terminal is as before afterwards, whatever happens."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield Keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

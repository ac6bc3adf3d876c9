"""Ask whoever sits at a terminal whether they mean it; a script means what it says."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def yes_option(command: Command) -> Command:
    """Add ``--yes``."""
    return click.option("--yes", is_flag=True, help="Do not ask whether it is meant.")(command)


def confirm(question: str, *, yes: bool) -> None:
    """Go on, or end with exit status 1 and nothing changed."""
    if yes or not sys.stdin.isatty():
        return
    if not click.confirm(question, err=True):
        raise click.ClickException("nothing was changed")

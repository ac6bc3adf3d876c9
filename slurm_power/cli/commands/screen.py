"""Where tables go: a terminal of some width, or a file or pipe, which has none."""

import os
import sys

from rich.console import Console

# Below this many columns tables leave out what one can do without.
NARROW_COLUMNS = 64
_NO_WIDTH = 10_000


def screen() -> Console:
    """A console for tables; where no terminal is written to, nothing is cut off, wrapped or coloured."""
    piped = not sys.stdout.isatty() and not os.environ.get("COLUMNS")
    return Console(highlight=False, width=_NO_WIDTH if piped else None)


def is_narrow(console: Console) -> bool:
    """Whether there is no room for whole tables, as on a phone or in a split terminal."""
    return console.width < NARROW_COLUMNS

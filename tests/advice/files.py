"""Advice files as powerd writes them."""

import json
import time
from pathlib import Path
from typing import Any


def advise(path: Path, *, seconds: float = 60.0, **words: Any) -> None:
    """Put words in place at once and whole, leased for ``seconds``."""
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + seconds
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps({"until_boottime": until, **words}))
    unfinished.replace(path)

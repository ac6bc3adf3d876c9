"""What the running month came to, reckoned in a process of its own: it reads every job of the store.

Run as a module, with a site.toml, it is that process: it prints JSON, or why the month is not known.
"""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from slurm_power import clock
from slurm_power.config import ConfigError, load_site
from slurm_power.ports import StoreError

_LONGEST_SECONDS = 300.0
_EXIT_UNKNOWN = 3


def savings_beside(file: Path) -> dict[str, Any]:
    """Have another process work it out for a site.toml, and wait; raises StoreError."""
    words = [sys.executable, "-m", "slurm_power.web.savings", str(file)]
    try:
        done = subprocess.run(
            words,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_LONGEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise StoreError(
            f"it took longer than {_LONGEST_SECONDS:g} s; see slurm-power report month"
        ) from None
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    last = done.stderr.strip().splitlines()[-1:] or ["without a word"]
    text = last[0] if done.returncode == _EXIT_UNKNOWN else f"it went wrong: {last[0]}"
    raise StoreError(f"this month is not known: {text}")


def main() -> int:
    """Print the savings; returns 0, or 3 with a sentence where they are not known."""
    # numpy, and the tariffs of all kinds
    from slurm_power.controller.planning.month_terms import month_savings  # noqa: PLC0415  # what draws and reads a month is loaded for that alone
    from slurm_power.signals.held_file import SupplyFileError  # noqa: PLC0415  # what draws and reads a month is loaded for that alone

    try:
        print(json.dumps(month_savings(load_site(Path(sys.argv[1])), clock.now())))
    except (ConfigError, SupplyFileError, StoreError, ValueError, sqlite3.Error) as error:
        print(" ".join(str(error).split("\n")), file=sys.stderr)
        return _EXIT_UNKNOWN
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Spoil the product on purpose, in a copy, to see whether the trials notice."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).parents[2]
_COPIED = ("slurm_power", "containers")

# Name -> file, what stands there, what is put in its place.
MUTATIONS: dict[str, tuple[str, str, str]] = {
    "no-read-back": (
        "slurm_power/model/lease.py",
        "    home = requested is None or near(requested, lease.bound, EXACT_TOLERANCE_WATTS)\n",
        "    home = True\n",
    ),
    "no-save-before-write": (
        "slurm_power/node/leases.py",
        "            self._save(lease)\n",
        "",
    ),
    "forget-expiry": (
        "slurm_power/model/lease.py",
        "        return now_seconds >= self.expires_at_seconds\n",
        "        return False\n",
    ),
    "no-watchdog": (
        "slurm_power/node/guardian.py",
        '        """Start the watchdog if there is none, not more often than once a second."""\n',
        '        """Start no watchdog."""\n        return\n',
    ),
}


def run_mutated(name: str, arguments: Sequence[str]) -> int:
    """Run the trials on a copy with the mutation; returns their exit status. Raises KeyError, ValueError."""
    file, before, after = MUTATIONS[name]
    with tempfile.TemporaryDirectory(prefix="sp-mutation-") as folder:
        copy = Path(folder)
        copy.chmod(0o755)
        for part in _COPIED:
            shutil.copytree(PROJECT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        text = (copy / file).read_text()
        if text.count(before) != 1:
            raise ValueError(
                f"{file} has changed: the mutation {name} finds its place {text.count(before)} times"
            )
        (copy / file).write_text(text.replace(before, after))
        return subprocess.run(
            [sys.executable, "-m", "containers.faults", *arguments],
            cwd=copy,
            env={"PYTHONPATH": folder, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            check=False,
        ).returncode

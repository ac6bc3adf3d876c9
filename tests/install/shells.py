"""Shells inside a lab that remember folder and variables from command to command, one for each person."""

import shlex

from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT
from tests.install.followed import Run

SHELL = """\
state=$FOLLOWED; [ ! -e $state ] || . $state; cd "$(cat $state.pwd 2> /dev/null || pwd)"
eval {command} 2>&1; status=$?; export -p > $state; pwd > $state.pwd; exit $status
"""


def shells(lab: Lab, *, timeout_seconds: float = 30.0) -> Run:
    """Return what runs a command as somebody, with exit status and all that it said.

    Raises LabError for a command that takes longer than ``timeout_seconds``.
    """
    homes = {"root": lab.run_directory, "alice": lab.run_directory / "home" / "alice"}

    def run(who: str, command: str) -> tuple[int, str]:
        done = lab.run(
            ["bash", "-c", SHELL.format(command=shlex.quote(command))],
            user=who,
            environment={
                "PYTHONPATH": str(CHECKOUT),
                "FOLLOWED": str(homes[who] / ".followed"),
                "COLUMNS": "120",
            },
            check=False,
            timeout_seconds=timeout_seconds,
        )
        return done.returncode, done.stdout

    return run

"""docs/users.md, followed literally by a user of a lab with power."""

import shlex

import pytest

from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT
from tests.install.followed import first_missing, follow, steps

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]
INSTALLED = "/opt/slurm-power/share/slurm-power"
# A shell for each person that remembers folder and variables from command to command.
SHELL = """\
state=$FOLLOWED; [ ! -e $state ] || . $state; cd "$(cat $state.pwd 2> /dev/null || pwd)"
eval {command} 2>&1; status=$?; export -p > $state; pwd > $state.pwd; exit $status
"""


def test_a_user_gets_there(power_lab: Lab) -> None:
    homes = {"root": power_lab.run_directory, "alice": power_lab.run_directory / "home" / "alice"}

    def run(who: str, command: str) -> tuple[int, str]:
        here = command.replace(INSTALLED, str(CHECKOUT))
        done = power_lab.run(
            ["bash", "-c", SHELL.format(command=shlex.quote(here))],
            user=who,
            environment={
                "PYTHONPATH": str(CHECKOUT),
                "FOLLOWED": str(homes[who] / ".followed"),
                "COLUMNS": "120",
            },
            check=False,
        )
        return done.returncode, done.stdout

    follow(CHECKOUT / "docs/users.md", run)


def test_a_document_that_is_wrong_is_found() -> None:
    assert first_missing(["Submitted batch job 1"], "Submitted batch job 4711\n") is None
    assert first_missing(["a 1.5 kW", "...", "c"], "x\na   27.0 kW\nb\nc\n") is None
    assert first_missing(["c", "a"], "a\nc\n") == "a"
    assert first_missing(["held for 5 s: ..."], "held for 5 s\n") == "held for 5 s: ..."
    documents = [steps(CHECKOUT / f"docs/{name}.md") for name in ("users", "admins")]
    assert all(len(document) >= 10 for document in documents)
    assert all(sum(bool(step.shown) for step in document) >= 6 for document in documents)

"""``--wait``: the same status for the same end; a signal ends psbatch as it ends sbatch, and leaves jobs."""

import pytest

from tests.compat.background import WAITS, Background, WaitCase
from tests.compat.record import Submission, differences, submitted_number
from tests.compat.slurm import Outcome

STATUS = {
    "a job that succeeds": 0,
    "a job that fails": 3,
    "an array": 3,
    "parsable": 4,
    "quiet": 5,
    "by a line": 6,
    "by a variable": 7,
    "a word of ours": 8,
    "refused": 1,
    "interrupted": -2,
    "terminated": -15,
    "hung up": -1,
    "quit": -3,
}


def unnumbered(outcome: Outcome) -> Submission:
    number = submitted_number(outcome.stdout)
    stdout = outcome.stdout if number is None else outcome.stdout.replace(str(number).encode(), b"<job>")
    return Submission(Outcome(outcome.status, stdout, outcome.stderr))


@pytest.mark.parametrize("case", WAITS, ids=[case.name for case in WAITS])
def test_ends_alike(background: Background, case: WaitCase) -> None:
    one, other = background.waited(case)
    assert not differences(unnumbered(one), unnumbered(other))
    assert one.status == STATUS.get(case.name, one.status)
    states = background.states(case)
    if case.then == "cancel":
        assert states == ["CANCELLED", "CANCELLED"]
    elif case.then:
        assert states == ["PENDING", "PENDING"]
    elif case.name == "refused":
        assert not states
    else:
        assert len(states) == (6 if case.name == "an array" else 2)
        assert "PENDING" not in states

"""Jobs that run: they see the same words, environment, limits, signals and files."""

import pytest

from tests.compat.background import RUNS, Background
from tests.compat.case import Case


@pytest.mark.parametrize("case", RUNS, ids=[case.name for case in RUNS])
def test_sees_the_same(background: Background, case: Case) -> None:
    one, other = (background.seen(case, program) for program in ("sbatch", "psbatch"))
    assert len(one) > 10
    assert one == other

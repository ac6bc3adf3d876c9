"""Every case, once through sbatch and once through psbatch: the same words, the same status, the same job."""

from collections.abc import Callable

import pytest

from tests.compat import cases_environment, cases_options, cases_scripts, cases_shapes
from tests.compat.case import Case
from tests.compat.record import differences
from tests.compat.runner import Pair

GROUPS: dict[str, tuple[Case, ...]] = {
    "options": tuple(cases_options.cases()),
    "scripts": tuple(cases_scripts.cases()),
    "shapes": tuple(cases_shapes.cases()),
    "environment": tuple(cases_environment.cases()),
}
RunGroup = Callable[[str], dict[str, Pair]]


def parameters() -> list[object]:
    return [
        pytest.param(
            group,
            case,
            id=f"{group}: {case.name}",
            marks=[pytest.mark.xfail(strict=True, reason=case.differs)] if case.differs else [],
        )
        for group, cases in GROUPS.items()
        for case in cases
    ]


@pytest.mark.parametrize(("group", "case"), parameters())
@pytest.mark.timeout(600)
def test_equal(pairs: RunGroup, group: str, case: Case) -> None:
    pair = pairs(group)[case.name]
    found = differences(pair.sbatch, pair.psbatch, adds_before=case.adds_before)
    assert not found, "\n".join(["", *found])


def test_each_case_has_its_own_name() -> None:
    for cases in GROUPS.values():
        names = [case.name for case in cases]
        assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})

"""What is sent, against its schema; and what of the picture is left out for whom."""

from typing import Any

import pytest

from slurm_power.web.cut import own, totals, whole
from slurm_power.web.schema import Schema, a_list, an_object, number, problems_of, text
from slurm_power.web.table import TABLE

WEIGHTS = next(one for one in TABLE if one.name == "weights").body or {}
NAMES = an_object(names=a_list(text(minLength=2), maxItems=2), watts=number(minimum=0.0))


@pytest.mark.parametrize(
    ("value", "schema", "problems"),
    [
        ({"names": ["ab", "cd"], "watts": 3}, NAMES, []),
        ({"names": ["ab", 3, "c"]}, NAMES, ["names: must have at most 2 entries"]),
        ({"names": ["a", 3]}, NAMES, ["names[0]: must have 2 to", "names[1]: must be a text"]),
        ({"names": "ab", "watts": -1}, NAMES, ["names: must be a list", "watts: must be from 0"]),
        ({"weights": {"flex2_weight": 3, "account_weights": ["physics=2"]}, "reason": "a"}, WEIGHTS, []),
        ({"weights": None, "reason": "a"}, WEIGHTS, []),
        ({"weights": {"account_weights": "physics=2"}, "reason": "a"}, WEIGHTS, ["weights.account_weights"]),
        ({"weights": {"flex2_weight": "much"}, "reason": "a"}, WEIGHTS, ["weights.flex2_weight"]),
    ],
)
def test_every_problem_is_told_with_its_field(value: Any, schema: Schema, problems: list[str]) -> None:
    found = problems_of(value, schema, "body")
    assert len(found) == len(problems)
    for told, start in zip(found, problems, strict=True):
        assert told.startswith(start)


def test_alerts_are_for_those_who_may_see_everything() -> None:
    fairness = {"jain_index": 1.0, "worst_user": "bob", "worst_lost_ratio": 0.1}
    live = {
        "ok": True,
        "site": "lab",
        "jobs": [],
        "job_counts": {},
        "services": [],
        "starts": [],
        "fairness": fairness,
        "alerts": [{"id": "dead_source:pdu", "summary": "pdu of bob's rack"}],
    }
    assert "alerts" in whole(live)
    assert "alerts" not in {**totals(live), **own(live, "alice")}

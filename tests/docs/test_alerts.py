"""docs/alerts.md and docs/runbooks.md speak of each rule, as the code has it."""

import re
from pathlib import Path

import pytest

from slurm_power.bridge.alert_messages import RUNBOOKS
from slurm_power.model.alert import RULES, AlertRule
from tests.docs.test_documents import anchors

DOCS = Path(__file__).parents[2] / "docs"
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "day": 86_400.0}


def seconds(text: str) -> float:
    number, _, unit = text.partition(" ")
    return 0.0 if text == "at once" else float(number) * UNITS[unit]


def documented() -> dict[str, tuple[str, float, float, float]]:
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|",
        (DOCS / "alerts.md").read_text(),
        re.MULTILINE,
    )
    return {name: (grade, *(seconds(word.strip()) for word in words)) for name, grade, *words in rows}


def test_the_table_has_all_rules_and_no_other() -> None:
    assert set(documented()) == set(RULES)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_is_as_documented(rule: AlertRule) -> None:
    own = (rule.severity.value, rule.for_seconds, rule.keep_seconds, rule.repeat_seconds)
    assert documented()[rule.name] == own
    assert RUNBOOKS[rule.name] in anchors(DOCS / "runbooks.md")


def test_ten_nights_each_with_its_four_parts() -> None:
    nights = (DOCS / "runbooks.md").read_text().split("\n## ")[1:-1]
    assert len(nights) == 10
    for night in nights:
        for part in ("**Looks like**", "**By itself**", "**Do**", "**Over**"):
            assert part in night, night.partition("\n")[0]

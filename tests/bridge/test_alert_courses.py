"""Over hours in which things come and go: few notices, one alert a cause, and each has its end."""

from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.bridge.alert_book import AlertBook, News
from slurm_power.bridge.alert_rules import Beside, Thresholds, find
from slurm_power.model.alert import INHIBITS, RULES
from tests.bridge.picture import LAYOUT, bad, event, picture, risk

_STEP_SECONDS = 15.0
_HOURS = 2
_STEPS = round(_HOURS * 3600.0 / _STEP_SECONDS)
_AFTER_ALL_STEPS = round(4 * 3600.0 / _STEP_SECONDS)


def _seen(number: int) -> dict[str, Any]:
    """What a picture shows of each of eight faults, by the bits of a number."""
    sources = [
        bad("pdu1", "circuit rack1", "invalid", "stale for 9.0 s"),
        bad("pdu2", "circuit rack2", "questionable", "low coverage"),
        bad("powerd.c3", "node c3", "invalid", "its daemon is silent"),
    ]
    risks = [
        risk("above", "grid", 900.0, reason="nothing is left to cap"),
        risk("unmeasured", "rack1", None, reason="stale for 9.0 s"),
        risk("above", "rack2", 100.0, in_seconds=600.0),
    ]
    there = [bool(number >> bit & 1) for bit in range(8)]
    return picture(
        sources=tuple(one for one, shown in zip(sources, there[:3], strict=True) if shown),
        risks=tuple(one for one, shown in zip(risks, there[3:6], strict=True) if shown),
        levers={"exhausted": there[6], "reason": "grid: nothing is left to cap" if there[6] else ""},
        leases={"unrenewed": 2 if there[7] else 0},
        events=[event()],
    )


# A course is what each stretch of time shows: two things by turns, which may be the same, for some steps.
_STRETCHES = st.lists(
    st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(1, 60)), min_size=1, max_size=40
)


@settings(max_examples=40, deadline=None)
@given(_STRETCHES, st.booleans())
def test_whatever_comes_and_goes_there_are_few_notices_and_each_has_its_end(
    stretches: list[tuple[int, int, int]], blind: bool
) -> None:
    book = AlertBook(RULES, INHIBITS)
    told: defaultdict[str, list[tuple[float, News]]] = defaultdict(list)
    course = [(one, other)[step % 2] for one, other, steps in stretches for step in range(steps)]
    course = (course * (_STEPS // len(course) + 1))[:_STEPS] + [0] * _AFTER_ALL_STEPS
    for step, number in enumerate(course):
        at = step * _STEP_SECONDS
        # In between powerctld does not answer.
        known = not blind or step % 7 != 3 or step >= _STEPS
        shown = find(
            _seen(number) if known else None,
            Beside(),
            LAYOUT,
            thresholds=Thresholds(),
            firing=book.firing_ids,
        )
        for notice in book.look(shown, at, known=known):
            told[notice.alert.alert_id].append((at, notice.news))
        open_now = Counter(alert.alert_id for alert in book.firing)
        assert all(count == 1 for count in open_now.values())
    assert book.firing == [], "what is over has ended"
    for alert_id, notices in told.items():
        rule = RULES[alert_id.partition(":")[0]]
        news = [one for _, one in notices if one is not News.GRAVER]
        assert news == [News.FIRING, News.OVER] * (len(news) // 2), alert_id
        fired = [at for at, one in notices if one is News.FIRING]
        gaps = [later - before for before, later in pairwise(fired)]
        assert all(gap >= rule.repeat_seconds for gap in gaps), alert_id
        # At most one firing in each repeat time, each with its end, and graver no more than once a severity.
        assert len(notices) <= 4 * (1 + _HOURS * 3600.0 / rule.repeat_seconds), alert_id

"""How a file of the supply stands, whatever its length: it is asked for in each cycle of the control."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.forecast.supply import HeldValues
from slurm_power.signals.file_standing import Course, standing_of


@given(
    st.lists(st.tuples(st.integers(1, 50), st.sampled_from([None, 0.1, 0.2])), min_size=1, max_size=12),
    st.sampled_from([0, 7, math.inf]),
    st.integers(0, 400),
)
def test_it_says_of_every_moment_what_the_values_say(
    gaps: list[tuple[int, float | None]], lasts: float, now: float
) -> None:
    seconds = [float(sum(gap for gap, _ in gaps[: place + 1])) for place in range(len(gaps))]
    held = HeldValues(
        seconds=tuple(seconds), values=tuple(value for _, value in gaps), end_seconds=seconds[-1] + lasts
    )
    found = standing_of(Course.of(held), now)
    past = [at for at, (_, value) in zip(seconds, gaps, strict=True) if value is not None and at <= now]
    assert found.known is (held.value_at(now) is not None)
    assert found.age_seconds == (now - past[-1] if past else None)
    if found.known:
        ends = [at for at, (_, value) in zip(seconds, gaps, strict=True) if value is None and at > now]
        end = min([*ends, held.end_seconds])
        assert found.what.startswith("known until")
        assert ("otherwise" in found.what) is math.isinf(end)
    else:
        assert found.what.startswith("nothing is known since" if past else "it begins at")


def test_years_in_a_file_do_not_hold_up_the_control() -> None:
    """Ten of them, of quarters of an hour."""
    count = 350_000
    held = HeldValues(seconds=tuple(900.0 * number for number in range(count)), values=(0.1,) * count)
    course = Course.of(held)
    began = time.process_time()
    for place in range(100):
        assert standing_of(course, 900.0 * place * 3000).known
    assert time.process_time() - began < 0.2


@pytest.mark.parametrize(
    ("now", "what"), [(5.0, "since 1970-01-01 00:00Z"), (700.0, "since 1970-01-01 00:10Z")]
)
def test_since_when_nothing_is_known(now: float, what: str) -> None:
    held = HeldValues(seconds=(0.0, 1.0, 600.0), values=(0.1, None, None), end_seconds=900.0)
    if now > 600.0:
        held = HeldValues(seconds=(0.0, 60.0), values=(0.1, 0.2), end_seconds=600.0)
    assert what in standing_of(Course.of(held), now).what

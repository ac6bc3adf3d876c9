"""When GPUs are read: the beat, the haste, the rest."""

import pytest

from slurm_power.node.beat import RESTING_SECONDS, Beat
from slurm_power.node.requests import sampling_of
from slurm_power.wire import WireError


def samples(
    beat: Beat, begin: float, end: float, *, busy: bool = True, late_seconds: float = 0.0
) -> list[float]:
    """The moments of the samples in an interval, each looked at ``late_seconds`` after it was due."""
    found, now = [], begin
    while now < end:
        beat.look(now, busy=busy)
        if beat.due(now):
            found.append(now)
        now = max(now + 0.01, beat.next_seconds + late_seconds)
    return found


def test_lateness_does_not_add_up() -> None:
    beat = Beat(1.0, 60.0)
    beat.next_seconds = 100.0
    assert samples(beat, 100.0, 104.5, late_seconds=0.02) == pytest.approx(
        [100.0, 101.02, 102.02, 103.02, 104.02]
    )


def test_a_beat_that_was_missed_starts_anew_instead_of_catching_up() -> None:
    beat = Beat(1.0, 60.0)
    assert beat.due(50.0)
    assert beat.next_seconds == 51.0
    assert beat.due(57.3)
    assert beat.next_seconds == 58.3


def test_haste_ends_by_itself() -> None:
    beat = Beat(1.0, 60.0)
    assert beat.due(0.0)
    beat.hasten(0.1, 2.0, 0.5)
    assert len(samples(beat, 0.5, 2.5)) == pytest.approx(20, abs=1)
    assert len(samples(beat, 2.5, 12.5)) == pytest.approx(10, abs=1)


def test_without_jobs_and_leases_it_rests_and_wakes_at_once() -> None:
    beat = Beat(1.0, 5.0)
    samples(beat, 0.0, 3.0)
    assert len(samples(beat, 3.0, 8.0, busy=False)) >= 4
    assert beat.resting(8.5)
    assert len(samples(beat, 10.0, 10.0 + 3 * RESTING_SECONDS, busy=False)) == pytest.approx(3, abs=1)
    now = 12.0 + 3 * RESTING_SECONDS
    beat.look(now, busy=True)
    assert beat.due(now)
    assert not beat.resting(now)


@pytest.mark.parametrize(
    ("sample_seconds", "for_seconds", "wrong"),
    [
        (0.01, 60, "sample_seconds"),
        (100, 60, "sample_seconds"),
        (0.1, 1e6, "for_seconds"),
        ("1", 60, "sample_seconds"),
    ],
)
def test_a_wish_out_of_bounds_is_refused(sample_seconds: object, for_seconds: object, wrong: str) -> None:
    with pytest.raises(WireError, match=wrong):
        sampling_of({"sample_seconds": sample_seconds, "for_seconds": for_seconds})
    assert sampling_of({"sample_seconds": 0.1, "for_seconds": 60}) == (0.1, 60.0)

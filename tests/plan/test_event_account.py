"""What an event has delivered, on minutes made up for it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.plan.event_account import EventAccount, EventResult, JobTouched, Sample

BASELINE, LEVEL = 20_000.0, 15_000.0


def sample(second: float, watts: float | None, target_watts: float = LEVEL, **more: object) -> Sample:
    return Sample(at_seconds=second, seconds=1.0, watts=watts, target_watts=target_watts, **more)  # type: ignore[arg-type]  # named in the tests


def result_of(
    minutes: list[float], *, after: tuple[float, ...] = (), baseline_watts: float | None = BASELINE
) -> EventResult:
    """The result of an event with these loads, a value a minute, and of the minutes after it."""
    account = EventAccount(60.0 * len(minutes))
    for second in range(60 * (len(minutes) + len(after))):
        account.add(sample(second + 1.0, [*minutes, *after][second // 60]))
    return account.result(limit_watts=LEVEL, baseline_watts=baseline_watts)


def test_an_event_that_is_met_exactly() -> None:
    found = result_of([LEVEL] * 10, after=(17_000.0, 19_000.0, 20_000.0))
    assert found.delivered_watts == found.promised_watts == 5_000.0
    assert found.delivered_ratio == 1.0
    assert found.delivered_kwh == pytest.approx(5.0 / 6.0)
    assert found.over_curtailment_points == found.worst_over_curtailment_points == 0.0
    assert (found.above_target_watts, found.minutes_above_target) == (0.0, 0)
    assert found.time_to_target_seconds == 1.0
    assert found.coverage_ratio == pytest.approx(1.0)
    assert (found.rebound_watts, found.steepest_rise_watts) == (0.0, 2_000.0)


def test_too_much_and_too_little_do_not_cancel_each_other() -> None:
    found = result_of([14_000.0, 15_600.0, 15_000.0, 15_000.0])
    assert found.over_curtailment_points == pytest.approx(100.0 * 250.0 / BASELINE)
    assert found.worst_over_curtailment_points == pytest.approx(5.0)
    assert found.above_target_watts == pytest.approx(600.0)
    assert found.above_target_ratio == pytest.approx(0.04)
    assert found.minutes_above_target == 1
    # It was below at first, but stayed there only from the third minute on.
    assert found.time_to_target_seconds == 120.0


def test_the_curtailment_of_the_field_is_counted_as_the_points_given_away() -> None:
    """31.4 % where 25 % were promised: 6.4 points."""
    found = result_of([BASELINE * (1.0 - 0.314)] * 5)
    assert found.over_curtailment_points == pytest.approx(6.4)


@pytest.mark.parametrize(
    ("minutes", "seconds"),
    [
        ([20_000.0, 15_000.0, 15_000.0], 61.0),
        ([15_100.0, 15_000.0], 61.0),
        ([20_000.0, 20_000.0], None),
        ([14_000.0, 15_000.0, 16_000.0], None),
    ],
)
def test_time_to_target(minutes: list[float], seconds: float | None) -> None:
    assert result_of(minutes).time_to_target_seconds == seconds


def test_a_rebound_is_what_comes_above_the_load_before() -> None:
    found = result_of([LEVEL] * 3, after=(21_500.0, 20_000.0))
    assert (found.rebound_watts, found.steepest_rise_watts) == (1_500.0, 6_500.0)


def test_what_is_not_known_is_none_and_never_zero() -> None:
    nothing = EventAccount(600.0).result(limit_watts=LEVEL, baseline_watts=None)
    unknown = (
        nothing.delivered_watts,
        nothing.over_curtailment_points,
        nothing.above_target_watts,
        nothing.time_to_target_seconds,
        nothing.rebound_watts,
        nothing.performance_ratio,
    )
    assert unknown == (None,) * 6
    assert nothing.coverage_ratio == 0.0
    blind = result_of([14_000.0] * 3, baseline_watts=None)
    assert (blind.delivered_watts, blind.over_curtailment_watts) == (None, 1_000.0)


def test_a_gap_in_the_meter_is_a_gap() -> None:
    account = EventAccount(300.0)
    for second in range(300):
        account.add(sample(second + 1.0, None if 60 <= second < 120 else LEVEL))
    found = account.result(limit_watts=LEVEL, baseline_watts=BASELINE)
    assert found.coverage_ratio == pytest.approx(0.8)
    assert found.delivered_watts == 5_000.0


def test_the_ramp_and_the_recovery_have_their_own_minutes() -> None:
    account = EventAccount(120.0)
    for second in range(-60, 240):
        account.add(sample(second + 1.0, 16_000.0, 16_000.0))
    found = [(row["part"], row["minute"], row["seconds"]) for row in account.minutes()]
    assert found == [
        ("ramp", -1, 60.0),
        ("event", 0, 60.0),
        ("event", 1, 60.0),
        ("recovery", 0, 60.0),
        ("recovery", 1, 60.0),
    ]


def test_jobs_lose_slowdown_times_gpus_times_time() -> None:
    account = EventAccount(3600.0)
    capped = JobTouched(job_id="1", user="alice", gpu_count=8, slowdown_ratio=0.1)
    held = JobTouched(job_id="2", user="bob", gpu_count=4, held=True)
    for second in range(3600):
        touched = (capped, held) if second < 1800 else (capped,)
        account.add(sample(second + 1.0, LEVEL, touched=touched, running_gpus=16, discharge_watts=1_000.0))
    found = account.result(limit_watts=LEVEL, baseline_watts=BASELINE)
    assert found.lost_gpu_hours == pytest.approx(0.8)
    assert found.held_gpu_hours == pytest.approx(2.0)
    assert found.performance_ratio == pytest.approx(1.0 - 0.8 / 16.0)
    assert [found.ess_discharged_kwh, found.ess_charged_kwh] == pytest.approx([1.0, 0.0])
    assert [(row["job_id"], row["held_seconds"]) for row in account.jobs()] == [("1", 0.0), ("2", 1800.0)]
    assert account.jobs()[0]["worst_slowdown_ratio"] == 0.1


loads = st.lists(st.floats(0.0, 30_000.0), min_size=3, max_size=8)


@settings(max_examples=30, deadline=None)
@given(loads, st.integers(1, 400))
def test_a_restart_changes_nothing(minutes: list[float], at: int) -> None:
    def account(restart_at: int | None) -> EventAccount:
        kept = EventAccount(60.0 * len(minutes))
        touched = (JobTouched(job_id="1", user="alice", gpu_count=8, slowdown_ratio=0.1),)
        for second in range(0, 60 * len(minutes) + 60, 5):
            if restart_at is not None and second == 5 * (restart_at // 5):
                kept = EventAccount.from_json(json.loads(json.dumps(kept.to_json())))
            watts = minutes[min(second // 60, len(minutes) - 1)]
            kept.add(
                Sample(
                    at_seconds=second + 5.0,
                    seconds=5.0,
                    watts=watts,
                    target_watts=LEVEL,
                    discharge_watts=watts - 15_000.0,
                    running_gpus=8,
                    touched=touched,
                )
            )
        return kept

    whole, parted = account(None), account(at)
    assert whole.to_json() == parted.to_json()
    results = [one.result(limit_watts=LEVEL, baseline_watts=BASELINE) for one in (whole, parted)]
    assert results[0] == results[1]
    assert whole.jobs() == parted.jobs()


@settings(max_examples=30, deadline=None)
@given(loads)
def test_the_figures_bound_each_other(minutes: list[float]) -> None:
    found = result_of(minutes)
    means = sum(minutes) / len(minutes)
    assert found.delivered_watts == pytest.approx(BASELINE - means)
    assert found.over_curtailment_watts is not None and found.worst_over_curtailment_points is not None
    assert found.over_curtailment_points is not None
    assert 0.0 <= found.over_curtailment_points <= found.worst_over_curtailment_points + 1e-9
    # What was delivered beyond the promise was curtailed too much, at least.
    assert found.over_curtailment_watts >= LEVEL - means - 1e-6
    assert found.steepest_rise_watts is None
    if found.time_to_target_seconds is not None:
        index = int(found.time_to_target_seconds // 60.0)
        assert all(watts <= 1.01 * LEVEL + 1e-6 for watts in minutes[index + 1 :])


@pytest.mark.parametrize("stored", [{}, {"duration_seconds": "x"}, {"duration_seconds": 60.0, "parts": []}])
def test_what_is_no_account_is_refused(stored: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        EventAccount.from_json(stored)

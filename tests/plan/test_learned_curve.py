"""A job's own curve: learned from what it tells, never falling, and used where it is known."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.action import SetCap
from slurm_power.model.job import Flex, Workload
from slurm_power.model.job_curve import CurvePoint, JobCurve
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.cap_columns import CapColumns
from slurm_power.plan.curves import CAP_CURVES, capped_performance_ratio
from slurm_power.plan.learned_curve import LearnedCurve, batch_slowdown, monotone, own_curve
from slurm_power.plan.loads import load_table
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import cap_lease, running, site, situation

POLICY = Policy()
# A job that hardly cares: it loses 1 % of its speed for each 10 % of its power.
STOIC = {600.0: 100.0, 540.0: 99.0, 480.0: 98.0, 420.0: 97.0}


def taught(points: dict[float, float], *, times: int = 4, micro_batch: int | None = None) -> LearnedCurve:
    learned = LearnedCurve()
    for watts, rate in points.items():
        for _ in range(times):
            learned.add(gpu_watts=watts, samples_per_second=rate, micro_batch=micro_batch, capped=True)
    return learned


def seen_with(learned: dict[str, JobCurve], limit_watts: float = 9_000.0) -> Snapshot:
    jobs = (running("1", ("c1",), flex=Flex.FLEX2), running("2", ("c2",), flex=Flex.FLEX2))
    seen = situation(
        of=site(grid_limit_watts=limit_watts, with_ess=False),
        import_watts=10_000.0,
        rack_watts=(9_600.0, 0.0),
        jobs=jobs,
        gpu_watts={"1": 600.0, "2": 600.0},
    )
    return replace(seen, learned=learned)


def test_it_knows_nothing_before_it_has_seen_enough() -> None:
    assert not taught(STOIC, times=3).curve().known
    assert not taught({600.0: 100.0}).curve().known
    assert not taught({600.0: 100.0, 570.0: 99.0}).curve().known
    curve = taught(STOIC).curve()
    assert [round(point.gpu_watts) for point in curve.points] == [420, 480, 540, 600]
    assert [point.samples_per_second for point in curve.points] == [97.0, 98.0, 99.0, 100.0]


def test_an_outlier_moves_no_median() -> None:
    learned = taught(STOIC)
    learned.add(gpu_watts=480.0, samples_per_second=900.0, capped=True)
    assert learned.curve().points[1].samples_per_second == 98.0


def test_the_latest_samples_count() -> None:
    learned = taught(STOIC)
    for _ in range(32):
        learned.add(gpu_watts=480.0, samples_per_second=97.5, capped=True)
    assert learned.curve().points[1].samples_per_second == 97.5


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_number_is_left_out(bad: float) -> None:
    learned = LearnedCurve()
    for _ in range(8):
        learned.add(gpu_watts=bad, samples_per_second=10.0)
        learned.add(gpu_watts=500.0, samples_per_second=bad)
    assert learned.curve() == JobCurve()


def test_batches_are_told_apart_and_only_seen_uncapped() -> None:
    learned = LearnedCurve()
    for _ in range(4):
        learned.add(gpu_watts=600.0, samples_per_second=100.0, micro_batch=64)
        learned.add(gpu_watts=500.0, samples_per_second=92.0, micro_batch=32)
        learned.add(gpu_watts=400.0, samples_per_second=60.0, micro_batch=16, capped=True)
    curve = learned.curve()
    assert [point.micro_batch for point in curve.batches] == [32, 64]
    assert batch_slowdown(curve, 32) == pytest.approx(0.08)
    assert batch_slowdown(curve, 16) == 0.0
    # The curve of caps is that of the largest batch: one point is none.
    assert not curve.known


def test_memory_is_bounded() -> None:
    learned = LearnedCurve()
    for number in range(2_000):
        learned.add(gpu_watts=10.0 * 1.1 ** (number % 150), samples_per_second=1.0, micro_batch=number + 1)
    assert len(learned._caps) <= 64
    assert len(learned._batches) <= 64


@given(
    st.lists(
        st.tuples(st.floats(50.0, 700.0), st.floats(0.1, 1e4), st.integers(1, 32)), min_size=1, max_size=30
    )
)
def test_throughput_never_falls_where_power_rises(seen: list[tuple[float, float, int]]) -> None:
    points = [
        CurvePoint(gpu_watts=watts, samples_per_second=rate, count=count) for watts, rate, count in seen
    ]
    fitted = monotone(points)
    assert [point.gpu_watts for point in fitted] == sorted(point.gpu_watts for point in points)
    rates = [point.samples_per_second for point in fitted]
    assert all(later >= earlier - 1e-9 * later for earlier, later in pairwise(rates))
    # Weighted, it moves nothing on the whole.
    before = sum(point.samples_per_second * point.count for point in points)
    assert sum(point.samples_per_second * point.count for point in fitted) == pytest.approx(before)


def test_below_what_was_seen_it_goes_on_as_its_class() -> None:
    curve = own_curve(taught(STOIC).curve(), Workload.TRAINING)
    assert curve is not None
    for point, expected in zip(curve, [(1.0, 1.0), (0.9, 0.99), (0.8, 0.98), (0.7, 0.97)], strict=False):
        assert point == pytest.approx(expected)
    of_class = dict(CAP_CURVES[Workload.TRAINING])
    assert dict(curve)[0.6] == pytest.approx(0.97 * of_class[0.6] / of_class[0.7])


def test_a_cap_costs_what_the_job_was_seen_to_lose() -> None:
    known = seen_with({"1": taught(STOIC).curve()})
    columns = CapColumns(known, load_table(known, POLICY), POLICY)
    rows, caps = np.array([0, 1]), np.array([480.0, 480.0])
    own, of_class = columns.slowdowns(rows, caps, np.array([False, False])).tolist()
    assert own == pytest.approx(0.02)
    assert of_class == pytest.approx(1.0 - capped_performance_ratio(Workload.TRAINING, 0.8))
    assert columns.money[0, 0] < 0.3 * columns.money[1, 0]
    # A quarter off its speed is further down for it: no cap goes that low before the class's edge does.
    assert columns.cap_promised_watts[0] < columns.cap_promised_watts[1]


def test_who_loses_less_is_capped_first() -> None:
    plain, known = seen_with({}), seen_with({"2": taught(STOIC).curve()})
    capped = {
        name: [
            one.job_id
            for one in plan_cycle(seen, POLICY, hold_seconds=60.0).actions
            if isinstance(one, SetCap)
        ]
        for name, seen in (("plain", plain), ("known", known))
    }
    assert capped == {"plain": ["1"], "known": ["2"]}


def test_a_job_that_loses_more_than_its_class_keeps_its_promise() -> None:
    tender = taught({600.0: 100.0, 540.0: 88.0, 480.0: 72.0, 420.0: 50.0}).curve()
    seen = seen_with({"1": tender}, limit_watts=6_000.0)
    (cap,) = [
        one
        for one in plan_cycle(seen, POLICY, hold_seconds=60.0).actions
        if isinstance(one, SetCap) and one.job_id == "1"
    ]
    assert cap.cap_watts is not None
    assert cap.slowdown_ratio <= 0.25 + 1e-6
    assert cap.cap_watts == pytest.approx(480.0 + 60.0 * (75.0 - 72.0) / (88.0 - 72.0), abs=5.0)


@given(st.lists(st.floats(0.05, 1.0), min_size=4, max_size=8), st.sampled_from(list(Flex)))
def test_whatever_was_learned_no_promise_breaks_by_it(rates: list[float], flex: Flex) -> None:
    """By the job's own curve, monotone by construction, an economic cap keeps its promise."""
    points = {600.0 * 0.94**number: 100.0 * rate for number, rate in enumerate(rates)}
    seen = seen_with({"1": taught(points).curve()}, limit_watts=5_000.0)
    jobs = (replace(seen.jobs[0], flex=flex), seen.jobs[1])
    plan = plan_cycle(replace(seen, jobs=jobs), POLICY, hold_seconds=60.0)
    for one in plan.actions:
        if isinstance(one, SetCap) and one.job_id == "1":
            assert one.slowdown_ratio <= flex.max_slowdown_ratio + 1e-6


def test_decoding_keeps_the_curve_of_its_class() -> None:
    seen = seen_with({"1": taught(STOIC).curve()})
    jobs = (replace(seen.jobs[0], workload=Workload.GENERATION), seen.jobs[1])
    plain = replace(seen, jobs=jobs, learned={})
    with_own = replace(seen, jobs=jobs)
    actions = [plan_cycle(one, POLICY, hold_seconds=60.0).actions for one in (plain, with_own)]
    assert actions[0] == actions[1]


def test_a_cap_that_stands_is_given_back_by_its_own_curve_without_flapping() -> None:
    seen = replace(
        seen_with({"1": taught(STOIC).curve()}, limit_watts=10_300.0), caps={"1": cap_lease("1", 560.0)}
    )
    first = plan_cycle(seen, POLICY, hold_seconds=60.0)
    assert plan_cycle(seen, POLICY, hold_seconds=60.0) == first

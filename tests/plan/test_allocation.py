"""A budget shared by what the last watt is worth, against every choice there is and against the solver."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.plan.allocation import Stretch, allocate, allocate_steady, gain_at, upper_hull
from slurm_power.plan.lp_caps import JobPoints, bound
from slurm_power.plan.power_cut import STEADY_WORTH_RATIO, cut_power
from slurm_power.plan.response import Response
from tests.plan.curves_drawn import CONCAVE, DENTED, any_curve

property_test = settings(max_examples=60, deadline=None)

CHEAP: Stretch = ((100.0, 5.0), (200.0, 7.0), (300.0, 8.0))
DEAR: Stretch = ((100.0, 5.0), (200.0, 9.0), (300.0, 9.5))


@pytest.mark.parametrize(
    ("budget", "watts", "gain", "price"),
    [
        (200.0, [100.0, 100.0], 10.0, 0.04),
        (250.0, [100.0, 150.0], 12.0, 0.04),
        (350.0, [150.0, 200.0], 15.0, 0.02),
        (600.0, [300.0, 300.0], 17.5, 0.0),
        (900.0, [300.0, 300.0], 17.5, 0.0),
    ],
)
def test_the_steepest_is_bought_first(budget: float, watts: list[float], gain: float, price: float) -> None:
    found = allocate([CHEAP, DEAR], budget)
    assert list(found.watts) == pytest.approx(watts)
    assert found.gain == pytest.approx(gain)
    assert found.price_per_watt == pytest.approx(price)
    assert found.shortfall_watts == 0.0


def test_a_budget_below_the_floors_is_short_by_the_rest() -> None:
    found = allocate([CHEAP, DEAR], 150.0)
    assert list(found.watts) == [100.0, 100.0]
    assert found.shortfall_watts == 50.0


def test_of_equals_the_first_is_served_first() -> None:
    assert list(allocate([CHEAP, CHEAP], 250.0).watts) == [150.0, 100.0]


def test_jobs_that_have_no_choice_are_no_trouble() -> None:
    found = allocate([((100.0, 5.0),), ((50.0, 1.0),)], 500.0)
    assert (list(found.watts), found.marginal) == ([100.0, 50.0], None)


def test_the_hull_leaves_out_what_is_not_worth_it() -> None:
    points = [(300.0, 7.0), (100.0, 1.0), (100.0, 5.0), (200.0, 4.0), (250.0, 6.0), (400.0, 6.9)]
    assert upper_hull(points) == ((100.0, 5.0), (300.0, 7.0))


def test_where_no_cap_reaches_the_hull_another_job_makes_room() -> None:
    """The dented job alone would stop in its dent; the other is better brought down a bit more."""
    dented = ((0.0, 0.0), (10.0, 1.0)), ((10.0, 1.0), (20.0, 10.0))
    other = (((0.0, 0.0), (10.0, 8.0)),)
    found = allocate_steady([dented, other], 25.0, tolerance_gain=1e-9)
    assert list(found.watts) == pytest.approx([20.0, 5.0])
    assert found.gain == pytest.approx(14.0)
    assert found.bound_gain >= found.gain


@property_test
@given(
    st.lists(
        st.lists(st.tuples(st.floats(0.0, 50.0), st.floats(0.0, 9.0)), min_size=1, max_size=4),
        min_size=1,
        max_size=4,
    ),
    st.floats(10.0, 300.0),
)
def test_no_choice_of_points_beats_branching(points: list[list[tuple[float, float]]], budget: float) -> None:
    """Every point is a stretch of its own: the exact knapsack, small enough to try them all."""
    offers = [[(point,) for point in job] for job in points]
    found = allocate_steady(offers, budget, tolerance_gain=1e-9, most_nodes=400)

    def best_gain(watts_at_most: float) -> float:
        return max(
            (
                sum(gain for _, gain in choice)
                for choice in itertools.product(*points)
                if sum(watts for watts, _ in choice) <= watts_at_most
            ),
            default=-math.inf,
        )

    if best_gain(budget + 1e-6) == -math.inf:
        assert found.shortfall_watts > 0.0
        return
    assert found.watts.sum() <= budget + 1e-6
    # A choice that is over the budget by a rounding may count as within it, or not.
    assert best_gain(budget - 1e-6) - 1e-6 <= found.gain <= best_gain(budget + 1e-6) + 1e-6
    assert found.bound_gain >= found.gain - 1e-6
    assert found.gain == pytest.approx(
        sum(gain_at(job, watts) for job, watts in zip(offers, found.watts, strict=True))
    )


jobs = st.lists(
    st.tuples(
        any_curve,
        st.integers(1, 64),
        st.sampled_from((0.5, 0.75, 0.9, 0.99)),
        st.sampled_from((0.5, 1.0, 3.0)),
    ),
    min_size=1,
    max_size=6,
)


def lp_gain(responses: list[Response], weights: list[float], budget: float) -> tuple[float, float]:
    points = [
        JobPoints(
            watts=tuple(watts * one.gpus for watts in (*one.curve.gpu_watts, 85.0)),
            performance_ratios=(*one.curve.performance_ratios, 0.0),
            weight=weight,
            floor_ratio=one.floor_ratio,
        )
        for one, weight in zip(responses, weights, strict=True)
    ]
    found = bound(points, [(budget, 1)])
    return found.gain, found.shortfall_watts


@property_test
@given(jobs, st.floats(0.05, 0.5))
def test_a_cut_keeps_the_budget_and_comes_near_the_solver(
    drawn: list[tuple[object, int, float, float]], cut: float
) -> None:
    responses = [Response(curve=curve, gpus=gpus, floor_ratio=floor) for curve, gpus, floor, _ in drawn]  # type: ignore[arg-type]
    weights = [gpus * priority for _, gpus, _, priority in drawn]
    budget = (1.0 - cut) * sum(one.uncapped().gpu_watts * one.gpus for one in responses)
    found = cut_power(responses, weights, budget)
    best, short_watts = lp_gain(responses, weights, budget)
    assert found.shortfall_watts == pytest.approx(short_watts, abs=0.01)
    assert found.watts <= budget + found.shortfall_watts + 1e-3
    gain = sum(one.performance_ratio * weight for one, weight in zip(found.settings, weights, strict=True))
    assert gain <= best + 1e-4 * sum(weights)
    assert gain >= best - (STEADY_WORTH_RATIO + 1e-4) * sum(weights)
    for one, setting in zip(responses, found.settings, strict=True):
        assert setting.performance_ratio >= one.floor_ratio - 1e-9


def test_steady_caps_are_kept_where_little_is_lost_by_them() -> None:
    responses = [
        Response(curve=DENTED, gpus=8, floor_ratio=0.5),
        Response(curve=CONCAVE, gpus=64, floor_ratio=0.5),
    ]
    weights = [8.0, 64.0]
    for share in (0.7, 0.8, 0.85, 0.9, 0.95):
        budget = share * sum(one.uncapped().gpu_watts * one.gpus for one in responses)
        found = cut_power(responses, weights, budget)
        assert not any(setting.alternates for setting in found.settings)
        assert found.watts == pytest.approx(budget)


@pytest.mark.filterwarnings("error")
def test_a_floor_a_hair_below_a_measured_point_is_no_trouble() -> None:
    response = Response(curve=CONCAVE, gpus=64, floor_ratio=0.8 - 1e-16)
    assert cut_power([response], [64.0], 0.0).watts == pytest.approx(64 * 195.0)


def test_one_job_with_a_deep_dent_takes_turns() -> None:
    response = Response(curve=DENTED, gpus=8, floor_ratio=0.5)
    (setting,) = cut_power([response], [1.0], 8 * 331.0).settings
    assert setting.alternates


def test_the_solver_spreads_a_battery_and_says_what_is_short() -> None:
    job = JobPoints(watts=(100.0, 200.0), performance_ratios=(0.0, 1.0), weight=1.0, floor_ratio=0.5)
    without = bound([job], [(160.0, 60)])
    assert without.gain == pytest.approx(0.6)
    with_ess = bound([job], [(160.0, 60)], ess_watts=30.0, ess_watt_hours=20.0)
    assert with_ess.gain == pytest.approx(0.8, abs=1e-4)
    assert bound([job], [(120.0, 60)]).shortfall_watts == pytest.approx(30.0)

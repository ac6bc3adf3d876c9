"""A cut, minute by minute, judged from its own rows as an outsider would."""

import math
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.job import Flex
from slurm_power.plan.power_cut import STEADY_WORTH_RATIO
from slurm_power.plan.response import CapCurve
from slurm_power.simulate.event import FLOOR_RATIOS, RECOVERY_STEP_RATIO, Event, EventSpec, simulate_event
from slurm_power.simulate.event_files import EventTableError, MixJob, read_curves, read_mix
from slurm_power.simulate.event_result import csv_rows, summary
from tests.plan.curves_drawn import CONCAVE, DEAF, DENTED, any_curve

CURVES = {"dented": DENTED, "concave": CONCAVE, "deaf": DEAF}
MIX = [
    MixJob(name="a", workload="dented", gpus=64, flex=Flex.FLEX3, priority=1.0),
    MixJob(name="b", workload="concave", gpus=48, flex=Flex.FLEX2, priority=2.0),
    MixJob(name="c", workload="concave", gpus=32, flex=Flex.FLEX1, priority=1.0),
    MixJob(name="d", workload="deaf", gpus=16, flex=Flex.FLEX3, priority=1.0),
    MixJob(name="e", workload="dented", gpus=16, flex=Flex.FLEX0, priority=1.0),
]
UNCAPPED_WATTS = 64 * 377.0 + 48 * 350.0 + 32 * 350.0 + 16 * 150.0 + 16 * 377.0
SPEC = EventSpec(cut_ratio=0.25, minutes=60)


def with_ess(spec: EventSpec, hours: float, uncapped_watts: float = UNCAPPED_WATTS) -> EventSpec:
    watts = spec.cut_ratio * uncapped_watts
    return replace(spec, ess_watts=watts, ess_watt_hours=hours * watts)


def grid_by_second(event: Event) -> dict[int, float]:
    """The draw at the meter, from the rows alone."""
    found: dict[int, float] = defaultdict(float)
    for second, _, watts, _, _ in csv_rows(event):
        found[int(second)] += float(watts)
    return found


def performance_by_job(event: Event) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for second, job, _, _, performance in csv_rows(event):
        if job != "ess" and 0 <= int(second) < event.spec.minutes * 60:
            found[job].append(float(performance))
    return found


SPECS = {
    "plain": SPEC,
    "ess": with_ess(SPEC, 0.4),
    "ramp": replace(SPEC, ramp_seconds=330.0),
    "ramp and ess": with_ess(replace(SPEC, ramp_seconds=330.0), 0.4),
    "weak ess": replace(SPEC, ess_watts=500.0, ess_watt_hours=1e6),
    "deep": replace(SPEC, cut_ratio=0.4),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_target_floors_and_bound_from_the_rows(spec: EventSpec) -> None:
    event = simulate_event(MIX, CURVES, spec)
    figures, grid = summary(event), grid_by_second(event)
    assert figures["feasible"] and figures["uncapped_watts"] == pytest.approx(UNCAPPED_WATTS)
    target = (1.0 - spec.cut_ratio) * UNCAPPED_WATTS
    held = [watts for second, watts in grid.items() if spec.ramp_seconds <= second < spec.minutes * 60]
    assert all(0.998 * target <= watts <= 1.0001 * target for watts in held)
    assert figures["over_curtailment_ratio"] < 0.001
    performance = performance_by_job(event)
    for job in MIX:
        assert min(performance[job.name]) >= FLOOR_RATIOS[job.flex]
    weights = {job.name: job.gpus * job.priority for job in MIX}
    mean = sum(weights[name] * sum(values) / len(values) for name, values in performance.items())
    mean /= sum(weights.values())
    assert mean == pytest.approx(figures["weighted_performance"], abs=1e-5)
    assert mean <= figures["bound_weighted_performance"] + 1e-5
    assert mean >= figures["bound_weighted_performance"] - 0.01


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_recovery_comes_in_steps_and_never_above_what_was_before(spec: EventSpec) -> None:
    event = simulate_event(MIX, CURVES, spec)
    grid = grid_by_second(event)
    seconds = sorted(grid)
    assert seconds == list(range(-300, seconds[-1] + 1, 60))
    assert max(grid.values()) <= UNCAPPED_WATTS * (1.0 + 1e-9)
    steps = [grid[second + 60] - grid[second] for second in seconds[:-1]]
    assert max(steps) <= (RECOVERY_STEP_RATIO + 1e-6) * UNCAPPED_WATTS
    for second in (-300, -120, seconds[-1]):
        assert grid[second] == pytest.approx(UNCAPPED_WATTS)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_nobody_pays_for_the_recovery_of_another(spec: EventSpec) -> None:
    event = simulate_event(MIX, CURVES, spec)
    after = event.performance_ratios[event.seconds >= (spec.minutes - 1) * 60]
    assert np.diff(after, axis=0).min() >= -1e-9


def test_the_draw_is_on_target_when_the_event_begins_and_not_long_before() -> None:
    event = simulate_event(MIX, CURVES, SPEC)
    figures, grid = summary(event), grid_by_second(event)
    assert -5.0 <= figures["caps_written_second"] < 0.0
    assert 1.0 < figures["time_to_target_seconds"] < 3.0
    assert 0.98 * UNCAPPED_WATTS < grid[-60] < UNCAPPED_WATTS


def test_within_a_ramp_the_draw_follows_it_and_the_battery_waits() -> None:
    event = simulate_event(MIX, CURVES, with_ess(replace(SPEC, ramp_seconds=600.0), 0.5))
    grid = grid_by_second(event)
    for minute in range(10):
        asked = UNCAPPED_WATTS * (1.0 - 0.25 * (minute + 0.5) / 10.0)
        assert grid[60 * minute] == pytest.approx(asked, rel=1e-3)
    # The battery can hold up about half of the cut: it has nothing to do on the first half of the way.
    discharge = event.ess_discharge_watts[event.seconds >= 0.0]
    assert discharge[:4].max() == 0.0 and discharge[20] > 0.0
    assert 500.0 < summary(event)["time_to_target_seconds"] <= 600.0


def test_a_battery_gives_what_it_has_and_no_more() -> None:
    spec = with_ess(SPEC, 0.4)
    event = simulate_event(MIX, CURVES, spec)
    figures = summary(event)["ess"]
    assert event.ess_discharge_watts.max() <= spec.ess_watts
    assert figures["discharged_kwh"] == pytest.approx(spec.ess_watt_hours / 1e3, rel=0.01)
    assert figures["discharged_kwh"] <= spec.ess_watt_hours / 1e3
    assert 0.0 <= figures["lowest_soc_ratio"] < 0.01
    assert figures["recharge_kwh"] == pytest.approx(figures["discharged_kwh"] / 0.88)
    assert summary(simulate_event(MIX, CURVES, SPEC))["ess"] is None


def test_a_battery_that_carries_the_whole_cut_leaves_the_jobs_alone() -> None:
    figures = summary(simulate_event(MIX, CURVES, with_ess(SPEC, 2.0)))
    assert figures["weighted_performance"] == pytest.approx(1.0)
    assert figures["over_curtailment_ratio"] == pytest.approx(0.0, abs=1e-9)
    assert 0.0 < figures["ess"]["lowest_soc_ratio"] < 0.5


def test_more_battery_never_makes_it_worse() -> None:
    found = [
        summary(simulate_event(MIX, CURVES, with_ess(SPEC, hours)))["weighted_performance"]
        for hours in (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    ]
    assert all(later >= earlier - 0.002 for earlier, later in pairwise(found))
    assert found[-1] > found[0] + 0.05


def test_what_cannot_be_is_said_with_its_watts_and_the_most_is_done() -> None:
    event = simulate_event(MIX, CURVES, replace(SPEC, cut_ratio=0.7))
    figures = summary(event)
    assert not figures["feasible"] and figures["time_to_target_seconds"] is None
    held = [watts for second, watts in grid_by_second(event).items() if 0 <= second < 3600]
    assert max(held) - 0.3 * UNCAPPED_WATTS == pytest.approx(figures["shortfall_watts"], abs=1.0)
    assert figures["shortfall_watts"] == pytest.approx(figures["bound_shortfall_watts"], rel=0.02)
    for job in figures["jobs"]:
        assert job["performance_ratio"] == pytest.approx(job["floor_ratio"], abs=1e-5)
    assert max(grid_by_second(event).values()) <= UNCAPPED_WATTS * (1.0 + 1e-9)


def test_the_order_of_the_jobs_changes_nothing() -> None:
    one = simulate_event(MIX, CURVES, with_ess(SPEC, 0.3))
    other = simulate_event(MIX[::-1], CURVES, with_ess(SPEC, 0.3))
    assert sorted(csv_rows(one)) == sorted(csv_rows(other))


mixes = st.lists(
    st.tuples(
        any_curve, st.sampled_from((1, 2, 8, 30, 64)), st.sampled_from(Flex), st.sampled_from((0.5, 1.0, 4.0))
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(mixes, st.floats(0.05, 0.6), st.sampled_from((0.0, 0.5, 1.5)), st.sampled_from((0.0, 90.0)))
def test_any_mix_keeps_target_floors_recovery_and_bound(
    drawn: list[tuple[CapCurve, int, Flex, float]], cut: float, hours: float, ramp_seconds: float
) -> None:
    curves = {str(number): curve for number, (curve, *_) in enumerate(drawn)}
    jobs = [
        MixJob(name=f"job{number}", workload=str(number), gpus=gpus, flex=flex, priority=priority)
        for number, (_, gpus, flex, priority) in enumerate(drawn)
    ]
    uncapped = sum(curves[job.workload].uncapped_watts * job.gpus for job in jobs)
    spec = with_ess(EventSpec(cut_ratio=cut, minutes=120, ramp_seconds=ramp_seconds), hours, uncapped)
    event = simulate_event(jobs, curves, spec)
    figures, grid = summary(event), grid_by_second(event)
    target = (1.0 - cut) * uncapped
    held = [watts for second, watts in grid.items() if ramp_seconds <= second < 7200]
    if figures["feasible"]:
        assert max(held) <= 1.0001 * target + 0.1
        assert figures["worst_above_target_ratio"] <= 1e-4
    else:
        assert max(held) == pytest.approx(target + figures["shortfall_watts"], rel=1e-3, abs=0.1)
    # Less than the target is drawn only where no job would do more for it.
    unhurt = all(job["performance_ratio"] >= 1.0 for job in figures["jobs"])
    assert figures["over_curtailment_ratio"] <= 0.006 or unhurt
    for job in jobs:
        assert min(performance_by_job(event)[job.name]) >= FLOOR_RATIOS[job.flex] - 1e-6
    if figures["feasible"]:
        gap = figures["bound_weighted_performance"] - figures["weighted_performance"]
        # A battery keeps some of its energy for the recovery, and floors hold in each minute whatever a ramp
        # has left above them: the steeper the jobs are, the more that costs.
        assert -1e-4 <= gap <= (0.1 if hours or ramp_seconds else STEADY_WORTH_RATIO + 0.001)
    assert max(grid.values()) <= uncapped * (1.0 + 1e-9) + 0.01


CURVE_HEADING = "Workload,GPU power cap,throughput,total GPU power,normalized throughput,power per GPU"


def test_curves_are_sorted_averaged_and_made_relative() -> None:
    lines = [
        CURVE_HEADING,
        "x,400,20,8000,,400",
        "x,200,8,4000,,195",
        "x,200,12,4000,,205",
        "y,300,,,0.9,280",
        "y,400,,,0.95,350",
    ]
    found = read_curves(lines, "c.csv")
    assert found["x"] == CapCurve(
        caps_watts=(200.0, 400.0), gpu_watts=(200.0, 400.0), performance_ratios=(0.5, 1.0)
    )
    assert found["y"].performance_ratios == pytest.approx((0.9 / 0.95, 1.0))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["Workload,GPU power cap"], "row 1 lacks power per GPU, throughput or normalized throughput"),
        ([CURVE_HEADING], "it has no rows"),
        ([CURVE_HEADING, "x,400,1,1,1,0"], "row 2: power per GPU '0' has to be more than 0"),
        ([CURVE_HEADING, "x,many,1,1,1,300"], "row 2: GPU power cap 'many' is no number"),
        ([CURVE_HEADING, ",400,1,1,1,300"], "row 2: Workload is empty"),
        ([CURVE_HEADING, "x,400,,1,,300"], "row 2: throughput and normalized throughput are both empty"),
        ([CURVE_HEADING, "x,400,0,1,0,300"], "x: it does nothing at its highest cap"),
        ([CURVE_HEADING, "x,400,,1,1,300", "x,300,5,1,,200"], "x: neither"),
    ],
)
def test_bad_curves_are_refused(lines: list[str], told: str) -> None:
    with pytest.raises(EventTableError) as refused:
        read_curves(lines, "c.csv")
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("b,other,8,flex1,1", "row 3: workload 'other' has no curve; there are"),
        ("b,inference,8,flex1,1", "row 3: workload 'inference' fits none"),
        ("b,training,8,flex1,1", "row 3: workload 'training' fits 2 curves"),
        ("b,pt_x,0,flex1,1", "row 3: gpus '0' has to be more than 0"),
        ("b,pt_x,1.5,flex1,1", "row 3: gpus '1.5' has to be a whole number"),
        ("b,pt_x,8,flex9,1", "row 3: flex 'flex9' is none of flex0"),
        ("b,pt_x,8,flex1,-1", "row 3: priority '-1' has to be more than 0"),
        ("b,pt_x,8,flex1,1e300", "row 3: priority '1e300' has to be 0.000001 to 1000000"),
        ("b,pt_x,8,flex1,1,5", "row 3: it has more columns than row 1 names"),
        ("a,pt_x,8,flex1,1", "row 3: job 'a' stands there twice"),
        ("ess,pt_x,8,flex1,1", "row 3: job 'ess' is taken"),
        (",pt_x,8,flex1", "row 3: job '' is empty"),
    ],
)
def test_bad_mixes_are_refused(row: str, told: str) -> None:
    curves = {"pt_x": CONCAVE, "ft_y": CONCAVE}
    with pytest.raises(EventTableError) as refused:
        read_mix(["job,workload,gpus,flex,priority", "a,pt_x,8,flex1,1", row], "m.csv", curves)
    assert told in str(refused.value)


def test_a_class_stands_for_its_only_workload() -> None:
    (job,) = read_mix(
        ["job,workload,gpus,flex,priority", "a, inference ,8,2,1"],
        "m.csv",
        {"infer_llama": CONCAVE, "pt_x": DENTED},
    )
    assert (job.workload, job.flex) == ("infer_llama", Flex.FLEX2)


def test_without_curves_workloads_are_not_looked_up() -> None:
    (job,) = read_mix(["job,workload,gpus,flex,priority", "a,x,8,flex2,1"], "m.csv", None)
    assert job.workload == "x" and math.isfinite(job.priority)

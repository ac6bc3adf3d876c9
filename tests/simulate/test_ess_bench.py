"""The bench of the battery's level: its re-drawn job logs and those that the dispatch is held against."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from containers.bench.ess_level import Judged, figures, judge
from containers.bench.ess_peers import PerfectPaths, naive_control, plain_ratchet
from containers.bench.job_weeks import FACILITY_RATIO, GPUS, IDLE_WATTS, WEEK_SECONDS, redrawn_load
from slurm_power.cli.commands.simulations.jobs_file import JobRow
from slurm_power.plan.peak_level import Battery, least_level
from slurm_power.simulate.ess import Load, Tariffed, run_causal

LOSSES = math.sqrt(0.88)
OF = Battery(
    charge_watts=20_000.0,
    discharge_watts=20_000.0,
    energy_kwh=40.0,
    charge_ratio=LOSSES,
    discharge_ratio=LOSSES,
)


def job(start_hours: float, hours: float, gpus: float) -> JobRow:
    start = 3600.0 * start_hours
    return JobRow(
        user="a",
        gpus=gpus,
        limit_seconds=3600.0 * hours,
        watts_per_gpu=500.0,
        submit_seconds=start,
        start_seconds=start,
        end_seconds=start + 3600.0 * hours,
    )


def test_a_redrawn_log_has_the_energy_of_its_jobs() -> None:
    # Three weeks, the middle one is whole: it is drawn each time. Its jobs start on the third day.
    jobs = [job(0, 1, 1), job(168 + 60.1, 5.3, 100), job(168 + 100, 0.05, 8), job(336, 1, 1)]
    found = redrawn_load(jobs, 0, 2)
    assert len(found.watts) == round((2 * WEEK_SECONDS - 2 * 86_400.0) / 900.0)
    dynamic_kwh = (found.watts / FACILITY_RATIO - GPUS * IDLE_WATTS).sum() * 0.25 / 1000.0
    assert dynamic_kwh == pytest.approx(2 * (100 * 5.3 + 8 * 0.05) * 0.5)
    assert (found.watts[: len(found.watts) // 2].argmax() * 0.25 + 48) == pytest.approx(60.25)


def test_jobs_never_have_more_gpus_than_there_are() -> None:
    jobs = [job(0, 1, 1), *(job(168 + 60 + 0.1 * number, 4, 300) for number in range(9)), job(336, 1, 1)]
    found = redrawn_load(jobs, 0, 1)
    running = (found.watts / FACILITY_RATIO - GPUS * IDLE_WATTS) / 500.0
    assert running.max() == pytest.approx(600.0)
    assert running.sum() * 0.25 == pytest.approx(9 * 300 * 4)


def test_seeds_differ_and_repeat() -> None:
    jobs = [job(2.0 * number, 1 + number % 7, 8 * (1 + number % 50)) for number in range(84 * 6)]
    one, again, other = (redrawn_load(jobs, seed, 4).watts for seed in (1, 1, 2))
    assert (one == again).all() and (one != other).any()


def load(days: int) -> Load:
    steps = days * 96
    at = np.arange(steps) / 4.0
    jobs = np.repeat(np.random.default_rng(1).uniform(0.0, 60.0, steps // 12), 12)
    start = datetime(2026, 1, 10, tzinfo=UTC).timestamp()
    return Load(
        times_seconds=start + 900.0 * np.arange(steps, dtype=np.float64),
        watts=1000.0 * (100.0 + 30.0 * np.sin((at - 8.0) * 2 * np.pi / 24) + jobs),
        step_seconds=900.0,
    )


def test_the_ratchet_and_the_perfect_forecast_are_within_the_bounds() -> None:
    of = load(30)
    tariffed = Tariffed(of, None, None)
    month = tariffed.months[-1][1]
    perfect = least_level(of.watts[month], OF, stored_kwh=20.0, end_stored_kwh=20.0, step_hours=0.25)
    most = float(of.watts[month].max())
    ratchet = plain_ratchet(of, OF, tariffed, 20.0)[month].max()
    told = (
        run_causal(
            of,
            OF,
            tariffed,
            start_kwh=20.0,
            paths_of=lambda battery, step_seconds: PerfectPaths(battery, step_seconds, of.watts),
        )
        .import_watts[month]
        .max()
    )
    assert perfect <= ratchet <= most
    assert most - told >= 0.95 * (most - perfect)


def test_the_naive_control_is_within_the_battery() -> None:
    of = load(4)
    imported = naive_control(of, OF, Tariffed(of, None, None), 20.0)
    assert np.abs(of.watts - imported).max() <= 20_000.0 + 1e-6
    assert (imported[:96] == of.watts[:96]).all() and (imported != of.watts).any()


def test_a_series_without_a_month_is_left_out() -> None:
    assert judge("short", load(20), everybody=True).months == []


def test_figures_name_what_is_missed() -> None:
    shares = {"plain ratchet": [0.5, 0.5], "simulate ess": [0.6, 0.4], "with a perfect forecast": [1.0, 0.9]}
    row = Judged(name="a", months=["2026-02", "2026-03"], shares=shares)
    bill = Judged(name="a", months=["2026-02"], shares={}, savings={"simulate ess": 80.0}, possible=100.0)
    met = {what: least <= value <= most for what, value, least, most in figures([row], [bill], [])}
    assert list(met.values()) == [False, False, True, False, True]

"""What shadow mode would have saved and delayed, by hand-made days."""

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.billing_rules import (
    BillingRules,
    DemandRate,
    DemandTier,
    EnergyRate,
    EnergyTier,
    Window,
)
from slurm_power.model.ledger import LedgerEntry
from slurm_power.report.frame.document import document_json
from slurm_power.report.shadow.shadow import shadow_findings
from slurm_power.report.shadow.shadow_courses import (
    Billing,
    ShadowColumns,
    carried_watts,
    cases,
    quarter_means,
)
from slurm_power.report.shadow.shadow_document import shadow_document
from slurm_power.report.shadow.shadow_wishes import (
    forecast_right,
    job_delays,
    levers,
    usable_kwh,
    user_delays,
)

AT = datetime(2026, 11, 2, tzinfo=UTC)


def columns(
    watts: list[float], withheld: list[float], discharge: list[float], limit: float = 100.0
) -> ShadowColumns:
    return ShadowColumns(
        start_seconds=AT.timestamp(),
        step_seconds=900.0,
        watts=np.array(watts),
        limit_watts=np.full(len(watts), limit),
        withheld_watts=np.array(withheld),
        discharge_watts=np.array(discharge),
    )


def entry(kind: str, job_id: str | None = None, user: str | None = None, **details: Any) -> LedgerEntry:
    return LedgerEntry(
        at=AT,
        actor="controller",
        kind=kind,
        subject="x",
        reason="",
        job_id=job_id,
        user=user,
        details=details,
    )


def would(job_id: str, user: str, **more: float) -> LedgerEntry:
    sums: dict[str, Any] = dict.fromkeys(
        ("capped_seconds", "slowed_seconds", "held_seconds", "paused_seconds", "withheld_joules"), 0.0
    )
    return entry("would have", job_id, user, **{**sums, "gpu_count": 8, **more})


def test_what_caps_and_a_battery_would_have_made_of_a_day() -> None:
    day = columns([90.0, 140.0, 160.0, 80.0], [0.0, 20.0, 20.0, 0.0], [0.0, 20.0, 40.0, 0.0])
    # 5 Wh of 15 that are wished for.
    was, capped, once, always = cases(day, 0.010)
    assert (was.peak_watts, was.seconds_above, was.worst_above_watts) == (160.0, 1800.0, 60.0)
    assert was.kwh_above == pytest.approx(0.025)
    assert (capped.peak_watts, capped.worst_above_watts) == (140.0, 40.0)
    assert always.peak_watts == 100.0 and always.seconds_above == 0.0
    # The first quarter takes 5 Wh, 5 are left of the 10 that the second wishes for.
    assert once.peak_watts == pytest.approx(120.0)


def test_what_was_controlled_or_not_measured_is_judged_in_no_case() -> None:
    nan = float("nan")
    day = columns([90.0, nan, 500.0, 120.0], [0.0, 30.0, nan, 20.0], [0.0, 0.0, nan, 0.0])
    was, capped = cases(day, 0.0)
    assert (was.peak_watts, capped.peak_watts) == (120.0, 100.0)
    found = shadow_findings(day, [], {})
    assert (found.span_seconds, found.shadow_seconds, found.coverage_ratio) == (3600.0, 1800.0, 0.5)


def test_an_unknown_quarter_is_in_neither_bill_nor_taken_for_zero() -> None:
    """A demand rate by the hour: the mean of its known quarters, and fixed charges for them alone."""
    nan = float("nan")
    always = Window()
    rules = BillingRules(
        name="hours",
        energy=(EnergyRate(name="energy", windows=(always,), tiers=(EnergyTier(price_per_kwh=0.4),)),),
        demand=(DemandRate(name="peak", windows=(always,), tiers=(DemandTier(price_per_kw=10.0),)),),
        fixed_per_month=30.0,
        demand_interval_seconds=3600.0,
    )
    watts = [40e3, 40e3, nan, nan, 10e3, 10e3, 10e3, 10e3]
    day = columns(watts, [0.0, 20e3, 0.0, 0.0, 0.0, 0.0, nan, 0.0], [0.0] * 8, limit=100e3)
    was, would = cases(day, 0.0, Billing(rules=rules, zone=UTC))
    share = 5 * 900.0 / (30 * 86_400.0)
    # Five quarters are known: 10 + 10 + 2.5 + 2.5 + 2.5 kWh; the first hour's mean is 40 kW, not 20.
    assert was.kwh == pytest.approx(27.5)
    assert was.bill == pytest.approx(27.5 * 0.4 + share * (40.0 * 10.0 + 30.0))
    assert would.bill == pytest.approx(22.5 * 0.4 + share * (30.0 * 10.0 + 30.0))
    found = shadow_findings(day, [], {}, Billing(rules=rules, zone=UTC))
    assert (found.unknown_quarters, found.quarters) == (3, 8)
    text = json.dumps(document_json(shadow_document(found, circuit="grid", labels={})))
    assert "Unknown: 3 of 8 quarters" in text and "left out of both sides" in text
    assert "of the 5 quarters of an hour of this span that are known" in text


def test_a_bill_of_nothing_known_is_unknown() -> None:
    nan = float("nan")
    found = shadow_findings(columns([nan, nan], [0.0, 0.0], [0.0, 0.0]), [], {}, None)
    assert (found.unknown_quarters, found.quarters) == (2, 2)


def test_nothing_known_is_no_peak_of_zero() -> None:
    (was, capped) = cases(columns([float("nan")], [0.0], [0.0]), 1.0)
    assert was.peak_watts is None and capped.peak_watts is None


@given(
    st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=40),
    st.floats(0.0, 1e3),
    st.sampled_from([1.0, 900.0]),
)
def test_a_charge_is_never_overdrawn(wished: list[float], usable: float, step: float) -> None:
    carried = carried_watts(np.array(wished), step, usable)
    drawn = np.cumsum(carried) * step / 3.6e6
    slack = 1e-9 * (1.0 + usable) + 1e-6
    assert drawn.max() <= usable + slack and drawn.min() >= -slack
    assert (np.abs(carried) <= np.abs(np.array(wished)) + 1e-6).all()
    assert (carried * np.array(wished) >= -1e-6).all()


def test_quarters_begin_on_the_clock() -> None:
    starts, means = quarter_means(np.array([10.0, 20.0, 60.0]), AT.timestamp() + 600.0, 150.0)
    assert [start - AT.timestamp() for start in starts] == [0.0, 900.0]
    assert means.tolist() == [15.0, 60.0]


def test_a_jobs_entries_of_several_days_add_up_and_bad_ones_are_left_out() -> None:
    found = job_delays(
        [
            would(
                "1",
                "ann",
                capped_seconds=100.0,
                slowed_seconds=20.0,
                withheld_joules=3.6e6,
                lowest_cap_watts=500.0,
            ),
            would("1", "ann", capped_seconds=50.0, slowed_seconds=5.0, lowest_cap_watts=450.0),
            would("2", "bob", held_seconds=60.0),
            entry("would have", "3", "eve", capped_seconds="lots"),
            entry("would cap", "4", "eve"),
        ]
    )
    assert [(job.job_id, job.delay_seconds) for job in found] == [("2", 60.0), ("1", 25.0)]
    assert (found[1].kwh, found[1].lowest_cap_watts, found[0].lowest_cap_watts) == (1.0, 450.0, None)


def test_users_are_told_with_those_whom_nothing_would_have_met() -> None:
    delays = job_delays(
        [would("1", "ann", slowed_seconds=36.0), would("2", "bob", held_seconds=60.0), would("9", "zoe")]
    )
    records = {
        "1": {"user": "ann", "seconds": 360.0, "gpu_count": 8},
        "2": {"user": "bob", "seconds": 100.0, "gpu_count": 8},
        "3": {"user": "cyd", "seconds": 100.0, "gpu_count": 8},
    }
    found = {row.user: row for row in user_delays(delays, records)}
    assert found["ann"].slowdown_ratio == pytest.approx(0.1)
    assert found["ann"].lost_gpu_hours == pytest.approx(0.08)
    assert (found["bob"].slowdown_ratio, found["bob"].delay_seconds) == (0.0, 60.0)
    assert (found["cyd"].jobs, found["cyd"].touched) == (1, 0)
    assert found["zoe"].slowdown_ratio is None


def test_hours_add_up() -> None:
    def hour(seconds: float, soc_ratio: float, mae: float) -> LedgerEntry:
        return entry(
            "shadow hour",
            kinds={"cap": {"seconds": seconds, "joules": 3.6e6, "most_watts": 10.0 * seconds, "jobs": 2}},
            batteries={"b": {"soc_ratio": soc_ratio, "reserve_soc_ratio": 0.2, "energy_rating_kwh": 10.0}},
            forecast={
                "forecasts": 9,
                "coverage_ratio": 0.8,
                "mae_watts": mae,
                "best_naive_mae_watts": 100.0,
            },
        )

    hours = [entry("start"), hour(60.0, 0.7, 50.0), hour(30.0, 0.2, 150.0), entry("shadow hour", kinds={})]
    (cap,) = levers(hours)
    assert (cap.seconds, cap.kwh, cap.most_watts) == (90.0, 2.0, 600.0)
    assert usable_kwh(hours) == pytest.approx(5.0)
    right = forecast_right(hours)
    assert right is not None
    assert (right.hours, right.mae_watts, right.hours_beaten_by_naive) == (2, 100.0, 1)
    assert forecast_right([entry("shadow hour")]) is None

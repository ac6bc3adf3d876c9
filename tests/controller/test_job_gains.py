"""What a job's record says of our levers: time, work lost, watts saved and put off."""

from datetime import timedelta
from typing import Any

import pytest

from slurm_power.controller.jobs.job_gains import note_cap, note_hold
from slurm_power.controller.levers.levers import LeverState
from slurm_power.model.action import HoldJob, SetCap
from slurm_power.model.job import Flex
from slurm_power.model.site import LimitKind
from tests.plan.situations import AT, running


def capped(watts: float, slowdown_ratio: float) -> LeverState:
    state = LeverState()
    cap = SetCap(
        job_id="1", cap_watts=watts, kind=LimitKind.SAFETY, reason="x", slowdown_ratio=slowdown_ratio
    )
    state.capped(cap, 650.0, AT)
    return state


def test_a_capped_jobs_losses_and_savings_add_up() -> None:
    record: dict[str, Any] = {}
    job = running("1", ("c1",), flex=Flex.FLEX1)
    for second, (watts, slowdown) in enumerate([(500.0, 0.08)] * 10 + [(400.0, 0.2)] * 5):
        note_cap(record, job, capped(watts, slowdown).caps["1"], AT + timedelta(seconds=second), 1.0)
    assert record == {
        "lowest_cap_watts": 400.0,
        "slowdown_seconds": pytest.approx(1.8),
        "capped_seconds": 15.0,
        "capped_since": AT.isoformat(),
        "capped_until": (AT + timedelta(seconds=14)).isoformat(),
        "saved_watt_seconds": 10 * 8 * 150.0 + 5 * 8 * 250.0,
        "peak_saved_watts": 2000.0,
        "breached_seconds": 5.0,
    }


def test_a_cap_that_its_user_asked_for_is_no_doing_of_ours() -> None:
    record: dict[str, Any] = {}
    state = LeverState()
    own = SetCap(job_id="1", cap_watts=400.0, kind=LimitKind.ECONOMIC, reason="x", own=True)
    state.capped(own, 650.0, AT)
    note_cap(record, running("1", ("c1",)), state.caps["1"], AT, 10.0)
    assert record == {}


def test_a_gate_costs_time_and_breaks_no_promise() -> None:
    state = LeverState()
    gate = SetCap(
        job_id="1", cap_watts=315.0, kind=LimitKind.ECONOMIC, reason="x", slowdown_ratio=0.45, gate=True
    )
    state.capped(gate, 650.0, AT)
    record: dict[str, Any] = {}
    note_cap(record, running("1", ("c1",), flex=Flex.FLEX1), state.caps["1"], AT, 10.0)
    assert record["slowdown_seconds"] == pytest.approx(4.5)
    assert "breached_seconds" not in record
    kept = LeverState.from_json(state.to_json(), AT, 10.0)
    assert kept.caps["1"].gate


def test_a_held_job_puts_its_draw_off() -> None:
    record: dict[str, Any] = {}
    state = LeverState()
    state.held(HoldJob(job_id="7", seconds=60.0, reason="x", saved_watts=3000.0), AT)
    for _ in range(4):
        note_hold(record, state.holds["7"], 2.0)
    assert record == {"delayed_watt_seconds": 24_000.0, "peak_delayed_watts": 3000.0}

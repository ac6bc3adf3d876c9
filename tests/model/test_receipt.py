"""Receipts: what they say of a job's record, that they stay small, and how steps share a job's energy."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.receipt import (
    MOST_BYTES,
    MOST_STEPS,
    CostBasis,
    Method,
    Receipt,
    StepTimes,
    receipt_from_json,
    receipt_of,
    step_energies,
)

RECORD: dict[str, Any] = {
    "nodes": ["c1", "c2"],
    "energy_joules": 3.6e6,
    "host_joules": 1.8e6,
    "estimated_joules": 0.0,
    "shared_joules": 0.0,
    "energy_coverage_ratio": 0.99,
    "energy_node_count": 2,
    "running_seconds": 1000.0,
    "mean_watts": 3600.0,
    "peak_watts": 5200.0,
    "lowest_cap_watts": 500.0,
    "capped_seconds": 400.0,
    "slowdown_seconds": 50.0,
    "held_seconds": 60.0,
    "priced_joules": 3.6e6,
    "priced_rate_joules": 0.9e6,
    "carbon_joules": 3.6e6,
    "carbon_rate_joules": 1.44e9,
}


NUMBERS = (
    *("energy_joules", "host_joules", "pdu_joules", "run_seconds", "mean_watts", "peak_watts", "cost"),
    *("lowest_cap_watts", "capped_seconds", "held_seconds", "paused_seconds", "co2_grams"),
)
RATIOS = ("estimated_ratio", "shared_ratio", "coverage_ratio", "slowdown_ratio")


def receipt(**changes: Any) -> Receipt:
    found = receipt_of({**RECORD, **changes})
    assert found is not None
    return found


def test_the_tier_is_a_label() -> None:
    labelled = receipt(tier="digits/int8", step_joules={})
    assert labelled.as_json() == {**receipt().as_json(), "tier": "digits/int8"}
    assert receipt_from_json(labelled.as_json()) == labelled
    assert receipt(tier="nonsense").tier == ""
    assert receipt_from_json({"v": 1, "tier": ["a/b"]}) == Receipt()


def test_a_record_becomes_a_receipt() -> None:
    assert receipt().as_json() == {
        "v": 1,
        "energy_joules": 3_600_000,
        "host_joules": 1_800_000,
        "estimated_ratio": 0.0,
        "shared_ratio": 0.0,
        "coverage_ratio": 0.99,
        "run_seconds": 1000,
        "mean_watts": 3600.0,
        "peak_watts": 5200.0,
        "lowest_cap_watts": 500.0,
        "capped_seconds": 400,
        "held_seconds": 60,
        "slowdown_ratio": 0.05,
        "cost": 0.375,  # 1.5 kWh at 0.25
        "co2_grams": 600.0,  # 1.5 kWh at 400 g
        "method": "counter",
        "cost_basis": "gpus+host",
    }
    assert receipt_from_json(receipt().as_json()) == receipt()


def test_what_is_not_known_is_left_out_and_never_made_up() -> None:
    bare = receipt_of({"energy_joules": 100.0})
    assert bare is not None
    assert bare.as_json() == {"v": 1, "energy_joules": 100, "method": "counter"}
    assert bare.is_estimate, "nobody knows how much was read"
    assert receipt_of({"state": "ended", "energy_joules": None}) is None
    assert receipt_of({}) is None


@pytest.mark.parametrize(
    ("estimated", "shared", "method"),
    [
        (0.0, 0.0, Method.COUNTER),
        (0.04, 0.0, Method.COUNTER),
        (0.5, 0.0, Method.MIXED),
        (1.0, 0.0, Method.POWER),
        (0.0, 0.2, Method.SHARED),
    ],
)
def test_method(estimated: float, shared: float, method: Method) -> None:
    found = receipt(estimated_joules=estimated * 3.6e6, shared_joules=shared * 3.6e6)
    assert (found.method, found.estimated_ratio, found.shared_ratio) == (method, estimated, shared)


def test_a_node_that_never_told_counts_as_not_read() -> None:
    assert not receipt().is_estimate
    found = receipt(energy_node_count=1)
    assert found.coverage_ratio == pytest.approx(0.495)
    assert found.is_estimate


def test_a_price_for_less_than_95_percent_of_the_energy_is_no_cost() -> None:
    assert receipt(priced_joules=0.96 * 3.6e6).cost is not None
    found = receipt(priced_joules=0.94 * 3.6e6, carbon_joules=0.0)
    assert (found.cost, found.cost_basis, found.co2_grams) == (None, None, None)


def test_what_a_cost_is_for() -> None:
    assert receipt(pdu_joules=7.2e6).cost == pytest.approx(0.5)
    assert receipt(pdu_joules=7.2e6).cost_basis is CostBasis.PDU
    assert receipt(pdu_joules=3.5e6).pdu_joules is None, "less than the GPUs alone is no energy of the rack"
    assert receipt(pdu_joules=3.5e6).cost_basis is CostBasis.GPUS_AND_HOST
    assert receipt(host_joules=None).cost == pytest.approx(0.25)
    assert receipt(host_joules=None).cost_basis is CostBasis.GPUS


@pytest.mark.parametrize("value", [None, [], "x", {}, {"v": 2, "energy_joules": 1}])
def test_what_is_no_receipt_of_ours(value: object) -> None:
    assert receipt_from_json(value) is None


def test_nonsense_in_a_receipt_is_unknown() -> None:
    value = {"v": 1, "energy_joules": "much", "peak_watts": float("inf"), "method": "magic", "step_joules": 3}
    assert receipt_from_json(value) == Receipt()


def test_a_receipt_stays_small() -> None:
    numbers: dict[str, Any] = dict.fromkeys(NUMBERS, 123_456_789_012.3)
    ratios: dict[str, Any] = dict.fromkeys(RATIOS, 0.1234)
    widest = Receipt(**numbers, **ratios, method=Method.COUNTER, cost_basis=CostBasis.GPUS_AND_HOST)
    steps = {f"{number:>06}+1": 123_456_789_012.3 for number in range(100)}
    value = replace(widest, step_joules=steps, steps_left_out=5).as_json()
    assert len(json.dumps(value, separators=(",", ":"))) <= MOST_BYTES
    kept = value["step_joules"]
    assert isinstance(kept, dict)
    assert 0 < len(kept) < 100
    assert value["steps_left_out"] == 105 - len(kept)


def test_steps_that_ran_alone_get_what_the_job_used_meanwhile() -> None:
    points = [(100.0 + second, 1000.0 * second) for second in range(0, 101, 10)]
    steps = [StepTimes("0", 100.0, 125.0), StepTimes("1", 125.0, 200.0)]
    assert step_energies(points, steps) == ({"0": 25_000.0, "1": 75_000.0}, 0)
    beside = [*steps, StepTimes("2", 190.0, 200.0)]
    assert step_energies(points, beside) == ({"0": 25_000.0}, 2), "nothing tells how 1 and 2 shared it"
    assert step_energies([], steps) == ({}, 2)
    assert step_energies(points, [StepTimes("9", 300.0, 310.0)]) == ({}, 1), "nobody looked then"
    assert step_energies(points, [StepTimes("9", 150.0, 150.0)]) == ({}, 1)


@given(st.lists(st.floats(1.0, 50.0), min_size=1, max_size=20), st.integers(2, 40))
def test_steps_one_after_the_other_never_have_more_than_the_job(lengths: list[float], looks: int) -> None:
    whole = sum(lengths)
    points = [(whole * n / looks, 500.0 * whole * n / looks) for n in range(looks + 1)]
    steps, at = [], 0.0
    for number, length in enumerate(lengths):
        steps.append(StepTimes(f"{number:02}", at, at + length))
        at += length
    found, left_out = step_energies(points, steps)
    assert len(found) == min(MOST_STEPS, len(steps))
    assert left_out == len(steps) - len(found)
    assert sum(found.values()) <= 500.0 * whole * (1 + 1e-9)
    if left_out == 0:
        assert sum(found.values()) == pytest.approx(500.0 * whole)

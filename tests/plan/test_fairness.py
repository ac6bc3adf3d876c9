import pytest

from slurm_power.plan.fairness import Debt, debt_factors, jain_index
from slurm_power.plan.policy import Policy


def test_a_debt_is_half_forgotten_after_its_half_life() -> None:
    debt = Debt(lost_gpu_seconds=20.0, had_gpu_seconds=100.0).after(3600.0, 3600.0)
    assert (debt.lost_gpu_seconds, debt.had_gpu_seconds) == (10.0, 50.0)
    more = debt.plus(lost_gpu_seconds=5.0, had_gpu_seconds=50.0)
    assert (more.lost_gpu_seconds, more.had_gpu_seconds) == (15.0, 100.0)


def test_a_debt_is_a_share_of_what_was_had_once_that_is_something() -> None:
    assert Debt(lost_gpu_seconds=2e5, had_gpu_seconds=1e6).ratio == pytest.approx(0.2, rel=0.01)
    assert Debt(lost_gpu_seconds=8.0, had_gpu_seconds=40.0).ratio < 0.003
    assert Debt().ratio == 0.0


def test_who_has_lost_more_is_dearer_within_bounds() -> None:
    factors = debt_factors({"a": 0.0, "b": 0.1, "c": 0.4}, Policy(fairness_ratio=1.0))
    assert factors["a"] == 1.0
    assert 1.0 < factors["b"] < factors["c"] < 2.0
    assert set(debt_factors({"a": 0.3, "b": 0.0}, Policy(fairness_ratio=0.0)).values()) == {1.0}
    assert debt_factors({}, Policy()) == {}


def test_traces_of_losses_move_nothing() -> None:
    assert debt_factors({"a": 0.0, "b": 1e-5}, Policy())["b"] == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], 1.0), ([0.0, 0.0], 1.0), ([0.9, 0.9, 0.9], 1.0), ([1.0, 0.0, 0.0, 0.0], 0.25), ([1.0, 0.5], 0.9)],
)
def test_jain_index(values: list[float], expected: float) -> None:
    assert jain_index(values) == pytest.approx(expected)

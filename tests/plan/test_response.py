"""What a job can do under a cap, on fewer GPUs, and by turns."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.plan.response import CapCurve, Response
from tests.plan.curves_drawn import CONCAVE, DEAF, DENTED, ONE_POINT, any_curve

property_test = settings(max_examples=150, deadline=None)


def test_between_caps_both_are_linear_and_flat_beyond() -> None:
    assert CONCAVE.at_cap(250.0) == pytest.approx((240.0, 0.875))
    assert CONCAVE.at_cap(50.0) == (100.0, 0.25)
    assert CONCAVE.at_cap(700.0) == (350.0, 1.0)


@pytest.mark.parametrize(
    ("caps", "watts", "performance"),
    [((), (), ()), ((1.0, 2.0), (1.0,), (1.0, 1.0)), ((2.0, 2.0), (1.0, 1.0), (1.0, 1.0))],
)
def test_a_curve_without_order_is_refused(
    caps: tuple[float, ...], watts: tuple[float, ...], performance: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="curve"):
        CapCurve(caps_watts=caps, gpu_watts=watts, performance_ratios=performance)


def test_a_floor_above_what_there_is_is_refused() -> None:
    with pytest.raises(ValueError, match="floor"):
        Response(curve=CONCAVE, gpus=8, floor_ratio=1.1)


def test_a_concave_curve_is_one_piece_from_the_floor_up() -> None:
    (piece,) = Response(curve=CONCAVE, gpus=8, floor_ratio=0.8).pieces
    assert [point.cap_watts for point in piece] == [200.0, 300.0, 400.0]
    (piece,) = Response(curve=CONCAVE, gpus=8, floor_ratio=0.875).pieces
    assert piece[0].gpu_watts == pytest.approx(240.0)


def test_a_dent_parts_the_curve_and_mixing_passes_over_it() -> None:
    response = Response(curve=DENTED, gpus=8, floor_ratio=0.8)
    assert len(response.pieces) == 2
    steady, mixed = response.at_watts(331.0), response.mixed_at_watts(331.0)
    assert steady.performance_ratio == pytest.approx(0.912) and not steady.alternates
    assert mixed.performance_ratio == pytest.approx(0.866 + 0.134 * 44.0 / 90.0) and mixed.alternates
    assert mixed.gpu_watts == pytest.approx(331.0)
    # Where the envelope is a measured point, or the curve itself, there is nothing to change between.
    assert not response.mixed_at_watts(287.0).alternates
    assert not response.mixed_at_watts(285.0).alternates


@pytest.mark.parametrize("curve", [DEAF, ONE_POINT])
def test_who_ignores_caps_runs_on_fewer_gpus(curve: CapCurve) -> None:
    response = Response(curve=curve, gpus=8, floor_ratio=0.5)
    least = response.at_watts(0.0)
    assert (least.paused_gpus, least.performance_ratio) == (4, 0.5)
    assert least.gpu_watts == pytest.approx((85.0 + curve.uncapped_watts) / 2.0)
    assert response.at_watts(1000.0).paused_gpus == 0


def test_gpus_are_paused_whole_and_a_job_of_one_gpu_takes_turns() -> None:
    eight = Response(curve=ONE_POINT, gpus=8, floor_ratio=0.5)
    asked = 85.0 + 215.0 * 0.80
    assert eight.at_watts(asked).paused_gpus == 2
    one = Response(curve=ONE_POINT, gpus=1, floor_ratio=0.5)
    assert one.at_watts(asked) == one.uncapped()
    assert one.mixed_at_watts(asked).performance_ratio == pytest.approx(0.8)
    assert one.mixed_at_watts(0.0).performance_ratio == pytest.approx(0.5)


@property_test
@given(any_curve, st.integers(1, 20), st.sampled_from((0.5, 0.75, 0.9, 0.99)), st.floats(0.0, 900.0))
def test_no_setting_passes_what_was_asked_the_floor_or_the_envelope(
    curve: CapCurve, gpus: int, floor_ratio: float, watts: float
) -> None:
    response = Response(curve=curve, gpus=gpus, floor_ratio=floor_ratio)
    least_watts = min(piece[0].gpu_watts for piece in response.pieces)
    steady, mixed = response.at_watts(watts), response.mixed_at_watts(watts)
    assert steady.gpu_watts <= max(watts, least_watts) + 1e-6
    assert mixed.gpu_watts <= max(watts, response.envelope[0].gpu_watts) + 1e-6
    for found in (steady, mixed):
        assert found.performance_ratio >= floor_ratio - 1e-9
    if watts >= least_watts:
        assert steady.performance_ratio <= mixed.performance_ratio + 1e-9
    assert steady.paused_gpus == int(steady.paused_gpus)


@property_test
@given(any_curve, st.integers(1, 20), st.floats(0.0, 900.0))
def test_a_steady_setting_is_what_its_cap_and_its_pauses_say(
    curve: CapCurve, gpus: int, watts: float
) -> None:
    found = Response(curve=curve, gpus=gpus, floor_ratio=0.5).at_watts(watts)
    gpu_watts, performance = curve.at_cap(found.cap_watts)
    running = 1.0 - found.paused_gpus / gpus
    assert found.gpu_watts == pytest.approx(running * gpu_watts + (1.0 - running) * 85.0)
    assert found.performance_ratio == pytest.approx(running * performance)

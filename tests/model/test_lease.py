"""The lease state machine: one row for each way through it."""

import math
from dataclasses import replace

import pytest

from slurm_power.model.lease import (
    Lease,
    LeaseState,
    after_restoring,
    ended,
    granted,
    read_back,
    restored,
    written,
)
from slurm_power.model.site import LimitKind

LEASE = Lease(
    lease_id="L",
    uuid="GPU-a",
    bound=400.0,
    kind=LimitKind.ECONOMIC,
    expires_at_seconds=10.0,
    previous=650.0,
    state=LeaseState.SAVED,
    reason="peak",
)


def test_a_time_to_live_is_half_open() -> None:
    assert not LEASE.expired(9.999)
    assert LEASE.expired(10.0)


@pytest.mark.parametrize(
    ("state", "cap_watts", "expected"),
    [
        (LeaseState.VERIFIED, 400.0, LeaseState.VERIFIED),
        (LeaseState.WRITTEN, 400.0, LeaseState.WRITTEN),
        (LeaseState.VERIFIED, 300.0, LeaseState.SAVED),
        (LeaseState.RESTORING, 400.0, LeaseState.SAVED),
        (LeaseState.SAFE, 400.0, LeaseState.SAVED),
    ],
)
def test_a_renewal_writes_only_what_is_new(state: LeaseState, cap_watts: float, expected: LeaseState) -> None:
    renewed = granted(replace(LEASE, state=state), bound=cap_watts, expires_at_seconds=20.0, reason="still")
    assert (renewed.state, renewed.previous, renewed.expires_at_seconds) == (expected, 650.0, 20.0)


def test_a_cap_never_lifts_a_gpu() -> None:
    assert granted(LEASE, bound=700.0, expires_at_seconds=20.0, reason="").bound == 650.0


@pytest.mark.parametrize(
    ("state", "requested_watts", "enforced_watts", "expected", "drift"),
    [
        (LeaseState.WRITTEN, 400.0, 400.0, LeaseState.VERIFIED, 0),
        (LeaseState.WRITTEN, 400.6, 300.0, LeaseState.VERIFIED, 0),
        (LeaseState.WRITTEN, 650.0, 650.0, LeaseState.SAVED, 0),
        (LeaseState.VERIFIED, 400.0, 650.0, LeaseState.SAVED, 0),
        (LeaseState.VERIFIED, 650.0, 650.0, LeaseState.SAVED, 1),
        (LeaseState.VERIFIED, 300.0, 300.0, LeaseState.SAVED, 1),
        (LeaseState.SAFE, 400.0, 400.0, LeaseState.SAFE, 0),
        (LeaseState.SAFE, 400.0, 650.0, LeaseState.SAFE, 0),
        (LeaseState.SAFE, 650.0, 650.0, LeaseState.RESTORING, 1),
        (LeaseState.RESTORING, 650.0, 650.0, LeaseState.RESTORING, 0),
    ],
)
def test_a_read_back_is_judged(
    state: LeaseState, requested_watts: float, enforced_watts: float, expected: LeaseState, drift: int
) -> None:
    judged = read_back(replace(LEASE, state=state), requested=requested_watts, enforced=enforced_watts)
    assert (judged.state, judged.drift_count) == (expected, drift)
    assert judged.settled == (expected in (LeaseState.VERIFIED, LeaseState.SAFE))


@pytest.mark.parametrize(
    ("kind", "safe_watts", "controller_lost", "target_watts"),
    [
        (LimitKind.ECONOMIC, 350.0, True, 650.0),
        (LimitKind.SAFETY, 350.0, True, 350.0),
        (LimitKind.SAFETY, 690.0, True, 650.0),
        (LimitKind.SAFETY, None, True, 650.0),
        (LimitKind.SAFETY, 350.0, False, 650.0),
    ],
)
def test_an_end_goes_where_its_kind_says(
    kind: LimitKind, safe_watts: float | None, controller_lost: bool, target_watts: float
) -> None:
    lease = ended(replace(LEASE, kind=kind, safe=safe_watts), controller_lost=controller_lost)
    assert (lease.state, lease.bound) == (LeaseState.RESTORING, target_watts)
    assert lease.expires_at_seconds == math.inf
    after = after_restoring(lease)
    assert (after is None) == (target_watts == 650.0)
    assert after is None or after.state is LeaseState.SAFE


def test_restored_means_exactly_and_only_when_restoring() -> None:
    restoring = ended(LEASE, controller_lost=False)
    assert restored(restoring, 650.0)
    assert not restored(restoring, 649.9)
    assert not restored(LEASE, 400.0)
    assert written(LEASE).state is LeaseState.WRITTEN

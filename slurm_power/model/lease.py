"""The life of one leased GPU setting, as a state machine without clock or device.

    FREE --grant--> SAVED --written--> WRITTEN --read back--> VERIFIED
                      ^                                          |  drift: back to SAVED
    FREE <--proved-- RESTORING <--expired, released, lost controller--
                         |
                         +--lost controller, safety--> SAFE   (waits for a controller to end it)

The previous setting is on disk before a lease leaves FREE, and the record is dropped only when the
read-back has proved the restoration: no path from a changed device to FREE goes round RESTORING.

All bounds are upper bounds in the unit of their lever: watts for a power cap, hertz for a clock lock, where
infinity is a clock that is not locked. What a device is asked for can be read back for a power cap only; for
a clock lock ``requested`` is None, and the clock it runs at is all there is to see.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from slurm_power.model.site import LimitKind


class Lever(StrEnum):
    """What is bounded on a GPU."""

    POWER_CAP = "power_cap"
    CLOCK_LOCK = "clock_lock"


# A driver may round what it is asked for (clocks go in steps of 15 MHz); a saved setting was read from it
# and has to come back as it was.
TOLERANCES = {Lever.POWER_CAP: 1.0, Lever.CLOCK_LOCK: 15e6}
EXACT_TOLERANCE_WATTS = 0.0015


class LeaseState(StrEnum):
    """Where a leased setting stands. SAFE: at the static cap, until a controller is there to end it."""

    SAVED = "saved"
    WRITTEN = "written"
    VERIFIED = "verified"
    RESTORING = "restoring"
    SAFE = "safe"


@dataclass(frozen=True, slots=True, order=True)
class LeaseKey:
    """The one setting that a lease is about; there is at most one lease for each."""

    uuid: str
    lever: Lever


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One leased bound on a GPU. Times are monotonic seconds of the node that holds it.

    ``bound`` is what the device has to show now: the cap or lock, or in RESTORING and SAFE where it goes back
    to. ``previous`` is the bound to go back to; ``safe`` the static one a *safety* lease falls to when the
    controller is lost (None: none known, go back to the previous one). Units: see the module.
    """

    lease_id: str
    uuid: str
    bound: float
    kind: LimitKind
    expires_at_seconds: float
    previous: float
    state: LeaseState
    reason: str
    lever: Lever = Lever.POWER_CAP
    job_id: str | None = None
    safe: float | None = None
    drift_count: int = 0

    @property
    def key(self) -> LeaseKey:
        """The setting it is about."""
        return LeaseKey(self.uuid, self.lever)

    def expired(self, now_seconds: float) -> bool:
        """Whether its time to live is over; intervals are half-open."""
        return now_seconds >= self.expires_at_seconds

    @property
    def settled(self) -> bool:
        """Whether the last read-back was as it has to be, so that nothing is to be done but to watch."""
        return self.state in (LeaseState.VERIFIED, LeaseState.SAFE)


def granted(lease: Lease, *, bound: float, expires_at_seconds: float, reason: str) -> Lease:
    """Renew or change a lease that is already there; the saved previous setting is never replaced.

    A cap is an upper bound: it never lifts a GPU above the setting it had before.
    """
    bound = min(bound, lease.previous)
    same = bound == lease.bound and lease.state in (LeaseState.WRITTEN, LeaseState.VERIFIED)
    return replace(
        lease,
        bound=bound,
        expires_at_seconds=expires_at_seconds,
        reason=reason,
        state=lease.state if same else LeaseState.SAVED,
    )


def written(lease: Lease) -> Lease:
    """The device accepted the write; whether it took is for the read-back to say."""
    return replace(lease, state=LeaseState.WRITTEN)


def read_back(lease: Lease, *, requested: float | None, enforced: float) -> Lease:
    """Judge a read-back: as asked, the lease is verified; else it is written again.

    An enforced bound below the requested one is somebody's tighter bound and as good; one above it is none.
    A mismatch right after our own write is a write that has not taken; only a changed request of a settled
    lease is drift, that is, somebody else's write, and is counted. Where the request cannot be read, a
    settled lease whose bound is passed has drifted.
    """
    home = lease.state in (LeaseState.SAFE, LeaseState.RESTORING)
    within = enforced <= lease.bound + TOLERANCES[lease.lever]
    asked = requested is None or near(requested, lease.bound, TOLERANCES[lease.lever])
    if asked and (home or within):
        return lease if home else replace(lease, state=LeaseState.VERIFIED)
    drifted = lease.settled and (requested is None or not asked)
    state = LeaseState.RESTORING if home else LeaseState.SAVED
    return replace(lease, state=state, drift_count=lease.drift_count + drifted)


def ended(lease: Lease, *, controller_lost: bool) -> Lease:
    """Send a lease home: its target becomes the previous setting, or the safe one for a lost safety cap."""
    if controller_lost and lease.kind is LimitKind.SAFETY and lease.safe is not None:
        target = min(lease.safe, lease.previous)
    else:
        target = lease.previous
    return replace(lease, state=LeaseState.RESTORING, bound=target, expires_at_seconds=math.inf)


def restored(lease: Lease, requested: float | None) -> bool:
    """Whether a read-back agrees with a lease in RESTORING being where it has to be.

    One that cannot be read (``requested`` None) contradicts nothing: there the driver's word for its write
    has to do, and is asked for several times.
    """
    home = requested is None or near(requested, lease.bound, EXACT_TOLERANCE_WATTS)
    return lease.state is LeaseState.RESTORING and home


def after_restoring(lease: Lease) -> Lease | None:
    """What a proven restoration leaves: nothing, or at the static cap a lease that a controller must end."""
    if lease.bound == lease.previous:
        return None
    return replace(lease, state=LeaseState.SAFE)


def near(one: float, other: float, tolerance: float) -> bool:
    """Whether two bounds are the same, two missing locks (infinity) included."""
    return one == other or abs(one - other) <= tolerance

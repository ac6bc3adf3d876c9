"""The life of one leased GPU setting, as a state machine without clock or device.

    FREE --grant--> SAVED --written--> WRITTEN --read back--> VERIFIED
                      ^                                          |  drift: back to SAVED
    FREE <--read back-- RESTORING <--expired, released, lost controller--
                            |
                            +--lost controller, safety--> SAFE   (waits for a controller to end it)

The previous setting is on disk before a lease leaves FREE, and the record is dropped only when the
read-back has proved the restoration: no path from a changed device to FREE goes round RESTORING.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from slurm_power.model.site import LimitKind

# A driver may round what it is asked for; a saved setting was read from it and has to come back as it was.
CAP_TOLERANCE_WATTS = 1.0
EXACT_TOLERANCE_WATTS = 0.0015


class LeaseState(StrEnum):
    """Where a leased setting stands. SAFE: at the static cap, until a controller is there to end it."""

    SAVED = "saved"
    WRITTEN = "written"
    VERIFIED = "verified"
    RESTORING = "restoring"
    SAFE = "safe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One GPU's leased power cap. Times are monotonic seconds of the node that holds it.

    ``cap_watts`` is what the device has to show now: the cap, or in RESTORING and SAFE where it goes back to.
    ``previous_watts`` is the cap to go back to; ``safe_watts`` the static cap a *safety* lease falls to
    when the controller is lost (None: no static cap known, go back to the previous one).
    """

    lease_id: str
    uuid: str
    cap_watts: float
    kind: LimitKind
    expires_at_seconds: float
    previous_watts: float
    state: LeaseState
    reason: str
    job_id: str | None = None
    safe_watts: float | None = None
    drift_count: int = 0

    def expired(self, now_seconds: float) -> bool:
        """Whether its time to live is over; intervals are half-open."""
        return now_seconds >= self.expires_at_seconds

    @property
    def settled(self) -> bool:
        """Whether the last read-back was as it has to be, so that nothing is to be done but to watch."""
        return self.state in (LeaseState.VERIFIED, LeaseState.SAFE)


def granted(lease: Lease, *, cap_watts: float, expires_at_seconds: float, reason: str) -> Lease:
    """Renew or change a lease that is already there; the saved previous setting is never replaced.

    A cap is an upper bound: it never lifts a GPU above the setting it had before.
    """
    cap_watts = min(cap_watts, lease.previous_watts)
    same = cap_watts == lease.cap_watts and lease.state in (LeaseState.WRITTEN, LeaseState.VERIFIED)
    return replace(
        lease,
        cap_watts=cap_watts,
        expires_at_seconds=expires_at_seconds,
        reason=reason,
        state=lease.state if same else LeaseState.SAVED,
    )


def written(lease: Lease) -> Lease:
    """The device accepted the write; whether it took is for the read-back to say."""
    return replace(lease, state=LeaseState.WRITTEN)


def read_back(lease: Lease, *, requested_watts: float, enforced_watts: float) -> Lease:
    """Judge a read-back: as asked, the lease is verified; else it is written again.

    An enforced limit below the requested one is somebody's tighter cap and as good; one above it is none.
    A mismatch right after our own write is a write that has not taken; only a changed request of a settled
    lease is drift, that is, somebody else's write, and is counted.
    """
    home = lease.state in (LeaseState.SAFE, LeaseState.RESTORING)
    asked = abs(requested_watts - lease.cap_watts) <= CAP_TOLERANCE_WATTS
    if asked and (home or enforced_watts <= lease.cap_watts + CAP_TOLERANCE_WATTS):
        return lease if home else replace(lease, state=LeaseState.VERIFIED)
    drifted = lease.settled and not asked
    state = LeaseState.RESTORING if home else LeaseState.SAVED
    return replace(lease, state=state, drift_count=lease.drift_count + drifted)


def ended(lease: Lease, *, controller_lost: bool) -> Lease:
    """Send a lease home: its target becomes the previous setting, or the safe one for a lost safety cap."""
    if controller_lost and lease.kind is LimitKind.SAFETY and lease.safe_watts is not None:
        target_watts = min(lease.safe_watts, lease.previous_watts)
    else:
        target_watts = lease.previous_watts
    return replace(lease, state=LeaseState.RESTORING, cap_watts=target_watts, expires_at_seconds=math.inf)


def restored(lease: Lease, requested_watts: float) -> bool:
    """Whether the read-back proves that a lease in RESTORING is where it has to be."""
    home = abs(requested_watts - lease.cap_watts) <= EXACT_TOLERANCE_WATTS
    return lease.state is LeaseState.RESTORING and home


def after_restoring(lease: Lease) -> Lease | None:
    """What a proven restoration leaves: nothing, or at the static cap a lease that a controller must end."""
    if lease.cap_watts == lease.previous_watts:
        return None
    return replace(lease, state=LeaseState.SAFE)

"""What is asked of the leases of a node, and what they answer: orders in, events out."""

from dataclasses import asdict, dataclass
from typing import TypeAlias

from slurm_power.model.lease import Lease
from slurm_power.model.reading import CapReading
from slurm_power.model.site import LimitKind
from slurm_power.wire import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class CapOrder:
    """A cap asked for by the controller; ``expires_at_seconds`` is monotonic time of this node."""

    lease_id: str
    uuid: str
    cap_watts: float
    expires_at_seconds: float
    kind: LimitKind
    job_id: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndOrder:
    """The end of a lease; ``lease_id`` None ends whatever lease the GPU has."""

    uuid: str
    lease_id: str | None
    controller_lost: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseEvent:
    """Something that happened to a lease, as told to the controller."""

    event: str
    lease_id: str
    uuid: str
    job_id: str | None
    cap_watts: float
    requested_watts: float | None = None
    enforced_watts: float | None = None
    detail: str = ""

    def message(self) -> Message:
        """The event as the controller gets it."""
        return {"type": "lease_event", **asdict(self)}


Order: TypeAlias = CapOrder | EndOrder


def lease_event(event: str, lease: Lease, cap: CapReading | None = None, detail: str = "") -> LeaseEvent:
    """An event of a lease, with what the device showed if it was looked at."""
    return LeaseEvent(
        event=event,
        lease_id=lease.lease_id,
        uuid=lease.uuid,
        job_id=lease.job_id,
        cap_watts=lease.cap_watts,
        requested_watts=None if cap is None else cap.requested_watts,
        enforced_watts=None if cap is None else cap.enforced_watts,
        detail=detail,
    )


def refused(order: CapOrder, detail: str) -> LeaseEvent:
    """The event of an order that was not carried out."""
    return LeaseEvent(
        event="refused",
        lease_id=order.lease_id,
        uuid=order.uuid,
        job_id=order.job_id,
        cap_watts=order.cap_watts,
        detail=detail,
    )

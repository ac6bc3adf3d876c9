"""What is asked of the leases of a node, and what they answer: orders in, events out."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from slurm_power.model.lease import Lease, LeaseKey, Lever
from slurm_power.model.site import LimitKind

if TYPE_CHECKING:  # the keeper sends no messages, and does without what signs them
    from slurm_power.wire import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantOrder:
    """A bound asked for by the controller, in watts (power cap) or hertz (clock lock).

    ``expires_at_seconds`` is monotonic time of this node.
    """

    lease_id: str
    uuid: str
    bound: float
    expires_at_seconds: float
    kind: LimitKind
    job_id: str | None
    reason: str
    lever: Lever = Lever.POWER_CAP

    @property
    def key(self) -> LeaseKey:
        """The setting it is about."""
        return LeaseKey(self.uuid, self.lever)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndOrder:
    """The end of a lease; ``lease_id`` None ends whatever lease the setting has."""

    key: LeaseKey
    lease_id: str | None
    controller_lost: bool
    reason: str


Order: TypeAlias = GrantOrder | EndOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingReading:
    """One setting of a GPU: what was asked for last (None: cannot be read), and what is in force."""

    requested: float | None
    enforced: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseEvent:
    """Something that happened to a lease, as told to the controller. Units are those of its lever."""

    event: str
    lease_id: str
    uuid: str
    lever: Lever
    job_id: str | None
    bound: float
    requested: float | None = None
    enforced: float | None = None
    detail: str = ""

    def message(self) -> "Message":
        """The event as the controller gets it."""
        power = self.lever is Lever.POWER_CAP
        return {
            "type": "lease_event",
            "event": self.event,
            "lease_id": self.lease_id,
            "uuid": self.uuid,
            "lever": self.lever.value,
            "job_id": self.job_id,
            **bound_named(self.lever, self.bound),
            "requested_watts" if power else "requested_hertz": self.requested,
            "enforced_watts" if power else "enforced_hertz": self.enforced,
            "detail": self.detail,
        }


def bound_named(lever: Lever, bound: float) -> "Message":
    """A bound under the name that says its unit; null is a clock without a lock."""
    return {_NAMES[lever]: None if math.isinf(bound) else bound}


_NAMES = {Lever.POWER_CAP: "cap_watts", Lever.CLOCK_LOCK: "lock_hertz"}


def bound_text(lever: Lever, bound: float) -> str:
    """A bound for people."""
    if math.isinf(bound):
        return "no lock"
    return f"{bound:g} W" if lever is Lever.POWER_CAP else f"{bound / 1e6:g} MHz"


def lease_event(event: str, lease: Lease, seen: SettingReading | None = None, detail: str = "") -> LeaseEvent:
    """An event of a lease, with what the device showed if it was looked at."""
    return LeaseEvent(
        event=event,
        lease_id=lease.lease_id,
        uuid=lease.uuid,
        lever=lease.lever,
        job_id=lease.job_id,
        bound=lease.bound,
        requested=None if seen is None else seen.requested,
        enforced=None if seen is None else seen.enforced,
        detail=detail,
    )


def refused(order: GrantOrder, detail: str) -> LeaseEvent:
    """The event of an order that was not carried out."""
    return LeaseEvent(
        event="refused",
        lease_id=order.lease_id,
        uuid=order.uuid,
        lever=order.lever,
        job_id=order.job_id,
        bound=order.bound,
        detail=detail,
    )

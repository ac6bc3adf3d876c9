"""Leased power caps on this node's GPUs: the state machine, driven against devices and save file.

Orders come from any thread and only wait; ``step`` carries them out for one GPU. At most one ``step`` of a
GPU runs at a time, those of different GPUs may run at once, so that a GPU that hangs delays no other.
"""

import math
import threading
from collections.abc import Iterable
from dataclasses import replace

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
from slurm_power.model.reading import CapReading
from slurm_power.model.site import LimitKind
from slurm_power.node.orders import CapOrder, EndOrder, LeaseEvent, Order, lease_event, refused
from slurm_power.node.saved_settings import SavedSetting, SavedSettings
from slurm_power.ports import DeviceError, Gpus

# How long a controller that is back may take to renew or end the static caps it finds.
SAFE_GRACE_SECONDS = 60.0
# Read-backs in a row that may differ from what was written before it counts as refused.
SETTLE_STEPS = 3
# Steps in a row that must show a restored setting before its record is dropped: one look may be stale.
PROOF_STEPS = 3


class CapLeases:
    """All leases of this node. A GPU that carries a cap of ours always has its record in the save file."""

    def __init__(
        self, gpus: Gpus, saved: SavedSettings, *, boot_id: str, safe_cap_watts: float | None = None
    ) -> None:
        self._gpus = gpus
        self._saved = saved
        self._boot_id = boot_id
        self._safe_cap_watts = safe_cap_watts
        self._lock = threading.Lock()
        self._orders: dict[str, list[Order]] = {}
        self._leases: dict[str, Lease] = {}
        self._failing: dict[str, str] = {}
        self._other_boot: dict[str, float] = {}
        self._misses: dict[str, int] = {}
        self._looks: dict[str, int] = {}
        self._sent_home: set[str] = set()
        self._drifted: set[str] = set()
        self.drift_count = 0
        self.controller_connected = False

    def recover(self) -> int:
        """Send home what a daemon before us left behind. Returns how many leases; raises OSError."""
        for record in self._saved.load().values():
            lease = Lease(
                lease_id=record.lease_id,
                uuid=record.uuid,
                cap_watts=record.cap_watts,
                kind=record.kind,
                expires_at_seconds=math.inf,
                previous_watts=record.previous_watts,
                state=LeaseState.VERIFIED,
                reason="left behind by the daemon before",
                job_id=record.job_id,
                safe_watts=self._safe_cap_watts if record.safe_watts is None else record.safe_watts,
            )
            self._leases[record.uuid] = ended(lease, controller_lost=True)
            if record.boot_id not in ("", self._boot_id):
                self._other_boot[record.uuid] = record.cap_watts
        return len(self._leases)

    def order(self, order: Order) -> None:
        """Let an order wait for the next step of its GPU."""
        with self._lock:
            self._orders.setdefault(order.uuid, []).append(order)

    def release(self, lease_ids: Iterable[str], reason: str) -> set[str]:
        """Order the end of these leases; returns the GPUs concerned. Unknown ids are nothing to end."""
        wanted = set(lease_ids)
        found = set()
        with self._lock:
            for uuid, lease_id in self._lease_ids():
                if lease_id in wanted:
                    end = EndOrder(uuid=uuid, lease_id=lease_id, controller_lost=False, reason=reason)
                    self._orders.setdefault(uuid, []).append(end)
                    found.add(uuid)
        return found

    def _lease_ids(self) -> list[tuple[str, str]]:
        """(GPU, lease) of all leases that are there or on order, each once."""
        held = [(uuid, lease.lease_id) for uuid, lease in self._leases.items()]
        asked = [
            (uuid, order.lease_id)
            for uuid, orders in self._orders.items()
            for order in orders
            if isinstance(order, CapOrder)
        ]
        return list(dict.fromkeys(held + asked))

    def release_job(self, job_id: str, reason: str) -> set[str]:
        """Order the end of a job's economic leases; a safety cap outlives its job."""
        economic = {lease.lease_id for lease in self.leases() if _economic_of(lease, job_id)}
        with self._lock:
            waiting = [order for orders in self._orders.values() for order in orders]
        economic |= {
            order.lease_id for order in waiting if isinstance(order, CapOrder) and _economic_of(order, job_id)
        }
        return self.release(economic, reason)

    def end_all(self, reason: str) -> set[str]:
        """Order the end of every lease as if the controller were lost; returns the GPUs concerned."""
        uuids = self.busy_uuids()
        for uuid in uuids:
            self.order(EndOrder(uuid=uuid, lease_id=None, controller_lost=True, reason=reason))
        return uuids

    def leases(self) -> tuple[Lease, ...]:
        """The leases as they stand."""
        with self._lock:
            return tuple(self._leases.values())

    def busy_uuids(self) -> set[str]:
        """GPUs that have a lease or an order waiting."""
        with self._lock:
            return set(self._leases) | set(self._orders)

    def unsettled_uuids(self) -> set[str]:
        """GPUs whose next step is wanted soon: an order waits, or the device is not yet as it has to be."""
        with self._lock:
            return set(self._orders) | {uuid for uuid, lease in self._leases.items() if not lease.settled}

    def tick(self, now_seconds: float) -> list[LeaseEvent]:
        """Step every GPU that has a lease or an order."""
        return [event for uuid in sorted(self.busy_uuids()) for event in self.step(uuid, now_seconds)]

    def step(self, uuid: str, now_seconds: float) -> list[LeaseEvent]:
        """Carry out what waits for one GPU, watch its lease and return what happened."""
        events: list[LeaseEvent] = []
        with self._lock:
            orders = self._orders.pop(uuid, [])
        for order in orders:
            if isinstance(order, CapOrder):
                self._grant(order, now_seconds, events)
            else:
                self._end(order)
        lease = self._leases.get(uuid)
        if lease is None:
            return events
        if lease.state is LeaseState.SAFE:
            lease = self._with_grace(lease, now_seconds)
        if lease.expired(now_seconds):
            lease = self._expire(lease, events)
        try:
            self._advance(lease, events)
        except DeviceError as error:
            self._note_failure(uuid, str(error), events)
        except OSError as error:
            self._note_failure(uuid, f"the save file: {error}", events)
        return events

    def _grant(self, order: CapOrder, now_seconds: float, events: list[LeaseEvent]) -> None:
        if now_seconds >= order.expires_at_seconds:
            events.append(refused(order, "it expired before it could be carried out"))
            return
        old = self._leases.get(order.uuid)
        try:
            base = self._fresh(order) if old is None else self._taken_over(old, order)
            lease = granted(
                base,
                cap_watts=order.cap_watts,
                expires_at_seconds=order.expires_at_seconds,
                reason=order.reason,
            )
            self._save(lease)
        except DeviceError as error:
            events.append(refused(order, str(error)))
        except OSError as error:
            events.append(refused(order, f"the previous setting could not be saved: {error}"))
        else:
            self._other_boot.pop(order.uuid, None)
            if not lease.settled:
                self._forget_progress(order.uuid)
            self._set(lease)

    def _fresh(self, order: CapOrder) -> Lease:
        return Lease(
            lease_id=order.lease_id,
            uuid=order.uuid,
            cap_watts=order.cap_watts,
            kind=order.kind,
            expires_at_seconds=order.expires_at_seconds,
            previous_watts=self._gpus.read_cap(order.uuid).requested_watts,
            state=LeaseState.SAVED,
            reason=order.reason,
            job_id=order.job_id,
            safe_watts=self._safe_cap_watts,
        )

    def _taken_over(self, old: Lease, order: CapOrder) -> Lease:
        """The newest grant of a GPU counts, whoever gave the one before; the saved setting stays."""
        if old.uuid in self._other_boot:
            previous_watts = self._gpus.read_cap(old.uuid).requested_watts
            if abs(previous_watts - self._other_boot[old.uuid]) > 1.0:
                old = replace(old, previous_watts=previous_watts)
        return replace(old, lease_id=order.lease_id, kind=order.kind, job_id=order.job_id)

    def _save(self, lease: Lease) -> None:
        """Have the way back on disk before anything is written; raises OSError if it is not there."""
        record = SavedSetting(
            uuid=lease.uuid,
            previous_watts=lease.previous_watts,
            cap_watts=lease.cap_watts,
            kind=lease.kind,
            lease_id=lease.lease_id,
            boot_id=self._boot_id,
            safe_watts=lease.safe_watts,
            job_id=lease.job_id,
        )
        try:
            self._saved.put(record)
        except OSError:
            old = self._saved.records().get(lease.uuid)
            if old is None or _way_back(old) != _way_back(record):
                raise

    def _end(self, order: EndOrder) -> None:
        lease = self._leases.get(order.uuid)
        if lease is None or order.lease_id not in (None, lease.lease_id):
            return
        # What is already at its static cap stays there when the controller is lost once more.
        if order.controller_lost and lease.state in (LeaseState.SAFE, LeaseState.RESTORING):
            return
        self._forget_progress(lease.uuid)
        self._set(replace(ended(lease, controller_lost=order.controller_lost), reason=order.reason))

    def _with_grace(self, lease: Lease, now_seconds: float) -> Lease:
        """A static cap stays while there is no controller; one that is back gets a while to end it."""
        if self.controller_connected and math.isinf(lease.expires_at_seconds):
            lease = replace(lease, expires_at_seconds=now_seconds + SAFE_GRACE_SECONDS)
        elif not self.controller_connected:
            lease = replace(lease, expires_at_seconds=math.inf)
        self._set(lease)
        return lease

    def _expire(self, lease: Lease, events: list[LeaseEvent]) -> Lease:
        """A lapsed lease means that its controller is lost; a lapsed static cap, that nobody wants it."""
        lost = lease.state is not LeaseState.SAFE
        events.append(lease_event("expired", lease, detail=f"not renewed; it was: {lease.reason}"))
        lease = replace(ended(lease, controller_lost=lost), reason="expired")
        self._forget_progress(lease.uuid)
        self._set(lease)
        return lease

    def _advance(self, lease: Lease, events: list[LeaseEvent]) -> None:
        """Look at the device, write where it differs, look again; the state machine judges each look."""
        cap = self._gpus.read_cap(lease.uuid)
        if lease.uuid in self._other_boot and abs(cap.requested_watts - self._other_boot[lease.uuid]) > 1.0:
            self._drop(lease, cap, events, "the cap was gone with the last boot")
            return
        lease = self._judge(lease, cap, events)
        if self._write_is_due(lease, cap):
            lease = self._written(lease, cap)
            cap = self._gpus.read_cap(lease.uuid)
            lease = self._judge(lease, cap, events)
        if restored(lease, cap.requested_watts):
            self._looks[lease.uuid] = self._looks.get(lease.uuid, 0) + 1
            if self._looks[lease.uuid] >= PROOF_STEPS:
                self._arrive(lease, cap, events)
        elif lease.settled:
            self._clear(lease.uuid)
        else:
            self._looks.pop(lease.uuid, None)
            self._note_miss(lease, cap, events)

    def _write_is_due(self, lease: Lease, cap: CapReading) -> bool:
        """Whether to write now. What was just written gets its time to show before it is written again.

        The way home begins with a write even if the device seems to be there: it may not yet show our cap.
        """
        if lease.settled:
            return False
        if lease.state is LeaseState.RESTORING and lease.uuid not in self._sent_home:
            return True
        arrived = restored(lease, cap.requested_watts)
        return not arrived and self._misses.get(lease.uuid, 0) % SETTLE_STEPS == 0

    def _written(self, lease: Lease, cap: CapReading) -> Lease:
        if lease.state is not LeaseState.RESTORING:
            self._gpus.set_cap_watts(lease.uuid, lease.cap_watts)
            lease = written(lease)
            self._set(lease)
            return lease
        try:
            self._gpus.set_cap_watts(lease.uuid, lease.cap_watts)
        except DeviceError:
            if not restored(lease, cap.requested_watts):
                raise
        self._sent_home.add(lease.uuid)
        return lease

    def _judge(self, lease: Lease, cap: CapReading, events: list[LeaseEvent]) -> Lease:
        judged = read_back(lease, requested_watts=cap.requested_watts, enforced_watts=cap.enforced_watts)
        if judged.drift_count > lease.drift_count:
            self.drift_count += 1
            self._drifted.add(lease.uuid)
            events.append(lease_event("drifted", lease, cap, "somebody else wrote the limit"))
        elif judged.state is LeaseState.VERIFIED and lease.state is not LeaseState.VERIFIED:
            below = cap.enforced_watts < cap.requested_watts - 1.0
            detail = "clamped further down out of band" if below else ""
            event = "repaired" if lease.uuid in self._drifted else "verified"
            events.append(lease_event(event, judged, cap, detail))
        if judged is not lease:
            self._set(judged)
        return judged

    def _arrive(self, lease: Lease, cap: CapReading, events: list[LeaseEvent]) -> None:
        after = after_restoring(lease)
        if after is None:
            self._drop(lease, cap, events, lease.reason)
            return
        self._set(after)
        event = "repaired" if lease.uuid in self._drifted else "restored"
        self._clear(lease.uuid)
        events.append(lease_event(event, after, cap, f"at the static safe cap; {lease.reason}"))

    def _drop(self, lease: Lease, cap: CapReading, events: list[LeaseEvent], detail: str) -> None:
        self._saved.drop(lease.uuid)
        with self._lock:
            del self._leases[lease.uuid]
        self._clear(lease.uuid)
        self._other_boot.pop(lease.uuid, None)
        events.append(lease_event("restored", lease, cap, detail))

    def _note_miss(self, lease: Lease, cap: CapReading, events: list[LeaseEvent]) -> None:
        """A device may need a moment to show what was written; only a lasting difference is a failure."""
        self._misses[lease.uuid] = self._misses.get(lease.uuid, 0) + 1
        if self._misses[lease.uuid] >= SETTLE_STEPS:
            shown = f"{cap.requested_watts:g} W requested, {cap.enforced_watts:g} W enforced"
            text = f"the device shows {shown} after {lease.cap_watts:g} W was written"
            self._note_failure(lease.uuid, text, events)

    def _clear(self, uuid: str) -> None:
        self._failing.pop(uuid, None)
        self._drifted.discard(uuid)
        self._forget_progress(uuid)

    def _forget_progress(self, uuid: str) -> None:
        """What was written and seen so far was for another target."""
        self._misses.pop(uuid, None)
        self._looks.pop(uuid, None)
        self._sent_home.discard(uuid)

    def _note_failure(self, uuid: str, text: str, events: list[LeaseEvent]) -> None:
        """Tell a failure once, not at each try; the lease stays and is tried again for ever."""
        if self._failing.get(uuid) != text:
            self._failing[uuid] = text
            events.append(lease_event("refused", self._leases[uuid], detail=text))

    def _set(self, lease: Lease) -> None:
        with self._lock:
            self._leases[lease.uuid] = lease


def _economic_of(lease: Lease | CapOrder, job_id: str) -> bool:
    return lease.job_id == job_id and lease.kind is LimitKind.ECONOMIC


def _way_back(record: SavedSetting) -> tuple[float, LimitKind, float | None]:
    return record.previous_watts, record.kind, record.safe_watts

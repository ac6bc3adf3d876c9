"""Leased settings of this node's GPUs: the state machine, driven against devices and save file.

Orders come from any thread and only wait; ``step`` carries them out for one GPU. At most one ``step`` of a
GPU runs at a time, those of different GPUs may run at once, so that a GPU that hangs delays no other.
"""

import math
from dataclasses import replace

from slurm_power.model.lease import (
    TOLERANCES,
    Lease,
    LeaseKey,
    LeaseState,
    Lever,
    after_restoring,
    ended,
    granted,
    near,
    read_back,
    restored,
    written,
)
from slurm_power.model.site import LimitKind
from slurm_power.node.gpu_settings import GpuSettings
from slurm_power.node.lease_book import LeaseBook
from slurm_power.node.orders import (
    EndOrder,
    GrantOrder,
    LeaseEvent,
    SettingReading,
    bound_text,
    lease_event,
    refused,
)
from slurm_power.node.saved_settings import SavedSetting, SavedSettings
from slurm_power.ports import DeviceError, Gpus

# How long a controller that is back may take to renew or end the static caps it finds.
SAFE_GRACE_SECONDS = 60.0
# Read-backs in a row that may differ from what was written before it counts as refused.
SETTLE_STEPS = 3
# Steps in a row that must show a restored setting before its record is dropped: one look may be stale.
PROOF_STEPS = 3


class Leases(LeaseBook):
    """All leases of this node. A GPU that carries a bound of ours always has its record in the save file.

    ``safe_cap_watts`` is the static cap of safety leases, ``standing_lock_hertz`` the clock lock that the
    site itself sets at boot: it cannot be read from a device, so it is restored by name.
    """

    def __init__(
        self,
        gpus: Gpus,
        saved: SavedSettings,
        *,
        boot_id: str,
        safe_cap_watts: float | None = None,
        standing_lock_hertz: float | None = None,
    ) -> None:
        super().__init__()
        self._settings = GpuSettings(gpus)
        self._saved = saved
        self._boot_id = boot_id
        self._safe = {Lever.POWER_CAP: safe_cap_watts, Lever.CLOCK_LOCK: None}
        self._standing_lock_hertz = math.inf if standing_lock_hertz is None else standing_lock_hertz
        self._failing: dict[LeaseKey, str] = {}
        self._other_boot: dict[LeaseKey, float] = {}
        self._misses: dict[LeaseKey, int] = {}
        self._looks: dict[LeaseKey, int] = {}
        self._sent_home: set[LeaseKey] = set()
        self._drifted: set[LeaseKey] = set()
        self._yielded_until_seconds = -math.inf
        self.drift_count = 0
        self.controller_connected = False

    def recover(self) -> int:
        """Send home what a daemon before us left behind. Returns how many leases; raises OSError."""
        for record in self._saved.load().values():
            lease = Lease(
                lease_id=record.lease_id,
                uuid=record.uuid,
                lever=record.lever,
                bound=record.bound,
                kind=record.kind,
                expires_at_seconds=math.inf,
                previous=record.previous,
                state=LeaseState.VERIFIED,
                reason="left behind by the daemon before",
                job_id=record.job_id,
                safe=self._safe[record.lever] if record.safe is None else record.safe,
            )
            self.put(ended(lease, controller_lost=True))
            if record.boot_id not in ("", self._boot_id):
                self._other_boot[record.key] = record.bound
        return len(self.leases())

    def yield_until(self, until_seconds: float) -> set[str]:
        """Leave the GPUs to somebody else until then: end economic leases, grant none, let foreign bounds be.

        Safety leases go on: a breaker's limit is nobody's to give away. Returns the GPUs concerned.
        """
        self._yielded_until_seconds = until_seconds
        return self.release_economic("the node is yielded to its administrator")

    def yielded(self, now_seconds: float) -> bool:
        """Whether the node is yielded now."""
        return now_seconds < self._yielded_until_seconds

    def tick(self, now_seconds: float) -> list[LeaseEvent]:
        """Step every GPU that has a lease or an order."""
        return [event for uuid in sorted(self.busy_uuids()) for event in self.step(uuid, now_seconds)]

    def step(self, uuid: str, now_seconds: float) -> list[LeaseEvent]:
        """Carry out what waits for one GPU, watch its leases and return what happened."""
        events: list[LeaseEvent] = []
        for order in self.take_orders(uuid):
            if isinstance(order, GrantOrder):
                self._grant(order, now_seconds, events)
            else:
                self._end(order)
        for lever in Lever:
            self._watch(LeaseKey(uuid, lever), now_seconds, events)
        return events

    def _watch(self, key: LeaseKey, now_seconds: float, events: list[LeaseEvent]) -> None:
        lease = self.get(key)
        if lease is None:
            return
        if lease.state is LeaseState.SAFE:
            lease = self._with_grace(lease, now_seconds)
        if lease.expired(now_seconds):
            lease = self._expire(lease, events)
        try:
            self._advance(lease, now_seconds, events)
        except DeviceError as error:
            self._looks.pop(key, None)
            self._note_failure(key, str(error), events)
        except OSError as error:
            self._note_failure(key, f"the save file: {error}", events)

    def _grant(self, order: GrantOrder, now_seconds: float, events: list[LeaseEvent]) -> None:
        if now_seconds >= order.expires_at_seconds:
            events.append(refused(order, "it expired before it could be carried out"))
            return
        if order.kind is LimitKind.ECONOMIC and self.yielded(now_seconds):
            events.append(refused(order, "the node is yielded to its administrator"))
            return
        old = self.get(order.key)
        try:
            base = self._fresh(order) if old is None else self._taken_over(old, order)
            lease = granted(
                base, bound=order.bound, expires_at_seconds=order.expires_at_seconds, reason=order.reason
            )
            self._save(lease)
        except DeviceError as error:
            events.append(refused(order, str(error)))
        except OSError as error:
            events.append(refused(order, f"the previous setting could not be saved: {error}"))
        else:
            self._other_boot.pop(order.key, None)
            if not lease.settled:
                self._forget_progress(order.key)
            self.put(lease)

    def _fresh(self, order: GrantOrder) -> Lease:
        requested = self._settings.read(order.key).requested
        return Lease(
            lease_id=order.lease_id,
            uuid=order.uuid,
            lever=order.lever,
            bound=order.bound,
            kind=order.kind,
            expires_at_seconds=order.expires_at_seconds,
            previous=self._standing_lock_hertz if requested is None else requested,
            state=LeaseState.SAVED,
            reason=order.reason,
            job_id=order.job_id,
            safe=self._safe[order.lever],
        )

    def _taken_over(self, old: Lease, order: GrantOrder) -> Lease:
        """The newest grant of a setting counts, whoever gave the one before; what was saved stays."""
        if old.key in self._other_boot:
            requested = self._settings.read(old.key).requested
            if requested is not None and self._not_ours_after_boot(old.key, requested):
                old = replace(old, previous=requested)
        return replace(old, lease_id=order.lease_id, kind=order.kind, job_id=order.job_id)

    def _not_ours_after_boot(self, key: LeaseKey, requested: float) -> bool:
        """Whether a boot since the bound was written has taken it away: the device shows something else."""
        return key in self._other_boot and not near(requested, self._other_boot[key], TOLERANCES[key.lever])

    def _save(self, lease: Lease) -> None:
        """Have the way back on disk before anything is written; raises OSError if it is not there."""
        record = self._record(lease)
        try:
            self._saved.put(record)
        except OSError:
            old = self._saved.records().get(lease.key)
            if old is None or _way_back(old) != _way_back(record):
                raise

    def _record(self, lease: Lease) -> SavedSetting:
        return SavedSetting(
            uuid=lease.uuid,
            lever=lease.lever,
            previous=lease.previous,
            bound=lease.bound,
            kind=lease.kind,
            lease_id=lease.lease_id,
            boot_id=self._boot_id,
            safe=lease.safe,
            job_id=lease.job_id,
        )

    def _end(self, order: EndOrder) -> None:
        lease = self.get(order.key)
        if lease is None or order.lease_id not in (None, lease.lease_id):
            return
        # What is already at its static cap stays there when the controller is lost once more.
        if order.controller_lost and lease.state in (LeaseState.SAFE, LeaseState.RESTORING):
            return
        self._forget_progress(lease.key)
        self.put(replace(ended(lease, controller_lost=order.controller_lost), reason=order.reason))

    def _with_grace(self, lease: Lease, now_seconds: float) -> Lease:
        """A static cap stays while there is no controller; one that is back gets a while to end it."""
        if self.controller_connected and math.isinf(lease.expires_at_seconds):
            lease = replace(lease, expires_at_seconds=now_seconds + SAFE_GRACE_SECONDS)
        elif not self.controller_connected:
            lease = replace(lease, expires_at_seconds=math.inf)
        self.put(lease)
        return lease

    def _expire(self, lease: Lease, events: list[LeaseEvent]) -> Lease:
        """A lapsed lease means that its controller is lost; a lapsed static cap, that nobody wants it."""
        lost = lease.state is not LeaseState.SAFE
        events.append(lease_event("expired", lease, detail=f"not renewed; it was: {lease.reason}"))
        lease = replace(ended(lease, controller_lost=lost), reason="expired")
        self._forget_progress(lease.key)
        self.put(lease)
        return lease

    def _advance(self, lease: Lease, now_seconds: float, events: list[LeaseEvent]) -> None:
        """Look at the device, write where it differs, look again; the state machine judges each look."""
        seen = self._settings.read(lease.key)
        if seen.requested is not None and self._not_ours_after_boot(lease.key, seen.requested):
            self._drop(lease, seen, events, "the cap was gone with the last boot")
            return
        if self._is_left_to_others(lease, seen, now_seconds):
            self._leave_to_others(lease, seen, events)
            return
        lease = self._judge(lease, seen, events)
        if self._write_is_due(lease, seen):
            lease = self._written(lease, seen)
            seen = self._settings.read(lease.key)
            lease = self._judge(lease, seen, events)
        if restored(lease, seen.requested):
            self._looks[lease.key] = self._looks.get(lease.key, 0) + 1
            if self._looks[lease.key] >= PROOF_STEPS:
                self._arrive(lease, seen, events)
        elif lease.settled:
            self._clear(lease.key)
        else:
            self._looks.pop(lease.key, None)
            self._note_miss(lease, seen, events)

    def _is_left_to_others(self, lease: Lease, seen: SettingReading, now_seconds: float) -> bool:
        """Whether a yielded node's GPU shows neither what we wrote nor what was there before us."""
        if lease.kind is not LimitKind.ECONOMIC or seen.requested is None or not self.yielded(now_seconds):
            return False
        record = self._saved.records().get(lease.key)
        known = (lease.previous,) if record is None else (record.bound, lease.previous)
        tolerance = TOLERANCES[lease.lever]
        return not any(near(seen.requested, bound, tolerance) for bound in known)

    def _leave_to_others(self, lease: Lease, seen: SettingReading, events: list[LeaseEvent]) -> None:
        """Let a foreign bound be, once it has been seen often enough to be no stale look at one of ours."""
        self._looks[lease.key] = self._looks.get(lease.key, 0) + 1
        if self._looks[lease.key] >= PROOF_STEPS:
            shown = bound_text(lease.lever, seen.enforced if seen.requested is None else seen.requested)
            self._drop(lease, seen, events, f"yielded: somebody else's {shown} stays", "yielded")

    def _write_is_due(self, lease: Lease, seen: SettingReading) -> bool:
        """Whether to write now. What was just written gets its time to show before it is written again.

        The way home begins with a write even if the device seems to be there: it may not yet show our bound.
        Where nothing can be read back, every look on the way home is a write.
        """
        if lease.settled:
            return False
        if lease.state is LeaseState.RESTORING and (
            lease.key not in self._sent_home or seen.requested is None
        ):
            return True
        arrived = restored(lease, seen.requested)
        return not arrived and self._misses.get(lease.key, 0) % SETTLE_STEPS == 0

    def _written(self, lease: Lease, seen: SettingReading) -> Lease:
        if lease.key in self._other_boot:
            # From now on the device shows what this boot has written: the record has to say so first.
            self._saved.put(self._record(lease))
            del self._other_boot[lease.key]
        if lease.state is not LeaseState.RESTORING:
            self._settings.write(lease.key, lease.bound)
            lease = written(lease)
            self.put(lease)
            return lease
        try:
            self._settings.write(lease.key, lease.bound)
        except DeviceError:
            if seen.requested is None or not restored(lease, seen.requested):
                raise
        self._sent_home.add(lease.key)
        return lease

    def _judge(self, lease: Lease, seen: SettingReading, events: list[LeaseEvent]) -> Lease:
        judged = read_back(lease, requested=seen.requested, enforced=seen.enforced)
        if judged.drift_count > lease.drift_count:
            self.drift_count += 1
            self._drifted.add(lease.key)
            events.append(lease_event("drifted", lease, seen, "somebody else wrote the limit"))
        elif judged.state is LeaseState.VERIFIED and lease.state is not LeaseState.VERIFIED:
            below = seen.requested is not None and seen.enforced < seen.requested - TOLERANCES[lease.lever]
            detail = "clamped further down out of band" if below else ""
            event = "repaired" if lease.key in self._drifted else "verified"
            events.append(lease_event(event, judged, seen, detail))
        if judged is not lease:
            self.put(judged)
        return judged

    def _arrive(self, lease: Lease, seen: SettingReading, events: list[LeaseEvent]) -> None:
        after = after_restoring(lease)
        if after is None:
            self._drop(lease, seen, events, lease.reason)
            return
        self.put(after)
        event = "repaired" if lease.key in self._drifted else "restored"
        self._clear(lease.key)
        events.append(lease_event(event, after, seen, f"at the static safe cap; {lease.reason}"))

    def _drop(
        self,
        lease: Lease,
        seen: SettingReading,
        events: list[LeaseEvent],
        detail: str,
        event: str = "restored",
    ) -> None:
        self._saved.drop(lease.key)
        self.drop(lease.key)
        self._clear(lease.key)
        self._other_boot.pop(lease.key, None)
        events.append(lease_event(event, lease, seen, detail))

    def _note_miss(self, lease: Lease, seen: SettingReading, events: list[LeaseEvent]) -> None:
        """A device may need a moment to show what was written; only a lasting difference is a failure."""
        self._misses[lease.key] = self._misses.get(lease.key, 0) + 1
        if self._misses[lease.key] >= SETTLE_STEPS:
            requested = (
                "" if seen.requested is None else f"{bound_text(lease.lever, seen.requested)} requested, "
            )
            shown = f"{requested}{bound_text(lease.lever, seen.enforced)} enforced"
            text = f"the device shows {shown} after {bound_text(lease.lever, lease.bound)} was written"
            self._note_failure(lease.key, text, events)

    def _clear(self, key: LeaseKey) -> None:
        self._failing.pop(key, None)
        self._drifted.discard(key)
        self._forget_progress(key)

    def _forget_progress(self, key: LeaseKey) -> None:
        """What was written and seen so far was for another target."""
        self._misses.pop(key, None)
        self._looks.pop(key, None)
        self._sent_home.discard(key)

    def _note_failure(self, key: LeaseKey, text: str, events: list[LeaseEvent]) -> None:
        """Tell a failure once, not at each try; the lease stays and is tried again for ever."""
        lease = self.get(key)
        if lease is not None and self._failing.get(key) != text:
            self._failing[key] = text
            events.append(lease_event("refused", lease, detail=text))


def _way_back(record: SavedSetting) -> tuple[float, LimitKind, float | None]:
    return record.previous, record.kind, record.safe

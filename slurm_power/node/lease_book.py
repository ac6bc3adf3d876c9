"""The leases of a node and the orders that wait for them; may be asked from any thread."""

import threading
from collections.abc import Iterable

from slurm_power.model.lease import Lease, LeaseKey
from slurm_power.model.site import LimitKind
from slurm_power.node.orders import EndOrder, GrantOrder, Order


class LeaseBook:
    """What is held and what is wanted. Orders only wait here; a step of their GPU carries them out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: dict[str, list[Order]] = {}
        self._leases: dict[LeaseKey, Lease] = {}

    def order(self, order: Order) -> None:
        """Let an order wait for the next step of its GPU."""
        uuid = order.uuid if isinstance(order, GrantOrder) else order.key.uuid
        with self._lock:
            self._orders.setdefault(uuid, []).append(order)

    def take_orders(self, uuid: str) -> list[Order]:
        """The orders that wait for a GPU; they wait no longer."""
        with self._lock:
            return self._orders.pop(uuid, [])

    def get(self, key: LeaseKey) -> Lease | None:
        """The lease of a setting, None while it is free."""
        with self._lock:
            return self._leases.get(key)

    def put(self, lease: Lease) -> None:
        """Add or replace a lease."""
        with self._lock:
            self._leases[lease.key] = lease

    def drop(self, key: LeaseKey) -> None:
        """Forget the lease of a setting that is free again."""
        with self._lock:
            del self._leases[key]

    def leases(self) -> tuple[Lease, ...]:
        """The leases as they stand."""
        with self._lock:
            return tuple(self._leases.values())

    def release(self, lease_ids: Iterable[str], reason: str) -> set[str]:
        """Order the end of these leases; returns the GPUs concerned. Unknown ids are nothing to end."""
        wanted = set(lease_ids)
        found = set()
        with self._lock:
            for key, lease_id in self._lease_ids():
                if lease_id in wanted:
                    end = EndOrder(key=key, lease_id=lease_id, controller_lost=False, reason=reason)
                    self._orders.setdefault(key.uuid, []).append(end)
                    found.add(key.uuid)
        return found

    def _lease_ids(self) -> list[tuple[LeaseKey, str]]:
        """(setting, lease) of all leases that are there or on order, each once."""
        held = [(key, lease.lease_id) for key, lease in self._leases.items()]
        asked = [(order.key, order.lease_id) for order in self._waiting()]
        return list(dict.fromkeys(held + asked))

    def _waiting(self) -> list[GrantOrder]:
        return [
            order for orders in self._orders.values() for order in orders if isinstance(order, GrantOrder)
        ]

    def release_job(self, job_id: str, reason: str) -> set[str]:
        """Order the end of a job's economic leases; a safety cap outlives its job."""
        return self._release_economic(reason, job_id)

    def release_economic(self, reason: str) -> set[str]:
        """Order the end of every economic lease; returns the GPUs concerned."""
        return self._release_economic(reason, None)

    def _release_economic(self, reason: str, job_id: str | None) -> set[str]:
        with self._lock:
            candidates: list[Lease | GrantOrder] = [*self._leases.values(), *self._waiting()]
        ids = {
            candidate.lease_id
            for candidate in candidates
            if candidate.kind is LimitKind.ECONOMIC and job_id in (None, candidate.job_id)
        }
        return self.release(ids, reason)

    def end_all(self, reason: str) -> set[str]:
        """Order the end of every lease as if the controller were lost; returns the GPUs concerned."""
        with self._lock:
            keys = set(self._leases) | {order.key for order in self._waiting()}
        for key in sorted(keys):
            self.order(EndOrder(key=key, lease_id=None, controller_lost=True, reason=reason))
        return {key.uuid for key in keys}

    def busy_uuids(self) -> set[str]:
        """GPUs that have a lease or an order waiting."""
        with self._lock:
            return {key.uuid for key in self._leases} | set(self._orders)

    def unsettled_uuids(self) -> set[str]:
        """GPUs whose next step is wanted soon: an order waits, or the device is not yet as it has to be."""
        with self._lock:
            unsettled = {key.uuid for key, lease in self._leases.items() if not lease.settled}
            return set(self._orders) | unsettled

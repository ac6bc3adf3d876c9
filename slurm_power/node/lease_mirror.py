"""The front's view of the leases that the keeper holds, and its way to ask for changes."""

from collections.abc import Callable, Iterable

from slurm_power.model.lease import Lease, LeaseKey
from slurm_power.node.frames import Controller, Gone, Grant, Held, Release, Request, Yield


class LeaseMirror:
    """What the keeper last said. Whatever is asked for here shows only when the keeper has done it."""

    def __init__(self, ask: Callable[[Request], None]) -> None:
        self._ask = ask
        self._leases: dict[LeaseKey, Lease] = {}
        self.drift_count = 0

    def take(self, news: Held | Gone) -> None:
        """Note how a lease stands."""
        if isinstance(news, Held):
            self._leases[news.lease.key] = news.lease
            self.drift_count = news.drift_count
        else:
            self._leases.pop(news.key, None)

    def leases(self) -> tuple[Lease, ...]:
        """The leases as they stand, as far as has been heard."""
        return tuple(self._leases.values())

    def grant(self, grant: Grant) -> None:
        """Ask for a bound."""
        self._ask(grant)

    def release(self, lease_ids: Iterable[str], reason: str) -> None:
        """Ask for the end of these leases."""
        for lease_id in lease_ids:
            self._ask(Release(name=lease_id, of_job=False, reason=reason))

    def release_job(self, job_id: str, reason: str) -> None:
        """Ask for the end of a job's economic leases."""
        self._ask(Release(name=job_id, of_job=True, reason=reason))

    def controller_is(self, *, connected: bool) -> None:
        """Tell whether the controller is there."""
        self._ask(Controller(connected=connected))

    def yield_for(self, seconds: float) -> None:
        """Ask to leave the GPUs to somebody else for a while; 0 takes them back."""
        self._ask(Yield(seconds=seconds))

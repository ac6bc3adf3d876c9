"""Bring home every GPU of a save file whose daemon is gone, however long it takes."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from slurm_power import clock
from slurm_power.devices import driver
from slurm_power.node.leases import Leases
from slurm_power.node.orders import LeaseEvent
from slurm_power.node.pauses import PausedJobs, let_go_on, resume_by_scontrol
from slurm_power.node.saved_settings import SavedSettings, this_boot
from slurm_power.node.workers import Workers
from slurm_power.ports import DeviceError, Gpus

ROUND_SECONDS = 0.25
MAX_THREADS = 16

log = logging.getLogger(__name__)


def restore(
    state_directory: str,
    safe_cap_watts: float | None,
    *,
    go_on: Callable[[], bool],
    gpus: Gpus | None = None,
    entirely: bool = False,
    slurm_conf: str | None = None,
) -> bool:
    """Restore until the read-back of each GPU proves it; True when done, False when told not to ``go_on``.

    ``entirely`` also ends safety leases; otherwise they rest at their static cap, their record kept. One GPU
    that fails or hangs does not hold up the others. With a ``slurm_conf`` ("" for the one that Slurm's
    commands find) paused jobs are looked after as well: they go on when their leases end, or ``entirely`` at
    once.
    """
    woken = threading.Event()
    paused = PausedJobs(
        Path(state_directory), resume_by_scontrol(Path(slurm_conf) if slurm_conf else None), woken.set
    )
    if slurm_conf is not None:
        paused.load(over=entirely)

    def look_and_go_on() -> bool:
        for event in paused.step(clock.monotonic()):
            log.warning("job %s: %s %s", event.job_id, event.event, event.detail)
        return go_on()

    while True:
        done = _Attempt(state_directory, safe_cap_watts, gpus or driver("nvml")(), entirely=entirely).run(
            look_and_go_on
        )
        if done is not None:
            return done and let_go_on(paused, go_on, woken)


class _Attempt:
    """The work on one reading of the save file; a file changed by somebody else needs a new attempt."""

    def __init__(
        self, state_directory: str, safe_cap_watts: float | None, gpus: Gpus, *, entirely: bool
    ) -> None:
        self._saved = SavedSettings(Path(state_directory))
        self._gpus = gpus
        self._entirely = entirely
        self._leases = Leases(gpus, self._saved, boot_id=this_boot(), safe_cap_watts=safe_cap_watts)
        self._woken = threading.Event()

    def run(self, go_on: Callable[[], bool]) -> bool | None:
        """True: everything is home. False: told to stop. None: start over with a new attempt."""
        try:
            if self._leases.recover() == 0:
                return True
            self._gpus.open()
        except (DeviceError, OSError) as error:
            log.error("cannot restore yet: %s", error)
            return None if go_on() else False
        if self._entirely:
            self._leases.release([lease.lease_id for lease in self._leases.leases()], "restored on demand")
        workers = Workers(self._visit, self._woken.set, MAX_THREADS)
        try:
            return self._restore(workers, go_on)
        finally:
            # A driver cannot be shut down under a call that hangs.
            if not workers.pending():
                with suppress(DeviceError):
                    self._gpus.close()

    def _restore(self, workers: Workers[list[LeaseEvent]], go_on: Callable[[], bool]) -> bool | None:
        while True:
            self._round(workers)
            if not self._leases.unsettled_uuids():
                return True
            if not go_on():
                return False
            if not self._unchanged():
                return None

    def _round(self, workers: Workers[list[LeaseEvent]]) -> None:
        """Visit what is not home, and wait for the visits a while."""
        for uuid in sorted(self._leases.unsettled_uuids()):
            workers.submit(uuid)
        deadline = clock.monotonic() + ROUND_SECONDS
        while workers.pending() and clock.monotonic() < deadline:
            self._woken.wait(0.05)
            self._woken.clear()
            for _, events in workers.results():
                for event in events:
                    log.warning("%s %s: %s", event.event, event.uuid, event.detail)
            workers.reinforce()

    def _visit(self, uuid: str) -> list[LeaseEvent]:
        return self._leases.step(uuid, clock.monotonic())

    def _unchanged(self) -> bool:
        """Whether nobody wrote the save file while it was not locked."""
        known = dict(self._saved.records())
        try:
            return dict(SavedSettings(self._saved.file.parent).load()) == known
        except OSError:
            return False

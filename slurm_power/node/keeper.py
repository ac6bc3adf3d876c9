"""The root half of powerd: leases and nothing else. It hears fixed frames from the other half, the front.

The front has all sockets and all parsing; if it dies or goes mad, it can at worst ask for bounds that are
leased, saved, and end by themselves. The keeper starts it again, and leases live on meanwhile.
"""

import logging
import math
import os
import selectors
import signal
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from slurm_power import clock
from slurm_power.config.node_record import NodeConfig
from slurm_power.model.lease import Lease, LeaseKey
from slurm_power.munge import MungeError, munge_encode
from slurm_power.node.frames import (
    Controller,
    FrameError,
    Gone,
    Grant,
    Happened,
    Held,
    News,
    Pause,
    Proof,
    Prove,
    Release,
    Request,
    Yield,
    decode_request,
    encode_news,
)
from slurm_power.node.front_process import FrontProcess
from slurm_power.node.guardian import Guardian, lock_node
from slurm_power.node.leases import Leases
from slurm_power.node.orders import GrantOrder, LeaseEvent, bound_text
from slurm_power.node.pauses import PausedJobs, resume_by_scontrol
from slurm_power.node.saved_settings import SavedSettings, this_boot
from slurm_power.node.workers import Workers
from slurm_power.ports import DeviceError, Gpus
from slurm_power.systemd import notify

# Leases are watched this often, so that drift is seen within one cycle of the controller.
ROUND_SECONDS = 1.0
LEAST_RETRY_SECONDS = 0.05
# What a daemon before us left has this long to come home before slurmd may start jobs.
RECONCILE_SECONDS = 10.0
# How long a clean end may take before the rest is left to the watchdog.
FAREWELL_SECONDS = 10.0
# As long as NVML is open, no GPU can be reset.
IDLE_SECONDS = 5.0
MAX_TTL_SECONDS = 3600.0
MAX_THREADS = 32

log = logging.getLogger(__name__)


class Keeper:
    """One powerd. ``run`` holds the node's lock from start to end."""

    def __init__(self, config: NodeConfig, gpus: Gpus, front_command: list[str]) -> None:
        self._config = config
        self._gpus = gpus
        self._selector = selectors.DefaultSelector()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake_fd, selectors.EVENT_READ, self._drain)
        self._leases = Leases(
            gpus,
            SavedSettings(config.state_directory),
            boot_id=this_boot(),
            safe_cap_watts=config.safe_cap_watts,
            standing_lock_hertz=config.standing_lock_hertz,
        )
        self._workers: Workers[list[LeaseEvent]] = Workers(self._step, self._wake, MAX_THREADS)
        self._paused = PausedJobs(config.state_directory, resume_by_scontrol(config.slurm_conf), self._wake)
        self._guardian = Guardian(
            config.state_directory, config.safe_cap_watts, self._selector, config.slurm_conf
        )
        self._front = FrontProcess(
            config, front_command, self._selector, on_frame=self._hear, on_start=self._tell_all
        )
        self._told: dict[LeaseKey, Lease] = {}
        self._proofs: deque[Proof] = deque()
        self._proving = False
        self._broken: Exception | None = None
        self._round_at_seconds = 0.0
        self._retry: dict[str, tuple[float, float]] = {}
        self._driver_open = False
        self._busy_at_seconds = 0.0
        self._ready = False
        self._ready_by_seconds = math.inf
        self._stop_signal = 0

    def run(self) -> int:
        """Serve until SIGTERM; returns the exit status. Raises LockedError, and OSError."""
        config = self._config
        config.state_directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        # Whatever the umask: the front's user has to pass through to its own folder.
        config.state_directory.chmod(0o711)
        lock = lock_node(config.state_directory)
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, self._on_signal)
            self._guardian.check(clock.monotonic())
            left_behind = self._leases.recover()
            if left_behind:
                log.warning("%d settings were left by a daemon before us; restoring them", left_behind)
            if paused := self._paused.load():
                log.warning("%d jobs are paused under leases of a daemon before us", paused)
            self._front.prepare()
            log.info("powerd keeps the leases of node %s", config.node)
            self._ready_by_seconds = clock.monotonic() + RECONCILE_SECONDS
            while not self._stop_signal:
                self._turn()
            all_home = self._farewell()
        finally:
            self._front.stop()
            os.close(lock)
        self._guardian.dismiss(2.0 if all_home else 0.1)
        return 0

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def _drain(self, _mask: int) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._stop_signal = number
        self._wake()

    def _say_ready(self, now_seconds: float) -> None:
        """Let slurmd start when all that was left is home, or when a GPU has had its time."""
        late = now_seconds >= self._ready_by_seconds
        if late or not self._leases.unsettled_uuids():
            self._ready = True
            if late:
                log.error("ready, although not every setting is restored")
            notify("READY=1")

    def _turn(self) -> None:
        """Wait for the next frame or timer, and do what is due."""
        for key, mask in self._selector.select(self._patience(clock.monotonic())):
            callback: Callable[[int], None] = key.data
            callback(mask)
        for uuid, events in self._workers.results():
            for event in events:
                self._report(event)
            self._plan_retry(uuid)
        if self._broken is not None:
            # A fault that nobody has thought of: the watchdog, which starts anew, restores what we hold.
            raise self._broken
        now_seconds = clock.monotonic()
        self._schedule(now_seconds)
        while self._proofs:
            self._proving = False
            self._tell(self._proofs.popleft())
        self._tell_changes()
        for said in self._paused.step(now_seconds):
            log.warning("job %s: %s %s", said.job_id, said.event, said.detail)
            self._tell(said)
        self._guardian.check(now_seconds)
        self._front.check(now_seconds)
        if not self._ready:
            self._say_ready(now_seconds)
        self._workers.reinforce()
        self._close_driver_if_idle(now_seconds)
        notify("WATCHDOG=1")

    def _patience(self, now_seconds: float) -> float:
        """For how long nothing can become due."""
        deadlines = [self._round_at_seconds, now_seconds + ROUND_SECONDS, self._paused.next_seconds()]
        deadlines += [at for at, _ in self._retry.values()]
        pending = self._workers.pending()
        deadlines += [
            lease.expires_at_seconds for lease in self._leases.leases() if lease.uuid not in pending
        ]
        if pending:
            deadlines.append(now_seconds + 0.2)
        return max(0.0, min(deadlines) - now_seconds)

    def _schedule(self, now_seconds: float) -> None:
        """Send workers to whatever is due."""
        due = {lease.uuid for lease in self._leases.leases() if lease.expired(now_seconds)}
        due |= {uuid for uuid, (at, _) in self._retry.items() if now_seconds >= at}
        if now_seconds >= self._round_at_seconds:
            self._round_at_seconds = now_seconds + ROUND_SECONDS
            due |= self._leases.busy_uuids()
        for uuid in sorted(due - self._workers.pending()):
            self._workers.submit(uuid)

    def _step(self, uuid: str) -> list[LeaseEvent]:
        """One step of one GPU, in a worker's thread; without a driver its GPUs do not answer."""
        try:
            self._open_driver()
        except DeviceError as error:
            log.debug("%s", error)
        try:
            return self._leases.step(uuid, clock.monotonic())
        except Exception as error:  # noqa: BLE001  # a thread that ended here would leave its GPU capped for ever
            self._broken = error
            self._wake()
            return []

    def _open_driver(self) -> None:
        if not self._driver_open:
            self._gpus.open()
            self._driver_open = True

    def _close_driver_if_idle(self, now_seconds: float) -> None:
        if self._workers.pending() or self._leases.busy_uuids():
            self._busy_at_seconds = now_seconds
        elif self._driver_open and now_seconds - self._busy_at_seconds > IDLE_SECONDS:
            self._driver_open = False
            with suppress(DeviceError):
                self._gpus.close()

    def _plan_retry(self, uuid: str) -> None:
        """Look again soon at a GPU that does not yet show what it has to, ever more seldom."""
        if uuid in self._leases.unsettled_uuids():
            _, last_seconds = self._retry.get(uuid, (0.0, LEAST_RETRY_SECONDS / 2))
            pause_seconds = min(2 * last_seconds, ROUND_SECONDS)
            self._retry[uuid] = (clock.monotonic() + pause_seconds, pause_seconds)
        else:
            self._retry.pop(uuid, None)

    def _hear(self, data: bytes) -> None:
        """Carry out a frame of the front; one that is not what it should be is refused and told."""
        try:
            request = decode_request(data)
        except FrameError as error:
            log.warning("refused a frame of the front: %s", error)
            return
        for uuid in self._carried_out(request):
            self._workers.submit(uuid)

    def _carried_out(self, request: Request) -> set[str]:
        """Do what is asked; returns the GPUs that are to be looked at."""
        now_seconds = clock.monotonic()
        match request:
            case Grant():
                order = GrantOrder(
                    lease_id=request.lease_id,
                    uuid=request.uuid,
                    lever=request.lever,
                    bound=request.bound,
                    expires_at_seconds=now_seconds + min(request.ttl_seconds, MAX_TTL_SECONDS),
                    kind=request.kind,
                    job_id=request.job_id,
                    reason=request.reason,
                )
                self._leases.order(order)
                return {order.uuid}
            case Release():
                if request.of_job:
                    return self._leases.release_job(request.name, request.reason)
                return self._leases.release([request.name], request.reason)
            case Controller():
                self._leases.controller_connected = request.connected
            case Prove():
                # One at a time, however many a mad front asks for: each is a thread and a process of root's.
                if not self._proving:
                    self._proving = True
                    threading.Thread(target=self._prove, args=(request.digest,), daemon=True).start()
            case Pause():
                seconds = min(request.seconds, MAX_TTL_SECONDS)
                said = self._paused.take(request.job_id, seconds, now_seconds)
                if said is not None:
                    self._tell(said)
            case Yield() if request.seconds:
                return self._leases.yield_until(now_seconds + request.seconds)
            case Yield():
                self._leases.yield_until(0.0)
        return set()

    def _prove(self, digest: str) -> None:
        """Have MUNGE say, as root, which node asks for a certificate; in a thread: munged may be slow."""
        payload = f'{{"node":"{self._config.node}","request":"{digest}"}}'
        try:
            proof = Proof(credential=munge_encode(payload, socket=self._config.munge_socket), error="")
        except MungeError as error:
            proof = Proof(credential="", error=str(error))
        self._proofs.append(proof)
        self._wake()

    def _report(self, event: LeaseEvent) -> None:
        level = logging.INFO if event.event in ("verified", "restored", "repaired") else logging.WARNING
        seen = event.enforced if event.requested is None else event.requested
        log.log(
            level,
            "lease %s on %s: %s, bound %s, device %s, job %s: %s",
            event.lease_id,
            event.uuid,
            event.event,
            bound_text(event.lever, event.bound),
            "not read" if seen is None else bound_text(event.lever, seen),
            event.job_id,
            event.detail,
        )
        self._tell(Happened(event=event))

    def _tell(self, news: News) -> None:
        self._front.send(encode_news(news))

    def _tell_changes(self) -> None:
        """Let the front know every lease as it stands, and those that are no more."""
        leases = {lease.key: lease for lease in self._leases.leases()}
        for key, lease in leases.items():
            if self._told.get(key) != lease:
                self._tell(Held(lease=lease, drift_count=self._leases.drift_count))
        for key in self._told.keys() - leases.keys():
            self._tell(Gone(key=key))
        self._told = leases

    def _tell_all(self) -> None:
        """A front that has just started knows nothing."""
        self._told = {}
        self._leases.controller_connected = False
        self._tell_changes()

    def _farewell(self) -> bool:
        """Restore everything before going; True if the watchdog has nothing left to do."""
        notify("STOPPING=1")
        log.info("ending on signal %d", self._stop_signal)
        for uuid in self._leases.end_all("powerd ends"):
            self._workers.submit(uuid)
        deadline = clock.monotonic() + FAREWELL_SECONDS
        while self._leases.unsettled_uuids() and clock.monotonic() < deadline:
            self._turn()
        self._tell_changes()
        for lease in self._leases.leases():
            log.warning(
                "%s stays at %s (%s), it was %s",
                lease.uuid,
                bound_text(lease.lever, lease.bound),
                lease.state,
                bound_text(lease.lever, lease.previous),
            )
        return not self._leases.unsettled_uuids()

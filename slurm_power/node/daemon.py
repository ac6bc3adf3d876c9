"""powerd's loop: sockets and timers in one thread, device calls in others, a line in the log for each act."""

import logging
import os
import selectors
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

from slurm_power import clock
from slurm_power.config.node import NodeConfig, split_address
from slurm_power.node.guardian import Guardian, lock_node
from slurm_power.node.hooks import HookDesk, lease_row
from slurm_power.node.jobs import NodeJobs
from slurm_power.node.leases import Leases
from slurm_power.node.link import ControllerLink, greet
from slurm_power.node.orders import LeaseEvent, bound_text
from slurm_power.node.requests import lease_ids_of_release, orders_of_grant
from slurm_power.node.saved_settings import SavedSettings, this_boot
from slurm_power.node.server import HookServer
from slurm_power.node.visits import SURVEY, Found, Node, Survey, Visitor
from slurm_power.node.workers import Workers
from slurm_power.ports import Gpus
from slurm_power.wire import Message

SURVEY_SECONDS = 30.0
FAILED_SURVEY_SECONDS = 2.0
# Leases are watched at least this often, however seldom the GPUs are sampled.
MOST_ROUND_SECONDS = 1.0
LEAST_RETRY_SECONDS = 0.05
HANGING_SECONDS = 2.0
# How long a clean end may take before the rest is left to the watchdog.
FAREWELL_SECONDS = 10.0
MAX_THREADS = 32

log = logging.getLogger(__name__)


class Daemon:
    """One powerd. `run` holds the node's lock from start to end."""

    def __init__(self, config: NodeConfig, gpus: Gpus) -> None:
        self._config = config
        self._selector = selectors.DefaultSelector()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake_fd, selectors.EVENT_READ, self._drain)
        boot_id = this_boot()
        saved = SavedSettings(config.state_directory)
        self._leases = Leases(
            gpus,
            saved,
            boot_id=boot_id,
            safe_cap_watts=config.safe_cap_watts,
            standing_lock_hertz=config.standing_lock_hertz,
        )
        self._jobs = NodeJobs(config.state_directory, boot_id)
        self._node = Node()
        self._workers: Workers[Found] = Workers(Visitor(gpus, self._leases).visit, self._wake, MAX_THREADS)
        self._guardian = Guardian(config.state_directory, config.safe_cap_watts)
        self._link = self._new_link()
        self._desk = HookDesk(
            config.node, self._node, self._jobs, self._leases, visit=self._workers.submit, tell=self._tell
        )
        self._server = HookServer(config.socket, self._selector, self._desk.handle)
        self._desk.answer = self._server.answer
        self._desk.controller_state = lambda: "none configured" if self._link is None else self._link.state
        self._round_at_seconds = 0.0
        self._sample_at_seconds = 0.0
        self._survey_at_seconds = 0.0
        self._telemetry_due = False
        self._retry: dict[str, tuple[float, float]] = {}
        self._stop_signal = 0

    def run(self) -> int:
        """Serve until SIGTERM; returns the exit status. Raises LockedError, and OSError."""
        config = self._config
        config.state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        config.socket.parent.mkdir(parents=True, exist_ok=True)
        lock = lock_node(config.state_directory)
        try:
            self._guardian.check(clock.monotonic())
            left_behind = self._leases.recover()
            if left_behind:
                log.warning("%d GPUs carry caps of a daemon before us; restoring them", left_behind)
            self._jobs.load()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, self._on_signal)
            self._server.open()
            log.info("powerd serves node %s on %s", config.node, config.socket)
            while not self._stop_signal:
                self._turn()
            all_home = self._farewell()
        finally:
            self._server.close()
            os.close(lock)
        self._guardian.dismiss(2.0 if all_home else 0.1)
        return 0

    def _new_link(self) -> ControllerLink | None:
        config = self._config
        if config.controller is None:
            return None
        address = split_address(config.controller, "controller", [])
        return ControllerLink(
            self._selector,
            lambda: greet(
                address,
                config.node,
                controller_uid=config.controller_uid,
                munge_socket=config.munge_socket,
            ),
            wake=self._wake,
            on_connect=self._on_connect,
            on_message=self._on_message,
            on_loss=self._on_loss,
        )

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def _drain(self, _mask: int) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._stop_signal = number
        self._wake()

    def _turn(self) -> None:
        """Wait for the next event or timer, and do what is due."""
        for key, mask in self._selector.select(self._patience(clock.monotonic())):
            callback: Callable[[int], None] = key.data
            callback(mask)
        self._collect()
        now_seconds = clock.monotonic()
        self._schedule(now_seconds)
        self._server.expire(now_seconds)
        self._desk.expire(now_seconds)
        self._guardian.check(now_seconds)
        if self._link is not None:
            self._link.poll(now_seconds)
        self._workers.reinforce()

    def _patience(self, now_seconds: float) -> float:
        """For how long nothing can become due."""
        deadlines = [self._round_at_seconds, self._survey_at_seconds]
        deadlines += [at for at, _ in self._retry.values()]
        deadlines += [
            lease.expires_at_seconds
            for lease in self._leases.leases()
            if lease.uuid not in self._workers.pending()
        ]
        deadlines += [
            at for at in (self._server.next_deadline(), self._desk.next_deadline()) if at is not None
        ]
        if self._link is not None and self._link.state != "connected":
            deadlines.append(max(self._link.next_attempt_seconds, now_seconds + 0.05))
        if self._workers.pending():
            deadlines.append(now_seconds + 0.2)
        return min(max(0.0, min(deadlines) - now_seconds), MOST_ROUND_SECONDS)

    def _schedule(self, now_seconds: float) -> None:
        """Send workers to whatever is due."""
        if now_seconds >= self._survey_at_seconds:
            self._survey_at_seconds = now_seconds + SURVEY_SECONDS
            self._workers.submit(SURVEY)
        if not self._node.surveyed:
            self._round_at_seconds = now_seconds + MOST_ROUND_SECONDS
            return
        due = {lease.uuid for lease in self._leases.leases() if lease.expired(now_seconds)}
        due |= {uuid for uuid, (at, _) in self._retry.items() if now_seconds >= at}
        if now_seconds >= self._round_at_seconds:
            self._round_at_seconds = now_seconds + min(self._config.sample_seconds, MOST_ROUND_SECONDS)
            due |= self._leases.busy_uuids()
            if now_seconds >= self._sample_at_seconds - 0.01:
                self._sample_at_seconds = now_seconds + self._config.sample_seconds
                self._telemetry_due = True
                due |= self._node.known
        for uuid in sorted(due - self._workers.pending()):
            self._workers.submit(uuid)

    def _collect(self) -> None:
        """Take what the workers found."""
        for uuid, found in self._workers.results():
            if isinstance(found, Survey):
                self._take_survey(found)
                continue
            if self._node.take_visit(uuid, found):
                log.warning("%s: %s", uuid, found.error)
            if found.reading is not None:
                self._jobs.book(uuid, found.reading.energy_joules)
            for event in found.events:
                self._report(event)
            self._plan_retry(uuid)
            self._desk.visited(uuid)
        for job in self._jobs.resolve(self._node.uuid_of_slot()):
            self._tell(job.start_message())
        hanging = all(self._workers.hanging_seconds(uuid) > 0.1 for uuid in self._workers.pending())
        if self._telemetry_due and hanging:
            self._telemetry_due = False
            self._send_telemetry()
            self._jobs.save_if_changed()

    def _take_survey(self, survey: Survey) -> None:
        if survey.error and survey.error != self._node.error:
            log.error("no GPUs: %s", survey.error)
        fresh = set(survey.uuids or ()) - self._node.known
        self._node.take_survey(survey)
        if fresh:
            log.info("found %d GPUs: %s", len(fresh), ", ".join(sorted(fresh)))
            self._round_at_seconds = self._sample_at_seconds = 0.0
        if survey.uuids is None:
            self._survey_at_seconds = clock.monotonic() + FAILED_SURVEY_SECONDS

    def _plan_retry(self, uuid: str) -> None:
        """Look again soon at a GPU that does not yet show what it has to, ever more seldom."""
        if uuid in self._leases.unsettled_uuids():
            _, last_seconds = self._retry.get(uuid, (0.0, LEAST_RETRY_SECONDS / 2))
            pause_seconds = min(2 * last_seconds, MOST_ROUND_SECONDS)
            self._retry[uuid] = (clock.monotonic() + pause_seconds, pause_seconds)
        else:
            self._retry.pop(uuid, None)

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
        self._tell(event.message())

    def _tell(self, message: Message) -> None:
        if self._link is not None:
            self._link.send(message, keep=True)

    def _on_connect(self) -> None:
        self._leases.controller_connected = True
        for job in self._jobs.all():
            self._tell(job.start_message())
        self._telemetry_due = self._node.surveyed

    def _on_loss(self) -> None:
        self._leases.controller_connected = False

    def _on_message(self, message: Message) -> None:
        match message.get("type"):
            case "grant":
                orders, problems = orders_of_grant(message, self._node.known, clock.monotonic())
                for problem in problems:
                    log.warning("a lease cannot be granted: %s", problem)
                for order in orders:
                    self._leases.order(order)
                    self._workers.submit(order.uuid)
            case "release":
                ids = lease_ids_of_release(message)
                for uuid in self._leases.release(ids, "released by the controller"):
                    self._workers.submit(uuid)
            case other:
                log.warning("the controller sent an unknown message type %.40r", other)

    def _send_telemetry(self) -> None:
        if self._link is None or self._link.state != "connected":
            return
        message: Message = {
            "type": "telemetry",
            "gpus": self._gpu_rows(),
            "leases": [lease_row(lease, clock.monotonic()) for lease in self._leases.leases()],
            "jobs": [job.message() for job in self._jobs.all()],
            "drift_count": self._leases.drift_count,
        }
        self._link.send(message, keep=False)

    def _gpu_rows(self) -> list[Message]:
        rows = []
        for uuid, reading in self._node.readings.items():
            row = asdict(reading)
            hanging_seconds = self._workers.hanging_seconds(uuid)
            if hanging_seconds > HANGING_SECONDS:
                row["error"] = f"the driver has not answered for {hanging_seconds:.0f} s"
            rows.append(row)
        return rows

    def _farewell(self) -> bool:
        """Restore everything before going; True if the watchdog has nothing left to do."""
        log.info("ending on signal %d", self._stop_signal)
        self._server.close()
        for uuid in self._leases.end_all("powerd ends"):
            self._workers.submit(uuid)
        deadline = clock.monotonic() + FAREWELL_SECONDS
        while self._leases.unsettled_uuids() and clock.monotonic() < deadline:
            self._turn()
        for lease in self._leases.leases():
            log.warning(
                "%s stays at %s (%s), it was %s",
                lease.uuid,
                bound_text(lease.lever, lease.bound),
                lease.state,
                bound_text(lease.lever, lease.previous),
            )
        if self._link is not None:
            self._link.close()
        self._jobs.save_if_changed()
        return not self._leases.unsettled_uuids()

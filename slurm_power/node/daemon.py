"""The front: powerd's half without privileges. Sockets, jobs and readings; leases are the keeper's.

Sockets and timers in one thread, device calls in others.
"""

import logging
import math
import os
import queue
import selectors
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

from slurm_power import clock
from slurm_power.config.node_record import NodeConfig, split_address
from slurm_power.node.advice import AdviceDesk
from slurm_power.node.beat import Beat
from slurm_power.node.counters import COUNT_SECONDS, HOST, Count, CounterVisitor, HostCount
from slurm_power.node.frames import (
    MAX_FRAME_BYTES,
    FrameError,
    Happened,
    Proof,
    Prove,
    Request,
    decode_news,
    encode_request,
)
from slurm_power.node.hooks import HookDesk, lease_row
from slurm_power.node.host import HostMeter
from slurm_power.node.identity import Identity
from slurm_power.node.job_tiers import JobTiers
from slurm_power.node.jobs import NodeJobs, stranger_message
from slurm_power.node.lease_mirror import LeaseMirror
from slurm_power.node.link import ControllerLink, greet
from slurm_power.node.pauses import PauseEvent
from slurm_power.node.processes import Processes
from slurm_power.node.prolog_waits import PrologWaits
from slurm_power.node.rack import Rack
from slurm_power.node.requests import (
    grants_of,
    lease_ids_of_release,
    pause_of,
    sampling_of,
    seconds_of_yield,
)
from slurm_power.node.saved_settings import this_boot
from slurm_power.node.server import HookServer
from slurm_power.node.textfile import metrics_text, write_metrics
from slurm_power.node.visits import RELEASE, SURVEY, Found, Node, Released, Survey, Visitor, gpu_rows
from slurm_power.node.workers import Workers
from slurm_power.ports import Gpus
from slurm_power.wire import Message, WireError

SURVEY_SECONDS = 30.0
FAILED_SURVEY_SECONDS = 2.0
# A keeper that says farewell has told us everything; what is left to send gets this long.
FAREWELL_SECONDS = 0.5
MAX_PATIENCE_SECONDS = 1.0
PROOF_SECONDS = 5.0
MAX_THREADS = 32

log = logging.getLogger(__name__)


class Daemon:
    """One front. ``channel`` is the keeper's end of a socket pair, ``listener`` the node's hook socket."""

    def __init__(
        self, config: NodeConfig, gpus: Gpus, channel: socket.socket, listener: socket.socket
    ) -> None:
        self._config = config
        self._channel = channel
        self._selector = selectors.DefaultSelector()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake_fd, selectors.EVENT_READ, self._drain)
        self._leases = LeaseMirror(self._ask)
        self._proofs: queue.SimpleQueue[Proof] = queue.SimpleQueue()
        self._jobs = NodeJobs(config.state_directory / "front", this_boot())
        self._node = Node()
        self._rack = Rack()
        self._visitor = Visitor(gpus)
        self._workers: Workers[Found] = Workers(self._visitor.visit, self._wake, MAX_THREADS)
        counter = CounterVisitor(gpus, self._visitor, Processes(), HostMeter())
        self._counters: Workers[Count | HostCount] = Workers(counter.visit, self._wake, MAX_THREADS)
        self._link = self._new_link()
        self._waits = PrologWaits(self._tell, config.prolog_timeout_seconds)
        self._tiers = JobTiers(self._jobs, self._tell)
        self._advice = AdviceDesk(config.socket, self._jobs)
        self._takers: dict[str, Callable[[Message], None]] = {
            "prolog_waits": self._waits.want,
            "prolog_wait": self._waits.heard,
            "tier": self._tiers.heard,
            "advice": self._advice.order,
        }
        self._desk = HookDesk(
            config.node,
            self._node,
            self._jobs,
            self._leases,
            self._rack,
            socket=config.socket,
            waits=self._waits,
            tiers=self._tiers,
            advice=self._advice,
            visit=self._counters.submit,
            tell=self._tell,
        )
        self._server = HookServer(listener, self._selector, self._desk.handle)
        self._desk.answer = self._waits.answer = self._server.answer
        self._desk.controller_state = lambda: "none configured" if self._link is None else self._link.state
        self._beat = Beat(config.sample_seconds, config.rest_after_seconds)
        self._survey_at_seconds = 0.0
        self._count_at_seconds = 0.0
        self._metrics_error = ""
        self._telemetry_due = False
        self._telemetry_at_seconds = math.inf
        self._keeper_gone = False

    def run(self) -> int:
        """Serve until the keeper hangs up; returns the exit status."""
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._channel.setblocking(False)
        self._selector.register(self._channel, selectors.EVENT_READ, self._hear)
        self._jobs.load()
        self._advice.load()
        self._server.open()
        log.info("powerd serves node %s on %s", self._config.node, self._config.socket)
        while not self._keeper_gone:
            self._turn()
        self._farewell()
        return 0

    def _ask(self, request: Request) -> None:
        """Send the keeper a frame. One that takes nothing any more is as good as gone, and so are we then."""
        try:
            self._channel.send(encode_request(request))
        except OSError as error:
            log.error("the keeper does not listen: %s", error)
            self._keeper_gone = True

    def _hear(self, _mask: int) -> None:
        """Take what the keeper has to say, all that is there."""
        while not self._keeper_gone:
            try:
                data = self._channel.recv(MAX_FRAME_BYTES + 1)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._keeper_gone = True
                return
            try:
                news = decode_news(data)
            except FrameError as error:
                log.error("the keeper sent nonsense: %s", error)
                continue
            if isinstance(news, Happened):
                self._tell(news.event.message())
            elif isinstance(news, Proof):
                self._proofs.put(news)
            elif isinstance(news, PauseEvent):
                self._tell({"type": "pause_event", **asdict(news)})
            else:
                self._leases.take(news)

    def _new_link(self) -> ControllerLink | None:
        config = self._config
        if config.controller is None:
            return None
        address = split_address(config.controller, "controller", [])
        identity = Identity(config.state_directory / "front", config.node, config.ca_file)
        return ControllerLink(
            self._selector,
            lambda: greet(address, config.node, identity, self._prove),
            wake=self._wake,
            on_connect=self._on_connect,
            on_message=self._on_message,
            on_loss=self._on_loss,
        )

    def _prove(self, digest: str) -> str:
        """Ask the keeper for a MUNGE credential of root's and wait for it; for the greeting's thread."""
        while not self._proofs.empty():
            self._proofs.get_nowait()
        self._ask(Prove(digest=digest))
        try:
            proof = self._proofs.get(timeout=PROOF_SECONDS)
        except queue.Empty:
            raise WireError("no MUNGE credential in time") from None
        if proof.error:
            raise WireError(proof.error)
        return proof.credential

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def _drain(self, _mask: int) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)

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
        self._waits.expire(now_seconds)
        self._tiers.expire(now_seconds)
        self._advice.expire(now_seconds)
        if self._link is not None:
            self._link.poll(now_seconds)
        self._workers.reinforce()
        self._counters.reinforce()

    def _patience(self, now_seconds: float) -> float:
        """For how long nothing can become due."""
        deadlines = [self._beat.next_seconds, self._survey_at_seconds, self._telemetry_at_seconds]
        clocked = (self._server, self._desk, self._waits, self._tiers, self._advice)
        deadlines += [at for one in clocked if (at := one.next_deadline()) is not None]
        if self._link is not None and self._link.state != "connected":
            deadlines.append(max(self._link.next_attempt_seconds, now_seconds + 0.05))
        if self._pending():
            deadlines.append(now_seconds + 0.2)
        return min(max(0.0, min(deadlines) - now_seconds), MAX_PATIENCE_SECONDS)

    def _schedule(self, now_seconds: float) -> None:
        """Send workers to whatever is due."""
        if now_seconds >= self._survey_at_seconds:
            self._survey_at_seconds = now_seconds + SURVEY_SECONDS
            self._workers.submit(SURVEY)
        self._beat.look(now_seconds, busy=bool(self._jobs.count or self._leases.leases()))
        if not self._node.surveyed:
            self._beat.next_seconds = now_seconds + MAX_PATIENCE_SECONDS
        elif self._beat.due(now_seconds):
            self._telemetry_due = True
            self._telemetry_at_seconds = now_seconds + 1.5 * self._config.sample_seconds
            for uuid in sorted(self._node.known - self._workers.pending()):
                self._workers.submit(uuid)
            # Many hosts have no counter, and between two readings of a power nobody knows what it was.
            counted = {HOST} if self._jobs.count else set()
            if now_seconds >= self._count_at_seconds:
                self._count_at_seconds = now_seconds + COUNT_SECONDS - 0.5 * self._config.sample_seconds
                counted = {HOST, *self._node.readings}
                self._write_metrics()
            for uuid in sorted(counted - self._counters.pending()):
                self._counters.submit(uuid)
        elif self._visitor.is_open and self._beat.resting(now_seconds) and not self._pending():
            self._workers.submit(RELEASE)
        elif now_seconds >= self._telemetry_at_seconds:
            # At rest samples are seldom, but a node that says nothing counts as gone.
            self._telemetry_at_seconds = now_seconds + self._config.sample_seconds
            self._telemetry_due = True

    def _pending(self) -> bool:
        """Whether any look at a GPU is under way."""
        return bool(self._workers.pending() or self._counters.pending())

    def _collect(self) -> None:
        """Take what the workers found."""
        for uuid, found in self._workers.results():
            if isinstance(found, Survey):
                self._take_survey(found)
                continue
            if isinstance(found, Released):
                continue
            if self._node.take_visit(uuid, found):
                log.warning("%s: %s", uuid, found.error)
            if found.reading is not None:
                self._jobs.take_power(uuid, found.reading.power_watts, found.at_seconds)
        for uuid, count in self._counters.results():
            if isinstance(count, HostCount):
                self._node.host = count.reading
                self._jobs.take_host(count.reading.energy_joules, count.at_seconds, len(self._node.readings))
            else:
                self._take_count(uuid, count)
            self._desk.visited(uuid)
        for job in self._jobs.resolve(self._node.gpus_of):
            self._tell(job.start_message())
        hanging = all(self._workers.hanging_seconds(uuid) > 0.1 for uuid in self._workers.pending())
        if self._telemetry_due and hanging:
            self._telemetry_due = False
            now_seconds = clock.monotonic()
            self._jobs.take_rack(self._rack.node_watts(now_seconds), now_seconds)
            self._send_telemetry()
            self._jobs.save_if_changed(clock.monotonic())

    def _write_metrics(self) -> None:
        file = self._config.metrics_textfile
        if file is None:
            return
        energies = dict(self._jobs.books.all())
        text = metrics_text(self._config.node, self._node.readings.values(), energies, self._node.host)
        try:
            write_metrics(file, text)
            self._metrics_error = ""
        except OSError as error:
            if str(error) != self._metrics_error:
                self._metrics_error = str(error)
                log.warning("the metrics cannot be written: %s", error)

    def _take_count(self, uuid: str, count: Count) -> None:
        if count.error:
            return  # the visit of its power says so as well
        self._node.take_counter(uuid, count.joules)
        reading = self._node.readings.get(uuid)
        if reading is not None and reading.mig_enabled:
            for job in self._jobs.adopt(uuid, count.processes):
                self._tell(job.start_message())
        for process in self._jobs.take_count(uuid, count, reading.max_cap_watts if reading else 0.0):
            message = stranger_message(uuid, process, self._jobs.holders(uuid))
            log.warning("%s: %s", uuid, message["detail"])
            self._tell(message)

    def _take_survey(self, survey: Survey) -> None:
        if survey.error and survey.error != self._node.error:
            log.error("no GPUs: %s", survey.error)
        fresh = set(survey.uuids or ()) - self._node.known
        self._node.take_survey(survey)
        if fresh:
            log.info("found %d GPUs: %s", len(fresh), ", ".join(sorted(fresh)))
            self._beat.next_seconds = 0.0
        if survey.uuids is None:
            self._survey_at_seconds = clock.monotonic() + FAILED_SURVEY_SECONDS

    def _tell(self, message: Message) -> None:
        if self._link is not None:
            self._link.send(message, keep=True)

    def _on_connect(self) -> None:
        self._leases.controller_is(connected=True)
        for job in self._jobs.all():
            self._tell(job.start_message())
        self._telemetry_due = self._node.surveyed

    def _on_loss(self) -> None:
        self._leases.controller_is(connected=False)
        self._waits.lost()
        self._tiers.lost()

    def _on_message(self, message: Message) -> None:
        try:
            self._obey(message)
        except WireError as error:
            log.warning("refused what the controller sent as %.40r: %s", message.get("type"), error)

    def _obey(self, message: Message) -> None:
        match message.get("type"):
            case "grant":
                grants, problems = grants_of(message, self._node.known)
                for problem in problems:
                    log.warning("a lease cannot be granted: %s", problem)
                for grant in grants:
                    self._leases.grant(grant)
            case "release":
                self._leases.release(lease_ids_of_release(message), "released by the controller")
            case "yield":
                self._leases.yield_for(seconds_of_yield(message))
            case "pause":
                self._ask(pause_of(message))
            case "rack":
                self._rack.take(message, clock.monotonic())
            case "sampling":
                self._beat.hasten(*sampling_of(message), clock.monotonic())
            case str(kind) if kind in self._takers:
                self._takers[kind](message)
            case other:
                log.warning("the controller sent an unknown message type %.40r", other)

    def _send_telemetry(self) -> None:
        if self._link is None or self._link.state != "connected":
            return
        message: Message = {
            "type": "telemetry",
            "at_seconds": clock.now().timestamp(),
            "gpus": gpu_rows(self._node.readings, self._workers.hanging_seconds),
            "host": None if self._node.host is None else asdict(self._node.host),
            "leases": [lease_row(lease, clock.monotonic()) for lease in self._leases.leases()],
            "jobs": [job.message() for job in self._jobs.all()],
            "progress": self._advice.rows(clock.monotonic()),
            "drift_count": self._leases.drift_count,
        }
        self._link.send(message, keep=False)

    def _farewell(self) -> None:
        """Send what is left, and hang up."""
        self._server.close()
        self._jobs.save_if_changed(clock.monotonic())
        if self._link is not None:
            self._link.drain(FAREWELL_SECONDS)
            self._link.close()

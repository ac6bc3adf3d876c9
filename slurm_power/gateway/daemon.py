"""The gateway of one service: looks at jobs and HAProxy each second, and does what the state machine says."""

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from slurm_power import clock, tasks
from slurm_power.gateway import controller_talk, haproxy_config
from slurm_power.gateway.backends import Backends, BackendsError, JobSight
from slurm_power.gateway.haproxy import Haproxy, HaproxyError, ServerSeen, ServerWish
from slurm_power.gateway.haproxy_config import Folder
from slurm_power.gateway.haproxy_process import HUNG_SECONDS, HaproxyProcess
from slurm_power.gateway.members import (
    GOING,
    Act,
    EndJob,
    JobSeen,
    Member,
    Phase,
    Sight,
    State,
    Submit,
    WarmUp,
    Wish,
)
from slurm_power.gateway.probe import ProbeError, ask, resolve
from slurm_power.gateway.service_file import ServiceFile
from slurm_power.gateway.state_file import read_state, write_state
from slurm_power.gateway.switch import step

STEADY_SECONDS = 1.0
SWITCHING_SECONDS = 0.25
_KEPT_KEYS = 16
_KEPT_NOTES = 50

log = logging.getLogger(__name__)


class Gateway:
    """One service. ``folder`` is locked by whoever makes us; ``controller_socket`` None: there is none."""

    def __init__(
        self, service: ServiceFile, backends: Backends, folder: Folder, *, controller_socket: Path | None
    ) -> None:
        self._service = service
        self._backends = backends
        self._folder = folder
        self._controller_socket = controller_socket
        self._process = None if service.haproxy else HaproxyProcess(folder)
        site = service.haproxy
        self._proxy = Haproxy(site.socket if site else folder.admin_socket)
        self._backend = site.backend if site else haproxy_config.BACKEND
        self.state, kept = read_state(folder.state)
        # Jobs of members that are forgotten: a submission that was slow may still bring one about.
        self._past: deque[tuple[str, str]] = deque(
            ((str(key), str(tier)) for key, tier in kept.get("past", [])), maxlen=_KEPT_KEYS
        )
        # What was last asked for by hand, where the service file still has it.
        asked = str(kept.get("full_tier", ""))
        self.full_tier = asked if service.job_of(asked) is not None else service.full_tier
        self.notes: deque[str] = deque((str(note) for note in kept.get("notes", [])), maxlen=_KEPT_NOTES)
        self.sights: dict[str, Sight] = {}
        self.answer: controller_talk.Answer | None = None
        self.trouble: dict[str, str] = {}
        self._since_seconds = clock.monotonic()
        self._account = service.account
        self._request_rate: float | None = None
        self._silent_since: float | None = None
        self._wake = asyncio.Event()
        self._starting = asyncio.Lock()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[str, str] = {}
        self._submitted: dict[str, float] = {}
        self._resolved: dict[str, str] = {}
        self._healthy: set[str] = set()
        self._warmed: set[str] = set()
        self._written: object = None
        self._config_written: list[ServerWish] | None = None

    async def run(self) -> None:
        """Go on until cancelled. HAProxy and the jobs are left as they are: they serve without us."""
        talk = asyncio.create_task(self._talk(), name="powerctld")
        try:
            while True:
                await self.look_and_act()
                await self._pause()
        finally:
            await tasks.end_all([talk, *self._running.values()])
            if self._process is not None:
                self._process.unwatch()

    def wake(self) -> None:
        """Look again at once."""
        self._wake.set()

    async def _pause(self) -> None:
        steady = len(self.state.members) == 1 and self.state.members[0].phase is Phase.SERVING
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STEADY_SECONDS if steady else SWITCHING_SECONDS):
                await self._wake.wait()
        self._wake.clear()

    async def look_and_act(self) -> None:
        """One turn: look, decide, write down, act."""
        await self._keep_haproxy()
        servers = await self._look_at_haproxy()
        jobs = await self._look_at_jobs()
        self.sights = {member.key: self._sight(member, jobs, servers) for member in self.state.members}
        done = step(
            self.state,
            self.sights,
            self._wish(),
            self._service.limits,
            now=clock.monotonic(),
            fresh_key=secrets.token_hex(4),
        )
        for note in done.notes:
            self._note(note)
        self._take(done.state)
        kept = self._keep()
        await self._order_servers(servers)
        for act in done.acts:
            # A job whose key is not on disk would be nobody's after our death.
            if kept or not isinstance(act, Submit):
                self._act(act)

    def _wish(self) -> Wish:
        wish = controller_talk.wish(
            self.answer, full_tier=self.full_tier, since_seconds=self._since_seconds, now=clock.monotonic()
        )
        if self._controller_socket is None:
            return replace(wish, tier=self.full_tier, may_start=True, reason="the service's own tier")
        return wish

    async def _keep_haproxy(self) -> None:
        """Have HAProxy run where it is ours; its configuration has the servers of now."""
        if self._process is None:
            return
        try:
            async with self._starting:
                if self._process.found is None:
                    self._write_config()
                    await self._process.start()
                    self._note("HAProxy is started")
            self._process.watch(self._haproxy_ended)
        except (HaproxyError, OSError, TimeoutError) as error:
            self._trouble("haproxy", f"{error}")

    async def replace_haproxy(self) -> None:
        """Start HAProxy anew without losing a request: for another configuration or another version."""
        if self._process is not None:
            async with self._starting:
                self._write_config()
                await self._process.start()
            self._process.watch(self._haproxy_ended)
            self._note("HAProxy is replaced; the one before finishes its streams")

    def _haproxy_ended(self) -> None:
        """At once, and not behind a turn in which Slurm is slow to answer."""
        self._start("haproxy", self._keep_haproxy())

    def _write_config(self) -> None:
        servers = self._servers()
        if servers != self._config_written or not self._folder.config.exists():
            haproxy_config.write(self._service, self._folder, servers)
            self._config_written = servers

    def _servers(self) -> list[ServerWish]:
        """HAProxy's servers as the state wants them."""
        ready = {Phase.READY: False, Phase.SERVING: True, Phase.DRAINING: True, Phase.CLOSING: False}
        return [
            ServerWish(
                name=member.server, address=member.address, order=member.order, ready=ready[member.phase]
            )
            for member in self.state.members
            if member.phase in ready and member.address
        ]

    async def _look_at_haproxy(self) -> dict[str, ServerSeen] | None:
        try:
            servers = await self._proxy.servers(self._backend)
            if self._process is not None:
                self._request_rate = await self._proxy.request_rate(haproxy_config.FRONTEND)
        except HaproxyError as error:
            self._trouble("haproxy", str(error))
            now = clock.monotonic()
            self._silent_since = now if self._silent_since is None else self._silent_since
            if self._process is not None and now - self._silent_since > HUNG_SECONDS:
                self._process.end_hung()
            return None
        self._silent_since = None
        self.trouble.pop("haproxy", None)
        return servers

    async def _order_servers(self, seen: dict[str, ServerSeen] | None) -> None:
        try:
            if self._process is not None:
                self._write_config()
            if seen is not None:
                await self._proxy.apply(self._backend, self._servers(), seen)
        except (HaproxyError, OSError) as error:
            self._trouble("haproxy", str(error))

    async def _look_at_jobs(self) -> dict[str, JobSight] | None:
        known = {member.key: member.tier for member in self.state.members}
        began = clock.monotonic()
        try:
            jobs = await self._backends.look(known | dict(self._past))
        except BackendsError as error:
            self._trouble("jobs", str(error))
            return None
        self.trouble.pop("jobs", None)
        for key, at in self._submitted.items():
            if at < began and key not in jobs:
                self._refused.setdefault(key, "it ended at once; see what it printed")
        for key in jobs.keys() - known.keys():
            self._start(f"end {jobs[key].job_id}", self._end(jobs[key].job_id, hard=True))
        self._account = next((job.account for job in jobs.values() if job.account), self._account)
        return jobs

    def _sight(
        self, member: Member, jobs: dict[str, JobSight] | None, servers: dict[str, ServerSeen] | None
    ) -> Sight:
        job = None if jobs is None else jobs.get(member.key)
        seen = JobSeen.UNKNOWN if jobs is None else JobSeen.ABSENT if job is None else job.seen
        address = job.address if job else ""
        if member.phase is Phase.STARTING and address:
            self._start(f"health {member.key}", self._probe(member.key, address))
        server = None if servers is None else servers.get(member.server)
        streams = server.open_streams if server else None
        if streams is None and servers is not None:
            streams = 0
        if streams is not None and member.phase in GOING and self._process is not None:
            streams += self._process.former()
        return Sight(
            job=seen,
            job_id=job.job_id if job else "",
            address=self._resolved.get(address, "") if address else "",
            healthy=member.key in self._healthy,
            warmed=member.key in self._warmed or self._service.warm_up is None,
            up=server.up if server and not server.maintenance else None,
            open_streams=streams,
            left_seconds=job.left_seconds if job else None,
            refusal=self._refused.get(member.key, ""),
        )

    async def _probe(self, key: str, address: str) -> None:
        """Is a server healthy that is to come?"""
        try:
            self._resolved[address] = await resolve(address)
            healthy = await ask(address, path=self._service.health_path) < 400
        except ProbeError as error:
            log.debug("%s: %s", address, error)
            healthy = False
        if healthy:
            self._healthy.add(key)
            self.wake()
        else:
            self._healthy.discard(key)

    async def _warm_up(self, key: str, address: str) -> None:
        """Send the warm-up; where it fails it is sent again after a second, until the time-out of all."""
        request = self._service.warm_up
        if request is None:
            return
        try:
            status = await ask(
                f"http://{address}",
                path=request.path,
                method=request.method,
                body=request.body,
                content_type=request.content_type,
                timeout_seconds=request.timeout_seconds,
            )
        except ProbeError as error:
            self._trouble("warm-up", str(error))
        else:
            if status < 400:
                self.trouble.pop("warm-up", None)
                self._warmed.add(key)
                self.wake()
                return
            self._trouble("warm-up", f"the answer's status is {status}")
        await asyncio.sleep(1.0)

    async def _submit(self, key: str, tier: str) -> None:
        refusal = await self._backends.submit(key, tier)
        if refusal:
            self._refused[key] = refusal
        else:
            self._submitted[key] = clock.monotonic()
        self.wake()

    async def _end(self, job_id: str, *, hard: bool) -> None:
        try:
            await self._backends.end(job_id, hard=hard)
        except BackendsError as error:
            self._trouble("jobs", str(error))

    def _act(self, act: Act) -> None:
        match act:
            case Submit(key=key, tier=tier):
                if key not in self._submitted:
                    self._start(f"submit {key}", self._submit(key, tier))
            case WarmUp(key=key):
                member = next(member for member in self.state.members if member.key == key)
                self._start(f"warm {key}", self._warm_up(key, member.address))
            case EndJob(job_id=job_id, hard=hard):
                self._start(f"end {job_id} {hard}", self._end(job_id, hard=hard))

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the turns, unless the very same is under way."""
        if name in self._running:
            work.close()
            return
        task = asyncio.create_task(work, name=name)
        self._running[name] = task
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._running.pop(task.get_name(), None)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s failed", task.get_name(), exc_info=task.exception())

    def _take(self, state: State) -> None:
        """Have a new state, and forget all about members that are gone."""
        present = {member.key for member in state.members}
        self._past.extend(
            (member.key, member.tier) for member in self.state.members if member.key not in present
        )
        self.state = state
        for kept in (self._submitted, self._refused):
            for key in kept.keys() - present:
                del kept[key]
        self._healthy &= present
        self._warmed &= present

    def _keep(self) -> bool:
        """Write down what changed; whether what is on disk is true."""
        now = (self.state, self.full_tier)
        if now == self._written:
            return True
        extra = {"past": list(self._past), "full_tier": self.full_tier, "notes": list(self.notes)}
        try:
            write_state(self._folder.state, self.state, extra)
        except OSError as error:
            self._trouble("state", f"{self._folder.state}: {error.strerror}")
            return False
        self.trouble.pop("state", None)
        self._written = now
        return True

    def switch_to(self, tier: str | None) -> None:
        """Have another full tier, as if the file said so; None for the file's own. Kept over a restart."""
        self.full_tier = tier or self._service.full_tier
        self._note(f"{self.full_tier} is what the service is to run where nothing is short")
        self._keep()
        self.wake()

    def report(self) -> dict[str, Any]:
        """What powerctld is told."""
        return controller_talk.report(
            self._service,
            self.state,
            self.sights,
            full_tier=self.full_tier,
            account=self._account,
            requests_per_second=self._request_rate,
        )

    async def _talk(self) -> None:
        """Tell powerctld how the service is, and take its answer."""
        while self._controller_socket is not None:
            try:
                said = await controller_talk.tell(self._controller_socket, self.report())
                answer = controller_talk.understood(said, self._service, now=clock.monotonic())
            except controller_talk.TalkError as error:
                self._trouble("powerctld", str(error))
            else:
                self.trouble.pop("powerctld", None)
                before, self.answer = self.answer, answer
                if before is None or (before.tier, before.may_start) != (answer.tier, answer.may_start):
                    self.wake()
            await asyncio.sleep(controller_talk.TELL_SECONDS)

    def _note(self, text: str) -> None:
        log.info("%s", text)
        self.notes.append(f"{clock.now():%Y-%m-%d %H:%M:%S} {text}")

    def _trouble(self, what: str, text: str) -> None:
        """Say what is wrong once, not each second."""
        if self.trouble.get(what) != text:
            log.warning("%s: %s", what, text)
            self.trouble[what] = text

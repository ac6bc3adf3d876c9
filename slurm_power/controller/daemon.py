"""powerctld's cycle: compose a snapshot, plan, act, write it down; once a second and on every event."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from slurm_power import clock
from slurm_power.act import Actor, Outcome
from slurm_power.config import SiteConfig
from slurm_power.config.node_record import split_address
from slurm_power.controller.admission.admission_desk import AdmissionDesk, SlurmAdmission
from slurm_power.controller.answers.answers import answer
from slurm_power.controller.answers.user_socket import UserSocket
from slurm_power.controller.answers.web_tickets import WebTickets
from slurm_power.controller.beside import Beside
from slurm_power.controller.cycle_beat import CycleBeat
from slurm_power.controller.events.event_desk import EventDesk
from slurm_power.controller.governance.alert_desk import AlertDesk
from slurm_power.controller.governance.control_desk import ControlDesk, Wish
from slurm_power.controller.governance.fairness_desk import FairnessDesk
from slurm_power.controller.governance.governance import Governance
from slurm_power.controller.governance.operators import OperatorDesk
from slurm_power.controller.jobs.job_expectations import JobExpectations
from slurm_power.controller.jobs.lineage import Lineage
from slurm_power.controller.jobs.receipt_desk import Accounting, ReceiptDesk
from slurm_power.controller.levers.kept_levers import KeptLevers
from slurm_power.controller.levers.lever_books import LeverBooks
from slurm_power.controller.levers.pause_desk import PauseDesk
from slurm_power.controller.levers.prolog_desk import LISTED_SECONDS, PrologDesk
from slurm_power.controller.levers.shadow import ShadowBook
from slurm_power.controller.planning.forecasting import ForecastDesk
from slurm_power.controller.planning.planning import Planning
from slurm_power.controller.records.metrics import MetricsServer
from slurm_power.controller.records.recorder import Recorder
from slurm_power.controller.records.scrape import page
from slurm_power.controller.sensing.authority import Authority, pins_of
from slurm_power.controller.sensing.node_desk import NodeDesk
from slurm_power.controller.sensing.nodes import NodeLinks
from slurm_power.controller.sensing.pollers import every_poller
from slurm_power.controller.sensing.probe import close_drivers
from slurm_power.controller.sensing.rack_feed import RackFeed
from slurm_power.controller.sensing.refusals import RefusalNotes
from slurm_power.controller.sensing.source_watch import SourceWatch
from slurm_power.controller.sensing.supply_desk import SupplyDesk
from slurm_power.controller.sensing.trust import note_trust, unproven
from slurm_power.controller.storage.ess_desk import EssDesk
from slurm_power.controller.tiers.tier_levers import TierLevers
from slurm_power.model.action import Plan
from slurm_power.model.job import Job
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import job_loads
from slurm_power.plan.policy import Policy
from slurm_power.plan.release_all import release_all
from slurm_power.ports import LocalStore, PowerMeter, Scheduler, Storage
from slurm_power.store.background import BackgroundSeries
from slurm_power.store.patient import PatientStore
from slurm_power.tasks import end_all
from slurm_power.telemetry import SiteTelemetry
from slurm_power.telemetry.circuits import SourceRow

log = logging.getLogger(__name__)

# Ledger entries whose chain is checked in one cycle: some milliseconds, and all of a year's within hours.
_CHECKED_A_CYCLE = 500
_NODE_KEYS = "node_keys"


class Controller:
    """One powerctld. The drivers are opened by their pollers; ``run`` returns after ``stop``.

    Raises AuthorityError when there is no certificate authority.
    """

    def __init__(
        self,
        config: SiteConfig,
        store: LocalStore,
        *,
        meters: Mapping[str, PowerMeter],
        storages: Mapping[str, Storage],
        scheduler: Scheduler,
        series: BackgroundSeries | None = None,
        accounting: Accounting | None = None,
        admission: SlurmAdmission | None = None,
    ) -> None:
        """``meters`` by circuit, ``storages`` by ESS; without ``series`` none are kept."""
        self.store = PatientStore(store)
        self.governance = Governance(config, self.store, note=self._note)
        self.config = config = replace(config, policy=self.governance.policy.policy)
        self.recorder = Recorder(self.store, config.policy, series)
        self.plan = Plan()
        self.planned_on: Snapshot | None = None
        self.telemetry = SiteTelemetry(
            config.site,
            {
                circuit.name: (circuit.meter, config.devices[circuit.meter].max_age_seconds)
                for circuit in config.site.circuits.values()
                if circuit.meter is not None
            },
            unproven(config),
        )
        self._meters, self._storages = meters, storages
        self._scheduler = scheduler
        self._started_seconds = clock.monotonic()
        self._last_cycle_seconds = self._started_seconds
        self._beat = CycleBeat(self._note)
        self.control = ControlDesk(config.policy.control, self.store, note=self._note, wake=self._beat.wake)
        self._look = asyncio.Event()
        self.cycle_figures = self._beat.figures
        self._metrics = MetricsServer(lambda: page(self, series, len(self._links.connected())))
        self.alerts = AlertDesk(self._note)
        self._refusals = RefusalNotes(self._note)
        self._beside = Beside(self._fault)
        self.forecasts = ForecastDesk(config, note=self._note, fault=self._fault)
        self.expectations = JobExpectations(self.store, config.policy, self._note)
        self.admission = AdmissionDesk(
            config, admission, self.expectations, note=self._note, fault=self._fault
        )
        self.supply = SupplyDesk(config, fault=self._fault)
        self.planning = Planning(config, self.store, supply=self.supply, note=self._note, fault=self._fault)
        self.level = EssDesk(config, self.store, supply=self.supply, note=self._note, fault=self._fault)
        self.fairness = FairnessDesk(config.policy, self.store)
        self.receipts = ReceiptDesk(
            self, accounting, rates=self.supply.rates, note=self._note, fault=self._fault
        )
        self.sources = SourceWatch(
            config, self.telemetry, self.store, self._note, self.supply, now_seconds=self._started_seconds
        )
        self._kept_levers = KeptLevers(self.store)
        self.levers = self._kept_levers.read(clock.now(), config.controller.cap_lease_seconds)
        self.levers.paused.counts = bool(config.policy.pause_flex)
        self.events = EventDesk(config.site, config.policy, self.levers, self.store, self._note)
        self._links = NodeLinks(
            known_nodes=frozenset(config.site.nodes()),
            node_uid=config.controller.node_uid,
            munge_socket=config.controller.munge_socket,
            authority=Authority(
                config.controller.tls_directory,
                pins_of(store.state(_NODE_KEYS)),
                lifetime=timedelta(hours=config.controller.certificate_hours),
                keep=lambda pins: self.store.put_state_at_once(_NODE_KEYS, pins),
            ),
            on_message=lambda node, message: self.node_desk.take(node, message),  # noqa: PLW0108  # made below
            on_change=self._node_changed,
            on_hint=self._look.set,
            on_refusal=self._refusals.note,
        )
        self.tiers = TierLevers(
            config,
            self.store,
            scheduler,
            send=self._links.send,
            lineage=Lineage(self.recorder, self.telemetry.energies_joules),
            note=self._note,
            fault=self._fault,
            wake=self._beat.wake,
        )
        self._actor = Actor(
            nodes=self._links,
            storages=storages,
            ess_lease_seconds={name: ess.lease_seconds for name, ess in config.site.ess.items()},
            scheduler=scheduler,
            cap_lease_seconds=config.controller.cap_lease_seconds,
            pause_lease_seconds=config.controller.hold_lease_seconds,
            tiers=self.tiers,
        )
        self._books = LeverBooks(self.levers, self.tiers, ShadowBook(self.store, self.recorder.note))
        self._racks = RackFeed(self._links.send)
        self._prologs = PrologDesk(config.policy, note=self._note, send=self._links.send)
        self._pause_desk = PauseDesk(self.levers, self._actor.pauses, self._note)
        self.node_desk = NodeDesk(
            self.telemetry,
            self.recorder,
            known_lease=lambda job_id: job_id in self.levers.caps or self._actor.granted(job_id),
            release=lambda node, ids: self._links.send(node, {"type": "release", "lease_ids": ids}),
            on_news=self._node_news,
            on_pause=self._pause_desk.heard,
            on_prolog=self._prolog_asked,
            on_start=self.tiers.job_started,
        )
        self.operators = OperatorDesk(self.levers, note=self._note, nodes=self._links, wake=self._beat.wake)
        self.web_tickets = WebTickets()
        self._users = UserSocket(config.controller.socket, partial(answer, self))

    @property
    def mode(self) -> str:
        """``control`` when levers are moved, ``off`` when it only looks and writes down."""
        return self.control.mode

    def now(self) -> datetime:
        """Wall time, for answers."""
        return clock.now()

    def uptime_seconds(self) -> float:
        """Seconds since this controller was made."""
        return clock.monotonic() - self._started_seconds

    def node_software(self) -> dict[str, str]:
        """The version that each connected node daemon runs."""
        return self._links.software()

    def snapshot(self) -> Snapshot:
        """The site now, for answers; the cycle takes its own."""
        return self._snapshot(clock.monotonic())

    def _snapshot(self, now_seconds: float) -> Snapshot:
        at = clock.now()
        seen = self.telemetry.snapshot(at, now_seconds, self.levers.view(at))
        seen = self.planning.peak.onto(self.level.onto(self.events.onto(self.supply.onto(seen))))
        seen = self.tiers.onto(seen, self.telemetry.progress(now_seconds), now_seconds)
        return self.fairness.onto(self.expectations.onto(self.admission.onto(seen)))

    def source_rows(self) -> list[SourceRow]:
        """Every source of the site with its quality."""
        return self.sources.rows(self.snapshot(), clock.monotonic())

    def stop(self) -> None:
        """End ``run``: everything that is set is given back first."""
        self._beat.stop()

    async def run(self) -> None:
        """Serve until stopped; raises OSError when an address cannot be listened on."""
        await self._links.start(*split_address(self.config.controller.listen, "controller.listen", []))
        await self._users.start()
        await self._metrics.start(self.config.metrics.listen, self._fault)
        version = "taking over" if self.levers.caps or self.levers.holds else "starting"
        self._note("controller", "start", f"site:{self.config.site.name}", f"{version}, mode {self.mode}")
        self.governance.policy.look()
        note_trust(self.config, self._note)
        self.planning.garbage.start(clock.monotonic())
        pollers = every_poller(
            self.config,
            self.telemetry,
            meters=self._meters,
            storages=self._storages,
            scheduler=self._scheduler,
            look=self._look,
            wake=self._beat.wake,
            on_fault=self._fault,
        )
        desks = (self.forecasts, self.supply, self.receipts, self.admission, self.tiers.source)
        tasks = [asyncio.create_task(step) for step in (*pollers, *(desk.run() for desk in desks))]
        tasks.append(asyncio.create_task(self._beat.run(self._cycle, self.planning.garbage.after_cycle)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end_all(tasks)
            await self._wind_down()

    async def _cycle(self, now_seconds: float) -> None:
        snapshot = self._snapshot(now_seconds)
        at = snapshot.at
        jobs = {job.job_id: job for job in snapshot.jobs}
        self._expire(at, jobs)
        self.control.look(now_seconds)
        wish = self.control.take_wish()
        self.plan = self._plan(snapshot, now_seconds, wish)
        self.planned_on = snapshot
        if self.control.enabled:
            outcomes = await self._actor.carry_out(self.plan, jobs, now_seconds)
        else:
            if wish or self._books.standing() or self._actor.busy:
                await self._let_go()
            outcomes = [Outcome(action=action) for action in self.plan.actions]
        self._beside.do("prologs", lambda: self._prologs.follow(snapshot, enabled=self.control.enabled))
        self._record(snapshot, jobs, outcomes, now_seconds)
        self._beside.do("forecast:feed", lambda: self.forecasts.observe(snapshot))
        self._beside.do("day plan", lambda: self.planning.look(snapshot, now_seconds))
        self._beside.do("battery level", lambda: self.level.observe(snapshot))
        self._beside.do(
            "tiers", lambda: self.tiers.follow(snapshot, now_seconds, enabled=self.control.enabled)
        )
        self._beside.do("receipts", lambda: self.receipts.observe(snapshot, enabled=self.control.enabled))
        self._beside.do("admission", lambda: self.admission.observe(snapshot, controls=self.control.enabled))
        self._beside.do("events", lambda: self.events.follow(snapshot, self.plan.shortfalls))

    def _plan(self, snapshot: Snapshot, now_seconds: float, wish: Wish | None) -> Plan:
        """The plan of a cycle; with a ``wish`` to give everything back it is that, once."""
        if wish is None or not self.control.enabled:
            return self.admission.before(self.planning.plan(snapshot, now_seconds), snapshot)
        # What is still needed is planned at once, by what is seen then.
        self.planning.again()
        self._beat.wake()
        self.tiers.give_up(snapshot, wish.text)
        actions = release_all(snapshot, wish.text, safety_too=wish.safety_too).actions
        return replace(self.plan, actions=actions, notes=())

    def _expire(self, at: datetime, jobs: Mapping[str, Job]) -> None:
        if self.telemetry.jobs_known:
            self.levers.follow({job_id: job.state for job_id, job in jobs.items()}, at)
            self._pause_desk.follow(jobs, at)
        self.levers.expire(at)
        for record in self.levers.expire_yields(at):
            self._note("controller", "yield over", f"node:{record.node}", record.reason)

    def _record(
        self, snapshot: Snapshot, jobs: Mapping[str, Job], outcomes: list[Outcome], now_seconds: float
    ) -> None:
        loads = job_loads(snapshot, self.config.policy)
        draws = {load.job.job_id: load.uncapped_watts for load in loads}
        for outcome in outcomes:
            enabled = self.control.enabled
            changed = self._books.took(outcome, draws, jobs, snapshot.at, enabled=enabled)
            self.recorder.outcome(outcome, snapshot, jobs, changed=changed, shadow=not enabled)
        cycle_seconds, self._last_cycle_seconds = now_seconds - self._last_cycle_seconds, now_seconds
        self._beside.do("shadow", lambda: self._books.shadow.look(self, snapshot, loads, cycle_seconds))
        self._books.shadow.keep(jobs)
        self.recorder.shortfalls(self.plan, snapshot.at)
        self.recorder.series(snapshot, self.receipts.rates, self._books.shadow.values)
        self.recorder.store_fault(snapshot.at, "store:ledger", self.store.problem, "it is written again")
        self._racks.look(snapshot, now_seconds)
        self.node_desk.flush(jobs)
        self.recorder.jobs(snapshot, self.levers, self.telemetry.energies_joules(), cycle_seconds)
        self._kept_levers.keep(self.levers)
        self.fairness.observe(snapshot, self.levers, cycle_seconds)
        self._beside.do("expectations", lambda: self.expectations.observe(snapshot, loads, cycle_seconds))
        self._beside.do("progress", lambda: self.tiers.observe(snapshot, loads, cycle_seconds, now_seconds))
        self.sources.look(snapshot, now_seconds)
        self.store.broken_at_sequence(_CHECKED_A_CYCLE)

    async def _wind_down(self) -> None:
        """Give everything back, then hang up."""
        await self.admission.let_go()
        await self.tiers.stop()
        if self.control.enabled:
            await self._let_go()
        self._kept_levers.keep(self.levers)
        self.recorder.keep_jobs()
        self._books.shadow.keep_sums()
        self.expectations.keep()
        self.receipts.keep()
        self.events.keep()
        self._note("controller", "stop", f"site:{self.config.site.name}", "everything was given back")
        await self.planning.stop()
        await self.level.stop()
        await self._users.stop()
        await self._metrics.stop()
        await self._links.stop()
        await close_drivers(self._meters, self._storages)

    async def _let_go(self) -> None:
        """Give every lever back at once and forget it."""
        jobs = {job.job_id: job for job in self.snapshot().jobs}
        for problem in await self._books.let_go(self._actor, jobs):
            self._note("controller", "failed", "site", f"giving back: {problem}")
        await self._links.drain()
        self.node_desk.flush(jobs, everything=True)
        self.levers.let_go(clock.now())

    def _note(self, actor: str, kind: str, subject: str, reason: str, **more: Any) -> None:
        log.info("%s %s %s: %s", actor, kind, subject, reason)
        self.recorder.note(clock.now(), actor, kind, subject, reason, **more)

    def _fault(self, subject: str, error: str) -> None:
        if error:
            self._note("controller", "fault", subject, error)
        else:
            self._note("controller", "fault over", subject, "it answers again")

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from the next cycle on."""
        self.config = replace(self.config, policy=policy)
        desks = (self.planning, self.level, self.fairness, self.tiers, self.recorder, self.forecasts)
        for desk in (*desks, self.admission, self.events, self._prologs):
            desk.use_policy(policy)
        self._beat.wake()

    def look_soon(self) -> None:
        """Ask Slurm for the jobs soon, not at the next turn; plan when they have come."""
        self._look.set()

    def _node_news(self) -> None:
        self._look.set()
        self._beat.wake()

    def _prolog_asked(self, node: str, job_id: str) -> None:
        self._prologs.asked(node, job_id)
        # By then it has to be answered, whether there is a new list of jobs or not.
        asyncio.get_running_loop().call_later(LISTED_SECONDS, self._beat.wake)

    def _node_changed(self, node: str, connected: bool) -> None:
        self._prologs.node_changed(node, connected=connected)
        if connected:
            self._note("controller", "node up", f"node:{node}", "its daemon has connected")
            self.operators.tell_yield(node)
        elif not self._beat.stopping:
            self._note(
                "controller", "node lost", f"node:{node}", "its daemon has hung up; its leases run out"
            )
        self._beat.wake()

"""powerbridge's task of the alerts: looks at the site, judges, tells, and lets powerctld know."""

import asyncio
import logging
from typing import Any, Protocol

from slurm_power import clock, wire
from slurm_power.bridge.alert_book import AlertBook, Notice, Silence
from slurm_power.bridge.alert_channels import Channel, HookChannel, JournalChannel, MailChannel
from slurm_power.bridge.alert_delivery import Outbox
from slurm_power.bridge.alert_messages import Clockwork, message, row, trial
from slurm_power.bridge.alert_rules import Beside, Thresholds, find
from slurm_power.bridge.alert_sources import Layout
from slurm_power.bridge.alert_watch import LedgerWatch, certificate_seconds, free_ratios
from slurm_power.bridge.alertmanager import AlertmanagerOutbox
from slurm_power.bridge.event_book import Ask
from slurm_power.bridge.loose import number, rows, table, words
from slurm_power.bridge.state_file import StateFile
from slurm_power.config import SiteConfig
from slurm_power.config.alerts import AlertsConfig
from slurm_power.config.node_record import split_address
from slurm_power.powerctld_line import LineError, LineRefusedError
from slurm_power.tasks import end_all

log = logging.getLogger(__name__)

_LEDGER_SECONDS = 10.0
_DISK_SECONDS = 30.0
_DISK_PATIENCE_SECONDS = 5.0
# Words with numbers change each turn; what matters is written at once.
_KEEP_SECONDS = 30.0
_MOST_NEWS = 200
# powerctld's socket takes requests of 64 KiB.
_MOST_BYTES = 60_000
_MOST_SHOWN_EFFECTS = 10
_MOST_ALSO = 10
_PICTURE = {"op": "live", "most_jobs": 0}


class AnyOutbox(Protocol):
    """A way out, as the task sees it."""

    failing: str

    @property
    def name(self) -> str:
        """What it is called in alerts about it."""
        ...

    def to_json(self) -> dict[str, Any]:
        """What has to survive a restart."""
        ...

    def take_json(self, stored: object) -> None:
        """Go on with it."""
        ...

    async def run(self) -> None:
        """Bring out what there is, until cancelled."""
        ...

    async def test(self, message: dict[str, Any]) -> str:
        """Try it; returns why it failed."""
        ...


def layout_of(config: SiteConfig) -> Layout:
    """What hangs on what, by site.toml."""
    site = config.site
    places = {
        name: split_address(device.address, "address", [])[0] for name, device in config.devices.items()
    }
    # Many devices on one loopback are a test bed's, and no more one box than its simulators are.
    places = {name: host for name, host in places.items() if host not in ("127.0.0.1", "localhost", "::1")}
    places |= {ess: places[device] for ess, device in config.ess_devices.items() if device in places}
    return Layout(
        parents={name: circuit.parent for name, circuit in site.circuits.items()},
        circuits={node: circuit.name for circuit in site.circuits.values() for node in circuit.nodes},
        meters={name: circuit.meter for name, circuit in site.circuits.items() if circuit.meter is not None},
        places=places,
        ceilings_watts={name: circuit.ceiling_watts for name, circuit in site.circuits.items()},
    )


class AlertTask:
    """One site's alerts. ``run`` returns only when it is cancelled."""

    def __init__(self, config: SiteConfig, ask: Ask, state: StateFile) -> None:
        self._config, self._ask, self._state = config, ask, state
        settings = config.alerts.settings
        self._settings = settings
        self._layout = layout_of(config)
        self._thresholds = Thresholds(
            disk_free_ratio=settings.disk_free_ratio,
            certificate_days=settings.certificate_days,
            follow_ratio=settings.follow_ratio,
            controls=config.policy.control,
        )
        self._began, self._began_seconds = clock.now().timestamp(), clock.monotonic()
        self._ledger = LedgerWatch()
        self._next_ledger_seconds = self._next_disk_seconds = float("-inf")
        self._free: dict[str, float] = {}
        self._disks: asyncio.Task[dict[str, float]] | None = None
        self._next_keep_seconds = float("-inf")
        self._certificates: dict[str, float] = {}
        self._news: list[dict[str, Any]] = []
        self._results: dict[str, dict[str, str]] = {}
        self._trials: dict[str, asyncio.Task[None]] = {}
        self._refusal = ""
        self.outboxes = _outboxes(config.alerts)
        self.managers = [AlertmanagerOutbox(one) for one in config.alerts.alertmanagers]
        self.book = AlertBook(
            config.alerts.rules, config.alerts.inhibits, remind_seconds=settings.remind_seconds
        )
        self._take(state.read())

    def _at(self) -> float:
        """The book's seconds: those of the wall clock at the start, and never set back after."""
        return self._began + clock.monotonic() - self._began_seconds

    def _all(self) -> list[AnyOutbox]:
        return [*self.outboxes, *self.managers]

    async def run(self) -> None:
        """Look, judge and tell until cancelled."""
        tasks = [asyncio.create_task(one.run(), name=one.name) for one in self._all()]
        try:
            while True:
                await self.turn()
                for task in tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(self._settings.poll_seconds)
        finally:
            await end_all([*tasks, *self._trials.values()])
            self.keep()

    async def turn(self) -> None:
        """One look, and what comes of it."""
        picture, silent_reason = await self._picture()
        if picture is not None and clock.monotonic() >= self._next_ledger_seconds:
            self._next_ledger_seconds = clock.monotonic() + _LEDGER_SECONDS
            try:
                await self._ledger.look(self._ask)
            except LineError as error:
                log.warning("the ledger was not read: %s", error)
        if clock.monotonic() >= self._next_disk_seconds:
            self._next_disk_seconds = clock.monotonic() + _DISK_SECONDS
            await self._look_at_disks()
            self._certificates = certificate_seconds(self._config.controller.tls_directory, clock.now())
        beside = Beside(
            silent_reason=silent_reason,
            free_ratios=self._free,
            certificate_seconds=self._certificates,
            ledger_broken_at=self._ledger.broken_at,
            faults=self._ledger.faults,
            delivered_ratios=self._ledger.delivered_ratios(),
            failing={one.name: one.failing for one in self._all() if one.failing},
        )
        found = find(picture, beside, self._layout, thresholds=self._thresholds, firing=self.book.firing_ids)
        at = self._at()
        times = Clockwork(clock.now(), at)
        notices = self.book.look(found, at, known=picture is not None)
        for notice in notices:
            self._tell(notice, times)
        for manager in self.managers:
            manager.show([self._message(Notice.now(alert, at), times) for alert in self.book.announced()])
        if notices or clock.monotonic() >= self._next_keep_seconds:
            self.keep()
        if picture is not None:
            await self._report(times)

    async def _look_at_disks(self) -> None:
        """Ask how full they are; a disk that hangs is asked once, and the others are as they were."""
        if self._disks is None:
            self._disks = asyncio.create_task(asyncio.to_thread(free_ratios, self._config))
        await asyncio.wait({self._disks}, timeout=_DISK_PATIENCE_SECONDS)
        if self._disks.done():
            self._free, self._disks = self._disks.result(), None

    async def _picture(self) -> tuple[dict[str, Any] | None, str]:
        try:
            return await self._ask(_PICTURE), ""
        except LineRefusedError as error:
            if str(error) != self._refusal:
                log.error("powerctld gives no picture: %s", error)
            self._refusal = str(error)
            return None, str(error)
        except LineError as error:
            return None, str(error)

    def _message(self, notice: Notice, times: Clockwork) -> dict[str, Any]:
        also = [
            {"alert_id": alert.alert_id, "severity": alert.severity.value, "summary": alert.summary}
            for alert in self.book.firing
            if alert.alert_id != notice.alert.alert_id
        ][:_MOST_ALSO]
        return message(
            notice, site=self._config.site.name, settings=self._settings, times=times, also_firing=also
        )

    def _tell(self, notice: Notice, times: Clockwork) -> None:
        told = self._message(notice, times)
        for outbox in self.outboxes:
            outbox.put(told)
        news = {key: told[key] for key in ("alert_id", "news", "summary", "severity", "remark")}
        effects = told["effects"][:_MOST_SHOWN_EFFECTS]
        self._news = [*self._news, {"news_id": told["message_id"], **news, "effects": effects}][-_MOST_NEWS:]

    async def _report(self, times: Clockwork) -> None:
        """Let powerctld know, and take what operators want."""
        request: wire.Message = {
            "op": "alerts",
            "alerts": [row(self.book, alert, self._settings, times) for alert in self.book.firing],
            "silences": [
                {
                    "alert_id": key,
                    "until": times.iso(silence.until),
                    "reason": silence.reason,
                    "who": silence.who,
                }
                for key, silence in self.book.silences.items()
            ],
            "news": list(self._news),
            "results": dict(self._results),
        }
        sent = fitted(request)
        try:
            answer = await self._ask(sent)
        except LineError as error:
            log.warning("powerctld was not told of alerts: %s", error)
            return
        told = {one["news_id"] for one in rows(sent, "news")}
        self._news = [one for one in self._news if one["news_id"] not in told]
        self._results.clear()
        for wish in rows(answer, "wishes"):
            self._wish(dict(wish), times)

    def _wish(self, wish: dict[str, Any], times: Clockwork) -> None:
        key, name = str(wish.get("wish_id")), words(wish, "alert_id")
        match wish.get("kind"):
            case "silence":
                until = self._at() + (number(wish, "seconds") or 0.0)
                silence = Silence(until=until, reason=words(wish, "reason"), who=words(wish, "who"))
                self.book.silences[name] = silence
                self._results[key] = {}
                self.keep()
            case "unsilence":
                self.book.silences.pop(name, None)
                self._results[key] = {}
                self.keep()
            case "test" if key not in self._trials:
                trying = trial(
                    site=self._config.site.name,
                    settings=self._settings,
                    at=times.iso(self._at()),
                    who=words(wish, "who"),
                )
                self._trials[key] = asyncio.create_task(self._try(key, trying))
            case _:
                pass

    async def _try(self, key: str, trying: dict[str, Any]) -> None:
        ways = self._all()
        found = await asyncio.gather(*(one.test(trying) for one in ways), return_exceptions=True)
        self._results[key] = {
            one.name: text if isinstance(text, str) else f"{type(text).__name__}: {text}"
            for one, text in zip(ways, found, strict=True)
        }
        del self._trials[key]

    def keep(self) -> None:
        """Write down what the next bridge has to know."""
        self._next_keep_seconds = clock.monotonic() + _KEEP_SECONDS
        waiting = {one.name: one.to_json() for one in self._all()}
        self._state.write({"book": self.book.to_json(), "waiting": waiting, "news": self._news})

    def _take(self, stored: dict[str, Any]) -> None:
        self.book.take_json(table(stored, "book"), self._at())
        for one in self._all():
            one.take_json(table(table(stored, "waiting"), one.name))
        self._news = [dict(news) for news in rows(stored, "news") if words(news, "news_id")][-_MOST_NEWS:]


def _outboxes(config: AlertsConfig) -> list[Outbox]:
    channels: list[Channel] = [MailChannel(mail) for mail in config.mails]
    channels += [HookChannel(hook) for hook in config.hooks]
    if config.settings.journal or config.settings.syslog:
        channels.append(JournalChannel(to_syslog=config.settings.syslog))
    return [Outbox(channel) for channel in channels]


def fitted(request: wire.Message) -> wire.Message:
    """The request, cut to what powerctld's socket takes: effects first, then the slightest alerts."""
    alerts, news = rows(request, "alerts"), rows(request, "news")
    most_effects = _MOST_SHOWN_EFFECTS
    while True:
        cut: wire.Message = {
            **request,
            "alerts": [{**one, "effects": list(one["effects"])[:most_effects]} for one in alerts],
            "news": [{**one, "effects": list(one.get("effects", []))[:most_effects]} for one in news],
        }
        if len(wire.encode(cut)) <= _MOST_BYTES or not (alerts or news):
            return cut
        if most_effects:
            most_effects //= 2
        elif len(news) > 1:
            news = news[: len(news) // 2]
        else:
            alerts = alerts[: len(alerts) // 2]


async def run_alerts(config: SiteConfig, ask: Ask) -> None:
    """Watch one site until cancelled."""
    if not config.alerts.settings.on:
        await asyncio.Event().wait()
    state = StateFile(config.controller.state_directory / "bridge" / "alerts.json")
    await AlertTask(config, ask, state).run()

"""What node daemons say: telemetry, starts and ends of jobs, and the fate of each lease, gathered per job."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from slurm_power import clock
from slurm_power.controller.jobs.job_energy import JobEnergies
from slurm_power.controller.records.recorder import Recorder
from slurm_power.controller.sensing.lease_news import LeaseNews
from slurm_power.controller.sensing.repeats import Repeats
from slurm_power.model.job import Job
from slurm_power.model.tier_words import tier_of
from slurm_power.telemetry import SiteTelemetry
from slurm_power.wire import Message

log = logging.getLogger(__name__)

# Events that follow an order of ours on every GPU of a job: one ledger entry for all of them.
_EXPECTED_EVENTS = {
    "verified": "read back as set",
    "restored": "restored and read back",
    "expired": "the lease ran out",
}
_MOST_TEXT = 300
# GPUs of one job, on several nodes, answer within a moment of each other.
_GATHER_SECONDS = 1.0


# Event, job, cap in watts, lock in hertz.
_Key = tuple[str, str, float | None, float | None]


@dataclass(slots=True)
class _Gathered:
    first_seconds: float
    uuids_by_node: dict[str, list[str]] = field(default_factory=dict)


class NodeDesk:
    """Takes the nodes' messages. ``on_news`` is called when something happened that deserves a look."""

    def __init__(
        self,
        telemetry: SiteTelemetry,
        recorder: Recorder,
        *,
        known_lease: Callable[[str], bool],
        release: Callable[[str, list[str]], object],
        on_news: Callable[[], None],
        on_pause: Callable[[str, str, str, str], None] = lambda _node, _job_id, _event, _detail: None,
        on_prolog: Callable[[str, str], None] = lambda _node, _job_id: None,
        on_start: Callable[[str, Message], None] = lambda _node, _message: None,
    ) -> None:
        """``known_lease`` tells by job id whether a cap is ours; ``release`` sends (node, lease ids).

        ``on_pause`` takes node, job id, event and detail of what became of a pause's lease,
        ``on_prolog`` node and job id of a prolog that asks whether it waits, ``on_start`` the node's word on
        a job that starts or has been told its tier.
        """
        self._telemetry = telemetry
        self._recorder = recorder
        self._known_lease = known_lease
        self._release = release
        self._on_news = on_news
        self._on_pause = on_pause
        self._on_prolog = on_prolog
        self._on_start = on_start
        self._energies = JobEnergies()
        self._repeats = Repeats()
        self.lease_news = LeaseNews()
        self._gathered: dict[_Key, _Gathered] = {}

    def take(self, node: str, message: Message) -> None:
        """Take one message; raises WireError or KeyError for one that is not what the protocol says."""
        match message.get("type"):
            case "telemetry":
                self._telemetry.node_reported(node, message, clock.monotonic())
                wall_seconds = clock.now().timestamp()
                self._telemetry.clock_skews.take(node, message.get("at_seconds"), wall_seconds)
                jobs = message.get("jobs")
                for job in jobs if isinstance(jobs, list) else ():
                    self._energy(node, job)
                self._release_strangers(node)
            case "job_start":
                self._telemetry.job_registered(node, message, clock.monotonic())
                self._label(node, message)
                if self._telemetry.may_have(node, str(message.get("job_id"))):
                    self._on_start(node, message)
                self._on_news()
            case "job_end":
                self._telemetry.job_left(node, message)
                self._energy(node, message)
                self._label(node, message)
                self._on_news()
            case "lease_event":
                self._lease_event(node, message)
            case "pause_event":
                job_id = _short(message.get("job_id"))
                # A node speaks for its own jobs only.
                if self._telemetry.may_have(node, job_id):
                    event, detail = _short(message.get("event")), _short(message.get("detail"))
                    self._on_pause(node, job_id, event, detail)
                    self._on_news()
            case "prolog":
                job_id = _short(message.get("job_id"))
                if self._telemetry.may_have(node, job_id):
                    self._on_prolog(node, job_id)
                    self._on_news()
            case "stranger":
                self._stranger(node, message)
            case other:
                log.warning("%s sent an unknown message %r", node, other)

    def _release_strangers(self, node: str) -> None:
        """End leases that no cap of ours stands behind, as an earlier controller may have left."""
        strangers = [
            str(lease["lease_id"])
            for lease in self._telemetry.node_leases().get(node, [])
            if lease.get("state") != "restoring" and not self._known_lease(str(lease.get("job_id")))
        ]
        if strangers:
            self._release(node, strangers)

    def _energy(self, node: str, job: Message) -> None:
        job_id = str(job.get("job_id"))
        if not self._telemetry.may_have(node, job_id):
            return
        self._energies.take(job_id, node, job)
        self._recorder.job_energy(job_id, self._energies.of(job_id))

    def _label(self, node: str, message: Message) -> None:
        """Note which tier a start of a job was told; its next start is labelled anew, once it is told."""
        job_id, told = str(message.get("job_id")), tier_of(message.get("told_tier"))
        if not self._telemetry.may_have(node, job_id):
            return
        start = message.get("restart_count")
        record = self._recorder.job_record(job_id)
        if told:
            figures = {"tier": told, "tier_told_at_start": start}
            self._recorder.job_energy(job_id, {key: one for key, one in figures.items() if one is not None})
        elif isinstance(start, int) and start > (record.get("tier_told_at_start") or 0):
            self._recorder.job_energy(job_id, {"tier_told_at_start": None})

    def _stranger(self, node: str, message: Message) -> None:
        """A process on a GPU that is not its job's: for the ledger, since somebody's energy is in doubt."""
        # On a GPU without a job it is the business of the job it belongs to, not of everybody.
        job_id, of_job_id = message.get("job_id"), message.get("of_job_id")
        about = of_job_id if job_id is None else job_id
        self._tell(
            node,
            "stranger",
            message,
            "a process that is not the job's",
            job_id="" if about is None else str(about),
            keys=("pid", "uid", "of_job_id"),
        )

    def _lease_event(self, node: str, message: Message) -> None:
        event = _short(message.get("event"))
        job_id = _short(message.get("job_id") or "")
        self.lease_news.take(node, _short(message.get("uuid")), event, clock.monotonic())
        if event in _EXPECTED_EVENTS:
            cap_watts, lock_hertz = (
                value if isinstance(value := message.get(key), int | float) else None
                for key in ("cap_watts", "lock_hertz")
            )
            key = (event, job_id, cap_watts, lock_hertz)
            gathered = self._gathered.setdefault(key, _Gathered(clock.monotonic()))
            gathered.uuids_by_node.setdefault(node, []).append(str(message.get("uuid")))
            return
        power = ("cap_watts", "requested_watts", "enforced_watts")
        keys = ("lock_hertz", "enforced_hertz") if "lock_hertz" in message else power
        self._tell(node, event, message, event, job_id=job_id, keys=keys)

    def _tell(
        self, node: str, kind: str, message: Message, reason: str, *, job_id: str, keys: tuple[str, ...]
    ) -> None:
        """Write what a node tells; somebody who fights for a limit drifts it many times a second."""
        reason = _short(message.get("detail") or reason)
        uuid = _short(message.get("uuid"))
        details = {key: message.get(key) if _plain(message.get(key)) else None for key in keys}

        def write(again: str) -> None:
            self._recorder.note(
                clock.now(),
                f"powerd.{node}",
                kind,
                f"gpu:{uuid}",
                reason + again,
                job_id=job_id or None,
                details=details,
            )

        self._repeats.tell(node, (kind, uuid, job_id), write, clock.monotonic())

    def flush(self, jobs: Mapping[str, Job], *, everything: bool = False) -> None:
        """Write what has been gathered long enough, or ``everything``."""
        now_seconds = clock.monotonic()
        self._energies.keep(jobs)
        self._repeats.flush(now_seconds, everything=everything)
        for key, gathered in list(self._gathered.items()):
            if everything or now_seconds - gathered.first_seconds >= _GATHER_SECONDS:
                del self._gathered[key]
                self._write(key, gathered, jobs)

    def _write(self, key: _Key, gathered: _Gathered, jobs: Mapping[str, Job]) -> None:
        event, job_id, cap_watts, lock_hertz = key
        count = sum(len(uuids) for uuids in gathered.uuids_by_node.values())
        where = ", ".join(sorted(gathered.uuids_by_node))
        bound = "" if cap_watts is None else f" at {cap_watts:g} W"
        if lock_hertz is not None:
            bound = f" at {lock_hertz / 1e6:g} MHz"
        self._recorder.note(
            clock.now(),
            "powerd",
            event,
            f"job:{job_id}" if job_id else "gpus",
            f"{count} GPUs on {where}{bound}: {_EXPECTED_EVENTS[event]}",
            job_id=job_id or None,
            user=jobs[job_id].user if job_id in jobs else None,
            details={
                **({"cap_watts": cap_watts} if lock_hertz is None else {"lock_hertz": lock_hertz}),
                "gpus": gathered.uuids_by_node,
            },
        )


def _short(value: object) -> str:
    """A node's text as the ledger takes it."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(value)[:_MOST_TEXT])


def _plain(value: object) -> bool:
    """Whether a node's value is one number or a short text."""
    return isinstance(value, int | float) or (isinstance(value, str) and len(value) <= _MOST_TEXT)

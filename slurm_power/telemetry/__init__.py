"""Keep the latest word of every source and compose it into one immutable snapshot."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeGuard

from slurm_power.model.job import Job, JobState
from slurm_power.model.pool import Pool
from slurm_power.model.progress import JobProgress
from slurm_power.model.reading import EssReading, PowerReading, Quality, judged
from slurm_power.model.site import Site
from slurm_power.model.snapshot import (
    CapLease,
    HoldLease,
    LimitEvent,
    Lost,
    NodeState,
    PauseLease,
    Relocation,
    Snapshot,
)
from slurm_power.telemetry.circuits import CircuitMeters
from slurm_power.telemetry.clock_skew import ClockSkews
from slurm_power.telemetry.coverage import SourceCoverage
from slurm_power.telemetry.gpu_rows import gpu_of
from slurm_power.telemetry.lease_rows import lease_of
from slurm_power.telemetry.node_jobs import NodeJob, merged, unlisted, words_of
from slurm_power.telemetry.node_report import NodeReport, node_report
from slurm_power.telemetry.progress import ProgressReader, progress_together
from slurm_power.wire import Message, WireError

# How many loads of the grid connection are kept, one for each interval of its meter.
_RECENT_LOADS = 3
# A meter shows the mean of the second before its register changed; what a battery did then is kept this long.
_METER_INTERVAL_SECONDS = 1.0
# Longer than the interval of the meters that we know.
_STEADY_SECONDS = 5.0
_DISCHARGE_MEMORY_SECONDS = 10.0
_NODE_SILENT_SECONDS = 10.0
# So long a node may know of a start before the list does; what is longer is an end the node has missed.
_START_LISTED_SECONDS = 60.0


@dataclass(slots=True)
class _Meter:
    """The last two values of a circuit, one for each change of its meter's register.

    A value that stands for long is both: a draw that does not change at all is no spike for ever.
    """

    watts: float | None = None
    before_watts: float | None = None
    changed_seconds: float = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Levers:
    """What we have set and still hold, as the snapshot shows it to the planner."""

    caps: Mapping[str, CapLease]
    holds: Mapping[str, HoldLease]
    setpoints: Mapping[str, float]
    events: tuple[LimitEvent, ...]
    held_before_seconds: Mapping[str, float] = field(default_factory=dict)
    pauses: Mapping[str, PauseLease] = field(default_factory=dict)
    lost: Mapping[str, Lost] = field(default_factory=dict)
    yielded_nodes: frozenset[str] = frozenset()
    relocations: Mapping[str, Relocation] = field(default_factory=dict)


class SiteTelemetry:
    """The controller's memory of the present; times are monotonic seconds given by the caller."""

    def __init__(
        self,
        site: Site,
        meters: Mapping[str, tuple[str, float]],
        unproven: Mapping[str, str] | None = None,
    ) -> None:
        """``meters``: by circuit, the name of its meter and the age at which a reading is late.

        ``unproven``: batteries that may not be commanded, each with the reason.
        """
        self.unproven = unproven or {}
        self._site = site
        self._meters = {circuit: _Meter() for circuit in meters}
        self.circuits = CircuitMeters(site, meters)
        self.coverage = SourceCoverage(site.nodes())
        self.clock_skews = ClockSkews()
        self._ess: dict[str, tuple[EssReading, float, float]] = {}
        self._nodes: dict[str, NodeReport] = {}
        self._progress = ProgressReader()
        self._node_leases: dict[str, list[Message]] = {}
        self._listed_jobs: tuple[Job, ...] = ()
        self._pools: dict[str, Pool] = {}
        # The listed jobs with what nodes know of them; None when either has changed since.
        self._known_jobs: tuple[Job, ...] | None = None
        self._jobs_at_seconds: float | None = None
        self._node_jobs: dict[str, NodeJob] = {}
        self._places: dict[str, frozenset[str]] = {}
        self._jobs_on: dict[str, set[str]] = {}
        self._energy_joules: dict[str, dict[str, float]] = {}
        self._recent_loads: deque[float] = deque(maxlen=_RECENT_LOADS)
        self._load_at_seconds = float("-inf")
        self._discharges: dict[str, deque[tuple[float, float]]] = {}

    def meter_read(self, circuit: str, watts: float, now_seconds: float) -> None:
        """Take a circuit's reading."""
        meter = self._meters[circuit]
        due = now_seconds - self._load_at_seconds > 1.2 * _METER_INTERVAL_SECONDS
        # Before every battery has been heard, what it feeds in would be missing from the load.
        heard = all(name in self._discharges for name in self._site.ess)
        if circuit == self._site.root.name and heard and (watts != meter.watts or due):
            self._recent_loads.append(watts + self._mean_discharge_watts(now_seconds))
            self._load_at_seconds = now_seconds
        if watts != meter.watts:
            meter.before_watts, meter.changed_seconds = meter.watts, now_seconds
        elif now_seconds - meter.changed_seconds > _STEADY_SECONDS:
            meter.before_watts = watts
        meter.watts = watts
        self.circuits.read(circuit, watts, now_seconds)

    def meter_failed(self, circuit: str, error: str, now_seconds: float) -> None:
        """Note why a circuit could not be read; its last value ages on."""
        self.circuits.failed(circuit, error, now_seconds)

    def ess_read(self, name: str, reading: EssReading, now_seconds: float, max_age_seconds: float) -> None:
        """Take the state of the site's ESS ``name``; its device may call itself something else."""
        self._ess[name] = (replace(reading, name=name), now_seconds, max_age_seconds)
        if reading.quality is not Quality.INVALID:
            history = self._discharges.setdefault(name, deque())
            history.append((now_seconds, reading.discharge_watts))
            while history[0][0] < now_seconds - _DISCHARGE_MEMORY_SECONDS:
                history.popleft()

    def _mean_discharge_watts(self, end_seconds: float) -> float:
        """What all batteries that still answer fed in over the meter interval that ends now, as a mean."""
        return sum(
            _mean_over(history, end_seconds - _METER_INTERVAL_SECONDS, end_seconds)
            for name, history in self._discharges.items()
            if self._storage(name, end_seconds).quality is not Quality.INVALID
        )

    def pools_listed(self, pools: tuple[Pool, ...]) -> None:
        """Take the workload manager's pools; what has not changed stays the same object."""
        fresh = {pool.name: pool for pool in pools}
        if fresh != self._pools:
            self._pools = fresh

    def jobs_listed(self, jobs: tuple[Job, ...], now_seconds: float) -> None:
        """Take the workload manager's list; forget registrations of jobs that it has ended, or that neither
        it nor a living node knows.
        """
        self._listed_jobs, self._jobs_at_seconds, self._known_jobs = jobs, now_seconds, None
        listed = {job.job_id for job in jobs}
        over = {job.job_id for job in jobs if job.state is JobState.ENDED}
        over |= {
            job_id
            for job_id, known in self._node_jobs.items()
            if job_id not in listed and not any(self._alive(node, now_seconds) for node in known.nodes)
        }
        for job_id in over & set(self._node_jobs):
            del self._node_jobs[job_id]
        known = listed | set(self._node_jobs)
        for job_id in set(self._energy_joules) - known:
            del self._energy_joules[job_id]
        self._places = {
            job.job_id: self._places.get(job.job_id, frozenset()).union(job.nodes)
            for job in jobs
            if job.nodes
        }

    def may_have(self, node: str, job_id: str) -> bool:
        """Whether the list has had a job on a node, or does not say where it is.

        Root on a node may say anything: what it says of jobs that are elsewhere counts for nothing.
        """
        return node in self._places.get(job_id, (node,))

    def _alive(self, node: str, now_seconds: float) -> bool:
        report = self._nodes.get(node)
        return report is not None and now_seconds - report.at_seconds < _NODE_SILENT_SECONDS

    def node_reported(self, node: str, message: Message, now_seconds: float) -> None:
        """Take a node's telemetry; raises WireError when it is not what the protocol says."""
        try:
            gpus = [gpu_of(row) for row in _objects(message, "gpus")]
            jobs = [(str(job["job_id"]), job) for job in _objects(message, "jobs")]
            leases = [lease_of(row) for row in _objects(message, "leases")]
        except (TypeError, KeyError, ValueError) as error:
            raise WireError(f"telemetry: {error}") from None
        self._node_leases[node] = leases
        here = {job_id for job_id, _ in jobs}
        for _, job in jobs:
            self.job_registered(node, job, now_seconds)
        parts = [self._node_jobs[job_id].nodes[node].gpus for job_id in here]
        progress = self._progress.of(node, message)
        host = message.get("host")
        host_watts = host.get("watts") if isinstance(host, dict) else None
        self._nodes[node] = node_report(
            {gpu.uuid: gpu for gpu in gpus},
            parts,
            now_seconds,
            progress,
            host_watts=float(host_watts) if _amount(host_watts) else None,
        )
        for job_id, job in jobs:
            energy = job.get("energy_joules")
            if _amount(energy):
                self._energy_joules.setdefault(job_id, {})[node] = float(energy)
        for job_id in self._jobs_on.get(node, set()) - here:
            self._leave(job_id, node)

    def job_registered(self, node: str, message: Message, now_seconds: float) -> None:
        """A job has come to a node: its prolog runs or has run."""
        job_id = str(message["job_id"])
        known = self._node_jobs.setdefault(job_id, NodeJob(since_seconds=now_seconds))
        words = words_of(message)
        if known.nodes.get(node) != words:
            known.nodes[node] = words
            self._known_jobs = None
        self._jobs_on.setdefault(node, set()).add(job_id)

    def job_left(self, node: str, message: Message) -> None:
        """A job has left a node: its epilog has run."""
        job_id = str(message.get("job_id"))
        energy = message.get("energy_joules")
        if isinstance(energy, dict):
            joules = [float(value) for value in energy.values() if _amount(value)]
            if len(joules) == len(energy):
                self._energy_joules.setdefault(job_id, {})[node] = sum(joules)
        self._leave(job_id, node)

    def _leave(self, job_id: str, node: str) -> None:
        self._jobs_on.get(node, set()).discard(job_id)
        known = self._node_jobs.get(job_id)
        if known is not None:
            self._known_jobs = None
            known.nodes.pop(node, None)
            if not known.nodes:
                del self._node_jobs[job_id]

    def energies_joules(self) -> dict[str, float]:
        """GPU energy of every job over all its nodes, as far as they have reported it."""
        return {
            job_id: sum(joules for node, joules in by_node.items() if self.may_have(node, job_id))
            for job_id, by_node in self._energy_joules.items()
        }

    @property
    def jobs_known(self) -> bool:
        """Whether the workload manager has ever answered."""
        return self._jobs_at_seconds is not None

    def node_leases(self) -> dict[str, list[Message]]:
        """The leases each node holds, as it reported them."""
        return dict(self._node_leases)

    def snapshot(self, at: datetime, now_seconds: float, levers: Levers) -> Snapshot:
        """Compose everything known into one snapshot."""
        nodes = self._node_states(now_seconds)
        self._observe(nodes, now_seconds)
        circuits = self._readings(now_seconds)
        root = circuits.get(self._site.root.name)
        fresh = now_seconds - self._load_at_seconds < _RECENT_LOADS * _METER_INTERVAL_SECONDS
        fresh = fresh and root is not None and root.quality is Quality.GOOD
        return Snapshot(
            at=at,
            site=self._site,
            circuits=circuits,
            ess={name: self._storage(name, now_seconds) for name in self._ess},
            nodes=nodes,
            jobs=self._jobs(),
            caps=levers.caps,
            holds=levers.holds,
            pauses=levers.pauses,
            lost=levers.lost,
            held_before_seconds=levers.held_before_seconds,
            setpoints=levers.setpoints,
            events=levers.events,
            yielded_nodes=levers.yielded_nodes,
            pools=self._pools,
            relocations=levers.relocations,
            lasting_watts=self._lasting_watts(circuits),
            recent_load_watts=tuple(self._recent_loads) if fresh else (),
            jobs_age_seconds=None if self._jobs_at_seconds is None else now_seconds - self._jobs_at_seconds,
        )

    def progress(self, now_seconds: float) -> dict[str, JobProgress]:
        """What running jobs have told of themselves lately, their nodes together."""
        words: dict[str, list[JobProgress]] = {}
        for node, report in self._nodes.items():
            age_seconds = now_seconds - report.at_seconds
            if report.progress and age_seconds < _NODE_SILENT_SECONDS:
                for job_id, word in report.progress.items():
                    if self.may_have(node, job_id):
                        aged = replace(word, age_seconds=word.age_seconds + age_seconds)
                        words.setdefault(job_id, []).append(aged)
        return {job_id: progress_together(found) for job_id, found in words.items()}

    def _node_states(self, now_seconds: float) -> dict[str, NodeState]:
        return {
            name: NodeState(
                name=name,
                age_seconds=now_seconds - report.at_seconds,
                gpus=report.gpus,
                sums=report.sums,
                drawn=report.drawn,
            )
            for name, report in self._nodes.items()
            if now_seconds - report.at_seconds < _NODE_SILENT_SECONDS
        }

    def _observe(self, nodes: Mapping[str, NodeState], now_seconds: float) -> None:
        """Let the meters be compared with what they feed."""
        draws = {name: self._nodes[name].draw for name in nodes}
        storages = {name: self._storage(name, now_seconds) for name in self._ess}
        discharges = {
            name: None if ess.quality is Quality.INVALID else ess.discharge_watts
            for name, ess in storages.items()
        }
        if self.circuits.observe(draws, discharges, now_seconds):
            self.coverage.look(nodes, storages, now_seconds)

    def _readings(self, now_seconds: float) -> dict[str, PowerReading]:
        found = {name: self.circuits.reading(name, now_seconds) for name in self._meters}
        return {name: reading for name, reading in found.items() if reading is not None}

    def _lasting_watts(self, circuits: Mapping[str, PowerReading]) -> dict[str, float]:
        """The lower of the last two readings of a circuit; an estimate lasts as it stands."""
        lasting = {}
        for name, meter in self._meters.items():
            reading = circuits[name]
            if reading.estimated and reading.watts is not None:
                lasting[name] = reading.watts
            elif meter.watts is not None and meter.before_watts is not None:
                lasting[name] = min(meter.watts, meter.before_watts)
        return lasting

    def _storage(self, name: str, now_seconds: float) -> EssReading:
        reading, read_at_seconds, max_age_seconds = self._ess[name]
        age_seconds = now_seconds - read_at_seconds
        fresh = judged(name, reading.discharge_watts, age_seconds, max_age_seconds)
        quality = reading.quality if fresh.quality is Quality.GOOD else fresh.quality
        return replace(reading, age_seconds=age_seconds, quality=quality, trusted=name not in self.unproven)

    def _jobs(self) -> tuple[Job, ...]:
        """The listed jobs, completed with what nodes know; nodes see a start before the list does.

        The same tuple as long as nothing has changed: all that is made from it can be kept with it.
        """
        if self._known_jobs is None:
            self._known_jobs = self._completed_jobs()
        return self._known_jobs

    def _completed_jobs(self) -> tuple[Job, ...]:
        jobs = []
        listed = set()
        for job in self._listed_jobs:
            listed.add(job.job_id)
            known = self._node_jobs.get(job.job_id)
            jobs.append(job if known is None else merged(job, known, self._starting(known)))
        jobs += [
            merged(unlisted(job_id, known, self._starting(known)), known, self._starting(known))
            for job_id, known in self._node_jobs.items()
            if job_id not in listed
        ]
        return tuple(jobs)

    def _starting(self, known: NodeJob) -> bool:
        """Whether a job that a node has, and the list has not as started, may still be on its way there."""
        listed_seconds = float("-inf") if self._jobs_at_seconds is None else self._jobs_at_seconds
        return listed_seconds - known.since_seconds < _START_LISTED_SECONDS


def _mean_over(history: deque[tuple[float, float]], begin_seconds: float, end_seconds: float) -> float:
    """Mean of a step function, each value holding until the next, over an interval; 0.0 if it is empty."""
    total = covered = 0.0
    ends = [*(at for at, _ in list(history)[1:]), end_seconds]
    for (at, watts), until in zip(history, ends, strict=True):
        seconds = min(until, end_seconds) - max(at, begin_seconds)
        if seconds > 0.0:
            total += watts * seconds
            covered += seconds
    return total / covered if covered > 0.0 else 0.0


def _objects(message: Message, key: str) -> list[dict[str, object]]:
    found = message.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise WireError(f"telemetry: {key} must be a list of objects")
    return found


def _amount(value: object) -> TypeGuard[float]:
    """Whether a value of a message can be an energy."""
    return type(value) in (int, float) and math.isfinite(value) and value >= 0.0  # type: ignore[arg-type,operator]  # as just seen

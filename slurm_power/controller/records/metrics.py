"""What the controller knows at this moment, in the text format that Prometheus scrapes."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from slurm_power.config.node_record import split_address
from slurm_power.model.forecast import CircuitForecast
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import job_loads
from slurm_power.plan.policy import Policy

log = logging.getLogger(__name__)

_PREFIX = "slurm_power_"
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_REQUEST_SECONDS = 10.0
_MOST_REQUEST_BYTES = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """Figures of the controller itself. ``lease_states`` counts leases by node and state."""

    uptime_seconds: float
    cycle_seconds: float
    cycles: int
    failed_cycles: int
    control: bool
    connected_nodes: int
    shortfalls: int
    queued_ticks: int
    lost_ticks: int
    copy_stale: bool = False
    lease_states: Mapping[tuple[str, str], int] = field(default_factory=Counter)
    forecast_worker: bool = False
    forecasts: tuple[CircuitForecast, ...] = ()


Sample = tuple[Mapping[str, str], float | None]


class _Page:
    """Metric families, one after the other; what is not known has no line."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._lines: list[str] = []

    def add(self, name: str, kind: str, text: str, samples: Iterable[Sample]) -> None:
        lines = [
            f"{_PREFIX}{name}{{{self._labels(labels)}}} {float(value)!r}"
            for labels, value in samples
            if value is not None
        ]
        if lines:
            self._lines += [f"# HELP {_PREFIX}{name} {text}", f"# TYPE {_PREFIX}{name} {kind}", *lines]

    def _labels(self, labels: Mapping[str, str]) -> str:
        return ",".join(f'{key}="{_escaped(value)}"' for key, value in {"site": self._site, **labels}.items())

    def text(self) -> str:
        return "\n".join([*self._lines, ""])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def exposition(
    snapshot: Snapshot, policy: Policy, own: Own, energies_joules: Mapping[str, float], *, users: bool
) -> str:
    """The page of one moment; names of users stand in it only with ``users``."""
    page = _Page(snapshot.site.name)
    _add_circuits(page, snapshot)
    _add_ess(page, snapshot)
    _add_gpus(page, snapshot)
    _add_jobs(page, snapshot, policy, energies_joules, users=users)
    _add_forecasts(page, own.forecasts)
    _add_own(page, own)
    return page.text()


def _add_circuits(page: _Page, snapshot: Snapshot) -> None:
    circuits = snapshot.site.circuits.values()
    page.add(
        "circuit_watts",
        "gauge",
        "Power drawn through a circuit; missing while its meter cannot be trusted.",
        [({"circuit": name}, reading.known_watts()) for name, reading in snapshot.circuits.items()],
    )
    page.add(
        "circuit_limit_watts",
        "gauge",
        "The most the circuit may draw now, events included.",
        [({"circuit": circuit.name}, snapshot.limit_watts(circuit.name)) for circuit in circuits],
    )
    page.add(
        "circuit_rating_watts",
        "gauge",
        "Nameplate of the circuit.",
        [({"circuit": circuit.name}, circuit.rating_watts) for circuit in circuits],
    )


def _add_ess(page: _Page, snapshot: Snapshot) -> None:
    for key, text in (
        ("discharge_watts", "What the battery feeds in; negative while it charges."),
        ("soc_ratio", "State of charge, 0 to 1."),
        ("soh_ratio", "State of health, 0 to 1."),
    ):
        samples = [({"ess": name}, float(getattr(ess, key))) for name, ess in snapshot.ess.items()]
        page.add(f"ess_{key}", "gauge", text, samples)
    page.add(
        "ess_temperature_celsius",
        "gauge",
        "Temperature of the battery, where its device says it.",
        [({"ess": name}, ess.temperature_celsius) for name, ess in snapshot.ess.items()],
    )
    page.add(
        "ess_setpoint_watts",
        "gauge",
        "Discharge asked of the battery.",
        [({"ess": name}, snapshot.setpoints.get(name, 0.0)) for name in snapshot.ess],
    )


_GPU_METRICS = (
    ("watts", "power_watts", "gauge", "Power of the GPU's board."),
    ("energy_joules_total", "energy_joules", "counter", "The driver's energy counter."),
    ("utilization_ratio", "utilization_ratio", "gauge", "Share of the time with a kernel running."),
    ("sm_clock_hertz", "sm_clock_hertz", "gauge", "Clock of the GPU's processors."),
    ("temperature_celsius", "temperature_celsius", "gauge", "Temperature of the GPU."),
    ("cap_watts", "enforced_cap_watts", "gauge", "Power limit in force."),
)


def _add_gpus(page: _Page, snapshot: Snapshot) -> None:
    page.add(
        "node_report_age_seconds",
        "gauge",
        "Age of the node's last report; a silent node goes missing.",
        [({"node": node.name}, node.age_seconds) for node in snapshot.nodes.values()],
    )
    for name, key, kind, text in _GPU_METRICS:
        samples = [
            ({"node": node.name, "gpu": uuid}, getattr(gpu, key))
            for node in snapshot.nodes.values()
            for uuid, gpu in node.gpus.items()
            if not gpu.error
        ]
        page.add(f"gpu_{name}", kind, text, samples)


def _add_jobs(
    page: _Page, snapshot: Snapshot, policy: Policy, energies_joules: Mapping[str, float], *, users: bool
) -> None:
    labels = {
        job.job_id: {"job": job.job_id, **({"user": job.user} if users else {})} for job in snapshot.jobs
    }
    states = Counter(job.state.value for job in snapshot.jobs)
    page.add("jobs", "gauge", "Jobs by state.", [({"state": state}, n) for state, n in states.items()])
    loads = job_loads(snapshot, policy)
    page.add(
        "job_gpu_watts",
        "gauge",
        "Power of all GPUs of a job.",
        [
            (labels[load.job.job_id], load.gpu_watts * load.job.gpu_count if load.reachable else None)
            for load in loads
        ],
    )
    page.add(
        "job_cap_watts",
        "gauge",
        "Cap on each GPU of a job; missing without one.",
        [(labels[load.job.job_id], load.cap_watts) for load in loads],
    )
    page.add(
        "job_energy_joules_total",
        "counter",
        "Energy of a job's GPUs so far.",
        [(labels[job_id], joules) for job_id, joules in energies_joules.items() if job_id in labels],
    )


def _add_forecasts(page: _Page, forecasts: Iterable[CircuitForecast]) -> None:
    named = [({"circuit": each.circuit, "reach": each.reach.value}, each) for each in forecasts]
    judged = [(labels, each.score) for labels, each in named if each.score is not None]
    page.add(
        "forecast_peak_watts",
        "gauge",
        "Highest expected load within the forecast's reach.",
        [(labels, max(each.p50_watts)) for labels, each in named],
    )
    page.add(
        "forecast_peak_p90_watts",
        "gauge",
        "Highest upper bound of the 80 % band within the forecast's reach.",
        [(labels, max(each.p90_watts)) for labels, each in named],
    )
    page.add(
        "forecast_fallback",
        "gauge",
        "1 while another one speaks than the blend.",
        [(labels, float(each.source != "blend")) for labels, each in named],
    )
    for name, key, text in (
        ("mae_watts", "mae_watts", "Mean error of the last forecasts."),
        ("naive_mae_watts", "best_naive_mae_watts", "The same of the best naive forecast."),
        ("coverage_ratio", "coverage_ratio", "Share of outcomes inside the 80 % band."),
        ("bias_watts", "bias_watts", "Mean of outcome less forecast."),
    ):
        page.add(
            f"forecast_{name}", "gauge", text, [(labels, getattr(score, key)) for labels, score in judged]
        )


def _add_own(page: _Page, own: Own) -> None:
    for name, kind, text, value in (
        ("controller_uptime_seconds", "gauge", "Since the controller's start.", own.uptime_seconds),
        ("controller_cycle_seconds", "gauge", "Time the last cycle took.", own.cycle_seconds),
        ("controller_cycles_total", "counter", "Cycles so far.", own.cycles),
        ("controller_failed_cycles_total", "counter", "Cycles that broke.", own.failed_cycles),
        ("controller_control_enabled", "gauge", "1 while levers are moved.", own.control),
        ("controller_connected_nodes", "gauge", "Node daemons connected.", own.connected_nodes),
        ("controller_shortfalls", "gauge", "Limits that cannot be met now.", own.shortfalls),
        ("forecast_worker_up", "gauge", "1 while the forecast worker speaks.", own.forecast_worker),
        ("series_queued_ticks", "gauge", "Ticks waiting for the series' store.", own.queued_ticks),
        ("ledger_copy_stale", "gauge", "1 while the ledger's copy is not up to date.", own.copy_stale),
        ("series_lost_ticks_total", "counter", "Ticks the store did not take.", own.lost_ticks),
    ):
        page.add(name, kind, text, [({}, float(value))])
    page.add(
        "leases",
        "gauge",
        "Leases on a node's GPUs by state.",
        [({"node": node, "state": state}, count) for (node, state), count in own.lease_states.items()],
    )


class MetricsServer:
    """Answers ``GET /metrics`` and nothing else; one request a connection.

    ``page`` gathers what is told and returns what writes it: a big site's page takes longer than a cycle
    may, so that it is written in another thread.
    """

    def __init__(self, page: Callable[[], Callable[[], str]]) -> None:
        self._page = page
        self._server: asyncio.Server | None = None

    async def start(self, listen: str | None, on_fault: Callable[[str, str], None]) -> None:
        """Listen on HOST:PORT, None for nowhere; an address that is taken is a fault, no error."""
        if listen is None:
            return
        host, port = split_address(listen, "metrics.listen", [])
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=_MOST_REQUEST_BYTES)
        except OSError as error:
            on_fault("metrics", f"{listen}: {error.strerror}")

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head.split(b"\r\n", 1)[0]))
                await writer.drain()
        except (TimeoutError, EOFError, ConnectionError, asyncio.LimitOverrunError) as error:
            log.info("metrics: %s", type(error).__name__)
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> bytes:
        words = line.split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response("400 Bad Request", "no HTTP request\n")
        if words[0] != b"GET":
            return _response("405 Method Not Allowed", "only GET\n")
        if words[1].split(b"?", 1)[0] != b"/metrics":
            return _response("404 Not Found", "there is only /metrics\n")
        try:
            return _response("200 OK", await asyncio.to_thread(self._page()))
        except Exception:  # a page that cannot be made must not end the daemon
            log.exception("metrics cannot be told")
            return _response("500 Internal Server Error", "see the controller's log\n")


def _response(status: str, text: str) -> bytes:
    body = text.encode()
    kind = _CONTENT_TYPE if status.startswith("200") else "text/plain; charset=utf-8"
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close"
    return head.encode() + b"\r\n\r\n" + body

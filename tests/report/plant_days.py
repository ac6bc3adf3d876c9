"""A plant of known energies, as powerctld leaves it: rolled-up series, job records, the site.

Truth first: each quarter of an hour has true watts of GPUs, hosts, losses and a battery; the meters' series
are made of it, and what a statement has to find is summed up beside it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from slurm_power.model.series import Resolution
from slurm_power.store.blocks import CHUNK_SERIES, COVERAGE_STEPS, Chunk
from slurm_power.store.packing import pack
from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore

QUARTER = 900.0
IDLE_WATTS, HOST_WATTS = 480.0, 600.0
RACK_LOSS_RATIO, FAN_WATTS = 0.05, 250.0
COOLING_WATTS, SITE_LOSS_RATIO = 1_500.0, 0.08
# Counters and power readings never agree to the last joule.
COUNTER_RATIO = 1.002
NODES = {"c1": "rack1", "c2": "rack1", "c3": "rack2"}

SITE: dict[str, object] = {
    "name": "lab",
    "timezone": "UTC",
    "circuits": {
        "grid": {"parent": None, "metered": True, "nodes": []},
        "hall": {"parent": "grid", "metered": False, "nodes": []},
        "rack1": {"parent": "hall", "metered": True, "nodes": ["c1", "c2"]},
        "rack2": {"parent": "hall", "metered": True, "nodes": ["c3"]},
    },
    "ess": {"battery": "hall"},
    "wait_lost_ratio": 0.5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueJob:
    """A job on one node, with all its 8 GPUs, at a steady draw."""

    job_id: str
    user: str
    account: str
    node: str
    start_seconds: float
    end_seconds: float
    watts: float
    name: str = "train"
    counted: bool = True

    def within(self, start_seconds: float, end_seconds: float) -> float:
        """Seconds of it in a span."""
        return max(0.0, min(self.end_seconds, end_seconds) - max(self.start_seconds, start_seconds))


@dataclass(slots=True)
class Truth:
    """What a statement has to find, in joules, summed over the quarters that were recorded."""

    meter: float = 0.0
    cost: float = 0.0
    racks: dict[str, float] = field(default_factory=dict)
    job_gpus: dict[str, float] = field(default_factory=dict)
    idle_gpus: float = 0.0
    hosts: float = 0.0
    battery: float = 0.0
    rack_residual: dict[str, float] = field(default_factory=dict)
    site_residual: float = 0.0


def price_at(at_seconds: float) -> float:
    """A price that is twice as high by day."""
    return 0.3 if 8 <= (at_seconds // 3600) % 24 < 20 else 0.15


def write_plant(
    directory: Path,
    jobs: Iterable[TrueJob],
    *,
    start_seconds: float,
    end_seconds: float,
    gaps: Iterable[tuple[float, float]] = (),
    site: Mapping[str, object] = SITE,
    sums: bool = True,
) -> Truth:
    """Write a state directory, and return the truth of all its recorded time.

    ``sums``: racks have sums of their GPUs recorded, else single GPUs are, as before there were such sums.
    """
    jobs, gaps = list(jobs), list(gaps)
    truth = Truth()
    series = SqliteSeries(directory / "series.sqlite")
    try:
        with series._transaction():
            at = start_seconds
            while at < end_seconds:
                if not any(first <= at < last for first, last in gaps):
                    here = [job for job in jobs if job.within(at, at + QUARTER) > 0.0]
                    write_quarter(series, at, _quarter(truth, here, at, sums=sums))
                at += QUARTER
    finally:
        series.close()
    store = SqliteStore(directory / "powerctld.sqlite")
    try:
        if site:
            store.put_state("site", dict(site))
        store.put_jobs({job.job_id: record(job) for job in jobs})
    finally:
        store.close()
    return truth


def _quarter(truth: Truth, jobs: list[TrueJob], at: float, *, sums: bool) -> dict[str, tuple[float, float]]:
    """Series of one quarter as (mean, share of it that was read), added to the truth."""
    # All watts are whole steps of 0.1 W, as the store keeps them: what it rounds is no matter here.
    values: dict[str, tuple[float, float]] = {}
    gpus, held = dict.fromkeys(NODES, IDLE_WATTS), dict.fromkeys(NODES, 0.0)
    for job in jobs:
        share = job.within(at, at + QUARTER) / QUARTER
        gpus[job.node] += (job.watts - IDLE_WATTS) * share
        held[job.node] += job.watts * share
        values[f"job.{job.job_id}.gpu_watts"] = (job.watts, share)
        truth.job_gpus[job.job_id] = truth.job_gpus.get(job.job_id, 0.0) + job.watts * share * QUARTER
    below = 0.0
    for rack in ("rack1", "rack2"):
        nodes = [node for node, where in NODES.items() if where == rack]
        gpu = round(sum(gpus[node] for node in nodes), 1)
        idle = round(gpu - sum(held[node] for node in nodes), 1)
        host = HOST_WATTS * len(nodes)
        rest = round(RACK_LOSS_RATIO * (gpu + host) + FAN_WATTS, 1)
        values[f"circuit.{rack}.watts"] = (gpu + host + rest, 1.0)
        if sums:
            values[f"circuit.{rack}.gpu_watts"] = (gpu, 1.0)
            values[f"circuit.{rack}.idle_gpu_watts"] = (idle, 1.0)
            values[f"circuit.{rack}.host_watts"] = (host, 1.0)
            truth.idle_gpus += idle * QUARTER
            truth.hosts += host * QUARTER
        else:
            for node in nodes:
                for slot in range(8):
                    values[f"gpu.{node}.GPU-{slot}.watts"] = (gpus[node] / 8, 1.0)
            rest += host
        truth.racks[rack] = truth.racks.get(rack, 0.0) + values[f"circuit.{rack}.watts"][0] * QUARTER
        truth.rack_residual[rack] = truth.rack_residual.get(rack, 0.0) + rest * QUARTER
        below += values[f"circuit.{rack}.watts"][0]
    discharge = 2_000.0 if 17 <= (at // 3600) % 24 < 18 else -400.0 if (at // 3600) % 24 < 6 else 0.0
    rest = round(SITE_LOSS_RATIO * below + COOLING_WATTS, 1)
    values["circuit.grid.watts"] = (below + rest - discharge, 1.0)
    values["circuit.grid.estimated_ratio"] = (0.0, 1.0)
    values["ess.battery.discharge_watts"] = (discharge, 1.0)
    values["supply.price_per_kwh"] = (price_at(at), 1.0)
    values["supply.carbon_g_per_kwh"] = (300.0, 1.0)
    truth.battery -= discharge * QUARTER
    truth.site_residual += rest * QUARTER
    truth.meter += values["circuit.grid.watts"][0] * QUARTER
    truth.cost += values["circuit.grid.watts"][0] * QUARTER / 3.6e6 * price_at(at)
    return values


def write_quarter(
    series: SqliteSeries,
    at: float,
    values: Mapping[str, tuple[float, float]],
    tier: Resolution = Resolution.QUARTER_HOUR,
) -> None:
    """Write one interval as the store rolls it up: named (mean, share of it that was read)."""
    new: list[tuple[int, str, float]] = []
    columns = series._columns(dict.fromkeys(values), new)
    series._connection.executemany("INSERT INTO series (id, name, step) VALUES (?,?,?)", new)
    names = [columns.names[place] for place in columns.order]
    parts: dict[int, list[tuple[int, str]]] = {}
    for number, name in zip(columns.ids.tolist(), names, strict=True):
        parts.setdefault(number // CHUNK_SERIES, []).append((number % CHUNK_SERIES, name))
    chunks = []
    for part, members in parts.items():
        flags = np.zeros(CHUNK_SERIES, dtype=np.bool_)
        flags[[place for place, _ in members]] = True
        table = [
            (round(values[name][1] * COVERAGE_STEPS), *[round(values[name][0] / series.step_of(name))] * 3)
            for _, name in members
        ]
        chunks.append(Chunk(part, np.packbits(flags).tobytes(), pack(np.array(table, dtype=np.int64).T)))
    series._insert(tier, round(at * 1000), chunks)


def record(job: TrueJob) -> dict[str, object]:
    """A job's record as powerctld keeps it once it has ended."""
    joules = job.watts * (job.end_seconds - job.start_seconds) * COUNTER_RATIO
    found: dict[str, object] = {
        "job_id": job.job_id,
        "user": job.user,
        "account": job.account,
        "name": job.name,
        "state": "ended",
        "gpu_count": 8,
        "nodes": [job.node],
        "started": _iso(job.start_seconds),
        "ended": _iso(job.end_seconds),
        "running_seconds": job.end_seconds - job.start_seconds,
    }
    if job.counted:
        found |= {
            "energy_joules": joules,
            "energy_coverage_ratio": 1.0,
            "receipt": {"v": 1, "energy_joules": round(joules), "coverage_ratio": 1.0, "method": "counter"},
        }
    return found


def _iso(at_seconds: float) -> str:
    return datetime.fromtimestamp(at_seconds, UTC).isoformat()

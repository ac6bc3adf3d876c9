"""Figures of the embedded series at 80,000 readings a second: time of a core, bytes on disk, reads."""

import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from containers.bench.figure import Figure, share
from slurm_power.model.series import Resolution
from slurm_power.store.reading import SeriesReading
from slurm_power.store.series import SqliteSeries

GPUS = 79_000
FEEDERS = 1_000
SECONDS = 960
# Of a GPU's draw from one second to the next; the finest step kept is 0.1 W.
NOISE_WATTS = 1.0
FEEDER_STEP_WATTS = 20_000.0
_STEPPING_RATIO = 0.05


def series_figures() -> list[Figure]:
    """Write sixteen minutes of a big site as fast as it goes, then read them back."""
    with tempfile.TemporaryDirectory(prefix="slurm-power-bench-series-") as folder:
        file = Path(folder) / "series.sqlite"
        figures = _write(file)
        return figures + _read(file)


def _write(file: Path) -> list[Figure]:
    chance = np.random.default_rng(1)
    names = [f"gpu.node{number // 8}.GPU-{number}.watts" for number in range(GPUS)]
    names += [f"circuit.feeder{number}.watts" for number in range(FEEDERS)]
    steady = chance.uniform(80.0, 700.0, GPUS)
    feeders = chance.uniform(20_000.0, 200_000.0, FEEDERS)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    began = time.process_time()
    store = SqliteSeries(file)
    spent, longest = time.process_time() - began, 0.0
    for second in range(SECONDS):
        stepping = chance.random(FEEDERS) < _STEPPING_RATIO
        feeders += stepping * chance.choice((-1.0, 1.0), FEEDERS) * FEEDER_STEP_WATTS
        noise = chance.normal(0.0, NOISE_WATTS, GPUS + FEEDERS)
        watts = (np.concatenate([steady, feeders]) + noise).tolist()
        values = dict(zip(names, watts, strict=True))
        began, clock_began = time.process_time(), time.perf_counter()
        store.add(start + timedelta(seconds=second), values)
        spent += time.process_time() - began
        longest = max(longest, time.perf_counter() - clock_began)
    began = time.process_time()
    store.close()
    spent += time.process_time() - began
    readings = SECONDS * (GPUS + FEEDERS)
    each_bytes = sum(part.stat().st_size for part in file.parent.iterdir()) / readings
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return [
        share(
            f"series, 80,000 readings/s ({FEEDERS:,} feeders step 20 kW), {SECONDS} s", spent / SECONDS, 0.25
        ),
        Figure(
            what="series on disk, all tiers and names",
            value=f"{each_bytes:.2f} bytes a reading",
            target="2 bytes a reading",
            ratio=each_bytes / 2.0,
        ),
        Figure(what="longest write of a tick (packs the minute before)", value=f"{longest:.2f} s"),
        Figure(what="memory of the whole benchmark, peak", value=f"{peak_bytes / 1e6:.0f} MB"),
    ]


def _read(file: Path) -> list[Figure]:
    reader = SeriesReading.open(file)
    figures = []
    for what, name, resolution in (
        (f"{SECONDS} s of one GPU, every tick", "gpu.node5.GPU-40.watts", Resolution.RAW),
        ("the same, 1-min values", "gpu.node5.GPU-40.watts", Resolution.MINUTE),
    ):
        began = time.perf_counter()
        points = reader.read([name], None, None, resolution)[name]
        spent = time.perf_counter() - began
        figures.append(Figure(what=f"read {what}", value=f"{1000.0 * spent:.0f} ms ({len(points)} points)"))
    reader.close()
    return figures

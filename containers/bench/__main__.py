"""``python -m containers.bench``: the figures of docs/benchmarks.md, measured here and now."""

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from containers.bench.figure import Figure
from containers.bench.measures import Bench
from containers.bench.series import series_figures
from containers.bench.steady import steady_plant, without_recharging
from containers.cluster import lifecycle
from containers.cluster.layout import LabError, Options
from containers.plant.__main__ import PLANT_FILE

JOB_SECONDS = 1200


def main() -> int:
    """Measure everything and print a Markdown table; returns 0, or 2 when no lab can be built."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of traces; nothing reads it yet")
    parser.add_argument("--out", type=Path, help="write the table to this file as well")
    parser.add_argument("--only", choices=["series"], help="leave the lab out, measure this alone")
    arguments = parser.parse_args()
    try:
        figures = series_figures() if arguments.only == "series" else _lab_figures()
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_status
    table = _table(figures)
    print(table)
    if arguments.out is not None:
        arguments.out.write_text(table + "\n")
    return 0


def _lab_figures() -> list[Figure]:
    """All figures, the lab's among them; raises LabError when no lab can be built."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="slurm-power-bench-") as folder:
        plant = steady_plant(PLANT_FILE, Path(folder) / "plant.toml")
        Path(folder).chmod(0o755)
        started = lifecycle.up(Options(power=True, plant=str(plant)))
    figures = [Figure(what="lab up: 4 nodes, plant, our daemons (packages there)", value=_seconds(began))]
    try:
        site = started.lab.layout.etc / "site.toml"
        site.write_text(without_recharging(site.read_text()))
        started.lab.restart("powerctld")
        bench = Bench(started.lab)
        job = bench.submit(JOB_SECONDS)
        _say("caps")
        figures += asyncio.run(bench.cap_latencies(job))
        _say("daemons")
        figures += bench.daemon_costs()
        _say("hooks and submissions")
        figures += bench.hook_times() + bench.submission_times()
    finally:
        began = time.monotonic()
        started.discard()
    figures.append(Figure(what="lab down", value=_seconds(began)))
    _say("series")
    return figures + series_figures()


def _say(what: str) -> None:
    print(f"measuring {what} ...", file=sys.stderr, flush=True)


def _seconds(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"


def _table(figures: list[Figure]) -> str:
    slurm = subprocess.run(["slurmd", "-V"], check=False, capture_output=True, text=True).stdout.strip()
    machine = (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, {slurm}"
    )
    rows = [f"Measured {time.strftime('%Y-%m-%d', time.gmtime())} on {machine}.", ""]
    rows += ["| what | measured | target |", "|---|---|---|"]
    rows += [f"| {figure.what} | {figure.value} | {figure.target} |" for figure in figures]
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())

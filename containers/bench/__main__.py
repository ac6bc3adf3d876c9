"""``python -m containers.bench``: the figures of docs/benchmarks.md, measured here and now."""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from containers.bench.figure import Figure, markdown
from containers.cluster.layout import LabError

JOB_SECONDS = 1200


def main() -> int:
    """Measure everything and print a Markdown table; returns 0, 1 if a part fails, 2 without a lab."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of traces; nothing reads it yet")
    parser.add_argument("--out", type=Path, help="write the table to this file as well")
    parser.add_argument("--only", choices=list(PARTS), help="measure one part alone")
    parser.add_argument("--json", action="store_true", help="rows as JSON instead of a table")
    arguments = parser.parse_args()
    try:
        figures = PARTS[arguments.only]() if arguments.only else _all_parts()
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_status
    except subprocess.CalledProcessError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        table = json.dumps([asdict(figure) for figure in figures], indent=1)
    else:
        table = f"{_where()}\n\n{markdown(figures)}"
    print(table)
    if arguments.out is not None:
        arguments.out.write_text(table + "\n")
    return 0


def _all_parts() -> list[Figure]:
    """Each part in a process of its own, so that none pays for the memory of another."""
    figures = []
    for part in PARTS:
        _say(part)
        words = [sys.executable, "-m", "containers.bench", "--only", part, "--json"]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        figures += [Figure(**row) for row in json.loads(done.stdout)]
    return figures


def _lab() -> list[Figure]:
    """What a lab with a plant shows; raises LabError when none can be built."""
    from containers.bench.measures import Bench  # noqa: PLC0415  # each part loads what it measures alone
    from containers.bench.steady import steady_plant, without_recharging  # noqa: PLC0415  # as above
    from containers.cluster import lifecycle  # noqa: PLC0415  # as above
    from containers.cluster.layout import Options  # noqa: PLC0415  # as above
    from containers.plant.__main__ import PLANT_FILE  # noqa: PLC0415  # as above

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
        _say("hooks")
        figures += bench.hook_times()
    finally:
        began = time.monotonic()
        started.discard()
    return [*figures, Figure(what="lab down", value=_seconds(began))]


def _powerd() -> list[Figure]:
    from containers.bench.powerd import powerd_figures  # noqa: PLC0415  # as above

    return powerd_figures()


def _psbatch() -> list[Figure]:
    from containers.bench.psbatch import psbatch_figures  # noqa: PLC0415  # as above

    return psbatch_figures()


def _ingest() -> list[Figure]:
    from containers.bench.ingest import ingest_figures  # noqa: PLC0415  # as above

    return ingest_figures()


def _pdus() -> list[Figure]:
    from containers.bench.pdus import pdu_figures  # noqa: PLC0415  # as above

    return pdu_figures()


def _series() -> list[Figure]:
    from containers.bench.series import series_figures  # noqa: PLC0415  # as above

    return series_figures()


PARTS: dict[str, Callable[[], list[Figure]]] = {
    "lab": _lab,
    "psbatch": _psbatch,
    "powerd": _powerd,
    "ingest": _ingest,
    "pdus": _pdus,
    "series": _series,
}


def _say(what: str) -> None:
    print(f"measuring {what} ...", file=sys.stderr, flush=True)


def _seconds(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"


def _where() -> str:
    slurm = subprocess.run(["slurmd", "-V"], check=False, capture_output=True, text=True).stdout.strip()
    machine = (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, {slurm}"
    )
    return f"Measured {time.strftime('%Y-%m-%d', time.gmtime())} on {machine}."


if __name__ == "__main__":
    sys.exit(main())

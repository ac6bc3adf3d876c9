"""``python -m containers.bench.start_gate``: a job over all GPUs starts and ends; what does the meter see?

Four nodes of 8 simulated H100 stand idle, then one training starts on all their GPUs, and is cancelled when
it has run for a while. Without gates, with gates alone, and with gates and a battery under a ramp at the
meter in both directions. The ramp is held against any 60 s of meter readings: what comes within them, from
the lowest to a later one; a fall against 10-second means. What comes at once, hosts and the first watts of
each GPU, no cap can hold back: it is told too.
"""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from containers.bench.at_meter import AtMeter, Readings, means, worst_fall, worst_rise
from containers.bench.cases import run_cases
from containers.bench.figure import Figure, markdown
from containers.bench.steady import steady_plant, without_recharging
from containers.cluster import lifecycle
from containers.cluster.layout import Options
from containers.plant.__main__ import PLANT_FILE

# What all four nodes draw at full load must not meet a limit of the lab's own.
GRID_LIMIT_WATTS = 60_000
RAMP_WATTS_PER_SECOND = 400.0
MINUTE_SECONDS = 60.0
MEAN_SECONDS = 10.0
QUIET_SECONDS = 75.0
START_SECONDS = 150.0
END_SECONDS = 100.0
# Between the battery's reserve and its full charge there is room for both directions.
HALF_SOC_RATIO, EMPTY_SOC_RATIO = 0.50, 0.10
_BUSY_WATTS, _FULL_WATTS, _OWN_CAP_WATTS = 150.0, 640.0, 700.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How the site is set for one start: keys of its policy, and the battery's charge."""

    name: str
    policy: dict[str, float]
    soc_ratio: float
    # Whether its ramp is meant to hold in each direction.
    holds_rise: bool = False
    holds_fall: bool = False


_PER_MINUTE = MINUTE_SECONDS * RAMP_WATTS_PER_SECOND
CASES = (
    Case(name="no gates, no ESS", policy={}, soc_ratio=EMPTY_SOC_RATIO),
    Case(
        name="gates, no ESS",
        policy={"start_ramp_watts_per_second": RAMP_WATTS_PER_SECOND},
        soc_ratio=EMPTY_SOC_RATIO,
        holds_rise=True,
    ),
    Case(
        name="gates and ESS",
        policy={
            "start_ramp_watts_per_second": RAMP_WATTS_PER_SECOND,
            "ramp_up_watts_per_minute": _PER_MINUTE,
            "ramp_down_watts_per_minute": _PER_MINUTE,
        },
        soc_ratio=HALF_SOC_RATIO,
        holds_rise=True,
        holds_fall=True,
    ),
)


@dataclass(slots=True)
class Seen:
    """What the GPUs showed while a job started; moments are seconds since its submission."""

    busy_seconds: float | None = None
    full_seconds: float | None = None
    capped_before_busy: bool = False

    def take(self, at_seconds: float, gpus: Sequence[dict[str, Any]]) -> None:
        """One look at all GPUs."""
        watts = [float(gpu["instant_watts"]) for gpu in gpus]
        if self.busy_seconds is None:
            self.capped_before_busy = all(gpu["limit_requested_watts"] < _OWN_CAP_WATTS for gpu in gpus)
            if max(watts) > _BUSY_WATTS:
                self.busy_seconds = at_seconds
        if self.full_seconds is None and min(watts) > _FULL_WATTS:
            self.full_seconds = at_seconds


class Starts(AtMeter):
    """Starts and ends of a job over all GPUs of a running lab."""

    def configure(self, site_toml: str, case: Case) -> None:
        """Give the site this case's policy and start its controller anew."""
        keys = "".join(f"{key} = {value}\n" for key, value in case.policy.items())
        site = self.lab.layout.etc / "site.toml"
        site.write_text(site_toml.replace("[policy]\n", f"[policy]\n{keys}"))
        self.lab.restart("powerctld")
        self.until(self._at_rest, "a site at rest", 60.0)

    def _at_rest(self) -> bool:
        try:
            status = self.controller(op="status")
        except OSError:  # it is coming up
            return False
        idle = self.lab.idle_nodes() == len(self.lab.layout.nodes)
        return (
            idle and not status["leases"] and max(gpu["instant_watts"] for gpu in self.gpus()) < _BUSY_WATTS
        )

    def submit(self) -> str:
        """One training on every GPU of the site; returns its number."""
        nodes = len(self.lab.layout.nodes)
        words = ["psbatch", "--parsable", "--workload=training", "--flex=flex2", f"--nodes={nodes}"]
        words += ["--ntasks-per-node=1", "--gres=gpu:8", "--time=120", "--output=/dev/null"]
        words += ["--wrap=srun plant-load --workload training --seconds 900 --seed 1"]
        return self.lab.run(words, user="alice").stdout.strip()

    async def measure(self, case: Case, site_toml: str) -> list[Figure]:
        """One start and one end under a case."""
        self.plant(op="set_soc", soc_ratio=case.soc_ratio)
        self.configure(site_toml, case)
        quiet = await self.read(QUIET_SECONDS)
        self.plant(op="set_soc", soc_ratio=case.soc_ratio)
        job, seen = self.submit(), Seen()
        started = await self.read(START_SECONDS, lambda at: seen.take(at, self.gpus()))
        state = self.lab.job(job)["JobState"]
        why = self.lab.run(["slurm-power", "why", job]).stdout
        status = self.controller(op="status")
        self.lab.run(["scancel", job])
        ended = await self.read(END_SECONDS)
        self.until(self._at_rest, "the end of the job", 60.0)
        print(why, file=sys.stderr)
        before_watts = quiet[-1][1]
        top_watts = started[-1][1]
        start = [(at - QUIET_SECONDS, watts) for at, watts in quiet] + started
        end = [(at - START_SECONDS, watts) for at, watts in started] + ended
        capped = sum(job["cap_watts"] is not None for job in status["jobs"])
        return [
            *_rises(case, start),
            _course(case, seen, f"{state.lower()}, {capped} caps left", before_watts, top_watts),
            *_falls(case, end),
            Figure(what=f"{case.name}: what `slurm-power why` says", value=_told(why)),
        ]


def _rises(case: Case, readings: Readings) -> list[Figure]:
    rise = worst_rise(readings, MINUTE_SECONDS)
    return [
        Figure(
            what=f"{case.name}: rise in any 60 s at the start",
            value=f"{rise / 1000.0:.1f} kW; {worst_rise(readings, 10.0) / 1000.0:.1f} kW in any 10 s,"
            f" {worst_rise(readings, 1.5) / 1000.0:.1f} kW from one reading to the next",
            target=f"{_PER_MINUTE / 1000.0:.1f} kW" if case.holds_rise else "",
            ratio=rise / _PER_MINUTE if case.holds_rise else None,
        )
    ]


def _falls(case: Case, readings: Readings) -> list[Figure]:
    # A battery answers within some seconds, so that the step itself always shows for these.
    fall = worst_fall(means(readings, MEAN_SECONDS), MINUTE_SECONDS)
    return [
        Figure(
            what=f"{case.name}: fall of 10-second means in any 60 s at the end",
            value=f"{fall / 1000.0:.1f} kW;"
            f" of readings {worst_fall(readings, MINUTE_SECONDS) / 1000.0:.1f} kW",
            target=f"{_PER_MINUTE / 1000.0:.1f} kW" if case.holds_fall else "",
            ratio=fall / _PER_MINUTE if case.holds_fall else None,
        )
    ]


def _course(case: Case, seen: Seen, end: str, before_watts: float, top_watts: float) -> Figure:
    full, busy = seen.full_seconds, seen.busy_seconds
    took = (
        "full draw never reached" if full is None or busy is None else f"full draw after {full - busy:.0f} s"
    )
    gate = ""
    if case.holds_rise:
        there = "before" if seen.capped_before_busy else "AFTER"
        gate = f"; caps on all GPUs {there} the first watts"
    return Figure(
        what=f"{case.name}: the job",
        value=f"{end}, {took}; {before_watts / 1000.0:.1f} kW before,"
        f" {top_watts / 1000.0:.1f} kW with it{gate}",
    )


def _told(why: str) -> str:
    return " ".join(why.split("\n\n", maxsplit=1)[0].split()).replace("|", "/")


async def _all(starts: Starts, cases: Sequence[Case], site_toml: str) -> list[Figure]:
    figures = []
    try:
        for case in cases:
            print(f"measuring {case.name} ...", file=sys.stderr, flush=True)
            found = await starts.measure(case, site_toml)
            print(markdown(found), file=sys.stderr, flush=True)
            figures += found
    finally:
        await starts.close()
    return figures


def measured(cases: Sequence[Case]) -> list[Figure]:
    """Bring a lab up, measure, take it down; raises LabError when none can be built."""
    with tempfile.TemporaryDirectory(prefix="slurm-power-bench-") as folder:
        plant = steady_plant(PLANT_FILE, Path(folder) / "plant.toml")
        Path(folder).chmod(0o755)
        started = lifecycle.up(Options(power=True, plant=str(plant), grid_limit_watts=GRID_LIMIT_WATTS))
    try:
        site = started.lab.layout.etc / "site.toml"
        return asyncio.run(_all(Starts(started.lab), cases, without_recharging(site.read_text())))
    finally:
        started.discard()


def main() -> int:
    """Print a Markdown table; returns 0, 1 where a ramp did not hold, 2 without a lab."""
    status, figures = run_cases("python -m containers.bench.start_gate", __doc__, CASES, measured)
    return status or int(any(one.ratio is not None and one.ratio > 1.0 for one in figures))


if __name__ == "__main__":
    sys.exit(main())

"""``python -m containers.bench.reaction``: grid events of 30 % on a live lab, with and without the battery.

Four nodes of 8 simulated H100 each run one steady training on all their GPUs. The cut is of the metered load:
30 % there is about 45 % of the GPUs' power, since hosts and losses follow them only in part.
"""

import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from containers.bench.at_meter import AtMeter
from containers.bench.cases import run_cases
from containers.bench.figure import Figure, markdown
from containers.bench.measures import spread
from containers.bench.steady import steady_plant, without_recharging
from containers.cluster import lifecycle
from containers.cluster.layout import Options
from containers.plant.__main__ import PLANT_FILE

CUT_RATIO = 0.30
# What all four nodes draw at full load must not meet a limit of the lab's own.
GRID_LIMIT_WATTS = 50_000
BASELINE_SECONDS = 60
EVENT_SECONDS = 150
RECOVER_SECONDS = 40
SHORT_EVENT_SECONDS = 60
REACTION_SECONDS = 20.0
REST_SECONDS = 12.0
ROUNDS = 3
FULL_SOC_RATIO, EMPTY_SOC_RATIO = 0.90, 0.10
MIXED = ("flex0", "flex1", "flex2", "flex3")
FLEXIBLE = ("flex3",) * 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One mix of jobs, a node each, with the battery at a state of charge."""

    name: str
    mix: Sequence[str]
    soc_ratio: float
    target_seconds: float | None


CASES = (
    Case(name="ESS, flex0 to flex3", mix=MIXED, soc_ratio=FULL_SOC_RATIO, target_seconds=5.0),
    Case(name="no ESS, 4 x flex3", mix=FLEXIBLE, soc_ratio=EMPTY_SOC_RATIO, target_seconds=20.0),
    Case(name="no ESS, flex0 to flex3", mix=MIXED, soc_ratio=EMPTY_SOC_RATIO, target_seconds=None),
)


class Reaction(AtMeter):
    """The events announced to a running lab, and what its meter shows of them."""

    def submit(self, mix: Sequence[str]) -> None:
        """Run one training a node, and wait until all draw their full power."""
        self.lab.run(["scancel", "--user=alice"])
        self.until(lambda: self.lab.idle_nodes() == len(mix), "idle nodes", 60.0)
        for number, flex in enumerate(mix, start=1):
            load = f"srun plant-load --workload training --seconds 1500 --seed {number}"
            words = ["psbatch", "--parsable", "--workload=training", f"--flex={flex}", "--nodes=1"]
            words += ["--ntasks-per-node=1", "--gres=gpu:8", f"--nodelist=c{number}", "--time=30"]
            self.lab.run([*words, "--output=/dev/null", f"--wrap={load}"], user="alice")
        self.until(lambda: min(gpu["instant_watts"] for gpu in self.gpus()) > 600.0, "full power", 60.0)

    def _at_rest(self) -> bool:
        """No lever holds anything, and the battery stands still."""
        status = self.controller(op="status")
        capped = any(job["cap_watts"] is not None for job in status["jobs"])
        moving = any(abs(ess["discharge_watts"]) > 100.0 for ess in status["ess"])
        return not capped and not moving and not status["leases"] and not status["events"]

    async def measure(self, case: Case) -> list[Figure]:
        """Reactions to short events, then one whole event with its report."""
        self.submit(case.mix)
        self.plant(op="set_soc", soc_ratio=case.soc_ratio)
        await asyncio.sleep(BASELINE_SECONDS + REST_SECONDS)
        reached = []
        for _ in range(ROUNDS if case.target_seconds is not None else 0):
            await self._rest(case)
            event = self._announce(SHORT_EVENT_SECONDS, recover_seconds=0)
            readings = await self.read(REACTION_SECONDS)
            reached.append(_reached(readings, event["limit_watts"]))
            self.controller(op="cancel_event", event_id=event["event_id"])
        await self._rest(case)
        lead_seconds = 0 if case.target_seconds is not None else 10
        event = self._announce(EVENT_SECONDS, recover_seconds=RECOVER_SECONDS, lead_seconds=lead_seconds)
        shown = await self.read(lead_seconds + EVENT_SECONDS + 2 * RECOVER_SECONDS + 15.0)
        report = self.controller(op="event_report", event_id=event["event_id"])["report"]
        if case.target_seconds is None:
            return [self._missing(case, event, report)]
        return [_reaction(case, reached), *_whole(case, report, shown)]

    async def _rest(self, case: Case) -> None:
        """Wait for the end of the last event; what it took from the baseline is not counted anyway."""
        self.plant(op="set_soc", soc_ratio=case.soc_ratio)
        self.until(self._at_rest, "the end of the last event", 60.0)
        await asyncio.sleep(REST_SECONDS)

    def _announce(
        self, seconds: float, *, recover_seconds: float, lead_seconds: float = 0.0
    ) -> dict[str, Any]:
        return self.controller(
            op="event",
            circuit="grid",
            cut_ratio=CUT_RATIO,
            start_in_seconds=lead_seconds,
            duration_seconds=seconds,
            recover_seconds=recover_seconds,
            reason="a benchmark",
        )

    def _missing(self, case: Case, event: dict[str, Any], report: dict[str, Any]) -> Figure:
        """What could not be met: as foreseen at the notice, and as it came."""
        told = event["shortfall"]
        above = [
            row["mean_watts"] - row["target_watts"] for row in report["minutes"] if row["part"] == "event"
        ]
        came = f"{statistics.mean(above) / 1000.0:.1f} kW above the target came" if above else "nothing came"
        if told is None:
            value = f"nothing was told ahead; {came}"
        else:
            value = (
                f"told {_ahead_seconds(report):.0f} s ahead: {told['watts'] / 1000.0:.1f} kW missing from"
                f" {told['from_seconds']:.0f} s after the notice; {came}"
            )
        return Figure(what=f"event of 30 %, {case.name}: infeasible", value=value)


def _ahead_seconds(report: dict[str, Any]) -> float:
    """How long before the start the first word of a shortfall was in the ledger."""
    told = report["shortfalls_announced"]
    if not told:
        return 0.0
    starts, at = datetime.fromisoformat(report["starts_at"]), datetime.fromisoformat(told[0]["at"])
    return (starts - at).total_seconds()


def _reached(readings: list[tuple[float, float]], target_watts: float) -> float:
    """From the notice to the reading from which on the meter stays within 1 % of its target, or below."""
    above = [at for at, watts in readings if watts > 1.01 * target_watts]
    first = next((at for at, watts in readings if watts <= target_watts), float("inf"))
    after = next((at for at, _ in readings if above and at > above[-1]), float("inf")) if above else 0.0
    return max(first, after)


def _reaction(case: Case, reached: list[float]) -> Figure:
    return Figure(
        what=f"event of 30 %, {case.name}: notice to target at the meter",
        value=spread(reached, "s"),
        target=f"{case.target_seconds:g} s",
        ratio=max(reached) / (case.target_seconds or 1.0),
    )


def _whole(case: Case, report: dict[str, Any], shown: list[tuple[float, float]]) -> list[Figure]:
    """Over-curtailment, what was above the target, and the recovery."""
    result = report["result"]
    name = f"event of 30 %, {case.name}"
    points = result["over_curtailment_points"]
    above = result["above_target_ratio"]
    above = float("inf") if above is None else above  # it was never reached
    ended = EVENT_SECONDS
    after = [(at, watts) for at, watts in shown if ended <= at < ended + 2 * RECOVER_SECONDS]
    baseline = report["baseline_watts"]
    rebound = max((watts for _, watts in after), default=baseline) / baseline - 1.0
    return [
        Figure(
            what=f"{name}: over-curtailment, 1-minute means",
            value=f"{points:.2f} points on the mean, {result['worst_over_curtailment_points']:.2f} at worst;"
            f" delivered {result['delivered_watts'] / 1000.0:.2f} of"
            f" {result['promised_watts'] / 1000.0:.2f} kW",
            target="1.5 points",
            ratio=points / 1.5,
        ),
        Figure(
            what=f"{name}: above the target, 1-minute means after it was reached",
            value=f"{100.0 * above:.2f} %",
            target="1 %",
            ratio=above / 0.01,
        ),
        Figure(
            what=f"{name}: above the load before, readings after the end",
            value=f"{100.0 * max(0.0, rebound):.2f} %; back at 95 % of it"
            f" after {_back_seconds(after, ended, baseline):.0f} s",
            target="1 %",
            ratio=max(0.0, rebound) / 0.01,
        ),
        Figure(
            what=f"{name}: what it cost",
            value=f"performance left {100.0 * (result['performance_ratio'] or 0.0):.1f} %,"
            f" {result['ess_discharged_kwh']:.2f} kWh from the battery",
        ),
    ]


def _back_seconds(after: list[tuple[float, float]], ended: float, baseline_watts: float) -> float:
    """When the load was back at 95 % of what it was before."""
    return next((at - ended for at, watts in after if watts >= 0.95 * baseline_watts), float("inf"))


def measured(cases: Sequence[Case]) -> list[Figure]:
    """Bring a lab up, measure, take it down; raises LabError when none can be built."""
    with tempfile.TemporaryDirectory(prefix="slurm-power-bench-") as folder:
        plant = steady_plant(PLANT_FILE, Path(folder) / "plant.toml")
        Path(folder).chmod(0o755)
        started = lifecycle.up(Options(power=True, plant=str(plant), grid_limit_watts=GRID_LIMIT_WATTS))
    try:
        site = started.lab.layout.etc / "site.toml"
        text = without_recharging(site.read_text())
        own = f"[policy]\nevent_baseline_seconds = {BASELINE_SECONDS}\n"
        site.write_text(text.replace("[policy]\n", own))
        started.lab.restart("powerctld")
        return asyncio.run(_all(Reaction(started.lab), cases))
    finally:
        started.discard()


async def _all(reaction: Reaction, cases: Sequence[Case]) -> list[Figure]:
    figures = []
    try:
        for case in cases:
            print(f"measuring {case.name} ...", file=sys.stderr, flush=True)
            found = await reaction.measure(case)
            print(markdown(found), file=sys.stderr, flush=True)
            figures += found
    finally:
        await reaction.close()
    return figures


def main() -> int:
    """Print a Markdown table; returns 0, 2 without a lab."""
    return run_cases("python -m containers.bench.reaction", __doc__, CASES, measured)[0]


if __name__ == "__main__":
    sys.exit(main())

"""A state directory as powerctld leaves it after some simulated weeks, and the meter's own samples beside it.

The virtual machine runs jobs under a level that battery, caps and holds keep. What its meters would have
said is rolled up and packed by the store's own code, many minutes at once; what they said stands beside it,
so that a test can reckon with its own few lines.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from slurm_power.model.job import Flex, Workload
from slurm_power.model.ledger import LedgerEntry
from slurm_power.model.series import Resolution
from slurm_power.model.site import Ess, Site
from slurm_power.plan.policy import Policy
from slurm_power.simulate.cluster import Cluster, Layout, PlantJob
from slurm_power.simulate.jobs_control import LevelControl
from slurm_power.simulate.jobs_level import LevelSettings, level_keeper
from slurm_power.simulate.jobs_run import Battery, RunRecord, Window, simulate
from slurm_power.store.blocks import MINUTE_SECONDS, QUARTER_MS, rolled_minute
from slurm_power.store.packing import ABSENT, pack, to_steps
from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore
from tests.simulate.plant_jobs import HARDWARE, small_site

Values = NDArray[np.float64]
STEP_SECONDS = 300.0
TICK_SECONDS = 60.0
NOISE_WATTS = 150.0
_JOBS_A_DAY = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedWeeks:
    """Both runs, and what the meter of the grid connection said each minute (``import_watts``)."""

    site: Site
    controlled: RunRecord
    without: RunRecord
    times_seconds: Values
    import_watts: Values
    limit_watts: float
    withheld_watts: Values
    entries: tuple[LedgerEntry, ...]
    saved_joules: Mapping[str, float]

    def between(self, start_seconds: float, end_seconds: float) -> slice:
        """The samples of a span."""
        first, last = np.searchsorted(self.times_seconds, (start_seconds, end_seconds))
        return slice(int(first), int(last))


class _Watched(LevelControl):
    """A controller that writes down what it withholds, and what it begins and ends."""

    entries: list[LedgerEntry]
    withheld: list[tuple[float, float]]
    was_capped: set[str]
    was_giving: float
    acted_seconds: float
    saving_watts: dict[str, float]
    saved_joules: dict[str, float]

    def act(self, cluster: Cluster, battery: Battery | None, seconds: float) -> float:
        passed = cluster.now_seconds - self.acted_seconds
        for job_id, saving in self.saving_watts.items():
            self.saved_joules[job_id] = self.saved_joules.get(job_id, 0.0) + saving * passed
        watts = super().act(cluster, battery, seconds)
        self.acted_seconds = cluster.now_seconds
        self.saving_watts = {
            job_id: job.saved_watts * job.gpus
            for job_id, job in cluster.running.items()
            if job.saved_watts > 0.0
        }
        self.withheld.append((cluster.now_seconds, cluster.uncapped_root_watts - float(cluster.watts[0])))
        at = datetime.fromtimestamp(cluster.now_seconds, UTC)
        capped = {job_id for job_id, job in cluster.running.items() if job.power_ratio < 1.0}
        for kind, jobs in (("cap", capped - self.was_capped), ("uncap", self.was_capped - capped)):
            for job_id in sorted(jobs):
                job = cluster.running.get(job_id)
                saved = 0.0 if job is None else job.saved_watts * job.gpus
                self._note(at, kind, f"job:{job_id}", saved, None if job is None else job)
        self.was_capped = capped
        if np.sign(watts) != np.sign(self.was_giving):
            kind = "discharge" if watts > 0.0 else "charge" if watts < 0.0 else "rest"
            self._note(at, kind, "ess:battery", watts)
        self.was_giving = watts
        return watts

    def _note(self, at: datetime, kind: str, subject: str, watts: float, job: PlantJob | None = None) -> None:
        self.entries.append(
            LedgerEntry(
                at=at,
                actor="guard",
                kind=kind,
                subject=subject,
                reason="the month's level holds",
                job_id=None if job is None else job.job_id,
                user=None if job is None else job.user,
                saved_watts=round(watts, 1),
            )
        )


def simulated_weeks(start_seconds: float, end_seconds: float, *, seed: int = 5) -> SimulatedWeeks:
    """Run a small site through some weeks, with levers and without."""
    site = small_site(racks=2, nodes=4)
    site = replace(
        site,
        circuits=site.circuits,
        ess={"battery": Ess(name="battery", circuit="grid", reserve_soc_ratio=0.1, target_soc_ratio=0.9)},
    )
    layout, policy = Layout(site, HARDWARE), Policy()
    jobs = list(_jobs(start_seconds, end_seconds, seed))
    window = Window(
        begin_seconds=start_seconds,
        step_seconds=STEP_SECONDS,
        steps=round((end_seconds - start_seconds) / STEP_SECONDS),
    )
    without = simulate(layout, jobs, window)
    highest = float(without.circuit_watts[:, 0].max())
    battery = Battery(
        circuit="grid",
        power_watts=0.15 * highest,
        energy_kwh=1.2 * highest / 1000.0,
        soc_kwh=30.0,
        reserve_kwh=6.0,
    )
    keeper = level_keeper(
        layout, jobs, [start_seconds, end_seconds], battery.usable, LevelSettings(planner=False), policy
    )
    control = _Watched(keeper, layout, margin_ratio=policy.margin_ratio)
    control.entries, control.withheld, control.was_capped, control.was_giving = [], [], set(), 0.0
    control.acted_seconds, control.saving_watts, control.saved_joules = start_seconds, {}, {}
    controlled = simulate(layout, jobs, window, control, battery)
    withheld = _means(control.withheld, window)
    ticks = round(STEP_SECONDS / TICK_SECONDS)
    noise = np.random.default_rng(seed).normal(0.0, NOISE_WATTS, window.steps * ticks)
    return SimulatedWeeks(
        site=site,
        controlled=controlled,
        without=without,
        times_seconds=start_seconds + TICK_SECONDS * np.arange(window.steps * ticks, dtype=np.float64),
        import_watts=np.repeat(controlled.circuit_watts[:, 0], ticks) + noise,
        limit_watts=round(0.95 * highest, 1),
        withheld_watts=np.repeat(withheld, ticks),
        entries=tuple(control.entries),
        saved_joules=control.saved_joules,
    )


def _jobs(start_seconds: float, end_seconds: float, seed: int) -> Iterator[PlantJob]:
    """Jobs of three users, more of them by day, some long."""
    draw = np.random.default_rng(seed)
    days = int((end_seconds - start_seconds) / 86_400.0)
    for number in range(_JOBS_A_DAY * days):
        day, hour = draw.integers(days), float(np.clip(draw.normal(13.0, 4.0), 0.0, 23.9))
        at = start_seconds + 86_400.0 * float(day) + 3600.0 * hour
        run = float(np.clip(draw.lognormal(9.0, 0.9), 600.0, 86_400.0))
        yield PlantJob(
            job_id=str(1000 + number),
            user=("alice", "bob", "carol")[number % 3],
            account="science",
            flex=(Flex.FLEX0, Flex.FLEX2, Flex.FLEX3)[number % 3],
            workload=Workload.TRAINING,
            gpus=int(draw.choice([1, 2, 4, 8, 16])),
            dynamic_watts=float(draw.uniform(300.0, 600.0)),
            submit_seconds=at,
            eligible_seconds=at,
            ready_seconds=at,
            work_seconds=run,
            limit_seconds=2.0 * run,
            board_idle_watts=HARDWARE.board_idle_watts,
        )


def _means(samples: Sequence[tuple[float, float]], window: Window) -> Values:
    """Means over the steps of what holds from each moment until the next."""
    times = np.array([at for at, _ in samples] + [window.end_seconds])
    held = np.array([watts for _, watts in samples])
    edges = window.begin_seconds + window.step_seconds * np.arange(window.steps + 1)
    integral = np.concatenate(([0.0], np.cumsum(held * np.diff(times))))
    means: Values = np.diff(np.interp(edges, times, integral)) / window.step_seconds
    return means


def write_state(
    weeks: SimulatedWeeks,
    state: Path,
    *,
    without: Sequence[tuple[float, float]] = (),
    states: Mapping[str, object] = {},
) -> None:
    """Write ledger, job records and series; the meters are silent in the spans ``without`` (Unix seconds)."""
    state.mkdir(exist_ok=True)
    store = SqliteStore(state / "powerctld.sqlite")
    store.fill(
        weeks.entries,
        {job.job_id: _record(job, weeks.saved_joules.get(job.job_id, 0.0)) for job in weeks.controlled.jobs},
        states,
    )
    store.close()
    ticks = round(STEP_SECONDS / TICK_SECONDS)
    run = weeks.controlled
    columns = {
        "circuit.grid.watts": weeks.import_watts,
        "circuit.grid.limit_watts": np.full(len(weeks.times_seconds), weeks.limit_watts),
        "circuit.grid.load_watts": weeks.import_watts
        + np.repeat(run.discharge_watts, ticks)
        + weeks.withheld_watts,
        "caps.withheld_watts": weeks.withheld_watts,
        "ess.battery.discharge_watts": np.repeat(run.discharge_watts, ticks),
        "ess.battery.soc_ratio": np.repeat(run.soc_kwh, ticks) / float(run.soc_kwh.max() or 1.0),
        "ess.battery.soh_ratio": np.full(len(weeks.times_seconds), 0.97),
    }
    silent = np.zeros(len(weeks.times_seconds), dtype=bool)
    for since, until in without:
        silent |= (weeks.times_seconds >= since) & (weeks.times_seconds < until)
    write_quarters(state / "series.sqlite", weeks.times_seconds[0], columns, silent)


def write_quarters(
    file: Path, start_seconds: float, columns: Mapping[str, Values], silent: NDArray[np.bool_]
) -> None:
    """Store one tick a minute, which speaks for its minute, as the 15-min tier that is left of old months.

    Where ``silent`` there was no tick. ``start_seconds`` is the begin of a quarter of an hour.
    """
    names = list(columns)
    series = SqliteSeries(file)
    first = datetime.fromtimestamp(start_seconds - 7200.0, UTC)
    series.add(first, dict.fromkeys(names, 0.0))  # registers the names, in the order of their ids
    steps = np.array([series.step_of(name) for name in names])
    table = to_steps(np.stack([columns[name] for name in names], axis=1), steps)
    table[silent] = ABSENT
    # What the store does with a minute of ticks, done with a quarter of minutes: all quarters in one call,
    # each tick with a fifteenth of the weight.
    ticks = 15
    grid = table.reshape(-1, ticks, len(names)).swapaxes(0, 1).reshape(ticks, -1)
    rolled = rolled_minute(grid, np.full(ticks, MINUTE_SECONDS / ticks)).reshape(4, -1, len(names))
    flags = np.zeros(64, dtype=np.bool_)
    flags[1 : 1 + len(names)] = True
    members = np.packbits(flags).tobytes()
    there = ~silent.reshape(-1, ticks).all(axis=1)
    rows = [
        (
            int(Resolution.QUARTER_HOUR),
            round(start_seconds * 1000.0) + int(quarter) * QUARTER_MS,
            0,
            members,
            pack(np.ascontiguousarray(rolled[:, quarter])),
        )
        for quarter in np.flatnonzero(there)
    ]
    with series._transaction("BEGIN IMMEDIATE"):
        series._connection.executemany(
            "INSERT INTO chunk (tier, start_ms, part, members, data) VALUES (?,?,?,?,?)", rows
        )
        series._connection.execute("DELETE FROM tick")
    series.close()


def _record(job: PlantJob, saved_joules: float) -> dict[str, Any]:
    """What powerctld keeps of a job."""
    record: dict[str, Any] = {
        "job_id": job.job_id,
        "user": job.user,
        "account": job.account,
        "state": "ended" if job.ended_seconds is not None else "running",
        "gpu_count": job.gpus,
        "flex": job.flex.value,
        "workload": job.workload.value,
        "nodes": ["r0n0", "r0n1"][: -(-job.gpus // 8)],
        "slowdown_seconds": job.lost_seconds,
        "held_seconds": job.held_seconds,
    }
    if job.started_seconds is not None:
        record["started"] = datetime.fromtimestamp(job.started_seconds, UTC).isoformat()
        if job.ended_seconds is not None:
            record["running_seconds"] = job.ended_seconds - job.started_seconds
            record["mean_watts"] = job.gpus * job.board_watts - saved_joules / record["running_seconds"]
            record["saved_watt_seconds"] = saved_joules
    return record


def main() -> None:
    """Write a state directory with two months, for whoever wants to look at reports of it."""
    zone = ZoneInfo("Europe/Berlin")
    start, end = (datetime(2025, month, 1, tzinfo=zone).timestamp() for month in (10, 12))
    write_state(simulated_weeks(start, end), Path(sys.argv[1]))


if __name__ == "__main__":
    main()

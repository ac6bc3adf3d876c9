"""Who may start: within a thousandth of the linear bound, never above a budget, promises first."""

from dataclasses import replace
from datetime import timedelta

import highspy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.action import HoldJob, ReleaseJob
from slurm_power.model.job import Flex, Job
from slurm_power.model.site import Circuit, LimitKind, Site
from slurm_power.model.snapshot import HoldLease, NodeState, Snapshot
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from slurm_power.plan.release import SHORT_OF_GPUS, Budgets, Candidates, Release, release
from slurm_power.plan.site_table import site_table
from tests.plan.situations import AT, gpu, pending, running, site, situation

POLICY = Policy()
ADDED_WATTS = 800.0  # 650 W of a training GPU, less 75 W idle, with 225 W at the host


def racks(count: int) -> Site:
    grid = Circuit(name="grid", rating_watts=1e9, limit_kind=LimitKind.ECONOMIC)
    below = [
        Circuit(
            name=f"rack{n}", parent="grid", rating_watts=1e6, limit_kind=LimitKind.SAFETY, nodes=(f"c{n}",)
        )
        for n in range(count)
    ]
    return Site(name="made", circuits={circuit.name: circuit for circuit in (grid, *below)}, ess={})


def budgets(
    count: int, root_watts: float, gpus: float, rack_watts: float = np.inf, spare: float = 0.0
) -> Budgets:
    room = np.full(count + 1, rack_watts)
    room[-1] = root_watts
    free = np.full(count + 1, gpus / max(count, 1))
    free[-1] = gpus
    return Budgets(room_watts=room, spare_watts=np.full(count + 1, spare), free_gpus=free)


def queue(
    random: np.random.Generator, count: int, *, placed_ratio: float = 0.0, circuits: int = 1
) -> Candidates:
    gpus = random.choice([1.0, 2.0, 4.0, 8.0, 16.0, 64.0], count)
    added = random.uniform(300.0, 900.0, count)
    placed = random.random(count) < placed_ratio
    rows = np.flatnonzero(placed)
    return Candidates(
        value=gpus * random.uniform(0.5, 4.0, count),
        gpus=gpus,
        added_watts=added,
        must=np.zeros(count, dtype=bool),
        held=np.zeros(count, dtype=bool),
        settled=np.zeros(count, dtype=bool),
        deferred=np.zeros(count, dtype=bool),
        placed=placed,
        share_row=rows,
        share_circuit=random.integers(0, circuits, len(rows)),
        share_watts=(gpus * added)[rows],
        root_factor=1.0,
    )


def linear_bound(jobs: Candidates, limits: Budgets) -> float:
    """The best that parts of jobs could reach, placed jobs on their circuits and all on the grid's."""
    count, root = len(jobs.value), len(limits.room_watts) - 1
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.setOptionValue("output_flag", False)
    solver.addVars(count, np.zeros(count), np.ones(count))
    solver.changeColsCost(count, np.arange(count, dtype=np.int32), -jobs.value)
    every = np.arange(count, dtype=np.int32)
    solver.addRow(-np.inf, float(limits.room_watts[root]), count, every, jobs.gpus * jobs.added_watts)
    solver.addRow(-np.inf, float(limits.free_gpus[root]), count, every, jobs.gpus)
    for circuit in np.unique(jobs.share_circuit):
        here = jobs.share_circuit == circuit
        rows = jobs.share_row[here].astype(np.int32)
        most = float(limits.room_watts[circuit])
        if np.isfinite(most):
            solver.addRow(-np.inf, most, len(rows), rows, jobs.share_watts[here])
    solver.run()
    return -float(solver.getInfo().objective_function_value)


def used(jobs: Candidates, found: Release, circuits: int) -> np.ndarray:
    """Watts of all that was chosen, by circuit, the grid's last."""
    inside = found.chosen[jobs.share_row]
    watts = np.bincount(jobs.share_circuit[inside], weights=jobs.share_watts[inside], minlength=circuits + 1)
    watts[-1] = (jobs.gpus * jobs.added_watts)[found.chosen].sum()
    return watts


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("watts_ratio", "gpus_ratio"), [(0.3, 0.9), (0.9, 0.3), (0.4, 0.4), (0.1, 0.12)])
def test_the_greedy_release_is_within_a_thousandth_of_the_linear_bound(
    seed: int, watts_ratio: float, gpus_ratio: float
) -> None:
    random = np.random.default_rng(seed)
    jobs = queue(random, 10_000)
    most = budgets(
        0,
        watts_ratio * float((jobs.gpus * jobs.added_watts).sum()),
        round(gpus_ratio * float(jobs.gpus.sum())),
    )
    found = release(site_table(racks(0)), most, jobs)
    # An optimum of whole jobs may itself be a part of one job below that.
    assert found.value >= 0.999 * linear_bound(jobs, most) - 0.5 * float(jobs.value.max())


@pytest.mark.parametrize("seed", range(4))
def test_tight_racks_cost_little_where_the_scheduler_says_where_it_puts_its_jobs(seed: int) -> None:
    random = np.random.default_rng(seed)
    jobs = queue(random, 3000, placed_ratio=1.0, circuits=8)
    whole = float((jobs.gpus * jobs.added_watts).sum())
    most = budgets(8, 0.5 * whole, 1e9, rack_watts=0.05 * whole)
    found = release(site_table(racks(8)), most, jobs)
    assert (used(jobs, found, 8) <= most.room_watts + 1e-3).all()
    assert found.value >= 0.99 * linear_bound(jobs, most)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000), st.floats(0.0, 2e6), st.integers(0, 800), st.floats(0.0, 2e5), st.floats(0.0, 1.0)
)
def test_no_budget_is_passed_and_who_waits_has_a_reason(
    seed: int, root_watts: float, gpus: int, rack_watts: float, placed_ratio: float
) -> None:
    random = np.random.default_rng(seed)
    jobs = queue(random, 60, placed_ratio=placed_ratio, circuits=3)
    most = budgets(3, root_watts, float(gpus), rack_watts=rack_watts)
    found = release(site_table(racks(3)), most, jobs)
    assert (used(jobs, found, 3) <= most.room_watts + 1e-3).all()
    assert jobs.gpus[found.chosen].sum() <= gpus
    waiting = np.flatnonzero(~found.chosen)
    own = {(int(r), int(c)): w for r, c, w in zip(jobs.share_row, jobs.share_circuit, jobs.share_watts)}  # noqa: B905  # one length
    for row in waiting.tolist():
        binding = int(found.binding[row])
        needed = float(jobs.gpus[row] * jobs.added_watts[row])
        if binding == 3:
            assert needed > found.left_watts[3]
        elif binding >= 0 and jobs.placed[row]:
            assert own[row, binding] > found.left_watts[binding]
        elif binding == SHORT_OF_GPUS:
            assert needed <= found.left_watts[3] + 1e-3


def holds(snapshot: Snapshot) -> dict[str, str]:
    found = plan_cycle(snapshot, POLICY, hold_seconds=60.0).actions
    return {action.job_id: action.reason for action in found if isinstance(action, HoldJob)}


def releases(snapshot: Snapshot) -> set[str]:
    found = plan_cycle(snapshot, POLICY, hold_seconds=60.0).actions
    return {action.job_id for action in found if isinstance(action, ReleaseJob)}


def with_idle(snapshot: Snapshot) -> Snapshot:
    """All four nodes report their eight GPUs, idle where no job has them."""
    nodes = dict(snapshot.nodes)
    for name in ("c1", "c2", "c3", "c4"):
        seen = {f"{name}-{slot}": gpu(f"{name}-{slot}", 75.0) for slot in range(8)}
        gpus = seen | (dict(nodes[name].gpus) if name in nodes else {})
        nodes[name] = NodeState(name=name, age_seconds=0.5, gpus=gpus)
    return replace(snapshot, nodes=nodes)


def planned(job: Job, *nodes: str) -> Job:
    return replace(job, planned_nodes=nodes)


def test_a_job_counts_where_the_scheduler_means_to_put_it() -> None:
    """Rack 1 is nearly full, rack 2 is not; the grid has room for both."""
    jobs = (planned(pending("7", 8), "c1"), planned(pending("8", 8), "c3"))
    tight = situation(
        of=site(grid_limit_watts=90_000.0, rack_limit_watts=14_000.0),
        rack_watts=(10_000.0, 10_000.0),
        jobs=jobs,
    )
    found = holds(tight)
    assert set(found) == {"7"}
    assert "on rack1" in found["7"]


def test_without_planned_nodes_the_worst_of_two_racks_counts() -> None:
    of = site(grid_limit_watts=90_000.0, rack_limit_watts=14_000.0)
    tight = with_idle(situation(of=of, rack_watts=(10_000.0, 10_000.0), jobs=(pending("7", 8),)))
    assert "on rack1" in holds(tight)["7"]
    roomy = with_idle(situation(of=of, rack_watts=(5_000.0, 5_000.0), jobs=(pending("7", 8),)))
    assert holds(roomy) == {}


def test_jobs_that_only_lack_gpus_are_left_to_the_scheduler() -> None:
    busy = (running("1", ("c1", "c2", "c3", "c4")),)
    queued = tuple(pending(str(n), 8) for n in range(10, 20))
    full = situation(import_watts=20_000.0, jobs=busy + queued)
    assert holds(full) == {}, "a start needs the end of another job, whose watts it gets"
    event = replace(full, circuits={**full.circuits, "grid": replace(full.circuits["grid"], watts=29_000.0)})
    assert set(holds(event)) == {job.job_id for job in queued}


def test_flex0_jobs_that_cannot_start_yet_take_no_room() -> None:
    """24 GPUs are taken, 8 are free: the room goes to what can have them."""
    busy = running("1", ("c1", "c2", "c3"))
    waiting = tuple(pending(str(n), 32, flex=Flex.FLEX0, submitted_seconds_ago=500.0) for n in range(10, 14))
    small = pending("20", 8)
    found = holds(with_idle(situation(import_watts=20_000.0, jobs=(busy, *waiting, small))))
    assert found == {}


def test_who_has_waited_longer_or_promised_less_comes_first() -> None:
    old, young = pending("8", 8, submitted_seconds_ago=7200.0), pending("7", 8)
    assert set(holds(situation(import_watts=20_000.0, jobs=(young, old)))) == {"7"}
    bound, free = pending("8", 8, flex=Flex.FLEX1), pending("7", 8, flex=Flex.FLEX3)
    assert set(holds(situation(import_watts=20_000.0, jobs=(free, bound)))) == {"7"}


def test_the_schedulers_priority_counts() -> None:
    jobs = (replace(pending("7", 8), priority=10), replace(pending("8", 8), priority=900))
    assert set(holds(situation(import_watts=20_000.0, jobs=jobs))) == {"7"}


def test_a_job_that_may_start_is_not_held_for_one_that_waits_longer() -> None:
    """Free again, not started yet: the room it was given is not taken back every few seconds."""
    free, waiting = pending("8", 8), pending("7", 8, submitted_seconds_ago=600.0)
    lease = {"7": HoldLease(job_id="7", held_seconds=100.0, ends_in_seconds=50.0)}
    tight = situation(import_watts=20_000.0, jobs=(free, waiting))
    assert set(holds(tight)) == {"8"}
    assert (holds(replace(tight, holds=lease)), releases(replace(tight, holds=lease))) == ({}, set())


def test_a_job_that_has_just_come_does_not_pass_those_that_wait() -> None:
    new, waiting = pending("8", 8, submitted_seconds_ago=2.0), pending("7", 8, submitted_seconds_ago=600.0)
    lease = {"7": HoldLease(job_id="7", held_seconds=100.0, ends_in_seconds=50.0)}
    tight = situation(import_watts=20_000.0, jobs=(new, waiting), holds=lease)
    assert (set(holds(tight)), releases(tight)) == ({"8"}, {"7"})


def test_a_held_job_needs_room_to_spare() -> None:
    lease = {"7": HoldLease(job_id="7", held_seconds=100.0, ends_in_seconds=50.0)}
    # 29.4 kW is the target; the job adds 6.4 kW, and 4 % of the limit must stay free beside it.
    close = situation(import_watts=22_500.0, jobs=(pending("7", 8),), holds=lease)
    assert releases(close) == set()
    assert holds(replace(close, holds={})) == {}
    assert releases(situation(import_watts=21_000.0, jobs=(pending("7", 8),), holds=lease)) == {"7"}


def test_a_site_that_is_full_does_not_flap() -> None:
    """Minute after minute the same jobs stay held: nothing is let go and taken back."""
    jobs = tuple(
        pending(str(n), 4 + n % 3, submitted_seconds_ago=60.0 + n, time_limit_seconds=86_400.0)
        for n in range(12)
    )
    held: dict[str, float] = {}
    changes = 0
    for second in range(0, 600, 5):
        noise = 300.0 if second % 10 else -300.0
        leases = {
            job_id: HoldLease(job_id=job_id, held_seconds=second - since, ends_in_seconds=50.0)
            for job_id, since in held.items()
        }
        seen = replace(
            situation(import_watts=18_000.0 + noise, jobs=jobs, holds=leases),
            at=AT + timedelta(seconds=second),
        )
        for action in plan_cycle(seen, POLICY, hold_seconds=60.0).actions:
            if isinstance(action, HoldJob) and action.job_id not in held:
                held[action.job_id] = second
                changes += second > 60
            if isinstance(action, ReleaseJob):
                del held[action.job_id]
                changes += second > 60
    assert held and changes <= 2


def test_of_thousands_of_jobs_the_first_in_the_queue_are_held_a_few_at_a_time() -> None:
    jobs = tuple(pending(str(n), 8, submitted_seconds_ago=float(n)) for n in range(3000))
    tight = situation(import_watts=29_000.0, jobs=jobs)
    found = holds(tight)
    assert set(found) == {str(n) for n in range(2750, 3000)}, "the front of the queue starts first"
    many = {
        str(n): HoldLease(job_id=str(n), held_seconds=9.0, ends_in_seconds=20.0 + n / 1000.0)
        for n in range(2000, 3000)
    }
    renewed = holds(replace(tight, holds=many))
    assert set(renewed) == {str(n) for n in range(2000, 2250)}, "those that end first, and no new ones"


def test_whose_work_counts_more_and_who_has_lost_more_come_first() -> None:
    mine, other = replace(pending("7", 8), account="physics"), replace(pending("8", 8), user="carol")
    tight = situation(import_watts=20_000.0, jobs=(mine, other))

    def held(policy: Policy, snapshot: Snapshot = tight) -> set[str]:
        found = plan_cycle(snapshot, policy, hold_seconds=60.0).actions
        return {action.job_id for action in found if isinstance(action, HoldJob)}

    assert held(Policy(account_weights=("physics=3",))) == {"8"}
    assert held(Policy(account_weights=("physics=0.3",))) == {"7"}
    assert held(POLICY, replace(tight, debts={"bob": 0.0, "carol": 0.4})) == {"7"}
    assert held(POLICY, replace(tight, debts={"bob": 0.4, "carol": 0.0})) == {"8"}

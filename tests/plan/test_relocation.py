"""A held job is sent where there is room, never against its user's choice, and not for ever."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.action import ReleaseJob, RelocateJob
from slurm_power.model.job import Flex, Job, JobState
from slurm_power.model.pool import NodeGroup, Pool
from slurm_power.model.snapshot import HoldLease, NodeState, Relocation, Snapshot
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import gpu, pending, running, site, situation

POLICY = Policy()
NODES = {"a": ("c1", "c2"), "b": ("c3", "c4")}


def pool(name: str, *nodes: str, gpu_type: str = "h100") -> Pool:
    return Pool(name=name, groups=(NodeGroup(nodes=nodes, gpus_per_node=8, gpu_type=gpu_type),))


POOLS = {
    "a": pool("a", "c1", "c2"),
    "b": pool("b", "c3", "c4"),
    "all": pool("all", "c1", "c2", "c3", "c4"),
    "old": pool("old", "c3", "c4", gpu_type="v100"),
}


def held(job_id: str = "7", gpus: int = 8, **more: object) -> Job:
    fields = {"pools": ("a", "b"), "gpu_type": "h100", **more}
    return replace(pending(job_id, gpus), **fields)  # type: ignore[arg-type]  # a job's own fields


def waiting(
    *jobs: Job, rack1_watts: float = 10_000.0, rack2_watts: float = 1_000.0, **more: object
) -> Snapshot:
    """Rack 1 may draw 14 kW and draws ten, so no job of 8 GPUs fits behind it; rack 2 is nearly empty."""
    found = situation(
        of=site(grid_limit_watts=90_000.0, rack_limit_watts=14_000.0),
        rack_watts=(rack1_watts, rack2_watts),
        jobs=jobs,
        holds={
            job.job_id: HoldLease(job_id=job.job_id, held_seconds=20.0, ends_in_seconds=55.0)
            for job in jobs
            if job.state is JobState.PENDING and not job.held_by_user
        },
    )
    nodes = dict(found.nodes)
    for name in ("c1", "c2", "c3", "c4"):
        idle = {f"{name}-{slot}": gpu(f"{name}-{slot}", 75.0) for slot in range(8)}
        seen = dict(nodes[name].gpus) if name in nodes else {}
        nodes[name] = NodeState(name=name, age_seconds=0.5, gpus=idle | seen)
    return replace(found, nodes=nodes, pools=POOLS, **more)  # type: ignore[arg-type]  # a snapshot's own fields


def moves(snapshot: Snapshot, policy: Policy = POLICY) -> dict[str, RelocateJob]:
    found = plan_cycle(snapshot, policy, hold_seconds=60.0).actions
    return {action.job_id: action for action in found if isinstance(action, RelocateJob)}


def test_a_held_job_is_kept_off_the_full_circuit() -> None:
    action = moves(waiting(held()))["7"]
    assert action.avoid == ("c1", "c2")
    assert "rack1 has no room" in action.reason
    assert "behind rack2" in action.reason
    assert action.saved_watts > 0.0


def test_one_pool_over_both_circuits_is_enough() -> None:
    assert moves(waiting(held(pools=("all",))))["7"].avoid == ("c1", "c2")


@pytest.mark.parametrize(
    "job",
    [
        held(pools=("a",)),
        held(pools=()),
        held(pools=("a", "unheard_of")),
        held(pools=("a", "old")),
        held(pinned=True),
        held(gpus=24, node_count=3),
        held(held_by_user=True),
        held(flex=Flex.FLEX0),
    ],
    ids=[
        "its pool has no other",
        "no pool",
        "unknown",
        "other type",
        "named nodes",
        "too large",
        "user",
        "flex0",
    ],
)
def test_a_job_is_left_where_its_user_wants_it_or_nothing_else_fits(job: Job) -> None:
    assert moves(waiting(job)) == {}


def test_nothing_is_moved_without_the_switch_a_hold_or_pools() -> None:
    assert moves(waiting(held()), replace(POLICY, relocate=False)) == {}
    assert moves(replace(waiting(held()), holds={})) == {}
    assert moves(replace(waiting(held()), pools={})) == {}


def test_no_job_is_sent_to_a_full_circuit_or_to_gpus_in_use() -> None:
    assert moves(waiting(held(), rack2_watts=38_500.0)) == {}
    assert moves(waiting(held(), running("1", ("c3", "c4")), rack2_watts=12_000.0)) == {}
    half = running("1", ("c3", "c4"), gpus_per_node=4)
    assert moves(waiting(held(), half, rack2_watts=6_000.0)) == {}, "8 GPUs are free, on no one node"
    assert moves(waiting(held(node_count=2), half, rack2_watts=6_000.0))["7"].avoid == ("c1", "c2")


def test_jobs_do_not_all_go_to_the_same_gpus() -> None:
    jobs = [held(str(n)) for n in range(7, 11)]
    assert set(moves(waiting(*jobs))) == {"7", "8"}
    sent = held("6", avoids=frozenset({"c1", "c2"}))
    relocations = {"6": Relocation(job_id="6", asked_seconds_ago=5.0)}
    assert set(moves(waiting(sent, *jobs, relocations=relocations))) == {"7"}


def test_a_job_that_was_sent_elsewhere_counts_there_and_starts() -> None:
    sent = held(avoids=frozenset({"c1", "c2"}))
    snapshot = waiting(sent, relocations={"7": Relocation(job_id="7", asked_seconds_ago=5.0)})
    found = plan_cycle(snapshot, POLICY, hold_seconds=60.0).actions
    assert [action.job_id for action in found if isinstance(action, ReleaseJob)] == ["7"]
    assert moves(snapshot) == {}


def test_it_comes_back_once_after_its_time_and_then_stays() -> None:
    sent = held(avoids=frozenset({"c1", "c2"}))
    young = waiting(
        sent, relocations={"7": Relocation(job_id="7", asked_seconds_ago=599.0)}, rack2_watts=38_500.0
    )
    assert moves(young) == {}
    old = replace(young, relocations={"7": Relocation(job_id="7", asked_seconds_ago=600.0)})
    assert moves(old)["7"].avoid == ()
    back = {"7": Relocation(job_id="7", asked_seconds_ago=610.0, given_back=True)}
    assert moves(waiting(held(), relocations=back)) == {}
    later = {"7": Relocation(job_id="7", asked_seconds_ago=1200.0, given_back=True)}
    assert moves(waiting(held(), relocations=later))["7"].avoid == ("c1", "c2")


@pytest.mark.parametrize(
    ("job", "policy"),
    [
        (held(avoids=frozenset({"c1", "c2"})), POLICY),
        (held(avoids=frozenset({"c1", "c2"}), held_by_user=True), POLICY),
        (held(avoids=frozenset({"c1", "c2"})), replace(POLICY, relocate=False)),
    ],
    ids=["requeued", "held by its user", "switched off"],
)
def test_nodes_that_nobody_needs_to_avoid_are_given_back(job: Job, policy: Policy) -> None:
    relocations = (
        {}
        if job.held_by_user is False and policy is POLICY
        else {"7": Relocation(job_id="7", asked_seconds_ago=5.0)}
    )
    snapshot = replace(waiting(job, rack2_watts=38_500.0), relocations=relocations)
    assert moves(snapshot, policy)["7"].avoid == ()
    started = replace(job, state=JobState.RUNNING, nodes=("c3",))
    assert moves(replace(snapshot, jobs=(started,), holds={}), policy) == {}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_never_against_the_users_word_nor_to_what_has_no_room(data: st.DataObject) -> None:
    draw = data.draw
    jobs = []
    for number in range(draw(st.integers(1, 6))):
        nodes = draw(st.integers(1, 2))
        job = held(
            str(number),
            draw(st.sampled_from((1, 2, 4, 8))) * nodes,
            node_count=nodes,
            pools=draw(
                st.sampled_from(((), ("a",), ("b",), ("a", "b"), ("all",), ("a", "old"), ("all", "old")))
            ),
            pinned=draw(st.booleans()),
            gpu_type=draw(st.sampled_from(("", "h100"))),
            flex=draw(st.sampled_from(Flex)),
        )
        jobs.append(job)
    busy = draw(st.sampled_from(((), ("c1",), ("c3",), ("c3", "c4"), ("c2", "c4"))))
    others = tuple(running(f"9{n}", (n,)) for n in busy)
    watts = draw(st.floats(1_000.0, 13_900.0)), draw(st.floats(1_000.0, 39_500.0))
    snapshot = waiting(*jobs, *others, rack1_watts=watts[0], rack2_watts=watts[1])
    by_id = {job.job_id: job for job in jobs}
    added = POLICY.training_gpu_watts - POLICY.idle_gpu_watts + POLICY.host_watts_per_gpu
    taken = {"a": 0.0, "b": 0.0}
    for job_id, action in moves(snapshot).items():
        job = by_id[job_id]
        assert not job.pinned
        assert job.flex is not Flex.FLEX0
        where = {node for name in job.pools for node in NODES.get(name, ("c1", "c2", "c3", "c4"))}
        if "old" in job.pools and job.gpu_type == "h100" and "all" not in job.pools:
            where -= {"c3", "c4"}
        left = where - set(action.avoid)
        assert left, "nothing is left to it"
        assert set(action.avoid) <= where
        side = {name for name, nodes in NODES.items() if left & set(nodes)}
        free = 8 * len(left - set(busy))
        for name in side:
            taken[name] += job.gpu_count
            used = watts[0] if name == "a" else watts[1]
            limit = 14_000.0 if name == "a" else 40_000.0
            assert used + taken[name] * added <= limit * (1.0 - POLICY.release_margin_ratio) + 1.0
        assert free >= job.gpu_count

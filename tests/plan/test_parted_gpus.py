"""GPUs in MIG mode: a cap there would meet jobs that have promised nothing."""

from dataclasses import replace

from slurm_power.model.job import Flex
from slurm_power.model.snapshot import Snapshot
from tests.plan.situations import running, site, situation
from tests.plan.test_planner import caps, plan

JOBS = (running("1", ("c1",), flex=Flex.FLEX3), running("2", ("c2",), flex=Flex.FLEX2))


def with_mig(snapshot: Snapshot, node: str) -> Snapshot:
    state = snapshot.nodes[node]
    gpus = {uuid: replace(gpu, mig_enabled=True) for uuid, gpu in state.gpus.items()}
    return replace(snapshot, nodes={**snapshot.nodes, node: replace(state, gpus=gpus)})


def test_the_watts_are_found_where_a_cap_meets_one_job_alone() -> None:
    tight = situation(of=site(with_ess=False), import_watts=30_400.0, jobs=JOBS)
    assert set(caps(plan(tight))) == {"1"}
    assert set(caps(plan(with_mig(tight, "c1")))) == {"2"}


def test_where_all_is_parted_the_shortfall_is_told() -> None:
    tight = situation(of=site(with_ess=False), import_watts=30_400.0, jobs=JOBS)
    found = plan(with_mig(with_mig(tight, "c1"), "c2"))
    assert caps(found) == {}
    assert found.shortfalls

"""A job that ends waits for the last reading of its GPUs and of its host, in whatever order they come."""

from itertools import permutations
from pathlib import Path
from unittest.mock import Mock

import pytest

from slurm_power.node.counters import HOST
from slurm_power.node.hooks import HookDesk
from slurm_power.node.jobs import NodeJob, NodeJobs


@pytest.mark.parametrize("order", list(permutations((HOST, "GPU-0", "GPU-1"))))
def test_the_end_waits_for_gpus_and_host(tmp_path: Path, order: tuple[str, ...]) -> None:
    jobs = NodeJobs(tmp_path, "boot")
    job = NodeJob(job_id="17", user="alice", uid=1, gpu_slots=(0, 1), workload=None, flex=None)
    job.since_seconds = 0.0
    jobs.start(job)
    jobs.resolve(lambda _slots, _instances: ("GPU-0", "GPU-1"))
    visit, tell, rack = Mock(), Mock(), Mock()
    rack.node_watts.return_value = None
    parts = {name: Mock() for name in ("node", "leases", "waits", "tiers", "advice")}
    desk = HookDesk("c1", jobs=jobs, rack=rack, socket=Path("s"), visit=visit, tell=tell, **parts)
    desk.answer = Mock()
    jobs.take_host(0.0, 0.0, 2)
    jobs.take_host(100.0, 1.0, 2)
    desk.handle(Mock(uid=0), {"op": "epilog", "job_id": "17"})
    assert sorted(call.args[0] for call in visit.call_args_list) == sorted(order)
    for what in order:
        assert not desk.answer.called
        if what == HOST:
            jobs.take_host(700.0, 3.0, 2)
        desk.visited(what)
    (_, told), _ = desk.answer.call_args
    assert told["host_joules"] == 700.0
    assert tell.call_args.args[0]["host_joules"] == 700.0
    assert not jobs.count

"""What is recorded for statements of energy: GPUs and hosts by meter, prices, the site itself."""

from dataclasses import replace

import pytest

from slurm_power.controller.jobs.job_rates import Rates
from slurm_power.controller.records.series_values import series_values
from slurm_power.controller.sensing.rack_draws import rack_draws
from slurm_power.model.job import Job
from slurm_power.model.snapshot import NodeState, Snapshot
from slurm_power.plan.policy import Policy
from slurm_power.telemetry.node_report import node_report
from tests.plan.situations import running, situation


def snapshot() -> Snapshot:
    made = situation(
        import_watts=14_000.0,
        rack_watts=(6_000.0, 8_000.0),
        jobs=(running("1", ("c1",)),),
        gpu_watts={"1": 400.0},
    )
    return replace(made, nodes={name: told(node, made.jobs) for name, node in made.nodes.items()})


def told(node: NodeState, jobs: tuple[Job, ...]) -> NodeState:
    """The node as its report is taken, with a host of 500 W."""
    parts = [uuids for job in jobs for name, uuids in job.gpus_by_node if name == node.name]
    report = node_report(dict(node.gpus), parts, 0.0, host_watts=500.0)
    return replace(node, sums=report.sums, drawn=report.drawn)


def test_each_meter_has_the_sums_of_what_hangs_on_it() -> None:
    seen = snapshot()
    draws = rack_draws(seen)
    assert draws.keys() == {seen.site.circuits_of_node(node)[0] for node in seen.site.nodes()}
    for circuit, draw in draws.items():
        there = [seen.nodes[name] for name in seen.site.circuits[circuit].nodes if name in seen.nodes]
        gpus = sum(gpu.power_watts for node in there for gpu in node.gpus.values())
        held = 8 * 400.0 if any(node.name == "c1" for node in there) else 0.0
        if there:
            assert draw.gpu_watts == pytest.approx(gpus)
            assert draw.idle_gpu_watts == pytest.approx(gpus - held)
            assert draw.host_watts == pytest.approx(500.0 * len(there))
    assert sum(draw.gpu_watts or 0.0 for draw in draws.values()) > 0.0


def test_a_gpu_that_does_not_answer_is_not_counted() -> None:
    seen = snapshot()
    node = seen.nodes["c1"]
    lost = next(iter(node.gpus))
    gpus = {**node.gpus, lost: replace(node.gpus[lost], error="fell off the bus")}
    broken = replace(seen, nodes={**seen.nodes, "c1": told(replace(node, gpus=gpus), seen.jobs)})
    circuit = seen.site.circuits_of_node("c1")[0]
    before, after = rack_draws(seen)[circuit], rack_draws(broken)[circuit]
    assert before.gpu_watts is not None and after.gpu_watts is not None
    assert before.gpu_watts - after.gpu_watts == pytest.approx(node.gpus[lost].power_watts)
    assert after.idle_gpu_watts == pytest.approx(before.idle_gpu_watts), "its job had it"


def test_nothing_is_made_up_where_nobody_tells() -> None:
    seen = replace(snapshot(), nodes={})
    assert all(draw.gpu_watts is None and draw.host_watts is None for draw in rack_draws(seen).values())


def test_they_are_stored_with_the_price_of_the_moment() -> None:
    seen = snapshot()
    values = series_values(seen, Policy(), Rates(0.25, 300.0))
    for circuit, draw in rack_draws(seen).items():
        assert values[f"circuit.{circuit}.gpu_watts"] == draw.gpu_watts
        assert values[f"circuit.{circuit}.host_watts"] == draw.host_watts
    assert (values["supply.price_per_kwh"], values["supply.carbon_g_per_kwh"]) == (0.25, 300.0)
    assert values["circuit.grid.estimated_ratio"] == 0.0
    assert series_values(seen, Policy())["supply.price_per_kwh"] is None

"""What nodes are told of their racks."""

from dataclasses import replace

from slurm_power.controller.sensing.rack_feed import rack_messages
from slurm_power.model.reading import Quality, judged
from slurm_power.model.snapshot import NodeState, Snapshot
from tests.plan.situations import AT, gpu, site


def node(name: str, watts: float) -> NodeState:
    gpus = {f"{name}-{i}": gpu(f"{name}-{i}", watts) for i in range(2)}
    return NodeState(name=name, age_seconds=0.5, gpus=gpus)


def snapshot(*nodes: NodeState, rack_age_seconds: float = 1.0) -> Snapshot:
    return Snapshot(
        at=AT,
        site=site(),
        circuits={
            "grid": judged("meter", 9000.0, 0.2, 2.0),
            "rack1": judged("pdu1", 4000.0, rack_age_seconds, 6.0),
        },
        ess={},
        nodes={state.name: state for state in nodes},
        jobs=(),
    )


def test_a_rack_is_split_by_what_the_gpus_of_its_nodes_draw() -> None:
    told = rack_messages(snapshot(node("c1", 600.0), node("c2", 200.0), node("c3", 500.0)))
    assert set(told) == {"c1", "c2"}, "c3 hangs on a rack without a meter, and the site's meter is no rack's"
    assert told["c1"] == {
        "type": "rack",
        "circuit": "rack1",
        "watts": 4000.0,
        "quality": "good",
        "age_seconds": 1.0,
        "share_ratio": 0.75,
    }
    assert told["c2"]["share_ratio"] == 0.25


def test_while_a_node_is_silent_nobody_s_share_is_known() -> None:
    told = rack_messages(snapshot(node("c1", 600.0)))
    assert told["c1"]["share_ratio"] is None


def test_an_invalid_reading_carries_no_watts() -> None:
    told = rack_messages(snapshot(node("c1", 1.0), node("c2", 1.0), rack_age_seconds=100.0))
    assert (told["c1"]["watts"], told["c1"]["quality"]) == (None, Quality.INVALID.value)


def test_a_gpu_that_does_not_answer_has_no_share() -> None:
    lost = node("c1", 600.0)
    lost = replace(lost, gpus={uuid: replace(reading, error="lost") for uuid, reading in lost.gpus.items()})
    told = rack_messages(snapshot(lost, node("c2", 200.0)))
    assert (told["c1"]["share_ratio"], told["c2"]["share_ratio"]) == (0.0, 1.0)

"""The rack's PDU on the node: the controller's word checked, split among jobs, and gone when it is old."""

import time
from typing import Any

import pytest

from containers.faults.controller import FakeController
from containers.faults.node import NodeBench, wait_until
from slurm_power.node.rack import MAX_AGE_SECONDS, Rack, rack_of
from slurm_power.wire import WireError
from tests.node.test_energy import epilog, load, prolog

GOOD: dict[str, Any] = {
    "type": "rack",
    "circuit": "rack1",
    "watts": 3000.0,
    "quality": "good",
    "age_seconds": 1.0,
    "share_ratio": 0.5,
}


def test_a_share_of_a_good_reading_is_the_node_s_until_it_is_old() -> None:
    rack = Rack()
    assert rack.node_watts(0.0) is None
    rack.take(GOOD, 100.0)
    assert rack.node_watts(100.0) == 1500.0
    assert rack.node_watts(99.0 + MAX_AGE_SECONDS) == 1500.0
    assert rack.node_watts(99.1 + MAX_AGE_SECONDS) is None
    told = rack.message(110.0)
    assert told is not None
    assert (told["circuit"], told["age_seconds"]) == ("rack1", 11.0)


@pytest.mark.parametrize("more", [{"watts": None}, {"quality": "questionable"}, {"share_ratio": None}])
def test_what_is_not_sure_is_unknown(more: dict[str, object]) -> None:
    assert rack_of({**GOOD, **more}).node_watts() is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("circuit", ""),
        ("circuit", 7),
        ("watts", "many"),
        ("watts", float("nan")),
        ("quality", "fine"),
        ("age_seconds", None),
        ("age_seconds", -1.0),
        ("share_ratio", 1.5),
        ("share_ratio", True),
    ],
)
def test_nonsense_is_refused_by_its_name(key: str, value: object) -> None:
    with pytest.raises(WireError, match=key):
        rack_of({**GOOD, key: value})


def test_a_job_s_record_holds_gpus_and_rack_and_what_is_between(
    bench: NodeBench, controller: FakeController
) -> None:
    bench.start()
    for slot in range(4):
        load(bench, slot, 400.0)
    wait_until(lambda: controller.connected, "the connection")
    controller.send({**GOOD, "watts": "many"})
    controller.send({**GOOD, "watts": 5000.0, "share_ratio": 0.4})
    wait_until(lambda: bench.status()["rack"] is not None, "the rack")
    time.sleep(2.0)
    began = time.monotonic()
    prolog(bench, "17", (0,))
    time.sleep(4.0)
    told, seconds = epilog(bench, "17"), time.monotonic() - began
    assert told["pdu_joules"] == pytest.approx(2000.0 / 4 * seconds, rel=0.05)
    assert told["residual_joules"] == pytest.approx(
        told["pdu_joules"] - told["energy_joules"] - (told["host_joules"] or 0.0)
    )
    wait_until(lambda: bool(controller.said("job_end", job_id="17")), "the news of the end")
    (ended,) = controller.said("job_end", job_id="17")
    assert ended["pdu_joules"] == told["pdu_joules"]

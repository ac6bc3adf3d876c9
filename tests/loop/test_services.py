"""A service under a grid event on a live lab: it serves with a light tier meanwhile, and no request fails."""

import shutil
from collections.abc import Iterator

import pytest

from tests.loop.bed import Bed
from tests.loop.serving import ENVIRONMENT, Chat, chat_service

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        shutil.which("haproxy", path="/usr/sbin:/usr/bin:/sbin:/bin") is None,
        reason="needs haproxy: containers/install-packages.sh gateway",
    ),
]
# Eight GPUs at work leave the site near 16 kW: out of reach for them, within reach of two.
SHORT_WATTS = 13_000


@pytest.fixture
def chat(bed: Bed) -> Iterator[Chat]:
    with chat_service(bed) as service:
        yield service


def at_full(chat: Chat) -> None:
    """The full tier serves, and the meter shows what it draws."""
    bed = chat.bed
    bed.until(lambda: chat.alone("full"), "the full tier", 40)
    bed.until(lambda: chat.row().get("serving") == "full", "powerctld to hear of it", 10)
    bed.run_full(chat.row()["backends"][0]["job_id"])


def test_a_service_is_light_for_an_event_and_full_again_after_it(chat: Chat) -> None:
    bed = chat.bed
    at_full(chat)
    assert chat.gpus() == ["gres:gpu:8 R"]
    before_watts = bed.grid_watts()
    chat.begin_requests()
    chat.streams(4, 40)
    event = bed.announce(SHORT_WATTS, 400, in_seconds=20)
    bed.until(chat.switches, "the light tier to be asked for", 15)
    bed.until(lambda: ("light", "serving") in chat.members(), "the light tier", 30)
    chat.streams(2, 20)
    bed.until(lambda: chat.alone("light"), "the end of the full tier", 30)
    assert chat.gpus() == ["gres:gpu:2 R"], "Slurm has six GPUs back"
    bed.until(lambda: bed.grid_watts() < before_watts - 3_000.0, "the saving at the meter", 15)
    assert bed.grid_watts() < SHORT_WATTS
    [asked] = chat.switches()
    assert (asked["subject"], asked["user"]) == ("service:chat", "alice")
    assert "it serves with light (accuracy 0.95) on 2 GPUs meanwhile" in asked["reason"]
    assert asked["saved_watts"] > 3_000.0
    bed.until(lambda: not chat.row()["switching"], "powerctld to hear of the end", 10)
    shown = bed.lab.run(["slurm-power", "status"], user="alice", environment=ENVIRONMENT).stdout
    [line] = [line for line in shown.splitlines() if line.startswith("service chat of alice")]
    assert line.startswith("service chat of alice serves digits with light")
    assert line.endswith(f"; asked for light in place of full: {asked['reason']}")
    assert asked["reason"] in chat.gateway("status")

    # Its successor knows what was asked, and the service does not move meanwhile.
    bed.lab.kill("powerctld")
    bed.lab.start("powerctld")
    bed.until(lambda: chat.row().get("asked_tier") == "light", "the next powerctld to hear of it", 10)
    assert chat.alone("light")

    bed.lab.run(["slurm-power", "cancel-event", event])
    chat.streams(2, 40)
    bed.until(lambda: ("full", "serving") in chat.members(), "the way back", 60)
    bed.until(lambda: chat.alone("full"), "the full tier alone", 30)
    assert chat.gpus() == ["gres:gpu:8 R"]
    assert [row["subject"] for row in chat.switches()] == ["service:chat"] * 2, "once there and once back"
    bed.until(lambda: bed.grid_watts() > before_watts - 600.0, "its power at the meter", 15)
    chat.end_requests()
    assert chat.load.failed() == {}
    assert len(chat.load.requests) > 300
    assert chat.load.stream_ends() == {"whole": 8}
    assert {request.tier for request in chat.load.requests} == {"digits/full", "digits/light"}

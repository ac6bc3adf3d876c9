"""A real HAProxy, a real gateway and servers as processes under load: no idempotent request fails."""

import asyncio
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from containers.bench.gateway_load import Load
from containers.bench.gateway_stage import Stage

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy", path="/usr/sbin:/usr/bin:/sbin:/bin") is None,
    reason="needs haproxy: containers/install-packages.sh gateway",
)

RATE = 60.0
PHASES = ("submitting", "starting", "warming", "ready", "serving")


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage(probation_seconds=0.5)
    made.start_gateway()
    yield made
    made.close()


def under_load(stage: Stage, play: Callable[[Load], Awaitable[None]]) -> Load:
    """Play something while requests come; returns what became of them."""

    async def both() -> Load:
        await stage.begun()
        load = Load(port=stage.port, rate=RATE)
        running = asyncio.create_task(load.run())
        try:
            await play(load)
        finally:
            load.stop()
            await running
        return load

    return asyncio.run(both())


def tiers(load: Load) -> set[str]:
    return {request.tier for request in load.requests}


def reached(stage: Stage, phases: tuple[str, ...]) -> Callable[[], bool]:
    return lambda: stage.phases().get("small") in phases


def gateway_answers(stage: Stage) -> bool:
    with suppress(OSError):
        return bool(stage.ask(op="status")["ok"])
    return False


def answered_by(load: Load, tier: str) -> Callable[[], bool]:
    return lambda: bool(load.requests) and load.requests[-1].tier == f"digits/{tier}"


def test_both_directions_with_streams_and_a_gateway_killed_in_every_phase(stage: Stage) -> None:
    async def play(load: Load) -> None:
        for _ in range(4):
            load.stream(25)
        stage.ask(op="switch", tier="small")
        for number, phase in enumerate(PHASES):
            await stage.until(reached(stage, PHASES[number:]), phase)
            stage.signal_gateway(signal.SIGKILL)
            stage.start_gateway()
            await stage.until(lambda: gateway_answers(stage), "the gateway")
            assert stage.log().count("HAProxy is started") == 1, "HAProxy outlives the gateway"
        await stage.until(lambda: stage.alone("small"), "the small tier alone")
        await stage.until(answered_by(load, "small"), "answers of the small tier")
        load.stream(10)
        stage.ask(op="switch", tier="full")
        await stage.until(lambda: stage.alone("full"), "the full tier alone")

    load = under_load(stage, play)
    assert load.failed() == {}
    assert sum(request.retries for request in load.requests) == 0
    assert load.stream_ends() == {"whole": 5}
    assert all(len(stream.tiers) == 1 for stream in load.streams)
    assert tiers(load) == {"digits/full", "digits/small"}


def test_servers_killed_in_a_switch_and_alone(stage: Stage) -> None:
    async def play(load: Load) -> None:
        for _ in range(3):
            load.stream(60)
        stage.ask(op="switch", tier="small")
        await stage.until(answered_by(load, "small"), "answers of the small tier")
        assert stage.phases() == {"full": "draining", "small": "serving"}
        stage.kill_server("small")
        await stage.until(answered_by(load, "full"), "answers of the full tier again")
        await stage.until(lambda: stage.phases().get("full") == "serving", "the full tier to serve")
        await stage.until(lambda: stage.alone("small"), "the small tier, tried again")

    load = under_load(stage, play)
    assert load.failed() == {}
    assert load.stream_ends() == {"whole": 3}


def test_a_killed_server_ends_its_streams_by_name_and_is_started_again(stage: Stage) -> None:
    async def play(load: Load) -> None:
        for _ in range(3):
            load.stream(200)
        await stage.until(
            lambda: any(member["open_streams"] >= 3 for member in stage.ask(op="status")["members"]),
            "streams",
        )
        stage.kill_server("full")
        await stage.until(lambda: len(load.streams) == 3, "the streams' end")
        load.stop()
        await stage.until(lambda: stage.alone("full"), "the full tier again")

    load = under_load(stage, play)
    assert load.stream_ends() == {"named": 3}


def test_haproxy_replaced_and_killed_in_a_drain(stage: Stage) -> None:
    streams_then: list[Any] = []

    async def play(load: Load) -> None:
        for _ in range(3):
            load.stream(40)
        stage.ask(op="switch", tier="small")
        await stage.until(lambda: stage.phases() == {"full": "draining", "small": "serving"}, "the drain")
        stage.signal_gateway(signal.SIGHUP)
        await stage.until(lambda: "HAProxy is replaced" in stage.log(), "another HAProxy")
        await stage.until(lambda: len(load.streams) == 3 or "full" not in stage.phases(), "the streams' end")
        streams_then.append(load.stream_ends())
        await stage.until(lambda: stage.alone("small"), "the small tier alone")
        assert sum(request.retries for request in load.requests) == 0
        stage.ask(op="switch", tier="full")
        await stage.until(lambda: stage.phases() == {"full": "serving", "small": "draining"}, "the drain")
        before = stage.kill_haproxy()
        await stage.until(lambda: f"{before}" not in (stage.state / "haproxy.pid").read_text(), "HAProxy")
        await stage.until(lambda: stage.alone("full"), "the full tier alone")
        await stage.until(answered_by(load, "full"), "answers of the full tier")

    load = under_load(stage, play)
    assert load.failed() == {}, "those whose connection broke were sent again by their client"
    assert streams_then == [{"whole": 3}]

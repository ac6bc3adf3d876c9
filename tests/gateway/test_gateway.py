"""A gateway in this process: a site's own HAProxy, a failing warm-up, a full disk, a drain deadline."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from containers.bench.gateway_load import Load
from containers.bench.gateway_stage import Stage
from containers.bench.tier_processes import TierProcesses
from slurm_power.gateway import haproxy_config
from slurm_power.gateway.daemon import Gateway
from slurm_power.gateway.haproxy import Haproxy
from slurm_power.gateway.haproxy_config import BACKEND, Folder
from slurm_power.gateway.haproxy_process import HaproxyProcess
from slurm_power.gateway.members import Phase
from slurm_power.gateway.service_file import ServiceFile, SiteHaproxy, read_service
from slurm_power.gateway.state_file import FolderError, read_state

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy", path="/usr/sbin:/usr/bin:/sbin:/bin") is None,
    reason="needs haproxy: containers/install-packages.sh gateway",
)


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A stage whose gateway is not started: the tests have one of their own."""
    made = Stage(probation_seconds=0.2, drain_seconds=1.5, ready_seconds=2.0)
    made.state.mkdir(mode=0o700)
    yield made
    made.close()


@asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[Gateway]:
    task = asyncio.create_task(gateway.run())
    try:
        yield gateway
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not happened():  # noqa: ASYNC110 - of the outside, too
            await asyncio.sleep(0.02)


def alone(gateway: Gateway, tier: str) -> bool:
    return [(found.tier, found.phase) for found in gateway.state.members] == [(tier, Phase.SERVING)]


def made(stage: Stage, service: ServiceFile | None = None) -> Gateway:
    described = service or read_service(stage.service)
    return Gateway(described, TierProcesses(described), Folder(path=stage.state), controller_socket=None)


def test_a_site_s_own_haproxy(stage: Stage) -> None:
    async def play() -> None:
        theirs = Folder(path=Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp")))
        own = read_service(stage.service)
        haproxy_config.write(own, theirs, [])
        process = HaproxyProcess(theirs)
        await process.start()
        before = process.found
        attached = replace(own, listen="", haproxy=SiteHaproxy(socket=theirs.admin_socket, backend=BACKEND))
        try:
            async with running(made(stage, attached)) as gateway:
                await until(lambda: alone(gateway, "full"))
                gateway.switch_to("small")
                await until(lambda: alone(gateway, "small"))
                seen = await Haproxy(theirs.admin_socket).servers(BACKEND)
                assert [name.partition(":")[0] for name in seen] == ["small"]
            assert process.found == before, "it is not ours to restart"
            assert not Folder(path=stage.state).config.exists()
        finally:
            process.end_hung()
            shutil.rmtree(theirs.path)

    asyncio.run(play())


def test_a_stream_of_ten_minutes_ends_by_name_at_the_deadline(stage: Stage) -> None:
    async def play() -> Load:
        load = Load(port=stage.port, rate=20.0)
        async with running(made(stage)) as gateway:
            await until(lambda: alone(gateway, "full"))
            await stage.until(stage.answers, "an answer")
            requests = asyncio.create_task(load.run())
            load.stream(6000)
            await until(lambda: any((s.open_streams or 0) >= 1 for s in gateway.sights.values()))
            gateway.switch_to("small")
            await until(lambda: alone(gateway, "small"))
            assert any("drain deadline of 1.5 s: open streams cut: 1" in note for note in gateway.notes)
            load.stop()
            await requests
        return load

    load = asyncio.run(play())
    assert load.failed() == {}
    assert load.stream_ends() == {"named": 1}


@pytest.mark.parametrize("fault", ['TIER_WARM_STATUS = "500 No"', 'TIER_HEALTHY_AFTER_SECONDS = "600"'])
def test_a_tier_that_does_not_get_ready_is_rolled_back(stage: Stage, fault: str) -> None:
    text = stage.service.read_text()
    stage.service.write_text(text.replace('TIER_MILLISECONDS = "5"', f'TIER_MILLISECONDS = "5", {fault}'))

    async def play() -> None:
        async with running(made(stage)) as gateway:
            await until(lambda: alone(gateway, "full"))
            serving = gateway.state.members[0]
            gateway.switch_to("small")
            await until(lambda: "small" in gateway.state.failed and alone(gateway, "full"))
            assert gateway.state.members[0].key == serving.key, "the old one has never stopped"
            assert any("was not ready within 2 s" in note for note in gateway.notes), "\n".join(gateway.notes)
            assert stage.answers()

    asyncio.run(play())


def test_no_job_is_submitted_that_is_not_written_down(stage: Stage) -> None:
    async def play() -> None:
        gateway = made(stage)
        state = Folder(path=stage.state).state
        state.with_suffix(".new").mkdir()  # as a full disk: it cannot be written
        async with running(gateway):
            await until(lambda: "state" in gateway.trouble)
            await gateway.look_and_act()
            assert not list(stage.jobs.iterdir())
            state.with_suffix(".new").rmdir()
            await until(lambda: alone(gateway, "full"))

    asyncio.run(play())


def test_a_state_that_is_none_is_refused_not_forgotten(stage: Stage) -> None:
    state = Folder(path=stage.state).state
    for text in (
        "{",
        "[]",
        '{"version": 99}',
        '{"version": 1, "members": [{"key": 1}], "failed": {}, "last_served": ""}',
    ):
        state.write_text(text)
        with pytest.raises(FolderError, match="end the"):
            read_state(state)

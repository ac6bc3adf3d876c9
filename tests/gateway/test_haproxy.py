"""HAProxy's runtime API and its process, against the real one."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.bench.tier_server import TierServer
from slurm_power.gateway import haproxy_config
from slurm_power.gateway.haproxy import Haproxy, HaproxyError, ServerWish
from slurm_power.gateway.haproxy_config import BACKEND, FRONTEND, Folder
from slurm_power.gateway.haproxy_process import HaproxyProcess
from slurm_power.gateway.probe import ProbeError, ask, resolve
from slurm_power.gateway.running import own_folder
from slurm_power.gateway.service_file import ServiceFile
from slurm_power.gateway.state_file import FolderError, open_folder

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy", path="/usr/sbin:/usr/bin:/sbin:/bin") is None,
    reason="needs haproxy: containers/install-packages.sh gateway",
)


@pytest.fixture
def folder() -> Iterator[Folder]:
    made = Folder(path=Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp")))
    yield made
    HaproxyProcess(made).end_hung()
    shutil.rmtree(made.path)


def service() -> ServiceFile:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return ServiceFile(
        path=Path("/none"),
        name="chat",
        family="digits",
        full_tier="full",
        tiers_ok=(),
        listen=f"127.0.0.1:{port}",
        directory=Path("/none"),
        tiers={},
    )


async def served(folder: Folder) -> tuple[asyncio.Task[None], str]:
    """A server, and where it is."""
    place = folder.path / "address"
    task = asyncio.create_task(TierServer("full", 0.0).serve(place))
    while not place.exists():  # noqa: ASYNC110 - written by the server, as by a job
        await asyncio.sleep(0.01)
    return task, await resolve(place.read_text())


async def until_up(proxy: Haproxy, wish: ServerWish) -> None:
    async with asyncio.timeout(20):
        while (seen := await proxy.servers(BACKEND))[wish.name].up is not True:
            await proxy.apply(BACKEND, [wish], seen)
            await asyncio.sleep(0.05)


def test_a_server_comes_serves_and_goes(folder: Folder) -> None:
    async def play() -> None:
        described = service()
        haproxy_config.write(described, folder, [])
        process = HaproxyProcess(folder)
        await process.check(folder.config)
        await process.start()
        proxy = Haproxy(folder.admin_socket)
        assert await proxy.servers(BACKEND) == {}
        task, address = await served(folder)
        # As one leaves it that dies between its first and its second command.
        said = await proxy.command(f"add server {BACKEND}/full:ab {address} id 9 check inter 100ms")
        assert "registered" in said
        wish = ServerWish(name="full:ab", address=address, order=9, ready=False)
        await until_up(proxy, wish)
        url = f"http://{described.listen}"
        assert await ask(url, path="/v1/x") == 503, "checked, and sent nothing"
        ready = ServerWish(name="full:ab", address=address, order=9, ready=True)
        await proxy.apply(BACKEND, [ready], await proxy.servers(BACKEND))
        assert await ask(url, path="/v1/x") == 200
        assert await proxy.request_rate(FRONTEND) is not None

        # Another HAProxy in its place knows the server from its configuration.
        before = process.found
        haproxy_config.write(described, folder, [ready])
        await process.start()
        assert process.found not in {None, before}
        assert await ask(url, path="/v1/x") == 200

        await proxy.apply(BACKEND, [], await proxy.servers(BACKEND))
        assert await proxy.servers(BACKEND) == {}
        assert await ask(url, path="/v1/x") == 503
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(play())


def test_what_haproxy_refuses_is_said(folder: Folder) -> None:
    async def play() -> None:
        proxy = Haproxy(folder.admin_socket)
        with pytest.raises(HaproxyError, match="No such file"):
            await proxy.servers(BACKEND)
        with pytest.raises(HaproxyError, match="apt-get install haproxy"):
            await HaproxyProcess(folder, "no-such-haproxy").start()
        haproxy_config.write(service(), folder, [])
        folder.config.write_text(folder.config.read_text() + "    nonsense\n")
        with pytest.raises(HaproxyError, match="nonsense"):
            await HaproxyProcess(folder).check(folder.config)
        with pytest.raises(HaproxyError, match="does not start"):
            await HaproxyProcess(folder).start()
        haproxy_config.write(service(), folder, [])
        await HaproxyProcess(folder).start()
        with pytest.raises(HaproxyError, match="none"):
            await proxy.servers("none")
        wish = ServerWish(name="full:ab", address="no address", order=9, ready=True)
        with pytest.raises(HaproxyError, match="add server"):
            await proxy.apply(BACKEND, [wish], {})

    asyncio.run(play())


@pytest.mark.parametrize(
    "address", ["", "node:80", "https://node:80", "http://node", "http://node:x", "http://n:80/x"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ProbeError):
        asyncio.run(resolve(address))


def test_a_folder_has_one_gateway_and_is_our_own(folder: Folder) -> None:
    lock = open_folder(folder.path)
    with pytest.raises(FolderError, match="already runs"):
        open_folder(folder.path)
    os.close(lock)
    os.close(open_folder(folder.path))
    assert folder.path.stat().st_mode & 0o777 == 0o700
    os.chown(folder.path, 65534, 65534)
    with pytest.raises(FolderError, match="not a directory of your own"):
        open_folder(folder.path)
    with pytest.raises(FolderError, match="too long"):
        own_folder("chat", Path("/tmp") / ("x" * 80))
    with pytest.raises(FolderError, match="characters"):
        own_folder("chat", Path("/tmp/a b"))

"""The tiers as jobs of a real Slurm, the gateway as its owner starts it: there and back, GPUs free again."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from containers.bench.gateway_load import Load
from containers.cluster.layout import CHECKOUT
from slurm_power.gateway.haproxy_config import Folder
from slurm_power.gateway.haproxy_process import HaproxyProcess
from tests.gateway.fake_controller import FakeController, wants
from tests.slurm.cluster import Cluster
from tests.slurm.conftest import cluster

__all__ = ["cluster"]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        shutil.which("haproxy", path="/usr/sbin:/usr/bin:/sbin:/bin") is None,
        reason="needs haproxy: containers/install-packages.sh gateway",
    ),
]

SERVICE = """
name = "chat"
family = "digits"
full_tier = "full"
tiers_ok = ["small"]
min_quality = 0.9
listen = "127.0.0.1:{port}"
submit = ["sbatch"]
script = "service.sbatch"
[warm_up]
path = "/v1/warm"
method = "POST"
body = "{{}}"
[limits]
probation_seconds = 0.5
[tier.full]
sbatch = ["--gpus=4"]
[tier.small]
sbatch = ["--gpus=1"]
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp"))
    shutil.copy(CHECKOUT / "batch_templates" / "service.sbatch", made)
    yield made
    HaproxyProcess(Folder(path=made / "own")).end_hung()
    shutil.rmtree(made)


def gpus(cluster: Cluster) -> int:
    """GPUs that Slurm has given away, on all nodes."""
    shown = cluster.run("scontrol", "--details", "show", "node")
    return sum(int(count) for count in re.findall(r"GresUsed=gpu:\w+:(\d+)", shown))


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def said(log: Path) -> str:
    return log.read_text()


async def until(happened: Callable[[], bool], what: str, log: Path, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"gave up waiting for {what}\n{said(log)}")
        await asyncio.sleep(0.1)


def test_a_service_goes_to_the_light_tier_and_back(cluster: Cluster, folder: Path) -> None:
    asyncio.run(there_and_back(cluster, folder))


async def there_and_back(cluster: Cluster, folder: Path) -> None:
    port = 20_000 + os.getpid() % 10_000
    service, log, own = folder / "chat.toml", folder / "log", folder / "own"
    service.write_text(SERVICE.format(port=port))
    controller = FakeController(folder / "ctl.sock", wants("full"))
    await controller.start()

    def start() -> "subprocess.Popen[bytes]":
        words = [sys.executable, "-m", "slurm_power.cli.slurm_power", "gateway", "run", str(service)]
        words += [f"--state={own}", f"--socket={controller.path}", f"--slurm-conf={cluster.conf}"]
        with log.open("ab") as file:
            return subprocess.Popen(words, stdout=file, stderr=file)

    def members() -> list[tuple[str, str]]:
        try:
            kept: list[dict[str, Any]] = json.loads((own / "state.json").read_text())["members"]
        except OSError:
            return []
        return [(member["tier"], member["phase"]) for member in kept]

    gateway = start()
    load = Load(port=port, rate=20.0)
    running = None
    try:
        await until(lambda: members() == [("full", "serving")], "the full tier", log)
        assert gpus(cluster) == 4
        await until(lambda: answers(port), "an answer", log)
        running = asyncio.create_task(load.run())
        controller.answer = wants("small", may_start=False, wait_reason="no headroom")
        heard = len(controller.told)
        await until(lambda: len(controller.told) > heard + 1, "two reports", log)
        assert gpus(cluster) == 4, "nothing starts before there is room"

        controller.answer = wants("small")
        await until(lambda: ("small", "starting") in members(), "the small tier's job", log)
        gateway.send_signal(signal.SIGKILL)
        gateway.wait()
        gateway = start()
        await until(lambda: members() == [("small", "serving")], "the small tier alone", log)
        assert gpus(cluster) == 1, "Slurm has the GPUs back"

        controller.answer = wants("full")
        await until(lambda: members() == [("full", "serving")], "the full tier alone", log)
        assert gpus(cluster) == 4
        told = controller.told[-1]
        assert (told["op"], told["name"], told["family"], told["full_tier"]) == (
            "service",
            "chat",
            "digits",
            "full",
        )
        assert told["min_quality"] == 0.9
        assert told["tiers_ok"] == ["small"]
    finally:
        load.stop()
        if running is not None:
            await running
        gateway.terminate()
        gateway.wait(20)
        cluster.run("scancel", "--user=root", "--full", check=False)
        await until(lambda: not cluster.run("squeue", "--noheader").strip(), "an empty queue", log)
        await controller.stop()
    assert load.failed() == {}, said(log)
    assert {request.tier for request in load.requests} == {"digits/full", "digits/small"}

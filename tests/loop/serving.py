"""A real service of alice's on a live lab: gateway, HAProxy, tiers as jobs that draw power, and clients."""

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from containers.bench.gateway_load import Load
from containers.cluster.layout import CHECKOUT
from tests.loop.bed import Bed

# The checkout under test, whatever is installed.
ENVIRONMENT = {"PYTHONPATH": str(CHECKOUT)}
POLICY = """
tier_move_least_seconds = 10
tier_move_lead_seconds = 0
start_expected_seconds = 5
service_start_seconds = 5
service_dwell_seconds = 10
"""
CATALOG = """
[family.digits]
task = "image-classification"
class = "inference"
metric = "accuracy"
higher_is_better = true
floor = 0.9
"""
TIER = """
[[family.digits.tier]]
name = "{name}"
method = "{method}"
{parent}model = "/models/digits/{name}"
gpus = {gpus}
watts_per_gpu = 690.0
power_source = "nvml"
items_per_second = 1000.0
quality = {{ value = {quality}, ci95 = 0.01, samples = 500 }}
approved = {{ by = "mlops", date = 2026-01-02 }}
"""
SERVICE = """
name = "chat"
family = "digits"
full_tier = "full"
tiers_ok = ["light"]
listen = "127.0.0.1:{port}"
script = "service.sbatch"
environment = {{ JOB_COMMAND = "{command}" }}
[warm_up]
path = "/warm"
method = "POST"
body = "{{}}"
[limits]
probation_seconds = 1
drain_seconds = 30
stop_seconds = 10
[tier.full]
sbatch = ["--gres=gpu:8", "--nodelist=c1"]
[tier.light]
sbatch = ["--gres=gpu:2", "--nodelist=c2"]
"""
# The stand-in server with the power of a model at work beside it; SIGTERM reaches both.
COMMAND = (
    "plant-load --workload training --seconds 600 >/dev/null &"
    " exec {python} -m containers.bench.tier_server $TIER 5 $ADDRESS_FILE"
)


class Chat:
    """The service ``chat`` of alice."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.folder = bed.run / "home/alice/chat"
        self.own = bed.run / "home/alice/gw"
        self.file = self.folder / "chat.toml"
        self.port = _free_port()
        self.load = Load(port=self.port, rate=20.0)
        self._gateway: subprocess.Popen[bytes] | None = None
        self._loop = asyncio.new_event_loop()
        self._client: threading.Thread | None = None

    def lay_out(self) -> None:
        """Write the service's files as alice's own."""
        self.folder.mkdir()
        shutil.copy(CHECKOUT / "batch_templates" / "service.sbatch", self.folder)
        self.file.write_text(SERVICE.format(port=self.port, command=COMMAND.format(python=sys.executable)))
        self.bed.lab.run(["chown", "-R", "alice:alice", str(self.folder)])

    def start_gateway(self) -> None:
        """As alice starts it."""
        words = ["slurm-power", "gateway", "run", str(self.file), f"--state={self.own}"]
        line, environment = self.bed.lab.command(words, user="alice", directory=self.folder)
        with (self.bed.run / "log/gateway.out").open("ab") as log:
            self._gateway = subprocess.Popen(line, env={**environment, **ENVIRONMENT}, stdout=log, stderr=log)

    def begin_requests(self) -> None:
        """Requests at a steady rate from now on, from a thread of their own."""
        self._client = threading.Thread(target=self._loop.run_until_complete, args=(self.load.run(),))
        self._client.start()

    def streams(self, count: int, events: int) -> None:
        """Open streams of that many tenths of a second."""
        for _ in range(count):
            self._loop.call_soon_threadsafe(self.load.stream, events)

    def end_requests(self) -> None:
        """No more requests; waits for those under way."""
        if self._client is not None:
            self.load.stop()
            self._client.join()
            self._client = None

    def gateway(self, *words: str) -> str:
        """What `slurm-power gateway` prints for alice."""
        line = ["slurm-power", "gateway", *words, str(self.file)]
        line += [f"--state={self.own}"] if words[0] != "check" else []
        return self.bed.lab.run(line, user="alice", environment=ENVIRONMENT).stdout

    def members(self) -> list[tuple[str, str]]:
        """Tier and phase of each job, as the gateway last wrote them down."""
        with contextlib.suppress(OSError):
            kept = json.loads((self.own / "state.json").read_text())["members"]
            return [(member["tier"], member["phase"]) for member in kept]
        return []

    def alone(self, tier: str) -> bool:
        """Whether one tier serves and there is nothing else."""
        return self.members() == [(tier, "serving")]

    def row(self) -> dict[str, Any]:
        """The service as powerctld shows it."""
        return next(iter(self.bed.glance()["services"]), {})

    def gpus(self) -> list[str]:
        """The GPUs of all of alice's jobs as squeue shows them, with their states."""
        words = ["squeue", "--noheader", "--user=alice", "--Format=tres-per-node:30,StateCompact:5"]
        return sorted(" ".join(line.split()) for line in self.bed.lab.run(words).stdout.splitlines())

    def switches(self) -> list[dict[str, Any]]:
        """What powerctld has asked of it, by its ledger."""
        return [row for row in self.bed.ledger(300.0) if row["kind"] == "switch service"]

    def close(self) -> None:
        """End requests, gateway and HAProxy; the jobs are ended with all of alice's."""
        self.end_requests()
        self._loop.close()
        if self._gateway is not None:
            self.bed.lab.run(["pkill", "-u", "alice", "-f", "gateway run"], check=False)
            self._gateway.wait(20)
        self.bed.lab.run(["pkill", "-KILL", "-u", "alice", "haproxy"], check=False)
        shutil.rmtree(self.folder)
        shutil.rmtree(self.own, ignore_errors=True)


@contextmanager
def chat_service(bed: Bed) -> Iterator[Chat]:
    """A site with the catalog, and alice's service on its full tier with requests coming."""
    catalog = bed.lab.layout.etc / "tiers.toml"
    full = TIER.format(name="full", method="none", parent="", gpus=8, quality=0.98)
    light = TIER.format(name="light", method="distilled", parent='parent = "full"\n', gpus=2, quality=0.95)
    catalog.write_text(CATALOG + full + light)
    text = bed.site_toml.replace("[policy]\n", f"[policy]{POLICY}")
    text = text.replace("[controller]\n", f'[controller]\ntiers_path = "{catalog}"\n')
    bed.site_file.write_text(text)
    bed.lab.restart("powerctld")
    bed.until_all_nodes_report()
    bed.plant("set_soc", soc_ratio=0.10)
    chat = Chat(bed)
    chat.lay_out()
    try:
        chat.start_gateway()
        yield chat
    finally:
        # pytest shows it where the test has failed.
        print((bed.run / "log/gateway.out").read_text())
        chat.close()
        catalog.unlink()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port

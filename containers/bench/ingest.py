"""What reports of many nodes cost the controller's network side: TLS, parsing, and the telemetry they end in.

The nodes are one other process with as many standing TLS connections, each reporting eight GPUs in turn.
"""

import argparse
import asyncio
import os
import resource
import ssl
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from containers.bench.figure import Figure, memory, share
from containers.bench.processes import usage
from slurm_power import clock
from slurm_power.controller.sensing.authority import Authority, make_authority
from slurm_power.controller.sensing.nodes import NodeLinks
from slurm_power.model.site import Circuit, LimitKind, Site
from slurm_power.node.identity import Identity
from slurm_power.telemetry import SiteTelemetry
from slurm_power.wire import Message, encode

GPUS = 8
INTERVAL_SECONDS = 5.0
CONNECTS_AT_ONCE = 50
OPEN_FILES = 20_000
NODES = 10_000
SECONDS = 30.0


def node_name(number: int) -> str:
    """Name of a simulated node."""
    return f"n{number:05d}"


def report(node: str, tick: int) -> Message:
    """What a node says: eight GPUs at work, one job, no lease."""
    gpus = [
        {
            "uuid": f"GPU-{node}-{slot:02d}-aaaa-bbbb-cccc",
            "slot": slot,
            "name": "NVIDIA H100 80GB HBM3",
            "power_watts": 600.0 + (tick * 7 + slot * 13) % 90 + 0.125,
            "energy_joules": 1e6 + 3000.0 * tick,
            "utilization_ratio": 1.0,
            "sm_clock_hertz": 1.755e9,
            "temperature_celsius": 61.0,
            "requested_cap_watts": 700.0,
            "enforced_cap_watts": 700.0,
            "default_cap_watts": 700.0,
            "min_cap_watts": 200.0,
            "max_cap_watts": 700.0,
            "error": "",
        }
        for slot in range(GPUS)
    ]
    job = {"job_id": node[1:], "user": "alice", "uid": 1, "gpus": [gpu["uuid"] for gpu in gpus]}
    job |= {"workload": "training", "flex": "flex1", "energy_joules": 1e6}
    return {"type": "telemetry", "gpus": gpus, "leases": [], "jobs": [job], "drift_count": 0}


async def clients(port: int, folder: Path, count: int, seconds: float) -> None:
    """Connect as that many nodes, then report in turn; prints when all are connected."""
    gate = asyncio.Semaphore(CONNECTS_AT_ONCE)
    writers: list[asyncio.StreamWriter] = []
    names: list[str] = []

    async def connect(number: int) -> None:
        identity = Identity(
            folder / "nodes" / node_name(number), node_name(number), folder / "tls" / "ca.pem"
        )
        async with gate:
            context: ssl.SSLContext = identity.context()
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.write(encode({"type": "hello", "version": 2}))
            await reader.readuntil(b"\n")
        writers.append(writer)
        names.append(node_name(number))

    ended = asyncio.Event()
    reporting = asyncio.create_task(_report(writers, names, ended))
    await asyncio.gather(*(connect(number) for number in range(count)))
    print("connected", flush=True)
    await asyncio.sleep(seconds)
    ended.set()
    print(await reporting, flush=True)


async def _report(writers: list[asyncio.StreamWriter], names: list[str], ended: asyncio.Event) -> int:
    """Let every node that is connected report in turn, each once an interval; returns how many reports."""
    sent = 0
    owed = 0.0
    last = time.monotonic()
    while not ended.is_set():
        now = time.monotonic()
        owed, last = owed + (now - last) / INTERVAL_SECONDS * len(writers), now
        while owed >= 1.0:
            number = sent % len(writers)
            writers[number].write(encode(report(names[number], sent // len(writers))))
            sent, owed = sent + 1, owed - 1.0
        await asyncio.sleep(0.01)
    return sent


async def serve(count: int, seconds: float) -> dict[str, float]:
    """The controller's side, measured from the moment when all nodes are connected."""
    with tempfile.TemporaryDirectory(prefix="sp-ingest-") as name:
        folder = Path(name)
        make_authority(folder / "tls", "bench", ["127.0.0.1"], clock.now())
        pins: dict[str, str] = {}
        authority = Authority(folder / "tls", pins, lifetime=timedelta(hours=2), keep=pins.update)
        _make_nodes(folder, authority, count)
        names = tuple(node_name(number) for number in range(count))
        telemetry = SiteTelemetry(_site(names), {})
        reports = 0

        def take(node: str, message: Message) -> None:
            nonlocal reports
            reports += 1
            telemetry.node_reported(node, message, clock.monotonic())

        links = NodeLinks(
            known_nodes=frozenset(names),
            node_uid=0,
            munge_socket=None,
            authority=authority,
            on_message=take,
            on_change=lambda _node, _connected: None,
            on_hint=lambda: None,
            on_refusal=lambda who, why: print(who, why, file=sys.stderr),
        )
        bare = usage([os.getpid()])
        await links.start("127.0.0.1", 0)
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "containers.bench.ingest", "--client", str(links.port)),
            *("--folder", str(folder), "--nodes", str(count), "--seconds", str(seconds)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert client.stdout is not None
        began = time.monotonic()
        await client.stdout.readline()
        connecting_seconds = time.monotonic() - began
        connected = usage([os.getpid()])
        at, before = time.monotonic(), reports
        await asyncio.sleep(seconds - 0.5)
        loaded, spent, took = usage([os.getpid()]), time.monotonic() - at, reports - before
        await client.wait()
        await links.stop()
    return {
        "connecting_seconds": connecting_seconds,
        "reports_per_second": took / spent,
        "core_ratio": (loaded.cpu_seconds - connected.cpu_seconds) / spent,
        "pss_bytes": float(loaded.pss_bytes),
        "bytes_per_connection": (connected.pss_bytes - bare.pss_bytes) / count,
    }


def _make_nodes(folder: Path, authority: Authority, count: int) -> None:
    """Keys and certificates; one key for all would do for the load, but not for the pins."""
    from cryptography import x509  # noqa: PLC0415  # the client has no use for it
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415  # as above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415  # as above

    for number in range(count):
        place = folder / "nodes" / node_name(number)
        place.mkdir(parents=True)
        key = ec.generate_private_key(ec.SECP256R1())
        request = (
            x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        )
        pem = request.public_bytes(serialization.Encoding.PEM).decode()
        certificate, _ = authority.issue(node_name(number), pem, clock.now())
        (place / "node.pem").write_text(certificate)
        (place / "node.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def _site(names: tuple[str, ...]) -> Site:
    root = Circuit(name="grid", rating_watts=1e9, limit_kind=LimitKind.ECONOMIC, nodes=names)
    return Site(name="bench", circuits={"grid": root}, ess={})


def ingest_figures() -> list[Figure]:
    """Everything about the nodes' connections."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    found = asyncio.run(serve(NODES, SECONDS))
    due = NODES / INTERVAL_SECONDS
    return [
        Figure(
            what=f"reports of {NODES:,} nodes with {GPUS} GPUs each, a second",
            value=f"{found['reports_per_second']:,.0f} of {due:,.0f} due",
        ),
        share("taking them in: TLS, parsing, checks, readings", found["core_ratio"], 0.60),
        memory(f"the process with {NODES:,} connections", found["pss_bytes"], 1e9),
        Figure(what="memory of one connection", value=f"{found['bytes_per_connection'] / 1e3:.0f} kB"),
        Figure(what="all connect after a restart", value=f"{found['connecting_seconds']:.0f} s"),
    ]


def main() -> int:
    """Be the nodes."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench.ingest", description=main.__doc__)
    parser.add_argument("--client", type=int, required=True, help="the controller's port")
    parser.add_argument("--folder", type=Path, required=True, help="where their keys lie")
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    asyncio.run(clients(arguments.client, arguments.folder, arguments.nodes, arguments.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What reading many PDUs by SNMP v3 costs the reader's process; one agent answers for all of them."""

import argparse
import asyncio
import os
import socket
import sys
import tempfile
import time
from pathlib import Path

from containers.bench.figure import Figure, share
from containers.bench.processes import usage
from containers.plant.pdu import Pdu, SnmpAccess
from slurm_power.config.devices import SnmpPdu
from slurm_power.devices.pdu_feed import FedPdu, PduFeed
from slurm_power.ports import DeviceError
from slurm_power.simulate.constants import load_constants

ACCESS = SnmpAccess(community="bench", user="meter", auth_key="authentic-key-1", priv_key="private-key-22")
PDUS = 1000
BEAT_SECONDS = 5.0
SECONDS = 30.0
PLANT = Path(__file__).parents[1] / "plant" / "plant.toml"


async def answer_for_all(port: int) -> None:
    """Be the agent until somebody ends us."""
    constants = load_constants(PLANT)
    agent = Pdu("rack1", constants.pdu, constants.site, ACCESS, host="127.0.0.1", port=port)
    agent.take(12_340.0, 0.0)
    stopped = asyncio.Event()
    await agent.start(lambda _: stopped.set())
    await stopped.wait()


async def measure(
    count: int, beat_seconds: float, seconds: float, *, port: int, agent_pid: int, folder: Path
) -> dict[str, float]:
    """Read ``count`` PDUs every ``beat_seconds``; what it cost, and how regularly values came."""
    files = {}
    for key, text in (("auth_key_file", ACCESS.auth_key), ("privacy_key_file", ACCESS.priv_key)):
        files[key] = folder / key
        files[key].write_text(text + "\n")
    configs = [
        SnmpPdu(
            name=f"pdu{number}",
            address=f"127.0.0.1:{port}",
            user=ACCESS.user,
            poll_seconds=beat_seconds,
            timeout_seconds=2.0,
            max_age_seconds=30.0,
            auth_key_file=files["auth_key_file"],
            privacy_key_file=files["privacy_key_file"],
        )
        for number in range(count)
    ]
    feed = PduFeed(configs)
    meters = [feed.meter(config.name) for config in configs]
    began = time.monotonic()
    await asyncio.gather(*(_opened(meter) for meter in meters))
    first_seconds = time.monotonic() - began
    await asyncio.sleep(2 * beat_seconds)
    assert feed._process is not None
    pid = feed._process.pid
    before, own_before, at = usage([pid]), usage([os.getpid()]), time.monotonic()
    agent_before = usage([agent_pid])
    gaps, failed = await _watched(meters, seconds)
    after, own_after, spent = usage([pid]), usage([os.getpid()]), time.monotonic() - at
    agent_after = usage([agent_pid])
    for meter in meters:
        await meter.close()
    return {
        "first_round_seconds": first_seconds,
        "values_per_second": len(gaps) / spent,
        "failed": failed,
        "reader_core_ratio": (after.cpu_seconds - before.cpu_seconds) / spent,
        "agent_core_ratio": (agent_after.cpu_seconds - agent_before.cpu_seconds) / spent,
        "reader_pss_bytes": float(after.pss_bytes),
        "controller_core_ratio": (own_after.cpu_seconds - own_before.cpu_seconds) / spent,
        "gap_p50_seconds": sorted(gaps)[len(gaps) // 2],
        "gap_p99_seconds": sorted(gaps)[int(len(gaps) * 0.99)],
        "gap_max_seconds": max(gaps),
    }


async def _opened(meter: FedPdu) -> None:
    """Until it answers: in the first round the one agent has three times as much to do."""
    while True:
        try:
            await meter.open()
        except DeviceError:
            continue
        return


async def _watched(meters: list[FedPdu], seconds: float) -> tuple[list[float], int]:
    gaps: list[float] = []
    failed = 0

    async def watch(meter: FedPdu) -> None:
        nonlocal failed
        last: float | None = None
        while True:
            try:
                await meter.read_watts()
            except DeviceError:
                failed += 1
                continue
            now = time.monotonic()
            if last is not None:
                gaps.append(now - last)
            last = now

    tasks = [asyncio.create_task(watch(meter)) for meter in meters]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return gaps, failed


async def run(count: int, beat_seconds: float, seconds: float) -> dict[str, float]:
    """With an agent of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "containers.bench.pdus", "--agent", str(port)
    )
    try:
        await asyncio.sleep(3.0)
        with tempfile.TemporaryDirectory() as folder:
            return await measure(
                count, beat_seconds, seconds, port=port, agent_pid=agent.pid, folder=Path(folder)
            )
    finally:
        agent.terminate()
        await agent.wait()


def pdu_figures() -> list[Figure]:
    """Everything about many PDUs."""
    found = asyncio.run(run(PDUS, BEAT_SECONDS, SECONDS))
    gaps = [f"{name} {found[f'gap_{name}_seconds']:.2f}" for name in ("p50", "p99", "max")]
    return [
        Figure(
            what=f"values of {PDUS:,} PDUs by SNMP v3, a second",
            value=f"{found['values_per_second']:.0f} of {PDUS / BEAT_SECONDS:.0f} due,"
            f" {found['failed']:.0f} failed",
        ),
        share("the process that reads them", found["reader_core_ratio"], 1.0),
        Figure(what="its memory", value=f"{found['reader_pss_bytes'] / 1e6:.0f} MB PSS"),
        Figure(
            what="taking the values, in the controller's process",
            value=f"{100.0 * found['controller_core_ratio']:.1f} % of a core",
        ),
        Figure(what="time between two values of a PDU", value=f"{', '.join(gaps)} s"),
        Figure(what="all known after a start", value=f"{found['first_round_seconds']:.1f} s"),
    ]


def main() -> int:
    """Be the agent."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench.pdus", description=main.__doc__)
    parser.add_argument("--agent", type=int, required=True, help="the port to answer on")
    asyncio.run(answer_for_all(parser.parse_args().agent))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Read many PDUs in a process of its own: ``python -m slurm_power.devices.pdu_process``.

Takes one line of JSON on its standard input, a list of [device.*] tables, and then writes one line for each
answer, ``{"name": ..., "watts": ...}`` or ``{"name": ..., "error": ...}``. It ends when its input does: then
whoever started it is gone.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slurm_power import clock
from slurm_power.config.devices import SnmpPdu
from slurm_power.devices.pdu_snmp import Engines, SnmpPduDriver
from slurm_power.ports import DeviceError


def config_of(table: Mapping[str, Any]) -> SnmpPdu:
    """A device from its plain values; raises TypeError for what is none."""
    files = {key: Path(table[key]) for key in ("auth_key_file", "privacy_key_file") if table.get(key)}
    return SnmpPdu(**{**table, **files})


async def follow(
    config: SnmpPdu, engines: Engines, first_seconds: float, tell: Callable[[dict[str, Any]], None]
) -> None:
    """Read one PDU on its beat for ever; what goes wrong is told instead of a value."""
    driver = SnmpPduDriver(config, engines)
    due_seconds = clock.monotonic() + first_seconds
    while True:
        await asyncio.sleep(max(0.0, due_seconds - clock.monotonic()))
        try:
            tell({"name": config.name, "watts": await driver.read_watts()})
        except DeviceError as error:
            tell({"name": config.name, "error": str(error)})
        except Exception as error:  # noqa: BLE001  # a fault of one PDU's driver must not blind all the others
            tell({"name": config.name, "error": f"{config.name}: {type(error).__name__}: {error}"})
        # One that was late does not catch up.
        due_seconds = max(due_seconds + config.poll_seconds, clock.monotonic())


async def serve(configs: list[SnmpPdu]) -> None:
    """Read all of them until the input ends."""
    loop = asyncio.get_running_loop()
    engines = Engines()
    gone = asyncio.Event()

    def heard() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            gone.set()

    loop.add_reader(sys.stdin.fileno(), heard)

    def tell(answer: dict[str, Any]) -> None:
        try:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        except OSError:
            gone.set()

    # Spread over their beat, so that neither we nor the network have them all at once.
    tasks = [
        asyncio.create_task(follow(config, engines, config.poll_seconds * number / len(configs), tell))
        for number, config in enumerate(configs)
    ]
    await gone.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> int:
    """Read the tables from the first line of the input, and the PDUs from then on."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(sys.stdin.fileno(), 1 << 16)
        if not part:
            return 0
        line += part
    asyncio.run(serve([config_of(table) for table in json.loads(line)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Real protocol servers for the drivers: the simulated plant's fronts, in the test's own event loop."""

import contextlib
import socket
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from containers.plant.meter import GridReading, Meter
from containers.plant.modbus import ModbusFront
from containers.plant.pcs import PcsFront
from containers.plant.pdu import Pdu, SnmpAccess
from containers.plant.sunspec import Image, Value
from slurm_power.config.devices import SnmpPdu, SunspecMeter, SunspecPcs
from slurm_power.model.reading import Quality
from slurm_power.simulate.constants import load_constants
from slurm_power.simulate.pcs import Pcs

CONSTANTS = load_constants(Path(__file__).parents[2] / "containers" / "plant" / "plant.toml")
ACCESS = SnmpAccess(
    community="public-lab", user="meter", auth_key="authentic-key-1", priv_key="private-key-22"
)

# A PCS with coarse scales and nothing behind it.
PCS_MODELS: dict[int, dict[str, Value]] = {
    1: {"DA": 1},
    701: {"W": 0, "W_SF": 2, "InvSt": 3, "ConnSt": 1, "Alrm": 0},
    702: {"WChaRteMax": 12_049, "WDisChaRteMax": 12_049, "W_SF": 0},
    704: {
        "WSetEna": 0,
        "WSetMod": 0,
        "WSet": 0,
        "WSetRvrt": 0,
        "WSetEnaRvrt": 0,
        "WSetRvrtTms": 0,
        "WSet_SF": 2,
    },
    713: {"WHRtg": 24, "WHAvail": 12, "SoC": 500, "SoH": 990, "Sta": 0, "WH_SF": 3, "Pct_SF": -1},
    715: {"LocRemCtl": 0, "ControllerHb": 0},
}


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Ask the kernel for a port that is free now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def crash(error: BaseException) -> None:
    raise error


@contextlib.asynccontextmanager
async def serving(front: ModbusFront | Pdu) -> AsyncIterator[None]:
    """Start a front and stop it at the end."""
    await front.start(crash)
    try:
        yield
    finally:
        await front.stop()


def meter_front(port: int) -> Meter:
    return Meter(CONSTANTS.meter, CONSTANTS.site, greatest_watts=100_000.0, host="127.0.0.1", port=port)


def take(meter: Meter, watts: float) -> None:
    meter.take(GridReading(mean_import_watts=watts, imported_joules=0.0, exported_joules=0.0))


def pcs_front(port: int) -> PcsFront:
    pcs = Pcs(CONSTANTS.pcs, time.monotonic())
    return PcsFront(pcs, CONSTANTS.site, host="127.0.0.1", port=port)


def chain(models: Mapping[int, Mapping[str, Value]], port: int) -> ModbusFront:
    """Any read-only SunSpec device."""
    return ModbusFront(Image(models), {}, "127.0.0.1", port)


def pdu(port: int) -> Pdu:
    return Pdu("rack1", CONSTANTS.pdu, CONSTANTS.site, ACCESS, host="127.0.0.1", port=port)


def meter_config(port: int, timeout_seconds: float = 0.5) -> SunspecMeter:
    return SunspecMeter(name="grid-meter", address=f"127.0.0.1:{port}", timeout_seconds=timeout_seconds)


def pcs_config(port: int, timeout_seconds: float = 0.5) -> SunspecPcs:
    return SunspecPcs(name="battery", address=f"127.0.0.1:{port}", timeout_seconds=timeout_seconds)


def pdu_v2c(port: int, timeout_seconds: float = 1.0, community: str = ACCESS.community) -> SnmpPdu:
    return SnmpPdu(
        name="pdu-1", address=f"127.0.0.1:{port}", community=community, timeout_seconds=timeout_seconds
    )


def pdu_v3(
    port: int, directory: Path, *, auth_key: str = ACCESS.auth_key, priv_key: str = ACCESS.priv_key
) -> SnmpPdu:
    """SNMP v3 with the keys in files, as site.toml wants them."""
    (directory / "auth").write_text(f"{auth_key}\n")
    (directory / "priv").write_text(f"{priv_key}\n")
    return SnmpPdu(
        name="pdu-1",
        address=f"127.0.0.1:{port}",
        user=ACCESS.user,
        auth_key_file=directory / "auth",
        privacy_key_file=directory / "priv",
        timeout_seconds=1.0,
    )


# What a battery says of its health in percent, what is made of it, and how far the reading is trusted.
HEALTHS = [
    (97.0, 0.97, Quality.GOOD),
    (103.0, 1.0, Quality.GOOD),
    (0.0, 1.0, Quality.QUESTIONABLE),
    (650.0, 1.0, Quality.QUESTIONABLE),
]

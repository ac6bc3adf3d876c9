"""A whole controller: the battery holds the level that was kept, and status and ledger say so."""

import asyncio
import socket
from pathlib import Path
from typing import Any

from slurm_power import clock
from slurm_power.config import load_site
from slurm_power.controller.answers.status_answer import status
from slurm_power.controller.answers.user_socket import Caller
from slurm_power.controller.daemon import Controller
from slurm_power.controller.sensing.authority import make_authority
from slurm_power.model.reading import EssReading
from slurm_power.plan.billing_period import period_label
from slurm_power.store.places import LEDGER_NAME
from slurm_power.store.sqlite import SqliteStore
from tests.controller.test_user_socket import SITE, Queue
from tests.plan.situations import ess_reading

TARIFF = (
    '[[season]]\n[[season.period]]\nprice_per_kwh = 0.1\n[[demand]]\nname = "peak"\nprice_per_kw = 12.0\n'
)
BATTERY = """
meter = "meter"
[device.meter]
driver = "sunspec_meter"
address = "127.0.0.1:1"
[device.pcs]
driver = "sunspec_pcs"
address = "127.0.0.1:2"
[ess.battery]
circuit = "grid"
device = "pcs"
uncommissioned = "Anna, for a test of the controller"
[supply]
tariff_file = "tariff.toml"
"""


class Plant:
    """24 kW of load, less what the battery gives."""

    discharge_watts = 0.0

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def read_watts(self) -> float:
        return 24_000.0 - self.discharge_watts

    async def read(self) -> EssReading:
        return ess_reading(discharge_watts=self.discharge_watts)

    async def set_discharge(self, discharge_watts: float, lease_seconds: float) -> None:  # noqa: ARG002
        self.discharge_watts = discharge_watts

    def reversion_seconds(self, lease_seconds: float) -> float:
        return lease_seconds

    async def release(self) -> None:
        self.discharge_watts = 0.0


def test_the_battery_holds_the_kept_level_and_lets_go_in_the_end(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = tmp_path / "site.toml"
    text = SITE.format(port=port, folder=tmp_path).replace("control = false", "control = true")
    file.write_text(text + BATTERY + "[forecast]\nenabled = false\n")
    (tmp_path / "tariff.toml").write_text(TARIFF)
    make_authority(tmp_path / "tls", "small", ["127.0.0.1"], clock.now())
    config = load_site(file)
    period = period_label(clock.now().timestamp(), config.zone)
    store = SqliteStore(tmp_path / LEDGER_NAME)
    store.put_state(
        "ess_level", {"period": period, "levels_watts": {"peak": 22_000.0}, "natural_most_watts": 25_000.0}
    )
    plant = Plant()
    said: dict[str, Any] = {}

    async def run() -> None:
        controller = Controller(
            config, store, meters={"grid": plant}, storages={"battery": plant}, scheduler=Queue()
        )
        task = asyncio.create_task(controller.run())
        async with asyncio.timeout(15.0):
            while plant.discharge_watts < 1_900.0:  # noqa: ASYNC110  # polls what has no event
                await asyncio.sleep(0.05)
        said.update(status(controller, {}, Caller(uid=0)))
        controller.stop()
        await task

    asyncio.run(run())
    assert said["level"]["level_watts"] == 22_000.0 and said["level"]["period"] == period
    reasons = [entry.reason for entry in store.entries() if entry.subject == "ess:battery"]
    assert any(f"{period} is paid for" in reason for reason in reasons), reasons
    assert plant.discharge_watts == 0.0, "nothing stays"
    kept = store.state("ess_level")
    assert isinstance(kept, dict) and kept["levels_watts"] == {"peak": 22_000.0}
    store.close()

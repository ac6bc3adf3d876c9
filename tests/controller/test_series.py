"""A running controller's series lie in its state directory, and end with it."""

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slurm_power import clock
from slurm_power.config import load_site
from slurm_power.controller.daemon import Controller
from slurm_power.controller.sensing.authority import make_authority
from slurm_power.store.background import BackgroundSeries
from slurm_power.store.places import LEDGER_NAME, open_series_reader, open_series_writer
from slurm_power.store.sqlite import SqliteStore
from tests.controller.test_user_socket import SITE, Queue


def test_a_controllers_series_are_there_when_it_has_ended(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = tmp_path / "site.toml"
    file.write_text(SITE.format(port=port, folder=tmp_path))
    make_authority(tmp_path / "tls", "small", ["127.0.0.1"], clock.now())
    config = load_site(file)
    gpus = [
        {
            "uuid": "GPU-1",
            "slot": 0,
            "name": "X",
            "power_watts": 312.3,
            "energy_joules": 1.0,
            "utilization_ratio": 1.0,
            "sm_clock_hertz": 1e9,
            "temperature_celsius": 50.0,
            "requested_cap_watts": 700.0,
            "enforced_cap_watts": 700.0,
            "default_cap_watts": 700.0,
            "min_cap_watts": 200.0,
            "max_cap_watts": 700.0,
            "error": "",
        }
    ]

    async def run() -> None:
        store = SqliteStore(tmp_path / LEDGER_NAME)
        series = BackgroundSeries(lambda: open_series_writer(config.store, tmp_path, "s"), queue_ticks=60)
        controller = Controller(config, store, meters={}, storages={}, scheduler=Queue(), series=series)
        controller.telemetry.node_reported("c1", {"gpus": gpus, "jobs": [], "leases": []}, 1e12)
        task = asyncio.create_task(controller.run())
        await asyncio.sleep(1.6)
        controller.stop()
        await task
        series.close()
        store.close()

    asyncio.run(run())
    reader = open_series_reader(tmp_path)
    points = reader.read(["gpu.c1.GPU-1.watts"])["gpu.c1.GPU-1.watts"]
    assert {point.mean for point in points} == {312.3}
    age = datetime.now(UTC) - datetime.fromtimestamp(points[-1].at_seconds, UTC)
    assert age < timedelta(seconds=60)
    assert "caps.withheld_watts" in reader.names()
    reader.close()

"""powerctld: the controller daemon."""

import argparse
import asyncio
import logging
import os
import signal
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path

from slurm_power import __version__
from slurm_power.config import ConfigError, SiteConfig, load_site
from slurm_power.controller.admission.admission_desk import SlurmAdmission
from slurm_power.controller.daemon import Controller
from slurm_power.controller.records.site_state import keep_site
from slurm_power.controller.sensing.authority import AuthorityError
from slurm_power.controller.sensing.probe import build_drivers, close_drivers, fingerprints, probe
from slurm_power.ports import LocalStore, PowerMeter, SchedulerError, Storage, StoreError
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.licences import CliLicences
from slurm_power.slurm.receipts import AccountingReceipts
from slurm_power.slurm.reservations import CliReservations
from slurm_power.slurm.scheduler_choice import chosen_scheduler
from slurm_power.store.background import BackgroundSeries
from slurm_power.store.places import open_series_writer, open_store
from slurm_power.store.private import lock_directory
from slurm_power.store.schema import NewerSchemaError
from slurm_power.systemd import start_logging

_EXIT_BAD_INPUT = 2
_ACCEPTED = "accepted_devices"
_NEW_DEVICE_SECONDS = 10.0

log = logging.getLogger(__name__)


def main() -> int:
    """Run powerctld; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="powerctld",
        description="Keep a Slurm site inside its power limits: read meters, PDUs, batteries and nodes,"
        " plan once a second, act through leases that expire by themselves, write down every decision.",
        epilog="A site.toml is refused with all problems at once (exit 2), a new or changed device that"
        " does not answer included. One that has answered before may be away at a start: it counts as full.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("/etc/slurm-power/site.toml"),
        metavar="FILE",
        help="site.toml (default: %(default)s)",
    )
    parser.add_argument(
        "--check", action="store_true", help="check the configuration and the devices, then exit"
    )
    parser.add_argument("--version", action="version", version=f"slurm-power {__version__}")
    arguments = parser.parse_args()
    try:
        config = load_site(arguments.config)
        return asyncio.run(_serve(config, check_only=arguments.check))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return _EXIT_BAD_INPUT


async def _serve(config: SiteConfig, *, check_only: bool) -> int:
    start_logging(config.controller.log_level)
    meters, storages = build_drivers(config)
    problems = await probe(config, meters, storages)
    if check_only:
        await close_drivers(meters, storages)
        if problems:
            raise ConfigError(config.file, [f"device.{name}: {text}" for name, text in problems.items()])
        print(f"{config.file}: good, all devices answer")
        return 0
    directory = config.controller.state_directory
    try:
        lock = lock_directory(directory)
        store = open_store(config.store, directory)
    except NewerSchemaError as error:
        raise ConfigError(config.file, [f"controller.state_directory: {error}"]) from None
    except StoreError as error:
        raise ConfigError(config.file, [f"store.ledger_url: {error}"]) from None
    except (sqlite3.Error, OSError) as error:
        problem = f"controller.state_directory: {directory} cannot be used: {error}"
        raise ConfigError(config.file, [problem]) from None
    try:
        return await _run(config, store, meters, storages, problems)
    finally:
        store.close()
        os.close(lock)


def _series(config: SiteConfig) -> BackgroundSeries:
    """Open the series, behind a queue; a store that cannot be opened now is tried again and again."""
    directory, site = config.controller.state_directory, config.site.name
    return BackgroundSeries(
        lambda: open_series_writer(config.store, directory, site), queue_ticks=config.store.queue_ticks
    )


async def _run(
    config: SiteConfig,
    store: LocalStore,
    meters: Mapping[str, PowerMeter],
    storages: Mapping[str, Storage],
    problems: Mapping[str, str],
) -> int:
    marks = fingerprints(config)
    accepted = store.state(_ACCEPTED)
    known = accepted if isinstance(accepted, dict) else {}
    new = {name for name in problems if known.get(name) != marks[name]}
    if new:
        # Nobody waits yet: what is new may take longer than what has answered before.
        again = await probe(config, meters, storages, only=new, seconds=_NEW_DEVICE_SECONDS)
        if again:
            raise ConfigError(config.file, [f"device.{name}: {text}" for name, text in again.items()])
        problems = {name: text for name, text in problems.items() if name not in new}
    for name, text in problems.items():
        log.warning("device.%s: %s; starting all the same, it has answered before", name, text)
    store.put_state(_ACCEPTED, marks)
    keep_site(store, config)
    series = _series(config)
    try:
        controller = await _controller(config, store, series, meters, storages)
        return await _serve_until_stopped(config, controller)
    except AuthorityError as error:
        raise ConfigError(config.file, [f"controller.tls_directory: {error}"]) from None
    finally:
        series.close()


async def _serve_until_stopped(config: SiteConfig, controller: Controller) -> int:
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, controller.stop)
    try:
        await controller.run()
    except OSError as error:
        raise ConfigError(config.file, [f"controller.listen: {error}"]) from None
    return 0


async def _controller(
    config: SiteConfig,
    store: LocalStore,
    series: BackgroundSeries,
    meters: Mapping[str, PowerMeter],
    storages: Mapping[str, Storage],
) -> Controller:
    named = config.controller.slurm_conf or os.environ.get("SLURM_CONF")
    slurm_conf = None if named is None else Path(named)
    try:
        scheduler = await chosen_scheduler(
            config.controller.scheduler,
            slurm_conf,
            hold_file=config.controller.state_directory / "holds.json",
            licence=config.admission.licence if config.admission.enabled else "",
        )
    except SchedulerError as error:
        raise ConfigError(config.file, [f"controller.scheduler: {error}"]) from None
    accounting = AccountingReceipts(CommandRunner(slurm_conf, timeout_seconds=20.0, concurrency=1))
    commands = CommandRunner(slurm_conf)
    return Controller(
        config,
        store,
        series=series,
        meters=meters,
        storages=storages,
        scheduler=scheduler,
        accounting=accounting if config.controller.receipts else None,
        admission=SlurmAdmission(licences=CliLicences(commands), reservations=CliReservations(commands)),
    )


if __name__ == "__main__":
    sys.exit(main())

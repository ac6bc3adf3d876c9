"""powerbridge: signals of the grid in, reports and alerts out, beside powerctld."""

import argparse
import asyncio
import fcntl
import logging
import os
import signal
import sys
from pathlib import Path

from slurm_power import __version__
from slurm_power.bridge.daemon import Bridge, ask_of, bridge_folder
from slurm_power.config import ConfigError, SiteConfig, load_site
from slurm_power.systemd import notify

_EXIT_BAD_INPUT = 2
_SECRETS = ("client_secret_file", "key_file", "headers_file")
_READ = ("ca_file", "cert_file", *_SECRETS)


def main() -> int:
    """Run powerbridge; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="powerbridge",
        description="Follow what the grid says by OpenADR and HTTP, tell powerctld, and report back.",
        epilog="Runs beside powerctld, as the same user, with the same site.toml. See docs/bridge.md.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("/etc/slurm-power/site.toml"),
        metavar="FILE",
        help="site.toml (default: %(default)s)",
    )
    parser.add_argument("--check", action="store_true", help="check the configuration, then exit")
    parser.add_argument("--version", action="version", version=f"slurm-power {__version__}")
    arguments = parser.parse_args()
    try:
        config = load_site(arguments.config)
        problems = file_problems(config)
        if problems:
            raise ConfigError(config.file, problems)
        if arguments.check:
            print(f"{config.file}: good, {len(config.signals)} signals")
            return 0
        return _serve(config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return _EXIT_BAD_INPUT


def file_problems(config: SiteConfig) -> list[str]:
    """What is wrong with the files of signals: missing, unreadable, or secrets that everybody can read."""
    found = []
    for name, one in config.signals.items():
        for key in _READ:
            file: Path | None = getattr(one, key, None)
            if file is None:
                continue
            try:
                with file.open("rb") as opened:
                    mode = os.fstat(opened.fileno()).st_mode
                    opened.read(1)
            except OSError as error:
                found.append(f"signals.{name}.{key}: {file} cannot be read: {error.strerror}")
                continue
            if key in _SECRETS and mode & 0o077:
                found.append(f"signals.{name}.{key}: {file} can be read by others; chmod 600 {file}")
    return found


def _serve(config: SiteConfig) -> int:
    logging.basicConfig(
        level=config.controller.log_level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    # These write whole messages, tokens among them.
    for chatty in ("httpx", "httpcore", "openleadr", "apscheduler"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    folder = bridge_folder(config)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "powerbridge.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            config.file, [f"controller.state_directory: another powerbridge has {folder}"]
        ) from None
    except OSError as error:
        raise ConfigError(
            config.file, [f"controller.state_directory: {folder} cannot be used: {error}"]
        ) from None
    try:
        asyncio.run(_until_stopped(config))
    finally:
        os.close(lock)
    return 0


async def _until_stopped(config: SiteConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    bridge = Bridge(config, ask_of(config))
    notify("READY=1")
    await bridge.run(stop)
    notify("STOPPING=1")


if __name__ == "__main__":
    sys.exit(main())

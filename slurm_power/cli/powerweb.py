"""powerweb: the dashboard and the HTTP interface."""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_power import __version__
from slurm_power.config import ConfigError, load_site
from slurm_power.systemd import start_logging

if TYPE_CHECKING:
    from slurm_power.web.daemon import PowerWeb

_EXIT_BAD_INPUT = 2


def main() -> int:
    """Run powerweb; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="powerweb",
        description="Show the site live in browsers, and answer programs over HTTP. It asks powerctld through"
        " its Unix socket, as powerctld's own user, and reads its files; it holds nothing up there.",
        epilog="A site.toml with problems in any table is refused with all of them (exit 2).",
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
        from slurm_power.web.daemon import ListenError, PowerWeb  # noqa: PLC0415  # an extra
        from slurm_power.web.keys import KeysError  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        print(f"powerweb needs {error.name}: pip install 'slurm-power[web]'", file=sys.stderr)
        return 1
    try:
        config = load_site(arguments.config)
        if config.web.listen is None:
            problem = 'web.listen: missing; write listen = "127.0.0.1:8470" into [web]'
            raise ConfigError(arguments.config, [problem])
        start_logging(config.web.log_level)
        # What a client does wrong is no news; errors of ours are told by ourselves.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        if arguments.check:
            print(f"{arguments.config}: good")
            return 0
        asyncio.run(_serve(PowerWeb(config)))
    except (ListenError, KeysError) as error:
        print(f"{arguments.config}: {error}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    except ConfigError as error:
        print(error, file=sys.stderr)
        return _EXIT_BAD_INPUT
    return 0


async def _serve(web: "PowerWeb") -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, web.stop)
    await web.run()


if __name__ == "__main__":
    sys.exit(main())

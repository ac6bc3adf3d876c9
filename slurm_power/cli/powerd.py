"""powerd: the node daemon. Reads the GPUs, keeps leased caps on them, answers the node's hooks."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from slurm_power import __version__
from slurm_power.config.node import load_node
from slurm_power.config.node_record import NodeConfig
from slurm_power.config.problems import ConfigError
from slurm_power.node.guardian import LockedError, lock_node
from slurm_power.node.leftovers import restore
from slurm_power.systemd import start_logging

DEFAULT_CONFIG = Path("/etc/slurm-power/node.toml")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="powerd",
        description="Node daemon of slurm-power: reads this node's GPUs, keeps leased power caps on them, and"
        " answers the prolog and epilog. When it ends, however it ends, every GPU gets back the power limit"
        " it had before (a safety cap falls to safe_cap_watts).",
        epilog="Signals: SIGTERM restores and ends. Exit status: 0 ended cleanly, 1 cannot run, 2 bad"
        " configuration.",
    )
    command.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help="node.toml (default: %(default)s)"
    )
    command.add_argument(
        "--node", metavar="NAME", help="this node's name in Slurm (default: short host name)"
    )
    command.add_argument("--version", action="version", version=f"slurm-power {__version__}")
    action = command.add_mutually_exclusive_group()
    action.add_argument(
        "--check", action="store_true", help="check the configuration, touch nothing, and end"
    )
    action.add_argument(
        "--restore",
        action="store_true",
        help="with no powerd running: give every GPU back the limit it had before, safety caps too, and end",
    )
    action.add_argument(
        "--restore-leases",
        action="store_true",
        help="the same as powerd does at its end (for ExecStopPost): safety caps rest at safe_cap_watts",
    )
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run powerd; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        config = load_node(options.config, options.node)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if options.check:
        print(f"{options.config}: fine for node {config.node}")
        return 0
    if options.restore or options.restore_leases:
        return _restore(config, entirely=options.restore)
    # What has read and checked the configuration need not live with it: a smaller process takes over.
    words = ["--config", str(options.config), "--node", config.node, f"--settings={config.to_text()}"]
    return os.execv(sys.executable, [sys.executable, "-m", "slurm_power.node.halves", *words])  # noqa: S606  # ourselves


def _restore(config: NodeConfig, *, entirely: bool) -> int:
    """Bring everything home, ``entirely`` with the safety caps; tries for half a minute, or five seconds."""
    start_logging(config.log_level, "powerd")
    try:
        config.state_directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        lock_node(config.state_directory)
    except (LockedError, OSError) as error:
        logging.getLogger("powerd").error("%s", error)
        return 1
    rounds = iter(range(100 if entirely else 20))
    done = restore(
        str(config.state_directory),
        config.safe_cap_watts,
        entirely=entirely,
        # What is paused goes on at its end by the daemon that comes next; at once where everything ends.
        slurm_conf=str(config.slurm_conf or "") if entirely else None,
        go_on=lambda: next(rounds, None) is not None,
    )
    print("every GPU has its own power limit" if done else "some GPUs are not restored", file=sys.stderr)
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())

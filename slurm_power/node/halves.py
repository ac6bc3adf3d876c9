"""``python -m slurm_power.node.halves``: powerd's keeper, or with ``--front`` its front. powerd starts both.

The settings come checked, in one word, so that neither half loads what reads a configuration.
"""

import logging
import socket
import sys

from slurm_power.config.node_record import NodeConfig, node_of_text
from slurm_power.devices import driver, gpu_driver_name
from slurm_power.systemd import start_logging

SETTINGS, FRONT = "--settings=", "--front="


def main(words: list[str]) -> int:
    """Run one half; returns the exit status."""
    settings = next(word for word in words if word.startswith(SETTINGS))
    config = node_of_text(settings.removeprefix(SETTINGS))
    start_logging(config.log_level, "powerd")
    descriptors = next((word.removeprefix(FRONT) for word in words if word.startswith(FRONT)), None)
    try:
        return _keeper(config, words) if descriptors is None else _front(config, descriptors)
    except OSError as error:
        logging.getLogger("powerd").error("%s", error)
        return 1


def _front(config: NodeConfig, descriptors: str) -> int:
    from slurm_power.node.daemon import Daemon  # noqa: PLC0415 - neither half pays for the other's modules

    channel, listener = (socket.socket(fileno=int(number)) for number in descriptors.split(","))
    gpus = driver(gpu_driver_name(config.gpu_driver))()
    return Daemon(config, gpus, channel, listener).run()


def _keeper(config: NodeConfig, words: list[str]) -> int:
    from slurm_power.node.guardian import LockedError  # noqa: PLC0415 - as above
    from slurm_power.node.keeper import Keeper  # noqa: PLC0415 - as above

    command = [sys.executable, "-m", "slurm_power.node.halves", *words]
    try:
        # Only what the watchdog can undo may be set, and that knows NVML alone.
        return Keeper(config, driver("nvml")(), command).run()
    except LockedError as error:
        logging.getLogger("powerd").error("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

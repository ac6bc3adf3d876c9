"""node.toml: what the node daemon needs to know. One file serves all nodes: ``%n`` is the node's name."""

import pwd
import re
import socket
from dataclasses import replace
from pathlib import Path

from slurm_power.config.node_record import NodeConfig, split_address
from slurm_power.config.problems import ConfigError, read_record, read_toml

GPU_DRIVERS = ("auto", "nvml", "amdsmi")
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def load_node(file: Path, node: str | None = None) -> NodeConfig:
    """Read node.toml; the node's name is ``node``, the file's, or the short host name. Raises ConfigError."""
    document = read_toml(file)
    problems: list[str] = []
    own = document.pop("node", None)
    name = node or own or socket.gethostname().split(".")[0]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        # It stands in paths, in the certificate's name (64 letters at most) and in the MUNGE credential.
        problems.append(f"node: {name!r} is no node's name: letters, digits, '-', '_' and '.', 64 at most")
        name = "node"
    config = read_record(NodeConfig, document, "", problems, node=name)
    if config is not None:
        problems += _number_problems(config)
        if config.controller is not None:
            split_address(config.controller, "controller", problems)
        if config.user is not None and not _exists(config.user):
            problems.append(
                f"user: there is no {config.user!r} here; make one: useradd --system {config.user}"
            )
        if config.gpu_driver not in GPU_DRIVERS:
            problems.append(f"gpu_driver: {config.gpu_driver!r} is not one of {', '.join(GPU_DRIVERS)}")
        if config.log_level not in LOG_LEVELS:
            problems.append(f"log_level: {config.log_level!r} is not one of {', '.join(LOG_LEVELS)}")
    if config is None or problems:
        raise ConfigError(file, problems)
    return replace(
        config,
        socket=Path(str(config.socket).replace("%n", name)),
        state_directory=Path(str(config.state_directory).replace("%n", name)),
        metrics_textfile=(
            None
            if config.metrics_textfile is None
            else Path(str(config.metrics_textfile).replace("%n", name))
        ),
    )


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _number_problems(config: NodeConfig) -> list[str]:
    """Every number outside its bounds."""
    found: list[str] = []
    if not 0.1 <= config.sample_seconds <= 60.0:
        found.append(f"sample_seconds: {config.sample_seconds:g} is not between 0.1 and 60")
    if not 0.0 <= config.rest_after_seconds <= 30 * 86_400.0:
        found.append(
            f"rest_after_seconds: {config.rest_after_seconds:g} is not between 0 and 2592000 (30 days)"
        )
    if config.safe_cap_watts is not None and not 50.0 <= config.safe_cap_watts <= 5000.0:
        found.append(f"safe_cap_watts: {config.safe_cap_watts:g} is no cap for a GPU (50 to 5000 W)")
    if config.standing_lock_hertz is not None and not 1e8 <= config.standing_lock_hertz <= 1e10:
        found.append(
            f"standing_lock_hertz: {config.standing_lock_hertz:g} is no clock (1e8 to 1e10 Hz); is it in MHz?"
        )
    if config.prolog_timeout_seconds is not None and not 1.0 <= config.prolog_timeout_seconds <= 65_533.0:
        found.append(
            f"prolog_timeout_seconds: {config.prolog_timeout_seconds:g} is not between 1 and 65533;"
            " leave it out where slurm.conf sets no PrologEpilogTimeout"
        )
    return found

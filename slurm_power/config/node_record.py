"""What node.toml says, once it has been read and checked: all that powerd's two halves load of it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """The ``node.toml`` of powerd.

    ``controller`` is HOST:PORT of powerctld, None for a node that only answers its hooks.
    ``ca_file`` is the certificate of the site's authority: no other controller is obeyed.
    ``safe_cap_watts`` is the static cap per GPU that *safety* leases fall to when the controller is lost.
    ``standing_lock_hertz`` is the clock lock that the site itself sets at boot, which no driver can tell.
    After ``rest_after_seconds`` without a job or a lease the driver is let go of between samples, which then
    come every 10 s: a GPU can be reset only while nobody is a client of its driver.
    ``gpu_driver`` is what GPUs are read through: ``nvml``, ``amdsmi``, or ``auto`` for what the kernel has.
    ``metrics_textfile`` is a file for the textfile collector of Prometheus's node exporter.
    ``slurm_conf`` is the cluster's slurm.conf, by which a paused job is resumed when its controller is lost;
    None: the one that Slurm's commands find by themselves.
    ``prolog_timeout_seconds`` is slurm.conf's PrologEpilogTimeout where that is set; no prolog waits so long.
    ``user`` is whom the part of powerd with the sockets runs as, None for root.
    """

    node: str
    socket: Path = Path("/run/slurm-power/powerd.sock")
    state_directory: Path = Path("/var/lib/slurm-power/powerd")
    controller: str | None = None
    ca_file: Path = Path("/etc/slurm-power/ca.pem")
    munge_socket: str | None = None
    slurm_conf: Path | None = None
    sample_seconds: float = 1.0
    rest_after_seconds: float = 60.0
    safe_cap_watts: float | None = None
    standing_lock_hertz: float | None = None
    prolog_timeout_seconds: float | None = None
    user: str | None = None
    gpu_driver: str = "auto"
    metrics_textfile: Path | None = None
    log_level: str = "INFO"

    def to_text(self) -> str:
        """One line from which `node_of_text` makes the same again."""
        return json.dumps(asdict(self), default=str, separators=(",", ":"))


def advice_directory(socket: Path) -> Path:
    """Where the powerd with this hook socket keeps what it says to jobs: beside the socket."""
    return socket.with_suffix(".advice")


_PATHS = ("socket", "state_directory", "ca_file", "slurm_conf", "metrics_textfile")


def node_of_text(text: str) -> NodeConfig:
    """What `NodeConfig.to_text` wrote."""
    values: dict[str, Any] = json.loads(text)
    values.update({key: Path(values[key]) for key in _PATHS if values[key] is not None})
    return NodeConfig(**values)


def split_address(address: str, path: str, problems: list[str]) -> tuple[str, int]:
    """Split HOST:PORT; reports a problem and returns port 0 when it is none."""
    host, separator, port_text = address.rpartition(":")
    if separator and host and port_text.isdigit() and 0 < int(port_text) < 65536:
        return host, int(port_text)
    problems.append(f"{path}: {address!r} is not HOST:PORT")
    return address, 0

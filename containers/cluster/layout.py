"""What a lab consists of: its options, its paths, its nodes and users, and the record it keeps of itself."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
NODES_PER_RACK = 2
MOST_NODES = 32
MOST_GPUS = 16
# slurmstepd puts sockets named NODE_JOB.STEP under RUN/spool/NODE; a Unix socket's path holds 107 bytes.
LONGEST_RUN_DIRECTORY = 60


class LabError(Exception):
    """Something went wrong while handling a lab; the message is for the person at the terminal."""

    exit_status = 1


class RefusedError(LabError):
    """The request cannot be met as it stands; nothing was changed."""

    exit_status = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person who exists only inside a lab."""

    name: str
    uid: int
    account: str


USERS = (
    User(name="alice", uid=20001, account="physics"),
    User(name="bob", uid=20002, account="chemistry"),
)
QOS = ("normal", "flexible")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to build. ``scenario`` and ``plant`` are files handed to the simulated plant as they are.

    ``grid_limit_watts`` and ``control`` (False: look, touch nothing) go into the lab's site.toml.
    ``energy_accounting``: Slurm counts each job's energy itself, by counters that the plant feeds.
    ``web``: with the dashboard, on a loopback port of its own.
    ``slurm_root``: a root directory whose Slurm runs in place of the host's (see ``containers.versions``).
    """

    nodes: int = 4
    gpus_per_node: int = 8
    accounting: bool = False
    power: bool = False
    scenario: str | None = None
    plant: str | None = None
    grid_limit_watts: int = 32_000
    control: bool = True
    energy_accounting: bool = False
    slurm_root: str | None = None
    web: bool = False

    def check(self) -> None:
        """Raise RefusedError for numbers out of range and files that are not there."""
        if not 1 <= self.nodes <= MOST_NODES:
            raise RefusedError(f"--nodes {self.nodes}: must be between 1 and {MOST_NODES}")
        if not 1 <= self.gpus_per_node <= MOST_GPUS:
            raise RefusedError(f"--gpus {self.gpus_per_node}: must be between 1 and {MOST_GPUS}")
        for option, file in (("--scenario", self.scenario), ("--plant", self.plant)):
            if file is not None and not self.power:
                raise RefusedError(f"{option}: needs --power, the plant runs only then")
            if file is not None and not Path(file).is_file():
                raise RefusedError(f"{option} {file}: no such file")
        if self.web and not self.power:
            raise RefusedError("--web: needs --power, the dashboard asks powerctld")
        if self.energy_accounting and not (self.power and self.accounting):
            raise RefusedError(
                "--energy-accounting: needs --power, whose plant feeds the counters, and --accounting, which "
                "keeps what they count"
            )
        if self.slurm_root is not None and not (Path(self.slurm_root) / "usr/sbin/slurmctld").is_file():
            raise RefusedError(f"--slurm-root {self.slurm_root}: holds no usr/sbin/slurmctld")
        if self.slurm_root is not None and self.energy_accounting:
            raise RefusedError(
                "--energy-accounting: lays counters over the host's /sys; not with --slurm-root"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A lab's names and numbers, kept in RUN/etc/testbed.json; everything else follows from them."""

    run: Path
    options: Options
    host: str
    slurm_version: tuple[int, int]
    ports: dict[str, Any]
    snmp: dict[str, str]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The node names: c1, c2, ..."""
        return node_names(self.options.nodes)

    @property
    def racks(self) -> dict[str, str]:
        """Each node's rack."""
        return {node: rack_of(index) for index, node in enumerate(self.nodes)}

    @property
    def etc(self) -> Path:
        """The configuration directory, where Slurm finds every file beside slurm.conf."""
        return self.run / "etc"

    @property
    def slurm_conf(self) -> Path:
        """The file SLURM_CONF names."""
        return self.etc / "slurm.conf"

    @property
    def slurm_root(self) -> Path:
        """Where Slurm, its jobs and its users find their programs: ``/`` is the host."""
        return Path(self.options.slurm_root or "/")

    @property
    def root_etc(self) -> Path:
        """With a ``slurm_root``: the lab's passwd, group and hosts there."""
        return self.run / "root-etc"

    @property
    def clients(self) -> Path:
        """With a ``slurm_root``: its Slurm's commands for programs that run on the host; else empty."""
        return self.run / "clients"

    @property
    def python(self) -> str:
        """The interpreter of what jobs and users run: Slurm's root has no virtual environment."""
        return "/usr/bin/python3" if self.options.slurm_root else f"{venv_programs()}/python"

    @property
    def munge_socket(self) -> Path:
        """The lab's own munged."""
        return self.run / "munge" / "munge.sock"

    @property
    def database_socket(self) -> Path:
        """The lab's own MariaDB."""
        return self.run / "run" / "mariadb.sock"

    @property
    def state_file(self) -> Path:
        """The record: written first, so that its presence marks a directory as a lab's."""
        return state_file(self.run)

    def power_counters(self, node: str) -> Path:
        """Where the plant puts a node's power counters, if this folder is there."""
        return self.run / "pm_counters" / node

    def log(self, name: str) -> Path:
        """The log file of one daemon."""
        return self.run / "log" / f"{name}.log"

    def record(self) -> dict[str, Any]:
        """Describe the lab for the plant, the tests and the next command."""
        return {
            "run_directory": str(self.run),
            "gpus_per_node": self.options.gpus_per_node,
            "nodes": self.racks,
            "ports": self.ports,
            "snmp": self.snmp,
            "host": self.host,
            "slurm_version": list(self.slurm_version),
            "options": asdict(self.options),
        }


def node_names(count: int) -> tuple[str, ...]:
    """Name ``count`` nodes."""
    return tuple(f"c{number}" for number in range(1, count + 1))


def rack_of(index: int) -> str:
    """Name the rack of the node at ``index`` (from 0)."""
    return f"rack{index // NODES_PER_RACK + 1}"


def state_file(run: Path) -> Path:
    """Where the lab in ``run`` keeps its record."""
    return run / "etc" / "testbed.json"


def load(run: Path) -> Layout:
    """Read a lab's record back; raises LabError when ``run`` holds none."""
    try:
        record = json.loads(state_file(run).read_text())
        major, minor = record["slurm_version"]
        return Layout(
            run=run,
            options=Options(**record["options"]),
            host=record["host"],
            slurm_version=(major, minor),
            ports=record["ports"],
            snmp=record["snmp"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabError(f"{run}: holds no lab ({error})") from error


def venv_programs() -> Path:
    """The folder of the running interpreter's commands, not resolved: a virtual environment's own."""
    return Path(sys.executable).parent

"""A lab's daemons in their starting order: how each is started, and how one sees that it serves."""

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from containers.cluster.host import enter
from containers.cluster.layout import CHECKOUT, Layout, venv_programs

# Set by coverage's `subprocess` patch: our own daemons then count what they ran, too.
COVERAGE_VARIABLE = "COVERAGE_PROCESS_CONFIG"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonPlan:
    """One daemon. ``group``: daemons of one group start together and stop together."""

    name: str
    group: str
    argv: tuple[str, ...]
    serves: Callable[[], bool]
    environment: dict[str, str] = field(default_factory=dict)
    stale_files: tuple[Path, ...] = ()
    # Slurm's and MUNGE's daemons write their own NAME.log; what they print goes beside it.
    output_suffix: str = ".out"


def plan(layout: Layout) -> list[DaemonPlan]:
    """List the daemons of a lab in the order in which they start; they stop in reverse."""
    daemons = [_munged(layout)]
    if layout.options.accounting:
        daemons += [_mariadbd(layout), _slurmdbd(layout)]
    daemons.append(_slurmctld(layout))
    if layout.options.power and exists("containers.plant"):
        daemons.append(_plant(layout))
    if layout.options.power and exists("slurm_power.cli.powerd"):
        daemons += [_powerd(layout, node) for node in layout.nodes]
    daemons += [_slurmd(layout, node) for node in layout.nodes]
    if layout.options.power and exists("slurm_power.cli.powerctld"):
        daemons.append(_powerctld(layout))
    if layout.options.web and exists("slurm_power.cli.powerweb"):
        daemons.append(_powerweb(layout))
    return daemons


def absent(layout: Layout) -> list[str]:
    """Name the parts of ``--power`` that this checkout does not hold."""
    modules = ("containers.plant", "slurm_power.cli.powerd", "slurm_power.cli.powerctld")
    return [name for name in modules if layout.options.power and not exists(name)]


def exists(module: str) -> bool:
    """Say whether the checkout holds ``module``, a package only if it can be run."""
    try:
        found = find_spec(module)
    except ModuleNotFoundError:
        return False
    if found is None:
        return False
    return found.origin is not None and (
        not found.submodule_search_locations or find_spec(f"{module}.__main__") is not None
    )


def base_environment(layout: Layout) -> dict[str, str]:
    """What every daemon finds in its environment, and nothing of the starter's."""
    return {
        "PATH": f"{layout.clients}:{venv_programs()}:{SYSTEM_PATH}",  # ours ask the lab's Slurm
        "SLURM_CONF": str(layout.slurm_conf),
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }


def answers(address: Path | int) -> Callable[[], bool]:
    """Return a probe: does somebody accept connections on this Unix socket or loopback port?"""

    def probe() -> bool:
        family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
        where = ("127.0.0.1", address) if isinstance(address, int) else str(address)
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(where)
            except OSError:
                return False
        return True

    return probe


def _munged(layout: Layout) -> DaemonPlan:
    folder = layout.run / "munge"
    options = {
        "socket": layout.munge_socket,
        "key-file": folder / "munge.key",
        "pid-file": layout.run / "run" / "munged.pid",
        "log-file": layout.log("munged"),
        "seed-file": folder / "munged.seed",
        "num-threads": 2,
    }
    argv = (
        "/usr/sbin/munged",
        "--foreground",
        "--force",
        *(f"--{key}={value}" for key, value in options.items()),
    )
    return DaemonPlan(name="munged", group="munged", argv=argv, serves=answers(layout.munge_socket))


def _mariadbd(layout: Layout) -> DaemonPlan:
    argv = (
        "/usr/sbin/mariadbd",
        "--no-defaults",
        "--user=root",
        f"--datadir={layout.run / 'database'}",
        f"--socket={layout.database_socket}",
        f"--pid-file={layout.run / 'run' / 'mariadbd.pid'}",
        "--skip-networking",
        "--innodb-buffer-pool-size=64M",
        "--innodb-flush-log-at-trx-commit=0",  # the lab's records need not survive the machine
    )
    return DaemonPlan(
        name="mariadbd",
        group="mariadbd",
        argv=argv,
        serves=answers(layout.database_socket),
        output_suffix=".log",
    )


def _slurmdbd(layout: Layout) -> DaemonPlan:
    return DaemonPlan(
        name="slurmdbd",
        group="slurmdbd",
        argv=(*enter(layout.slurm_root), "/usr/sbin/slurmdbd", "-D"),
        environment={"MYSQL_UNIX_PORT": str(layout.database_socket)},
        serves=answers(layout.ports["slurmdbd"]),
    )


def _slurmctld(layout: Layout) -> DaemonPlan:
    return DaemonPlan(
        name="slurmctld",
        group="slurmctld",
        argv=(*enter(layout.slurm_root), "/usr/sbin/slurmctld", "-D"),
        serves=answers(layout.ports["slurmctld"]),
    )


def _slurmd(layout: Layout, node: str) -> DaemonPlan:
    argv: tuple[str, ...] = (*enter(layout.slurm_root), "/usr/sbin/slurmd", "-D", "-N", node)
    environment = {}
    if layout.options.energy_accounting:
        argv = _with_counters(layout, node, ("/usr/bin/env", "--unset=PYTHONPATH", *argv))
        environment["PYTHONPATH"] = str(CHECKOUT)
    return DaemonPlan(
        name=f"slurmd.{node}",
        group="slurmd",
        argv=argv,
        environment=environment,
        serves=answers(layout.ports["slurmd"][node]),
    )


def _with_counters(layout: Layout, node: str, argv: tuple[str, ...]) -> tuple[str, ...]:
    """A command line that finds the node's power counters in /sys, where the lab has any."""
    if not layout.options.energy_accounting:
        return argv
    return (sys.executable, "-m", "containers.cluster.own_sys", str(layout.power_counters(node)), *argv)


def _plant(layout: Layout) -> DaemonPlan:
    ready = layout.run / "run" / "plant.ready"
    argv = [sys.executable, "-m", "containers.plant", "run", str(layout.run)]
    if layout.options.plant is not None:
        argv += ["--plant", str(Path(layout.options.plant).resolve())]
    if layout.options.scenario is not None:
        argv += ["--scenario", str(Path(layout.options.scenario).resolve())]
    return DaemonPlan(
        name="plant",
        group="plant",
        argv=tuple(argv),
        environment={"PYTHONPATH": str(CHECKOUT), "LD_LIBRARY_PATH": str(layout.run / "lib")},
        serves=ready.exists,
        stale_files=(ready,),
        output_suffix=".log",
    )


def _product(program: str) -> tuple[str, ...]:
    """The command as installed in the virtual environment, or from a checkout that is not installed."""
    command = venv_programs() / program
    return (str(command),) if command.exists() else (sys.executable, "-m", f"slurm_power.cli.{program}")


def _product_environment() -> dict[str, str]:
    found = {"PYTHONPATH": str(CHECKOUT)}
    if COVERAGE_VARIABLE in os.environ:
        found[COVERAGE_VARIABLE] = os.environ[COVERAGE_VARIABLE]
    return found


def _powerd(layout: Layout, node: str) -> DaemonPlan:
    address = layout.run / "run" / f"powerd.{node}.sock"
    return DaemonPlan(
        name=f"powerd.{node}",
        group="powerd",
        argv=_with_counters(
            layout, node, (*_product("powerd"), "--config", str(layout.etc / "node.toml"), "--node", node)
        ),
        environment={
            **_product_environment(),
            "LD_LIBRARY_PATH": str(layout.run / "lib"),
            "PLANT_NVML_STATE": str(layout.run / "nvml" / f"{node}.state"),
        },
        serves=answers(address),
        output_suffix=".log",
    )


def _powerctld(layout: Layout) -> DaemonPlan:
    address = layout.run / "run" / "powerctld.sock"
    return DaemonPlan(
        name="powerctld",
        group="powerctld",
        argv=(*_product("powerctld"), "--config", str(layout.etc / "site.toml")),
        environment=_product_environment(),
        serves=answers(address),
        output_suffix=".log",
    )


def _powerweb(layout: Layout) -> DaemonPlan:
    return DaemonPlan(
        name="powerweb",
        group="powerweb",
        argv=(*_product("powerweb"), "--config", str(layout.etc / "site.toml")),
        environment=_product_environment(),
        serves=answers(layout.ports["powerweb"]),
        output_suffix=".log",
    )

"""Turn the lab's templates into the configuration of a lab whose daemons have a host each.

``python -m containers.images.configure /lab`` writes /lab/etc, which all containers see. What differs from
the lab of plain processes stands here, setting by setting; a setting that a template has no more is an error.
LAB_GRID_LIMIT_WATTS and LAB_CONTROL (true or false) in the environment go into site.toml.
"""

import os
import re
import secrets
import shutil
import sys
from pathlib import Path
from string import Template

from containers.cluster import configuration
from containers.cluster.host import slurm_version
from containers.cluster.layout import CHECKOUT, QOS, USERS, Layout, Options

NODES = 4
PORTS = {
    "slurmctld": 6817,
    "slurmdbd": 6819,
    "powerctld": 6820,
    "meter": 5020,
    "pcs": 5021,
    "slurmd": {f"c{number}": 6818 for number in range(1, NODES + 1)},
    "pdu": {"rack1": 1161, "rack2": 1162},
}
# Which host has which port; a port stands for one service only.
HOSTS = {6819: "slurmdbd", 6820: "powerctld", 5020: "plant", 5021: "plant", 1161: "plant", 1162: "plant"}
EVERYWHERE = "0.0.0.0"  # the container's networks, which are private
# What replaces a template's setting; None takes the line out.
SETTINGS: dict[str, dict[str, str | None]] = {
    "slurm.conf": {
        "SlurmctldHost": "slurmctld",
        "CommunicationParameters": None,
        "AccountingStorageHost": "slurmdbd",
    },
    "slurmdbd.conf": {
        "DbdHost": "slurmdbd",
        "DbdAddr": "slurmdbd",
        "CommunicationParameters": None,
        "StorageHost": "database",
    },
}
# The stand-in for NVML lies where the loader finds it; it only has to know which node it is on.
TASK_PROLOG = '#!/bin/sh\necho "export PLANT_NVML_STATE={run}/nvml/$SLURMD_NODENAME.state"\n'


def write(run: Path) -> None:
    """Write RUN/etc, with new SNMP keys; raises KeyError or ValueError when a template does not fit."""
    layout = Layout(
        run=run,
        options=Options(
            nodes=NODES,
            accounting=True,
            power=True,
            grid_limit_watts=int(os.environ.get("LAB_GRID_LIMIT_WATTS") or Options().grid_limit_watts),
            control=os.environ.get("LAB_CONTROL") != "false",
        ),
        host="slurmctld",
        slurm_version=slurm_version(),
        ports=PORTS,
        snmp={
            "community": "public-lab",
            "user": "meter",
            "auth_key": secrets.token_hex(12),
            "priv_key": secrets.token_hex(12),
        },
    )
    etc = layout.etc
    _write_hooks(etc)
    names = configuration.substitutions(layout)
    names["node_lines"] = _on_own_hosts(names["node_lines"])
    for name in (*configuration.PLAIN_FILES, "slurmdbd.conf"):
        text = Template((configuration.TEMPLATES / f"{name}.in").read_text()).substitute(names)
        file = etc / name
        file.touch(mode=0o600 if name == "slurmdbd.conf" else 0o644)
        file.write_text(with_settings(with_hosts(text), SETTINGS.get(name, {}), name))
    site = etc / "site.toml"
    site.write_text(site.read_text().replace("powerctld:6820", f"{EVERYWHERE}:6820"))
    configuration.write_authority(etc)
    _write_executable(etc / "task_prolog", TASK_PROLOG.format(run=run))
    for name in ("auth_key", "priv_key"):
        key = etc / f"snmp_{name}"
        key.touch(mode=0o600)
        key.write_text(f"{layout.snmp[name]}\n")
    (etc / "accounts").write_text(accounts())
    flat = {name: port for name, port in PORTS.items() if isinstance(port, int)} | {"slurmd": 6818}
    (etc / "ports").write_text("".join(f"{name}={port}\n" for name, port in flat.items()))
    configuration.write_record(layout)
    (etc / "complete").touch()  # last: the containers wait for it


def with_hosts(text: str) -> str:
    """Put a service's host into each address that is its port on the loopback interface."""

    def replaced(found: re.Match[str]) -> str:
        port = int(found[1])
        return f"{HOSTS[port]}:{port}"

    return re.sub(r"127\.0\.0\.1:(\d+)", replaced, text)


def with_settings(text: str, settings: dict[str, str | None], name: str) -> str:
    """Replace ``Key=value`` lines; raises ValueError unless each key stands there exactly once."""
    for key, value in settings.items():
        line = "" if value is None else f"{key}={value}\n"
        text, count = re.subn(rf"^{key}=.*\n", line, text, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"{name}: {key} stands there {count} times, not once")
    return text


def accounts() -> str:
    """Return the lines for sacctmgr that make accounts, QOS and users."""
    names = ",".join(QOS)
    lines = [f"add qos {name}" for name in QOS if name != "normal"]
    for user in USERS:
        lines.append(f"add account {user.account} cluster=lab description={user.account} organization=lab")
        lines.append(f"add user {user.name} cluster=lab account={user.account} qos={names} defaultqos=normal")
    lines.append(f"modify user root set qos={names}")
    return "\n".join(lines) + "\n"


def _on_own_hosts(node_lines: str) -> str:
    """Give each node of slurm.conf the host of its own name."""
    pattern = r"^NodeName=(\S+) NodeHostname=\S+ NodeAddr=\S+ "
    lines, count = re.subn(
        pattern, r"NodeName=\1 NodeHostname=\1 NodeAddr=\1 ", node_lines, flags=re.MULTILINE
    )
    if count != NODES:
        raise ValueError(f"slurm.conf: {count} node lines understood, not {NODES}")
    return lines


def _write_hooks(etc: Path) -> None:
    etc.mkdir(parents=True, exist_ok=True)
    for name in ("prolog", "epilog", "job_submit.lua", "slurm_power_submit.lua"):
        _write_executable(etc / name, (CHECKOUT / "prolog_epilog" / name).read_text())
    shutil.copyfile(CHECKOUT / "spank" / "slurm_power.so", etc / "slurm_power_spank.so")
    (etc / "plugstack.conf").write_text(f"optional {etc / 'slurm_power_spank.so'}\n")


def _write_executable(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o755)


if __name__ == "__main__":
    write(Path(sys.argv[1]))

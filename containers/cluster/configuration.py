"""Write a lab's run directory: folders, devices, users, and every configuration file from its template.

Templates use string.Template. The names they may use, all of them set in ``substitutions``:

    run, host, checkout                the run directory, the short host name, the project's checkout
    node_count, gpus_per_node          numbers
    node_range, gpu_range              c[1-4], [0-7]
    slurmctld_port, slurmdbd_port, powerctld_port, meter_port, pcs_port
    pdu_port_rack1, pdu_port_rack2...  one for each rack
    snmp_community, snmp_user, snmp_auth_key, snmp_priv_key
    grid_limit_watts, control          for site.toml: a number, true or false
    rack_tables                        whole tables of site.toml
    hook_lines, accounting_lines, node_lines      whole lines of slurm.conf
"""

import json
import os
import secrets
import shlex
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path
from string import Template

from containers.cluster.layout import CHECKOUT, USERS, Layout
from containers.cluster.site_tables import rack_tables
from containers.cluster.slurm_root import write_root_programs

TEMPLATES = Path(__file__).parent / "templates"
PLAIN_FILES = ("slurm.conf", "gres.conf", "slurm-power.conf", "site.toml", "node.toml")
# The lab has a TaskProlog of its own; with the SPANK plugin tasks need no other.
HOOKS = {
    "Prolog": "prolog",
    "Epilog": "epilog",
    "PrologSlurmctld": "prolog_slurmctld",
    "EpilogSlurmctld": "epilog_slurmctld",
}
NULL_DEVICE = os.makedev(1, 3)


def write_all(layout: Layout) -> None:
    """Fill the run directory, which exists and is empty but for its record; raises OSError."""
    run = layout.run
    nodes = layout.nodes
    folders = [
        "log",
        "run",
        "bin",
        "munge",
        "dev",
        "lib",
        "nvml",
        "home",
        "database",
        "state/slurmctld",
        "state/powerctld",
    ]
    folders += [f"state/powerd.{node}" for node in nodes] + [f"spool/{node}" for node in nodes]
    if layout.options.energy_accounting:
        folders += [f"{layout.power_counters(node)}/hwmon" for node in nodes]
    for folder in folders:
        (run / folder).mkdir(parents=True, exist_ok=True)
    (run / "munge").chmod(0o711)  # clients need only reach the socket
    key = run / "munge" / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    for gpu in range(layout.options.gpus_per_node):
        device = run / "dev" / f"nvidia{gpu}"
        os.mknod(device, stat.S_IFCHR | 0o666, NULL_DEVICE)
        device.chmod(0o666)
    _write_users(layout)
    _write_snmp_keys(layout)
    if layout.options.power:
        write_authority(layout.etc)
    _write_hooks(layout)
    _write_programs(layout)
    names = substitutions(layout)
    for name in PLAIN_FILES:
        _fill(name, names, layout.etc / name)
    _fill("task_prolog", names, layout.etc / "task_prolog", mode=0o755)
    if layout.options.accounting:
        _fill("slurmdbd.conf", names, layout.etc / "slurmdbd.conf", mode=0o600)
    if layout.slurm_version >= (24, 0):
        (layout.etc / "cgroup.conf").write_text("CgroupPlugin=disabled\n")


def substitutions(layout: Layout) -> dict[str, str]:
    """Every name a template may use, with its value."""
    options, ports = layout.options, layout.ports
    names = {
        "run": str(layout.run),
        "host": layout.host,
        "checkout": str(CHECKOUT),
        "node_count": str(options.nodes),
        "gpus_per_node": str(options.gpus_per_node),
        "node_range": f"c[1-{options.nodes}]",
        "gpu_range": f"[0-{options.gpus_per_node - 1}]",
        "slurmctld_port": str(ports["slurmctld"]),
        "slurmdbd_port": str(ports["slurmdbd"]),
        "powerctld_port": str(ports["powerctld"]),
        "meter_port": str(ports["meter"]),
        "pcs_port": str(ports["pcs"]),
        **{f"pdu_port_{rack}": str(port) for rack, port in ports["pdu"].items()},
        **{f"snmp_{name}": value for name, value in layout.snmp.items()},
        "grid_limit_watts": str(options.grid_limit_watts),
        "control": "true" if options.control else "false",
        "web_table": _web_table(layout),
        "rack_tables": rack_tables(layout),
        "hook_lines": "\n".join(_hook_lines(layout)),
        "node_lines": "\n".join(_node_lines(layout)),
    }
    accounting = "AccountingStorageType=accounting_storage/none"
    if options.accounting:
        accounting = Template((TEMPLATES / "accounting.conf.in").read_text()).substitute(names).rstrip()
    if options.energy_accounting:
        # Every second: what a node draws in "scontrol show node", and each step's energy.
        accounting += "\nAcctGatherEnergyType=acct_gather_energy/pm_counters\nAcctGatherNodeFreq=1"
    return {**names, "accounting_lines": accounting}


def _web_table(layout: Layout) -> str:
    """Where the dashboard listens; root, who runs powerctld here, is its operator, by the kernel's word."""
    if not layout.options.web:
        return ""
    return f'[web]\nlisten = "127.0.0.1:{layout.ports["powerweb"]}"\n'


def _fill(name: str, names: dict[str, str], target: Path, *, mode: int = 0o644) -> None:
    text = Template((TEMPLATES / f"{name}.in").read_text()).substitute(names)
    target.touch(mode=mode)
    target.chmod(mode)
    target.write_text(text)


def _node_lines(layout: Layout) -> list[str]:
    shape = "CPUs=8 Boards=1 SocketsPerBoard=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=64000"
    gres = f"Gres=gpu:h100:{layout.options.gpus_per_node}"
    return [
        f"NodeName={node} NodeHostname={layout.host} NodeAddr=127.0.0.1 Port={layout.ports['slurmd'][node]} "
        f"{shape} {gres} State=UNKNOWN"
        for node in layout.nodes
    ]


def _hook_lines(layout: Layout) -> list[str]:
    lines = [
        f"{setting}={layout.etc / name}" for setting, name in HOOKS.items() if (layout.etc / name).exists()
    ]
    if (layout.etc / "job_submit.lua").exists():
        lines.append("JobSubmitPlugins=lua")
    return lines


def _write_hooks(layout: Layout) -> None:
    (layout.etc / "plugstack.conf").touch()
    if not layout.options.power:
        return
    for name in (*HOOKS.values(), "job_submit.lua", "slurm_power_submit.lua"):
        source = CHECKOUT / "prolog_epilog" / name
        if source.exists():
            target = layout.etc / name
            shutil.copyfile(source, target)
            target.chmod(0o644 if name.endswith(".lua") else 0o755)
    if spank_sources():
        (layout.etc / "plugstack.conf").write_text(f"optional {spank_plugin(layout)}\n")


def spank_sources() -> list[Path]:
    """The C files of the project's SPANK plugin."""
    return sorted((CHECKOUT / "spank").glob("*.c"))


def spank_plugin(layout: Layout) -> Path:
    """Where the compiled plugin goes."""
    return layout.etc / "slurm_power_spank.so"


def _write_users(layout: Layout) -> None:
    for user in USERS:
        home = layout.run / "home" / user.name
        home.mkdir()
        os.chown(home, user.uid, user.uid)
    write_users(layout, Path("/etc"), layout.etc)
    if layout.options.slurm_root:
        write_users(layout, layout.slurm_root / "etc", layout.root_etc)


def write_users(layout: Layout, found: Path, target: Path) -> None:
    """Write passwd, group and hosts as in the folder ``found``, with the lab's users and name."""
    passwd, group = (found / "passwd").read_text(), (found / "group").read_text()
    for user in USERS:
        home = layout.run / "home" / user.name
        passwd += f"{user.name}:x:{user.uid}:{user.uid}:lab user:{home}:/bin/bash\n"
        group += f"{user.name}:x:{user.uid}:\n"
    target.mkdir(exist_ok=True)
    (target / "passwd").write_text(passwd)
    (target / "group").write_text(group)
    # Wherever the host's own name leads, inside the lab it is the loopback.
    hosts = f"127.0.0.1 {layout.host} localhost\n" + Path("/etc/hosts").read_text()
    (target / "hosts").write_text(hosts)


def write_authority(etc: Path) -> None:
    """Let nodes and controller know each other, under the names that a node has for the controller."""
    from slurm_power.controller.sensing.authority import make_authority  # noqa: PLC0415  # a lab without power needs none

    make_authority(etc / "tls", "lab", ["127.0.0.1", "powerctld"], datetime.now(UTC))
    (etc / "tls").chmod(0o711)


def _write_programs(layout: Layout) -> None:
    """Give jobs the load program by a short name, wherever the checkout lies."""
    program = layout.run / "bin" / "plant-load"
    program.write_text(
        "#!/bin/sh\n# What a job runs here in place of a model: it makes the simulated GPUs draw power.\n"
        f"PYTHONPATH={shlex.quote(str(CHECKOUT))} exec {shlex.quote(layout.python)}"
        ' -m containers.plant.load "$@"\n'
    )
    program.chmod(0o755)
    if layout.options.slurm_root:
        write_root_programs(layout)


def _write_snmp_keys(layout: Layout) -> None:
    """Keep the SNMP v3 keys in files of their own, as site.toml wants them."""
    for name in ("auth_key", "priv_key"):
        file = layout.etc / f"snmp_{name}"
        file.touch(mode=0o600)
        file.write_text(f"{layout.snmp[name]}\n")


def write_record(layout: Layout) -> None:
    """Write RUN/etc/testbed.json, which marks the directory as a lab's; first of all files."""
    layout.etc.mkdir(parents=True, exist_ok=True)
    layout.state_file.write_text(json.dumps(layout.record(), indent=2) + "\n")

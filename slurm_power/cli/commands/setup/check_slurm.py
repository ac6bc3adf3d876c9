"""The part of ``slurm-power check`` that looks at Slurm: settings, what is installed in it, daemons."""

import asyncio
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from slurm_power import __version__, clock
from slurm_power.cli.commands.connection import ask
from slurm_power.cli.commands.setup.init import COMMAND_SECONDS
from slurm_power.config import SiteConfig
from slurm_power.ports import SchedulerError
from slurm_power.slurm import ours
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.finding import Finding, error, note, warning
from slurm_power.slurm.found import Found
from slurm_power.slurm.inspect import inspect
from slurm_power.slurm.installed import Controller, clock_findings, daemon_findings, installation_findings
from slurm_power.slurm.plugin_file import built_for
from slurm_power.slurm.requirements import requirement_findings
from slurm_power.slurm.shipped import NotShippedError, shipped
from slurm_power.slurm.site_draft import left_to_do

DEFAULT_SLURM_CONF = Path("/etc/slurm/slurm.conf")


def slurm_findings(slurm_conf: Path, config: SiteConfig | None, socket_path: Path | None) -> list[Finding]:
    """Look at everything; one finding says so where Slurm or powerctld does not answer."""
    if not slurm_conf.is_file():
        return [error(str(slurm_conf), "no such file", "--slurm-conf names Slurm's configuration")]
    try:
        commands = CommandRunner(slurm_conf, timeout_seconds=COMMAND_SECONDS)
        found = asyncio.run(inspect(commands, slurm_conf.absolute()))
    except SchedulerError as problem:
        return [
            error("slurmctld", f"does not answer: {problem}", "is slurmctld running, and SLURM_CONF right?")
        ]
    try:
        ship = shipped()
    except NotShippedError as problem:
        return [*requirement_findings(found), warning("slurm-power", str(problem))]
    releases = _releases(ours.plugins(found))
    return [
        *requirement_findings(found),
        *installation_findings(found, ship, releases, _licence(config)),
        *(note("slurmctld", problem) for problem in found.problems),
        *_unfed(found, config),
        *_daemons(found, socket_path),
    ]


def file_findings(config: SiteConfig, file: Path) -> list[Finding]:
    """What is left to do in site.toml, and whether its keys are readable by those who must not."""
    found = left_to_do(str(file), file.read_text(errors="replace"))
    directory = config.controller.tls_directory
    if not directory.is_dir():
        found.append(
            error(
                str(directory),
                "there is no certificate authority: no node can come",
                f"slurm-power ca init --directory {directory} --host NAME",
            )
        )
        return found
    for key in sorted(directory.glob("*")):
        private = "key" in key.name
        if private and key.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            found.append(error(str(key), "a private key that others may read", f"chmod 0600 {key}"))
    return found


def _releases(paths: Sequence[str]) -> dict[str, str | None]:
    """By path of a plugin that is there, the Slurm it was built for, None where that cannot be read."""
    found: dict[str, str | None] = {}
    for path in paths:
        try:
            found[path] = built_for(Path(path).read_bytes())
        except FileNotFoundError:
            continue
        except OSError:
            found[path] = None
    return found


def _licence(config: SiteConfig | None) -> str | None:
    """The licence that admission counts on, None where it is off or this version has none."""
    admission: Any = getattr(config, "admission", None)
    return str(admission.licence) if admission is not None and admission.enabled else None


def _unfed(found: Found, config: SiteConfig | None) -> Sequence[Finding]:
    if config is None:
        return ()
    fed = set(config.site.nodes())
    known = {node.name for node in found.nodes}
    missing = [node.name for node in found.nodes if node.gpu_count and node.name not in fed]
    findings = []
    if missing:
        findings.append(
            warning(
                str(config.file),
                f"nodes with GPUs on no circuit: {_some(missing)}; their powerd is turned away",
                "add them to nodes of a [circuit.NAME]",
            )
        )
    if fed - known:
        findings.append(
            warning(
                str(config.file),
                f"nodes that Slurm does not know: {_some(sorted(fed - known))}",
                "remove them",
            )
        )
    return findings


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _daemons(found: Found, socket_path: Path | None) -> list[Finding]:
    now_epoch_seconds = clock.now().timestamp()
    try:
        status = ask({"op": "status", "most_jobs": 0}, socket_path)
        sources = ask({"op": "sources"}, socket_path)["sources"]
    except click.ClickException as problem:
        return [
            warning(
                "powerctld",
                problem.message,
                "systemctl status powerctld; on other hosts than its own this is fine",
            ),
            *clock_findings(found, now_epoch_seconds),
        ]
    controller = Controller(
        version=str(status.get("version", "")),
        nodes={
            str(node["name"]): (
                str(node.get("software", "")),
                float(node["age_seconds"]),
                bool(node.get("connected", True)),
            )
            for node in status["nodes"]
        },
        clocks={
            str(row["name"]).removeprefix("powerd."): str(row["reason"])
            for row in sources
            if "its clock is" in str(row.get("reason"))
        },
    )
    return daemon_findings(found, controller, __version__, now_epoch_seconds)

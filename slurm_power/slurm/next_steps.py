"""The README of a proposal: what was proposed, and the commands for each kind of host, in order. Pure."""

import shlex
from pathlib import PurePosixPath

from slurm_power.slurm.found import Found
from slurm_power.slurm.places import Places
from slurm_power.slurm.proposal import CONTROLLER, LOGIN, NODE, Proposal, ProposedFile
from slurm_power.slurm.review_folder import ROOT

_TITLES = {
    NODE: "On each node",
    CONTROLLER: "On the controller's host",
    LOGIN: "On each login host",
}


def next_steps(found: Found, places: Places, proposal: Proposal, folder: str) -> str:
    """Markdown with the steps; ``folder`` is where the proposal lies."""
    cluster = f"the cluster {found.setting('ClusterName')}, Slurm {found.version}, {found.slurm_conf}"
    parts = [
        "# slurm-power: next steps",
        "",
        f"Proposed for {cluster}.",
        f"Nothing has been changed. Everything to be changed is in `{ROOT}/`, under the path it goes to;",
        "`changes.diff` shows what happens to files that are there already.",
        "",
        "## 1. Read, and edit",
        "",
        f"- `{ROOT}{places.config_directory}/site.toml`: each value marked TODO is a guess.",
        *(f"- {finding.line()}" for finding in proposal.findings),
        "",
        "## 2. Put the files in place",
        "",
        "On a host where slurm-power is installed, and this folder can be read:",
        "",
        f"    slurm-power init --apply --dir {shlex.quote(folder)}",
        "",
        "With `--role node`, `--role controller` or `--role login` only what such a host needs. What it",
        "replaces is kept, and `slurm-power uninstall --apply` puts it back. By hand, from this folder:",
        "",
        "**Nodes first, all of them.** Slurm drains a node that does not have a hook which slurm.conf names.",
        "",
    ]
    for role, title in _TITLES.items():
        files = [file for file in proposal.files if role in file.roles]
        parts += [f"{title}:", "", *(f"    {_command(file)}" for file in files), ""]
    parts += ["## 3. Start", "", *_start(found, places, proposal)]
    return "\n".join(parts) + "\n"


def _command(file: ProposedFile) -> str:
    line = f"install -D -m {file.mode:04o} {shlex.quote(f'{ROOT}{file.path}')} {shlex.quote(file.path)}"
    return f"[ -e {shlex.quote(file.path)} ] || {line}" if file.first_only else line


def _start(found: Found, places: Places, proposal: Proposal) -> list[str]:
    user, config = proposal.controller_user, places.config_directory
    lines = ["On the controller's host, once:", ""]
    if user == "slurmpower":
        lines += [
            f"    id {user} || useradd --system --no-create-home {user}",
            f"    sacctmgr -i add user {user} account=root adminlevel=Operator",
        ]
    lines += [
        f"    slurm-power ca init --directory {config}/tls --host {places.controller_host}",
        f"    install -m 0644 {config}/tls/ca.pem {config}/ca.pem      # and to each node",
        f"    chown -R {user} {config}/tls",
        "    systemctl daemon-reload",
        "    systemctl enable --now powerctld",
        "    systemctl enable --now powerweb    # the dashboard, once site.toml has [web] with listen",
        "    systemctl enable --now powerbridge # alerts, and the signals of [signals]",
        "",
        "On each node, with jobs or without:",
        "",
        "    systemctl daemon-reload",
        f"    systemctl enable --now {' '.join(proposal.unit_names)}",
        "",
        "Then, on the controller's host:",
        "",
        *(
            ["    systemctl restart slurmctld      # for JobSubmitPlugins; jobs go on"]
            if proposal.restart_slurmctld
            else []
        ),
        "    scontrol reconfigure      # nodes run the new hooks from now on",
        f"    slurm-power check --config {config}/site.toml",
        "    slurm-power status",
        "",
        "To take it off again: `slurm-power uninstall`.",
        f"powerctld and powerd write to {places.state_directory}.",
    ]
    if PurePosixPath(found.slurm_conf).parent != PurePosixPath("/etc/slurm"):
        lines += [
            "",
            f"slurm.conf is not in /etc/slurm: users need `SLURM_CONF={found.slurm_conf}`, as for Slurm.",
        ]
    return lines

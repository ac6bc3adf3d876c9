"""Whether what is installed of slurm-power in a Slurm is whole and of this version. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from slurm_power.slurm import ours
from slurm_power.slurm.finding import Finding, error, note, warning
from slurm_power.slurm.found import Found
from slurm_power.slurm.ours import State
from slurm_power.slurm.shipped import HOOKS, PLUGIN, Shipped

_NEEDED = ("Prolog", "Epilog")
_LOSS = {
    "Prolog": "jobs are not announced, so none is capped",
    "Epilog": "energy of jobs is not closed, leases of ended jobs run until their end",
    "PrologSlurmctld": "job starts are seen only when the job list is read",
    "EpilogSlurmctld": "job ends are seen only when the job list is read",
    "TaskProlog": "jobs get no environment of their start",
}
_ANYBODY_MAY_WRITE = 0o022
_EXECUTABLE = 0o111
INIT = "slurm-power init, then --apply"
# powerd's reports come each second.
_SILENT_SECONDS = 30.0
_SKEW_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """What powerctld says: its version; by node version, age in seconds, connected; clocks that are off."""

    version: str
    nodes: Mapping[str, tuple[str, float, bool]]
    clocks: Mapping[str, str]


def installation_findings(
    found: Found, ship: Shipped, plugin_releases: Mapping[str, str | None], licence: str | None
) -> list[Finding]:
    """Everything wrong with hooks, scripts and plugin.

    ``plugin_releases``: by path of a plugin file that is there, the Slurm release it was built for.
    ``licence``: the licence that admission needs, None where it is off.
    """
    hooks = ship.wanted_hooks(with_plugin=bool(ours.plugins(found)))
    return [
        *(finding for setting in hooks for finding in _hook(found, ship, setting)),
        *_flags(found),
        *_script(found, ship),
        *_plugin(found, plugin_releases),
        *_addresses(found),
        *_licence(found, licence),
    ]


def daemon_findings(
    found: Found, controller: Controller, version: str, now_epoch_seconds: float
) -> list[Finding]:
    """Everything wrong with powerctld, the nodes' powerd, and clocks."""
    findings = []
    if controller.version != version:
        findings.append(
            warning(
                "powerctld",
                f"runs version {controller.version or 'unknown'}, this command is {version}",
                "restart powerctld after an update",
            )
        )
    for node in found.nodes:
        if node.gpu_count == 0 or any(word in node.state for word in ("DOWN", "FUTURE", "POWERED_DOWN")):
            continue
        running, age_seconds, connected = controller.nodes.get(node.name, ("", float("inf"), False))
        if not connected or age_seconds > _SILENT_SECONDS:
            findings.append(
                warning(
                    f"node {node.name}",
                    "no powerd is connected: its GPUs count as at their most, and cannot be capped",
                    f"systemctl status powerd on {node.name}; the node must be in a circuit of site.toml",
                )
            )
        elif running != controller.version:
            findings.append(
                warning(
                    f"node {node.name}",
                    f"powerd runs version {running or 'unknown'}, powerctld {controller.version}",
                    "install the same version everywhere, restart powerd",
                )
            )
    findings += [
        warning(f"node {node}", why, "chronyd or systemd-timesyncd on every host")
        for node, why in controller.clocks.items()
    ]
    return findings + clock_findings(found, now_epoch_seconds)


def clock_findings(found: Found, now_epoch_seconds: float) -> list[Finding]:
    """Nodes that say that their slurmd will start in the future; MUNGE refuses what is 5 min off."""
    ahead_seconds = {
        node.name: node.slurmd_start_epoch_seconds - now_epoch_seconds
        for node in found.nodes
        if node.slurmd_start_epoch_seconds is not None
    }
    return [
        warning(
            f"node {name}",
            f"its clock is {seconds:.0f} s or more ahead of this host's",
            "chronyd or systemd-timesyncd on every host",
        )
        for name, seconds in ahead_seconds.items()
        if seconds > _SKEW_SECONDS
    ]


def _hook(found: Found, ship: Shipped, setting: str) -> Iterator[Finding]:
    told = error if setting in _NEEDED else warning
    paths = found.hook_files.get(setting, ())
    if not paths:
        yield told("slurm.conf", f"{setting} is not set: {_LOSS[setting]}", INIT)
        return
    there = ours.hook(found, setting, ship)
    run = dict.fromkeys([*paths, *(own for path in paths for own in ours.chained(found, path))])
    if there.path:
        run[there.path] = None
    for path in run:
        yield from _file(found, setting, path)
    if there.state is State.OTHER:
        yield warning(there.path, f"is {setting} of another version of slurm-power", INIT)
    elif there.state is State.ABSENT and all(found.text(path) for path in paths):
        yield told(
            paths[0],
            f"does not call slurm-power's {HOOKS[setting]}: {_LOSS[setting]}",
            f"{INIT}; or call it from yours with its absolute path",
        )


def _file(found: Found, setting: str, path: str) -> Iterator[Finding]:
    file = found.files.get(path)
    if file is None or file.text is None:
        problem = file.problem if file is not None else "No such file or directory"
        yield error(
            path,
            f"{setting} cannot be read here: {problem}; a node without it is drained",
            f"put it there on each host, or correct {setting}=",
        )
        return
    if not file.mode & _EXECUTABLE:
        yield error(
            path, f"{setting} is not executable: a node whose hook fails is drained", f"chmod 0755 {path}"
        )
    if (
        setting != "TaskProlog"
        and (file.mode & _ANYBODY_MAY_WRITE or file.uid != 0)
        and found.slurm_user != ""
    ):
        owner = "" if file.uid == 0 else f" (its owner is uid {file.uid})"
        if file.mode & _ANYBODY_MAY_WRITE or setting in _NEEDED:
            yield error(
                path, f"runs as root, and others may write it{owner}", f"chown root {path}; chmod go-w {path}"
            )


def _flags(found: Found) -> Iterator[Finding]:
    flags = {flag.lower() for flag in found.words("PrologFlags")}
    if not flags & {"alloc", "contain", "x11"}:
        yield warning(
            "slurm.conf",
            "PrologFlags has no Alloc: the prolog runs at a job's first step, after its watts were needed",
            "PrologFlags=Alloc",
        )


def _script(found: Found, ship: Shipped) -> Iterator[Finding]:
    if "lua" not in found.words("JobSubmitPlugins"):
        yield warning(
            "slurm.conf",
            "JobSubmitPlugins has no lua: nobody notes workload and flex with a job",
            f"{INIT}; restart slurmctld",
        )
        return
    if not found.text(found.job_submit_lua):
        yield error(found.job_submit_lua, "is missing or empty, and JobSubmitPlugins has lua", INIT)
        return
    there = ours.job_submit(found, ship)
    if there.state is State.ABSENT:
        yield warning(
            found.job_submit_lua, "does not call slurm-power's", f"{INIT}: it adds a block that does"
        )
    elif there.state is State.OTHER:
        yield warning(there.path, "is job_submit of another version of slurm-power", INIT)
    for name, text in ship.lua.items():
        path = f"{found.directory}/{name}"
        if there.state is not State.ABSENT and there.path != path and found.text(path) != text:
            what = "is of another version of slurm-power" if found.text(path) else "is missing"
            yield warning(path, what, INIT)


def _plugin(found: Found, releases: Mapping[str, str | None]) -> Iterator[Finding]:
    named = ours.plugins(found)
    if not named:
        yield warning(
            found.plugstack_conf,
            f"does not name {PLUGIN}: sbatch knows no --flex, and hooks are told no workload",
            f"{INIT}, or: optional {found.directory}/slurm-power/{PLUGIN}",
        )
    release = ".".join(found.version.split(".")[:2])
    for path in named:
        if path not in releases:
            yield error(
                path, f"{found.plugstack_conf} names it, but it is not there", "make -C spank, and copy it"
            )
        elif releases[path] is None:
            yield warning(path, "cannot be read as a plugin of Slurm", "make -C spank, and copy it")
        elif releases[path] != release:
            yield error(
                path,
                f"was built for Slurm {releases[path]}, this is {release}: Slurm leaves it out",
                "make -C spank where the headers of this Slurm are, and copy it",
            )


def _addresses(found: Found) -> Iterator[Finding]:
    path = f"{found.directory}/slurm-power.conf"
    file = found.files.get(path)
    if file is None or file.text is None:
        yield note(path, "is not there: hooks and psbatch take the defaults of docs/configuration.md")


def _licence(found: Found, licence: str | None) -> Iterator[Finding]:
    if licence is not None and licence not in found.licenses:
        yield error(
            "slurm.conf",
            f"Licenses has no {licence}: jobs would ask for a licence that is not there",
            f"Licenses={licence}:N with the safety rating in watts (docs/admission.md)",
        )

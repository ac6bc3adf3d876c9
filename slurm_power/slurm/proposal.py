"""From what was found of a Slurm to the files that would add slurm-power to it. Pure: same in, same out."""

from dataclasses import dataclass, replace

from slurm_power.slurm import ours, site_draft
from slurm_power.slurm.compose import chain, lua_block
from slurm_power.slurm.conf_text import has_blocks, read_settings, with_line, with_lua, with_settings
from slurm_power.slurm.finding import Finding, error, note
from slurm_power.slurm.found import Found
from slurm_power.slurm.ours import State
from slurm_power.slurm.places import DEFAULT_RUN_DIRECTORY, DEFAULT_STATE_DIRECTORY, Places
from slurm_power.slurm.requirements import configless_findings, requirement_findings
from slurm_power.slurm.shipped import HOOKS, JOB_SUBMIT_BESIDE, PLUGIN, Shipped

CONTROLLER, NODE, LOGIN = "controller", "node", "login"
EVERYWHERE = (CONTROLLER, NODE, LOGIN)
_ROLES_OF_HOOKS = {"PrologSlurmctld": (CONTROLLER,), "EpilogSlurmctld": (CONTROLLER,)}
_ALLOCATING_FLAGS = {"alloc", "contain", "x11"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedFile:
    """A file as it should be at ``path``. ``before`` is the text it replaces, None where there is none.

    ``first_only``: not written where a file of this name is already there, as with site.toml.
    """

    path: str
    content: bytes
    mode: int
    roles: tuple[str, ...]
    why: str
    before: str | None = None
    first_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """All files, what is to be known about them, and whether slurmctld must be restarted."""

    files: tuple[ProposedFile, ...]
    findings: tuple[Finding, ...]
    restart_slurmctld: bool
    unit_names: tuple[str, ...]
    controller_user: str


def propose(found: Found, places: Places, ship: Shipped, plugin: bytes | None) -> Proposal:
    """Propose; ``plugin`` is the SPANK plugin built for this Slurm, None where it could not be built."""
    findings = requirement_findings(found)
    hooks = ship.wanted_hooks(with_plugin=plugin is not None or bool(ours.plugins(found)))
    files = [
        *_hooks(found, places, ship, hooks),
        *_job_submit(found, ship),
        *_plugin(found, places, plugin, findings),
    ]
    changes = _settings(found, places, ship, hooks)
    files += _changed_conf(found, changes, findings)
    files += _configuration(found, places)
    files += _units(found, places, ship)
    findings += configless_findings(found, str(places.hooks_directory))
    restart = any(key.lower() in _NEED_RESTART for key, _, _ in changes)
    units = tuple(name for name in _unit_names(found))
    return Proposal(
        files=tuple(_seen(found, file) for file in files),
        findings=tuple(findings),
        restart_slurmctld=restart,
        unit_names=units,
        controller_user=controller_user(found),
    )


def _seen(found: Found, file: ProposedFile) -> ProposedFile:
    """With what is there now, as was found."""
    there = found.files.get(file.path)
    return file if there is None or file.before is not None else replace(file, before=there.text)


_NEED_RESTART = {"jobsubmitplugins", "prologslurmctld", "epilogslurmctld"}


def controller_user(found: Found) -> str:
    """Whom powerctld runs as: a user of its own where Slurm can know it as operator."""
    return "slurmpower" if found.accounting else found.slurm_user


def _settings(
    found: Found, places: Places, ship: Shipped, hooks: dict[str, str]
) -> list[tuple[str, str, str]]:
    """The settings of slurm.conf that change: key, value, why."""
    changes = []
    for setting, name in HOOKS.items():
        if setting not in hooks or ours.hook(found, setting, ship).state is not State.ABSENT:
            continue
        if found.hook_files.get(setting):
            changes.append(
                (setting, f"{places.hooks_directory}/{name}_chain", "runs the site's own, then slurm-power's")
            )
        else:
            changes.append((setting, f"{places.hooks_directory}/{name}", "announces jobs to slurm-power"))
    flags = found.words("PrologFlags")
    if not _ALLOCATING_FLAGS & {flag.lower() for flag in flags}:
        why = "the prolog runs when nodes are allocated, before the first step"
        changes.append(("PrologFlags", ",".join((*flags, "Alloc")), why))
    plugins = found.words("JobSubmitPlugins")
    if "lua" not in plugins:
        changes.append(
            ("JobSubmitPlugins", ",".join((*plugins, "lua")), "notes workload and flex with each job")
        )
    return changes


def _changed_conf(
    found: Found, changes: list[tuple[str, str, str]], findings: list[Finding]
) -> list[ProposedFile]:
    """slurm.conf and what it includes, each with the settings that stand in it."""
    by_file: dict[str, list[tuple[str, str, str]]] = {}
    conf_files = [path for path in found.files if path == found.slurm_conf or path in _includes(found)]
    for change in changes:
        holding = [
            path
            for path in conf_files
            if any(setting.key.lower() == change[0].lower() for setting in read_settings(found.text(path)))
        ]
        for path in holding or [found.slurm_conf]:
            by_file.setdefault(path, []).append(change)
    files = []
    for path, wanted in by_file.items():
        before = found.text(path)
        try:
            after = with_settings(before, wanted)
        except ValueError as problem:
            findings.append(error(path, str(problem), "then run init again"))
            continue
        why = "marked blocks with " + ", ".join(key for key, _, _ in wanted)
        files.append(_changed(found, path, after, EVERYWHERE, why))
    return files


def _includes(found: Found) -> set[str]:
    named = set()
    for file in found.files.values():
        for setting in read_settings(file.text or ""):
            if setting.key == "Include":
                named.add(
                    setting.value if setting.value.startswith("/") else f"{found.directory}/{setting.value}"
                )
    return named


def _changed(found: Found, path: str, after: str, roles: tuple[str, ...], why: str) -> ProposedFile:
    file = found.files.get(path)
    there = file is not None and file.text is not None
    return ProposedFile(
        path=path,
        content=after.encode(errors="surrogateescape"),
        mode=(file.mode & 0o7777) if file is not None and there else 0o644,
        roles=roles,
        why=why,
        before=file.text if file is not None else None,
    )


def _hooks(found: Found, places: Places, ship: Shipped, hooks: dict[str, str]) -> list[ProposedFile]:
    files = []
    for setting, text in hooks.items():
        name = HOOKS[setting]
        roles = _ROLES_OF_HOOKS.get(setting, (NODE,))
        there = ours.hook(found, setting, ship)
        path = there.path or f"{places.hooks_directory}/{name}"
        files.append(
            ProposedFile(
                path=path,
                content=text.encode(),
                mode=0o755,
                roles=roles,
                why=f"{setting} of slurm-power",
                before=found.files[path].text if path in found.files else None,
            )
        )
        own = found.hook_files.get(setting, ())
        if there.state is State.ABSENT and own:
            files.append(
                ProposedFile(
                    path=f"{places.hooks_directory}/{name}_chain",
                    content=chain(setting, _patterns(found, setting), path).encode(errors="surrogateescape"),
                    mode=0o755,
                    roles=roles,
                    why=f"runs the site's own {setting} ({', '.join(own)}), then slurm-power's",
                )
            )
    return files


def _patterns(found: Found, setting: str) -> list[str]:
    """A hook's paths or globs as the site wrote them, so that a file added to its folder later runs, too."""
    keys = [key for key in found.settings if key.partition("[")[0] == setting.lower()]
    patterns = [pattern for key in keys for pattern in found.settings[key].split(",")]
    return [pattern if pattern.startswith("/") else f"{found.directory}/{pattern}" for pattern in patterns]


def _job_submit(found: Found, ship: Shipped) -> list[ProposedFile]:
    """Our scripts, beside slurm.conf, where they find each other and slurm-power.conf."""
    why = "job_submit of slurm-power"
    files = [
        _changed(found, f"{found.directory}/{name}", text, (CONTROLLER,), why)
        for name, text in ship.lua.items()
    ]
    there = ours.job_submit(found, ship)
    site_own = found.text(found.job_submit_lua)
    if there.state is State.CURRENT:
        return files
    if there.state is State.OTHER and there.path.rpartition("/")[2] not in ship.lua:
        return [*files, _changed(found, there.path, ship.job_submit, (CONTROLLER,), why)]
    if there.state is State.OTHER:
        return files
    if not site_own or site_own == ship.job_submit:
        return [*files, _changed(found, found.job_submit_lua, ship.job_submit, (CONTROLLER,), why)]
    path = f"{found.directory}/{JOB_SUBMIT_BESIDE}"
    composed = site_own if has_blocks(site_own) else with_lua(site_own, lua_block(path))
    return [
        *files,
        _changed(found, path, ship.job_submit, (CONTROLLER,), why),
        _changed(
            found,
            found.job_submit_lua,
            composed,
            (CONTROLLER,),
            "a marked block that calls slurm-power's, too",
        ),
    ]


def _plugin(
    found: Found, places: Places, plugin: bytes | None, findings: list[Finding]
) -> list[ProposedFile]:
    named = ours.plugins(found)
    path = named[0] if named else f"{places.hooks_directory}/{PLUGIN}"
    files = []
    if plugin is None:
        findings.append(
            note(
                path,
                "the SPANK plugin could not be built here (no compiler, or no headers of this Slurm)",
                f"make -C spank where gcc and libslurm-dev are, then slurm_power.so to {path} everywhere",
            )
        )
    else:
        files.append(
            ProposedFile(
                path=path,
                content=plugin,
                mode=0o755,
                roles=EVERYWHERE,
                why=f"SPANK plugin for Slurm {found.version}",
            )
        )
    if not named:
        text = found.text(found.plugstack_conf)
        why = "--workload, --flex and more on sbatch, srun, salloc; optional: jobs run without it, too"
        files.append(
            _changed(
                found,
                found.plugstack_conf,
                with_line(text, f"optional {path}", why),
                EVERYWHERE,
                "a marked block with the plugin",
            )
        )
    return files


def _configuration(found: Found, places: Places) -> list[ProposedFile]:
    drafts = (
        (
            f"{found.directory}/slurm-power.conf",
            site_draft.slurm_power_conf(found, places),
            EVERYWHERE,
            "addresses",
        ),
        (
            f"{places.config_directory}/site.toml",
            site_draft.site_toml(found, places),
            (CONTROLLER,),
            "circuits, devices, policy: edit this",
        ),
        (f"{places.config_directory}/node.toml", site_draft.node_toml(found, places), (NODE,), "for powerd"),
    )
    files = [
        ProposedFile(path=path, content=text.encode(), mode=0o644, roles=roles, why=why, first_only=True)
        for path, text, roles, why in drafts
    ]
    if found.directory != "/etc/slurm":
        # Slurm does not tell its slurmctld's hooks where slurm.conf is: they look beside themselves.
        path = f"{places.hooks_directory}/slurm-power.conf"
        text = site_draft.slurm_power_conf(found, places)
        why = "the same, for hooks of slurmctld"
        files.append(
            ProposedFile(
                path=path, content=text.encode(), mode=0o644, roles=(CONTROLLER,), why=why, first_only=True
            )
        )
    return files


def _units(found: Found, places: Places, ship: Shipped) -> list[ProposedFile]:
    files = []
    chosen = {places.state_directory: DEFAULT_STATE_DIRECTORY, places.run_directory: DEFAULT_RUN_DIRECTORY}
    elsewhere = [folder for folder, usual in chosen.items() if folder != usual]
    for name, text in ship.units.items():
        unit = text.replace("/opt/slurm-power/bin/", f"{places.programs}/")
        unit = unit.replace("/etc/slurm-power/", f"{places.config_directory}/")
        unit = unit.replace("/var/lib/slurm-power", places.state_directory)
        if elsewhere:
            # systemd makes its own folders only below /var/lib and /run; the rest it keeps read-only.
            unit = unit.replace("\n[Install]", f"\nReadWritePaths={' '.join(elsewhere)}\n\n[Install]")
        if name in ("powerctld.service", "powerweb.service", "powerbridge.service"):
            user = controller_user(found)
            unit = unit.replace("User=slurmpower", f"User={user}").replace(
                "Group=slurmpower", f"Group={user}"
            )
            daemon = name.removesuffix(".service")
            files.append(_unit(places, name, unit, (CONTROLLER,), daemon))
        elif name == "powerd.service" and found.shared_host:
            unit = unit.replace("node.toml", "node.toml --node %i")
            files.append(
                _unit(places, "powerd@.service", unit, (NODE,), "powerd, one for each node of this host")
            )
        elif name == "powerd.service":
            files.append(_unit(places, name, unit, (NODE,), "powerd"))
    return files


def _unit(places: Places, name: str, text: str, roles: tuple[str, ...], why: str) -> ProposedFile:
    return ProposedFile(
        path=f"{places.unit_directory}/{name}",
        content=text.encode(),
        mode=0o644,
        roles=roles,
        why=f"systemd's unit of {why}",
        first_only=True,
    )


def _unit_names(found: Found) -> list[str]:
    """powerd's units of one node's host, as ``systemctl enable`` takes them."""
    with_gpus = [node.name for node in found.nodes if node.gpu_count]
    return [f"powerd@{name}" for name in with_gpus] if found.shared_host else ["powerd"]

"""Each thing that can be wrong is told in a line, with its fix; a Slurm that is right is quiet."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from slurm_power.slurm.finding import Severity, exit_status
from slurm_power.slurm.found import Found
from slurm_power.slurm.installed import Controller, daemon_findings, installation_findings
from slurm_power.slurm.requirements import requirement_findings
from slurm_power.slurm.residue import residue
from slurm_power.slurm.site_draft import left_to_do, site_toml
from tests.install.recorded_slurm import (
    PLACES,
    PLUGIN,
    SHIP,
    VERSIONS,
    installed,
    recorded,
    with_file,
    with_setting,
)

HOOKS_DIRECTORY = PLACES.hooks_directory
PROLOG, EPILOG = f"{HOOKS_DIRECTORY}/prolog", f"{HOOKS_DIRECTORY}/epilog"
LUA = "/run/lab/etc/job_submit.lua"
PLUGSTACK = "/run/lab/etc/plugstack.conf"
each_version = pytest.mark.parametrize("version", VERSIONS)


def told(found: Found, *, release: str | None = "same", licence: str | None = None) -> list[str]:
    own = ".".join(found.version.split(".")[:2])
    releases = {} if release is None else {PLUGIN: own if release == "same" else release}
    findings = [*requirement_findings(found), *installation_findings(found, SHIP, releases, licence)]
    assert all(finding.fix for finding in findings if finding.severity is not Severity.NOTE)
    return [finding.line() for finding in findings if finding.severity is not Severity.NOTE]


@each_version
def test_a_slurm_that_is_right_is_quiet(version: str) -> None:
    assert told(installed(version)) == []


SPOILED: dict[str, tuple[Callable[[Found], Found], str, str]] = {
    "no hook": (
        lambda found: replace(
            with_setting(found, "Prolog", None), hook_files={**found.hook_files, "Prolog": ()}
        ),
        "error: slurm.conf: Prolog is not set",
        "init",
    ),
    "a wrong path": (
        lambda found: replace(found, hook_files={**found.hook_files, "Epilog": ("/nowhere/epilog",)}),
        "error: /nowhere/epilog: Epilog cannot be read here",
        "correct Epilog=",
    ),
    "not executable": (
        lambda found: with_file(found, PROLOG, mode=0o100644),
        f"error: {PROLOG}: Prolog is not executable",
        f"chmod 0755 {PROLOG}",
    ),
    "open to everybody": (
        lambda found: with_file(found, PROLOG, mode=0o100777),
        f"error: {PROLOG}: runs as root, and others may write it",
        f"chmod go-w {PROLOG}",
    ),
    "somebody's own": (
        lambda found: with_file(found, PROLOG, uid=1000),
        f"error: {PROLOG}: runs as root, and others may write it (its owner is uid 1000)",
        f"chown root {PROLOG}",
    ),
    "another version's": (
        lambda found: with_file(found, EPILOG, text=SHIP.hooks["Epilog"] + "# older\n"),
        f"warning: {EPILOG}: is Epilog of another version",
        "init",
    ),
    "a hook that is not ours": (
        lambda found: with_file(found, PROLOG, text="#!/bin/sh\nexit 0\n"),
        f"error: {PROLOG}: does not call slurm-power's prolog",
        "init",
    ),
    "no Alloc": (
        lambda found: with_setting(found, "PrologFlags", None),
        "warning: slurm.conf: PrologFlags has no Alloc",
        "PrologFlags=Alloc",
    ),
    "no lua": (
        lambda found: with_setting(found, "JobSubmitPlugins", "require_timelimit"),
        "warning: slurm.conf: JobSubmitPlugins has no lua",
        "restart slurmctld",
    ),
    "the script is missing": (
        lambda found: with_file(found, LUA, text=None),
        f"error: {LUA}: is missing or empty",
        "init",
    ),
    "a script that does not call ours": (
        lambda found: with_file(found, LUA, text="function slurm_job_submit() return 0 end\n"),
        f"warning: {LUA}: does not call slurm-power's",
        "it adds a block",
    ),
    "no line in plugstack.conf": (
        lambda found: with_file(found, PLUGSTACK, text=""),
        f"warning: {PLUGSTACK}: does not name slurm_power.so",
        f"optional {PLUGIN}",
    ),
    "no MUNGE": (
        lambda found: with_setting(found, "AuthType", "auth/none"),
        "error: slurm.conf: AuthType is auth/none",
        "AuthType=auth/munge",
    ),
    "cons_res": (
        lambda found: with_setting(found, "SelectType", "select/cons_res"),
        "error: slurm.conf: SelectType is select/cons_res",
        "select/cons_tres",
    ),
    "no backfill": (
        lambda found: with_setting(found, "SchedulerType", "sched/builtin"),
        "warning: slurm.conf: SchedulerType is sched/builtin",
        "sched/backfill",
    ),
    "a licence without bf_licenses": (
        lambda found: replace(
            with_setting(found, "SchedulerParameters", "bf_window=60"), licenses={"watts": 1000}
        ),
        "error: slurm.conf: SchedulerParameters has no bf_licenses",
        "add bf_licenses",
    ),
    "no time for hooks": (
        lambda found: with_setting(found, "PrologEpilogTimeout", "2"),
        "error: slurm.conf: PrologEpilogTimeout=2 s",
        "never below 5",
    ),
    "no time limits": (
        lambda found: replace(
            found,
            partitions=tuple(
                replace(one, default_seconds=None, most_seconds=None) for one in found.partitions
            ),
        ),
        "warning: partition main: neither DefaultTime nor MaxTime",
        "DefaultTime=01:00:00",
    ),
    "no GPUs": (
        lambda found: replace(found, nodes=tuple(replace(node, gpu_count=0) for node in found.nodes)),
        "error: slurm.conf: no node has GPUs",
        "GresTypes=gpu",
    ),
    "an old Slurm": (
        lambda found: replace(found, version="21.08.8"),
        "error: slurmctld: version 21.08.8 is not supported",
        "22.05 or later",
    ),
}


@each_version
@pytest.mark.parametrize("case", SPOILED)
def test_what_is_wrong_is_told_with_its_fix(version: str, case: str) -> None:
    spoil, line, fix = SPOILED[case]
    lines = [one for one in told(spoil(installed(version))) if one.startswith(line)]
    assert len(lines) == 1, told(spoil(installed(version)))
    assert fix in lines[0].partition("; fix: ")[2]


@each_version
def test_the_plugin_and_the_licence_are_looked_for(version: str) -> None:
    found = installed(version)
    assert any("names it, but it is not there" in line for line in told(found, release=None))
    assert any("was built for Slurm 21.08" in line for line in told(found, release="21.08"))
    assert any("Licenses has no watts" in line for line in told(found, licence="watts"))
    assert told(replace(found, licenses={"watts": 1}), licence="watts") == []


NOW = 1_800_000_000.0
NODES = {f"c{number}": ("1.0", 0.5, True) for number in range(1, 5)}
DAEMONS: dict[str, tuple[Controller, float, str]] = {
    "an older powerctld": (
        Controller(version="0.9", nodes=dict.fromkeys(NODES, ("0.9", 0.5, True)), clocks={}),
        NOW,
        "powerctld: runs version 0.9",
    ),
    "an older powerd": (
        Controller(version="1.0", nodes=NODES | {"c2": ("0.9", 0.5, True)}, clocks={}),
        NOW,
        "node c2: powerd runs version 0.9",
    ),
    "a node without powerd": (
        Controller(version="1.0", nodes={n: NODES[n] for n in ("c1", "c2", "c3")}, clocks={}),
        NOW,
        "node c4: no powerd is connected",
    ),
    "a node that left": (
        Controller(version="1.0", nodes=NODES | {"c3": ("1.0", 900.0, False)}, clocks={}),
        NOW,
        "node c3: no powerd is connected",
    ),
    "a clock that powerd shows": (
        Controller(version="1.0", nodes=NODES, clocks={"c1": "its clock is 90 s behind the controller's"}),
        NOW,
        "node c1: its clock is 90 s behind",
    ),
}


@each_version
@pytest.mark.parametrize("case", DAEMONS)
def test_daemons_are_looked_at(version: str, case: str) -> None:
    controller, now, line = DAEMONS[case]
    found = installed(version)
    first = next(one.line() for one in daemon_findings(found, controller, "1.0", now))
    assert first.startswith(f"warning: {line}")
    whole = Controller(version="1.0", nodes=NODES, clocks={})
    assert daemon_findings(found, whole, "1.0", now) == []


@each_version
def test_a_slurmd_of_the_future_is_a_clock_that_is_wrong(version: str) -> None:
    found = installed(version)
    started = found.nodes[0].slurmd_start_epoch_seconds
    assert started is not None
    whole = Controller(version="1.0", nodes=NODES, clocks={})
    lines = [one.line() for one in daemon_findings(found, whole, "1.0", started - 100.0)]
    assert lines[0].startswith("warning: node c1: its clock is 100 s or more ahead")


@each_version
def test_what_is_left_of_us_is_found(version: str) -> None:
    assert residue(recorded(version), SHIP, []) == []
    found = replace(installed(version), licenses={"watts": 5}, reservations=("slurmpower_dr1", "other"))
    lines = [one.line() for one in residue(found, SHIP, [("7", '{"power":{"flex":"flex2"}}'), ("8", "mine")])]
    for part in (
        "slurmctld, Prolog",
        "slurmctld, Epilog",
        "JobSubmitPlugins",
        "marked block",
        "slurmpower_dr1",
    ):
        assert any(part in line for line in lines), (part, lines)
    assert any("watts:5" in line for line in lines)
    assert any("jobs: 1 have notes" in line for line in lines)
    assert not any("other" in line for line in lines)


@each_version
def test_guesses_in_the_draft_are_told_until_they_are_gone(version: str) -> None:
    text = site_toml(recorded(version), PLACES)
    lines = [one.line() for one in left_to_do("site.toml", text)]
    assert len(lines) == text.count("TODO") - 1  # the head of the file explains the word
    assert "circuit.grid.rating_watts is still a guess" in lines[0]
    assert left_to_do("site.toml", text.replace("TODO", "")) == []


def test_the_worst_finding_is_the_exit_status() -> None:
    found = installed(VERSIONS[0])
    assert exit_status(requirement_findings(found)) == 0
    assert exit_status(requirement_findings(SPOILED["no time limits"][0](found))) == 1
    assert exit_status(requirement_findings(SPOILED["no GPUs"][0](found))) == 2

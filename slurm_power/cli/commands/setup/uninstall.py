"""``slurm-power uninstall``: gives everything back, and leaves Slurm as it was before ``init --apply``."""

import asyncio
import secrets
import sys
import time
from pathlib import Path

import click

from slurm_power import clock
from slurm_power.cli.commands.connection import ask, json_option, print_json, socket_option
from slurm_power.cli.commands.setup.init import (
    COMMAND_SECONDS,
    Refused,
    config_directory_option,
    look,
    named_conf,
    slurm_conf_option,
)
from slurm_power.ports import SchedulerError
from slurm_power.slurm import ours
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.finding import Finding, exit_status, note, warning
from slurm_power.slurm.found import Found
from slurm_power.slurm.installation import Outcome, enabled_units, installed_files, remove
from slurm_power.slurm.parse import parse_squeue, squeue_format
from slurm_power.slurm.residue import conf_files, residue
from slurm_power.slurm.review_folder import ReviewError
from slurm_power.slurm.shipped import NotShippedError, shipped

GIVE_BACK_SECONDS = 30.0
POLL_SECONDS = 0.5


@click.command()
@click.option(
    "--apply", "apply_it", is_flag=True, help="Do it on this host; without it, only say what would be done."
)
@click.option("--verify", is_flag=True, help="Only look whether anything is left; exit status 1 if so.")
@click.option(
    "--purge", is_flag=True, help="With --apply: remove site.toml and node.toml even where you edited them."
)
@config_directory_option
@slurm_conf_option
@socket_option
@json_option
def uninstall(  # noqa: PLR0917  # click hands over one argument for each option
    apply_it: bool,
    verify: bool,
    purge: bool,
    config_directory: Path,
    slurm_conf: Path | None,
    socket_path: Path | None,
    as_json: bool,
) -> None:
    """Take slurm-power off and restore Slurm's files.

    Gives back caps and holds first, and names what is left.

    Files are only taken off on this host; run it on each. Exit status: 0 nothing (more) to do, 1 something
    is left, 2 a refusal that changed nothing.
    """
    if verify and apply_it:
        raise click.UsageError("--verify changes nothing: give it without --apply")
    conf = named_conf(slurm_conf)
    found, findings = _look(conf)
    if apply_it:
        findings += _give_back(socket_path)
    keep = [] if purge else [config_directory]
    marked = [Path(path) for path in conf_files(found)] if found is not None else []
    try:
        in_use = enabled_units(installed_files(config_directory))
        in_use |= ours.in_use(found) if found is not None else set()
        outcome = remove(config_directory, marked, keep=keep, in_use=in_use, dry=not apply_it)
    except ReviewError as error:
        raise Refused(error.problems) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}; run it again as root") from None
    if found is not None and not apply_it:
        findings += _residue(found, conf)
    status = _status(outcome, findings, apply_it=apply_it, verify=verify)
    if as_json:
        print_json(
            {
                "done" if apply_it else "to_do": outcome.done,
                "in_use": outcome.later,
                "kept": outcome.kept,
                "problems": outcome.problems,
                "findings": [finding.as_json() for finding in findings],
            }
        )
        sys.exit(status)
    _tell(outcome, findings, apply_it=apply_it)
    sys.exit(status)


def _look(conf: Path | None) -> tuple[Found | None, list[Finding]]:
    """Read the running Slurm; without one, what the record says is all there is to go by."""
    try:
        return look(conf), []
    except Refused as error:
        return None, [warning("slurmctld", error.message, "run uninstall --verify when it answers")]


def _give_back(socket_path: Path | None) -> list[Finding]:
    """Switch the control off, and wait until nothing of ours stands any more."""
    try:
        ask({"op": "control", "enabled": False, "reason": "it is uninstalled"}, socket_path)
    except click.ClickException as error:
        return [note("powerctld", f"{error.message} Its leases end by themselves")]

    until = clock.monotonic() + GIVE_BACK_SECONDS
    while clock.monotonic() < until:
        try:
            answer = ask({"op": "status"}, socket_path)
        except click.ClickException as error:
            return [note("powerctld", f"{error.message} Its leases end by themselves")]
        held = any(job.get("hold_ends_in_seconds") for job in answer.get("jobs", []))
        if not answer.get("leases") and not held:
            return [note("powerctld", "the control is off, every cap and hold is given back")]
        time.sleep(POLL_SECONDS)
    return [
        warning(
            "powerctld",
            f"the control is off, but not everything was back after {GIVE_BACK_SECONDS:g} s",
            "slurm-power status; leases end by themselves",
        )
    ]


def _residue(found: Found, conf: Path | None) -> list[Finding]:
    try:
        ship = shipped()
    except NotShippedError as error:
        raise click.ClickException(str(error)) from None
    mark = f"|{secrets.token_hex(8)}|"
    try:
        commands = CommandRunner(conf, timeout_seconds=COMMAND_SECONDS)
        words = ("squeue", "--noheader", "--all", "--Format", squeue_format(mark))
        printed = asyncio.run(commands.run(*words))
        comments = [(record.job.job_id, record.admin_comment) for record in parse_squeue(printed, mark)]
    except (SchedulerError, ValueError) as error:
        return [*residue(found, ship, []), warning("jobs", f"not looked at: {error}")]
    return residue(found, ship, comments)


def _status(outcome: Outcome, findings: list[Finding], *, apply_it: bool, verify: bool) -> int:
    left = exit_status(findings) > 0 or bool(outcome.problems) or bool(outcome.later)
    if apply_it:
        return int(left)
    return int(left or (verify and bool(outcome.done)))


def _tell(outcome: Outcome, findings: list[Finding], *, apply_it: bool) -> None:
    for line in outcome.done:
        click.echo(line if apply_it else f"would be done: {line}")
    for path in outcome.later:
        click.echo(f"{path}: still in use; run this again after the steps below")
    for path in outcome.kept:
        click.echo(f"{path}: edited by you, stays (--purge removes it)")
    for problem in outcome.problems:
        click.echo(problem, err=True)
    for finding in findings:
        click.echo(finding.line())
    if apply_it:
        click.echo(
            "On the controller's host: systemctl disable --now powerctld; systemctl restart slurmctld;"
            " scontrol reconfigure\nOn each node: systemctl disable --now powerd\n"
            + (
                "Then: slurm-power uninstall --apply"
                if outcome.later
                else "Then: slurm-power uninstall --verify"
            )
        )
    elif not outcome.done and exit_status(findings) == 0:
        click.echo("nothing of slurm-power is left in this Slurm")

"""Which way Slurm is spoken to: as the site says, or by pyslurm where a build that matches is there."""

import asyncio
import logging
import re
from pathlib import Path

from slurm_power.config.site import SchedulerKind
from slurm_power.ports import Scheduler, SchedulerError
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.scheduler_cli import CliScheduler
from slurm_power.slurm.scheduler_pyslurm import PyslurmScheduler, PyslurmWorker

log = logging.getLogger(__name__)

_RELEASE = re.compile(r"(\d+)\.(\d+)")


async def chosen_scheduler(
    kind: SchedulerKind, slurm_conf: Path | None, *, hold_file: Path, licence: str = ""
) -> Scheduler:
    """The scheduler port for a cluster, and a line in the log that says which and why.

    Raises SchedulerError where pyslurm is asked for and cannot be used. Whether it can is tried in another
    process: importing it may end the one that does.
    """
    commands = CommandRunner(slurm_conf)
    if kind is SchedulerKind.CLI:
        log.info("Slurm is spoken to by its commands, as the site says")
        return CliScheduler(commands, hold_file=hold_file, licence=licence)
    worker = PyslurmWorker(slurm_conf)
    problem = await pyslurm_problem(worker, commands)
    if not problem:
        log.info("Slurm is spoken to through pyslurm, and by its commands for lists")
        return PyslurmScheduler(worker, commands, hold_file=hold_file, licence=licence)
    if kind is SchedulerKind.PYSLURM:
        raise SchedulerError(problem)
    log.info("Slurm is spoken to by its commands: %s", problem)
    return CliScheduler(commands, hold_file=hold_file, licence=licence)


async def pyslurm_problem(worker: PyslurmWorker, commands: CommandRunner) -> str:
    """Why pyslurm cannot be used here, empty where it can: it works only with the release it is built for."""
    try:
        version = str((await asyncio.to_thread(worker.ask, "version")).get("version"))
        slurm = await commands.run("scontrol", "--version")
    except SchedulerError as error:
        await asyncio.to_thread(worker.close)
        return f"no pyslurm that can be used ({error})"
    built_for, there = release_of(version), release_of(slurm)
    if built_for is None or built_for != there:
        await asyncio.to_thread(worker.close)
        return f"pyslurm {version} is for another Slurm than {slurm.strip()}"
    return ""


def release_of(version: str) -> tuple[int, int] | None:
    """Slurm's release in a version's text: (22, 5) of ``slurm-wlm 22.05.8`` as of pyslurm's ``22.5.3``."""
    match = _RELEASE.search(version)
    return None if match is None else (int(match[1]), int(match[2]))
